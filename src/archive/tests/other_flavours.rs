//! What skopeo, oc, imgpkg and registries keep on disk.

use super::*;

#[test]
fn skopeos_folders_and_those_of_oc_are_read() {
    let mut blobs = Blobs::default();
    let image = blobs.image("a", &["one", "two"]);
    let hex = |digest: &str| digest["sha256:".len()..].to_owned();
    let manifest = digest(&image).to_string();
    let dir = |folder: &str| -> ArchiveFiles {
        let files = blobs.0.iter().map(|(digest, bytes)| {
            let name = if *digest == manifest { "manifest.json".to_owned() } else { hex(digest) };
            (format!("{folder}{name}"), bytes.clone())
        });
        files.collect()
    };
    assert!(names(&catalog(&dir(""))).is_empty() && catalog(&dir("")).images.len() == 1);
    let synced = catalog(&[dir("quay.io/x/y:1/"), dir("app:2/")].concat());
    assert_eq!(names(&synced), set(&["quay.io/x/y:1", "app:2"]), "as `skopeo sync` names folders");

    let other = blobs.image("b", &["three"]);
    let tag = &blobs.0[&manifest].clone();
    for (blob_folder, separator) in
        [("v2/ocp/release/blobs", ':'), ("blobs", ':'), ("v2/ocp/release/blobs", '-')]
    {
        let named = |digest: &str| digest.replace(':', &separator.to_string());
        let mut files: ArchiveFiles = blobs
            .0
            .iter()
            .map(|(digest, bytes)| (format!("{blob_folder}/{}", named(digest)), bytes.clone()))
            .collect();
        for entry in [&image, &other] {
            let name = digest(entry).to_string();
            files.push((format!("v2/ocp/release/manifests/{}", named(&name)), blobs.0[&name].clone()));
        }
        files.push(("v2/ocp/release/manifests/4.9".into(), tag.clone()));
        let catalog = catalog(&files);
        let by_digest = format!("ocp/release@{}", digest(&other));
        assert_eq!(names(&catalog), set(&["ocp/release:4.9", &by_digest]), "{blob_folder} {separator}");
        assert_eq!((catalog.left_out.len(), catalog.broken.len()), (0, 0), "{:?}", catalog.left_out);
    }
}

#[test]
fn the_storage_of_a_registry_gives_names_without_a_host() {
    let mut blobs = Blobs::default();
    let image = blobs.image("a", &["one"]);
    let link = format!("{}\n", digest(&image));
    for folder in ["docker/registry/v2/", "v2/"] {
        let mut files: Vec<_> = ["team/app/_manifests/tags/v1", "team/app/_manifests/tags/v2"]
            .map(|tag| (format!("{folder}repositories/{tag}/current/link"), link.clone().into_bytes()))
            .into();
        for (digest, bytes) in &blobs.0 {
            let hex = &digest["sha256:".len()..];
            files.push((format!("{folder}blobs/sha256/{}/{hex}/data", &hex[..2]), bytes.clone()));
        }
        let catalog = catalog(&files);
        assert_eq!((catalog.images.len(), names(&catalog)), (1, set(&["team/app:v1", "team/app:v2"])));
        assert_eq!(catalog.blobs.len(), 2);
    }
}

