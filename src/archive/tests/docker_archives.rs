//! Archives of `docker save`.

use super::*;

#[test]
fn a_saved_image_keeps_its_configuration_and_layers() {
    let mut files = saved("busybox:1", &["one", "two"]);
    files[2].1 = gzip(b"two");
    let catalog = catalog(&files);
    let Content::Unpacked(image) = &catalog.images[0].content else { panic!() };
    assert_eq!(names(&catalog), set(&["docker.io/library/busybox:1"]));
    assert_eq!(image.config, files[0].1);
    assert_eq!(image.platform.to_string(), "linux/amd64");
    assert_eq!(image.layers.iter().map(|l| l.stored).collect::<Vec<_>>(), [Stored::Plain, Stored::Gzip]);
    assert_eq!(image.layers.iter().map(|l| l.order).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(image.layers[1].diff_id, Digest::of(b"two"));
}

#[test]
fn repeated_layers_are_links_inside_the_bundle_and_nowhere_else() {
    let files = saved("a:1", &["one", "two"]);
    let (first, second) = (files[1].0.clone(), files[2].0.clone());
    let outcome = |flag: u8, target: &str| {
        let link = header(&second, 0, flag, target);
        let rest = [files[0].clone(), files[1].clone(), files[3].clone()];
        read_tar([link, tar_of(&rest)].concat()).unwrap()
    };
    for (flag, target) in [(b'2', format!("../{first}")), (b'1', first.clone()), (b'2', second.clone())] {
        let catalog = outcome(flag, &target);
        if target == second {
            assert_eq!(broken(&catalog), [Fault::MissingBlob]);
            continue;
        }
        let Content::Unpacked(image) = &catalog.images[0].content else { panic!() };
        assert_eq!(&read_exact(&image.layers[1].extent, 0, 3).unwrap()[..], b"one");
    }
    for target in ["/etc/passwd", "../../etc/passwd"] {
        let catalog = outcome(b'2', target);
        assert_eq!(broken(&catalog), [Fault::UnsafePath]);
        assert!(catalog.broken[0].error.to_string().contains(target));
    }
    // `tar -P` of a folder with absolute links: from the root of the archive, as `docker load` follows them.
    let inside = outcome(b'2', &format!("/{first}"));
    assert!(inside.broken.is_empty() && inside.images.len() == 1, "{:?}", inside.broken);
    // Both are named: what is to be packed is the target.
    let told = outcome(b'2', "../gone/layer.tar").broken[0].error.to_string();
    assert!(told.contains(&format!("{second:?} is a link to \"../gone/layer.tar\"")), "{told}");
    let mut blobs = Blobs::default();
    let image = named(blobs.image("a", &["one"]), "x.io/a:1");
    let mut files = blobs.layout("", &[image]);
    let layer = format!("blobs/sha256/{}", Digest::of(b"one").hex());
    files.retain(|(name, _)| *name != layer);
    let told = read_tar([header(&layer, 0, b'2', "../../cas/one"), tar_of(&files)].concat()).unwrap();
    let told = told.broken[0].error.to_string();
    assert!(told.contains(&layer) && told.contains("\"../../cas/one\""), "{told}");
}

#[test]
fn a_saved_image_that_does_not_fit_together_is_broken() {
    let good = saved("a:1", &["one", "two"]);
    let outcome = |change: &dyn Fn(&mut ArchiveFiles)| {
        let mut files = good.clone();
        change(&mut files);
        broken(&catalog(&files))
    };
    let entry = |key: &str, value: Value| -> Vec<u8> {
        let mut manifest: Value = serde_json::from_slice(&good[3].1).unwrap();
        manifest[0][key] = value;
        manifest.to_string().into_bytes()
    };
    assert_eq!(outcome(&|files| drop(files.remove(1))), [Fault::MissingBlob]);
    assert_eq!(outcome(&|files| files[3].1 = entry("Layers", json!([good[1].0]))), [Fault::BadJson]);
    assert_eq!(outcome(&|files| files[3].1 = entry("Config", json!("../../x"))), [Fault::UnsafePath]);
    assert!(outcome(&|files| files[3].1 = entry("RepoTags", json!(["A:1"]))).is_empty());
    assert!(outcome(&|files| files[3].1 = entry("RepoTags", Value::Null)).is_empty());
}

/// Somebody has edited the configuration in place, or renamed it: Docker, podman and crane take it as it is.
#[test]
fn a_configuration_is_what_its_bytes_are_unless_it_is_a_blob() {
    let edited = |config_name: Option<&str>| {
        let mut files = saved("a:1", &["one"]);
        files[0].1.push(b' ');
        if let Some(name) = config_name {
            let mut manifest: Value = serde_json::from_slice(&files[2].1).unwrap();
            manifest[0]["Config"] = json!(name);
            (files[0].0, files[2].1) = (name.to_owned(), manifest.to_string().into_bytes());
        }
        (Digest::of(&files[0].1), catalog(&files))
    };
    let hex = Digest::of(b"another").hex();
    for name in [None, Some(format!("sha256:{hex}")), Some(format!("conf/{hex}.json"))] {
        let (digest, catalog) = edited(name.as_deref());
        let Content::Unpacked(image) = &catalog.images[0].content else { panic!("{name:?}") };
        assert_eq!(image.config_digest, digest);
        assert!(catalog.notes[0].contains(&digest.to_string()), "{:?}", catalog.notes);
    }
    let (_, catalog) = edited(Some(&format!("blobs/sha256/{hex}")));
    assert_eq!(broken(&catalog), [Fault::DigestMismatch]);
    let (_, catalog) = edited(Some("config.json"));
    assert!(catalog.notes.is_empty(), "{:?}", catalog.notes);
}

#[test]
fn both_views_of_one_image_are_one_image() {
    let mut blobs = Blobs::default();
    let image = blobs.image("a", &["one"]);
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let entry = |tags: Value| {
        let config = build::config("a", &[b"one".to_vec()]);
        json!([{"Config": path(&config), "RepoTags": tags, "Layers": [path(b"one")]}]).to_string()
    };
    let full = json!(["a:1", "b:2"]);
    let mut damaged = blobs.clone();
    damaged.0.remove(&digest(&image).to_string());
    let mut files = damaged.layout("", &[named(image.clone(), "a:1")]);
    files.push(("manifest.json".into(), entry(json!(["a:1"])).into_bytes()));
    let lost = catalog(&files);
    assert_eq!((lost.images.len(), broken(&lost)), (0, vec![Fault::MissingBlob]), "no manifest is made up");
    for (listed, tags, expected) in [
        (
            vec![named(image.clone(), "a:1")],
            full.clone(),
            vec!["docker.io/library/a:1", "docker.io/library/b:2"],
        ),
        (vec![image.clone()], full.clone(), vec!["docker.io/library/a:1", "docker.io/library/b:2"]),
        (vec![], full, vec!["docker.io/library/a:1", "docker.io/library/b:2"]),
        (vec![named(image.clone(), "v1")], Value::Null, vec!["v1"]),
        (vec![], Value::Null, vec![]),
    ] {
        let mut files = blobs.layout("", &listed);
        files.push(("manifest.json".into(), entry(tags).into_bytes()));
        let catalog = catalog(&files);
        assert_eq!((catalog.images.len(), names(&catalog)), (1, set(&expected)));
        assert_eq!(manifest_of(&catalog.images[0]), digest(&image), "the original manifest");
    }
}