#[test]
fn a_store_of_serve_is_read_as_the_storage_of_a_registry() {
    let mut blobs = Blobs::default();
    let images = ["tagged", "never had a tag"].map(|seed| blobs.image(seed, &[seed]));
    for folder in ["", "srv/lc/"] {
        let repository = format!("{folder}repositories/team/app");
        let mut files: ArchiveFiles = vec![
            (format!("{folder}layercast-store"), b"1\n".to_vec()),
            (format!("{folder}lock"), Vec::new()),
            (format!("{folder}tmp/half"), b"half a blob".to_vec()),
            (format!("{repository}/_tags/v1"), digest(&images[0]).to_string().into_bytes()),
            (format!("{repository}/_tags/v2"), digest(&images[0]).to_string().into_bytes()),
        ];
        for image in &images {
            let link = format!("{repository}/_manifests/sha256/{}", digest(image).hex());
            files.push((link, b"7 application/vnd.oci.image.manifest.v1+json".to_vec()));
        }
        for (digest, bytes) in &blobs.0 {
            let hex = &digest["sha256:".len()..];
            files.push((format!("{repository}/_blobs/sha256/{hex}"), b"7".to_vec()));
            files.push((format!("{folder}blobs/sha256/{}/{hex}", &hex[..2]), bytes.clone()));
        }
        let catalog = catalog(&files);
        let untagged = format!("team/app@{}", digest(&images[1]));
        assert_eq!(names(&catalog), set(&["team/app:v1", "team/app:v2", &untagged]), "{folder}");
        assert_eq!((left_out(&catalog), catalog.broken.len()), (Vec::<String>::new(), 0));
    }
}

#[test]
fn a_registry_gives_what_has_no_tag_and_not_what_lost_it() {
    let mut blobs = Blobs::default();
    let images = ["tagged", "lost its tag", "never had one", "child"].map(|seed| blobs.image(seed, &[seed]));
    let index = blobs.index(&[on(images[3].clone(), "amd64")]);
    let repository = "v2/repositories/team/app/_manifests";
    let link = |descriptor: &Value| digest(descriptor).to_string().into_bytes();
    let path = |descriptor: &Value| digest(descriptor).hex();
    let mut files: ArchiveFiles = vec![
        (format!("{repository}/tags/v1/current/link"), link(&images[0])),
        (format!("{repository}/tags/v1/index/sha256/{}/link", path(&images[0])), link(&images[0])),
        (format!("{repository}/tags/v1/index/sha256/{}/link", path(&images[1])), link(&images[1])),
    ];
    for descriptor in images.iter().chain([&index]) {
        files.push((format!("{repository}/revisions/sha256/{}/link", path(descriptor)), link(descriptor)));
    }
    for (digest, bytes) in &blobs.0 {
        let hex = &digest["sha256:".len()..];
        files.push((format!("v2/blobs/sha256/{}/{hex}/data", &hex[..2]), bytes.clone()));
    }
    let catalog = catalog(&files);
    let by_digest = |descriptor: &Value| format!("team/app@{}", digest(descriptor));
    assert_eq!(names(&catalog), set(&["team/app:v1", &by_digest(&images[2]), &by_digest(&index)]));
    assert!(catalog.notes[0].contains("1 image not taken"), "{:?}", catalog.notes);
}

#[test]
fn imgpkg_keeps_manifests_as_text() {
    let mut blobs = Blobs::default();
    let image = blobs.image("a", &["one"]);
    let text = |digest: &Digest| String::from_utf8(blobs.0[&digest.to_string()].clone()).unwrap();
    let config = Digest::of(&build::config("a", &[b"one".to_vec()]));
    let manifest = json!([{"ImageIndex": null, "Image": {
        "Refs": ["index.docker.io/library/a@".to_owned() + &digest(&image).to_string()],
        "Layers": [{"Digest": Digest::of(b"one")}],
        "Config": {"Digest": config, "Raw": text(&config)},
        "Manifest": {"MediaType": "", "Digest": digest(&image), "Raw": text(&digest(&image))},
        "Tag": "1.0",
    }}]);
    let files = [
        ("manifest.json".to_owned(), manifest.to_string().into_bytes()),
        (format!("sha256-{}.tar.gz", Digest::of(b"one").hex()), b"one".to_vec()),
    ];
    let catalog = catalog(&files);
    assert_eq!(names(&catalog), set(&[&format!("docker.io/library/a:1.0@{}", digest(&image))]));
    assert_eq!(catalog.blobs.len(), 2);
}
