//! OCI layouts: their names, indexes, and what is wrong in them.

use super::*;

#[test]
fn a_layout_is_read_wherever_it_lies() {
    let mut blobs = Blobs::default();
    let image = blobs.image("a", &["one", "two"]);
    for folder in ["", "./", "deep/down/images/"] {
        let catalog = catalog(&blobs.layout(folder, &[named(image.clone(), "gcr.io/a/b:1")]));
        assert_eq!(names(&catalog), set(&["gcr.io/a/b:1"]));
        assert_eq!(manifest_of(&catalog.images[0]), digest(&image));
        assert_eq!(catalog.blobs.len(), 3);
        let layer = &catalog.blobs[&Digest::of(b"two")];
        assert_eq!(&read_exact(&layer.extent, 0, 3).unwrap()[..], b"two");
    }
}

#[test]
fn names_stand_where_each_tool_writes_them() {
    let mut blobs = Blobs::default();
    let image = blobs.image("a", &["one"]);
    let containerd = with(
        named(image.clone(), "v1"),
        "annotations",
        json!({"io.containerd.image.name": "docker.io/library/c:v1", build::NAME: "v1"}),
    );
    for (entry, name) in [
        (named(image.clone(), "sample:latest"), "docker.io/library/sample:latest"),
        (named(image.clone(), "gcr.io/x/y"), "gcr.io/x/y:latest"),
        (named(image.clone(), "v1.2-3"), "v1.2-3"),
        (containerd, "docker.io/library/c:v1"),
    ] {
        assert_eq!(names(&catalog(&blobs.layout("", &[entry]))), set(&[name]));
    }
    for bad in ["gcr.io/Upper/x:1", "gcr.io/../x:1", "gcr.io/a:\u{1b}[2J", &"t".repeat(129), "-x"] {
        let catalog = catalog(&blobs.layout("", &[named(image.clone(), bad)]));
        let [ImageName::Invalid { text, why }] = catalog.images[0].names.as_slice() else {
            panic!("{bad:?}")
        };
        assert!(catalog.broken.is_empty() && !why.is_empty() && !text.contains('\u{1b}'), "{bad:?}");
    }
}

#[test]
fn one_image_under_two_names_is_one() {
    let mut blobs = Blobs::default();
    let a = blobs.image("a", &["one"]);
    let both = [named(a.clone(), "x.io/a:1"), named(a.clone(), "x.io/a:2"), named(a.clone(), "x.io/a:1")];
    let catalog1 = catalog(&blobs.layout("", &both));
    assert_eq!((catalog1.images.len(), names(&catalog1)), (1, set(&["x.io/a:1", "x.io/a:2"])));

    let first = catalog(&blobs.layout("", &[named(a.clone(), "latest")]));
    let merged = first.clone().merge(catalog1).merge(first);
    assert!(merged.broken.is_empty());
    assert_eq!(merged.images.len(), 3);
}

#[test]
fn what_is_wrong_with_an_image_is_said_and_costs_no_other() {
    let mut blobs = Blobs::default();
    let good = named(blobs.image("good", &["one"]), "x.io/good:1");
    let bad = named(blobs.image("bad", &["two", "three"]), "x.io/bad:1");
    let layer = Digest::of(b"three").to_string();
    let outcome = |change: &dyn Fn(&mut Blobs)| {
        let mut blobs = blobs.clone();
        change(&mut blobs);
        let catalog = catalog(&blobs.layout("", &[good.clone(), bad.clone()]));
        assert_eq!(names(&catalog), set(&["x.io/good:1"]));
        assert_eq!(catalog.blobs.len(), 2, "only what the whole image needs");
        assert!(catalog.broken[0].error.to_string().contains("x.io/bad:1"));
        broken(&catalog)[0]
    };
    let config = build::config("bad", &[b"two".to_vec(), b"three".to_vec()]);
    let config = Digest::of(&config).to_string();
    assert_eq!(outcome(&|blobs| drop(blobs.0.remove(&layer))), Fault::MissingBlob);
    assert_eq!(
        outcome(&|blobs| drop(blobs.0.insert(layer.clone(), b"longer".to_vec()))),
        Fault::SizeMismatch
    );
    assert_eq!(outcome(&|blobs| blobs.0.get_mut(&config).unwrap()[3] ^= 1), Fault::DigestMismatch);
    let top = digest(&bad).to_string();
    assert_eq!(outcome(&|blobs| blobs.0.get_mut(&top).unwrap()[3] ^= 1), Fault::DigestMismatch);
    assert_eq!(outcome(&|blobs| drop(blobs.0.remove(&top))), Fault::MissingBlob);
}

#[test]
fn an_index_is_whole_or_not_at_all() {
    let mut blobs = Blobs::default();
    let (amd, arm) = (blobs.image("amd", &["one"]), blobs.image("arm", &["two"]));
    let index = blobs.index(&[on(amd.clone(), "amd64"), on(arm.clone(), "arm64")]);
    let whole = catalog(&blobs.layout("", &[named(index.clone(), "x.io/a:1")]));
    assert_eq!(manifest_of(&whole.images[0]), digest(&index));
    assert_eq!((whole.manifests.len(), whole.blobs.len()), (3, 4));

    blobs.0.remove(&digest(&arm).to_string());
    let files = blobs.layout("", &[named(index, "x.io/a:1")]);
    let sparse = catalog(&files);
    assert_eq!(broken(&sparse), [Fault::MissingBlob]);
    assert!(sparse.broken[0].error.to_string().contains(&digest(&arm).to_string()));

    // What `docker save --platform` writes: the same with a manifest.json.
    let layers = [b"one".to_vec()];
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let saved = json!([{
        "Config": blob(&build::config("amd", &layers)), "RepoTags": ["x.io/a:1"], "Layers": [blob(&layers[0])],
    }]);
    let saved = [files, vec![("manifest.json".to_owned(), saved.to_string().into_bytes())]].concat();
    let catalog = catalog(&saved);
    assert!(catalog.broken.is_empty());
    assert_eq!((catalog.images.len(), manifest_of(&catalog.images[0])), (1, digest(&amd)));
    assert_eq!(names(&catalog), set(&["x.io/a:1"]));
    assert!(catalog.notes[0].contains("platforms"));
}

#[test]
fn an_index_json_without_names_may_be_an_image_itself() {
    let mut blobs = Blobs::default();
    let (amd, arm) = (blobs.image("amd", &["one"]), blobs.image("arm", &["two"]));
    let files = blobs.layout("", &[on(amd.clone(), "amd64"), on(arm.clone(), "arm64")]);
    let one = catalog(&files);
    assert_eq!(one.images.len(), 1);
    assert_eq!(one.manifests[&manifest_of(&one.images[0])].bytes, files[1].1);

    let base =
        |d: Value, name: &str| with(d, "annotations", json!({"org.opencontainers.image.base.name": name}));
    let apart = catalog(&blobs.layout("", &[base(amd.clone(), "x"), base(amd, "y"), base(arm, "z")]));
    assert_eq!(apart.images.len(), 3);
    assert!(apart.images.iter().all(|image| image.names.is_empty() && image.annotations.len() == 1));
}

#[test]
fn what_an_index_lists_and_is_no_manifest_is_a_blob() {
    let mut blobs = Blobs::default();
    let image = blobs.image("a", &["one"]);
    let layer = with(blobs.document(&json!("layer"), ""), "mediaType", json!(media_type::DOCKER_LAYER_GZIP));
    let cache = blobs.document(
        &json!({"layers": [{"blob": layer["digest"], "parent": -1}]}),
        "application/vnd.buildkit.cacheconfig.v0",
    );
    let xml = with(blobs.document(&json!("x"), ""), "mediaType", json!("application/xml"));
    // Tools write manifests under types of their own.
    let odd = with(image.clone(), "mediaType", json!("application/vnd.oci.descriptor.v1+json"));
    let index = blobs.index(&[layer.clone(), cache.clone(), xml.clone(), odd]);
    let catalog = catalog(&blobs.layout("", &[named(index.clone(), "x.io/cache:1")]));
    assert!(catalog.broken.is_empty(), "{:?}", catalog.broken);
    for blob in [&layer, &cache, &xml] {
        assert!(catalog.lists_as_blob(&digest(blob)), "{blob}");
    }
    assert!(catalog.manifests.contains_key(&digest(&image)));
    blobs.0.remove(&digest(&cache).to_string());
    let catalog = self::catalog(&blobs.layout("", &[named(index, "x.io/cache:1")]));
    assert_eq!(broken(&catalog), [Fault::MissingBlob]);
}

/// The example of the specification of layouts has such an entry.
#[test]
fn entries_of_a_layout_that_are_no_manifests_are_named_and_harm_nothing() {
    let mut blobs = Blobs::default();
    let image = named(blobs.image("a", &["one"]), "x.io/a:1");
    let as_type = |blob: Value, media_type: &str| with(blob, "mediaType", json!(media_type));
    let xml = as_type(blobs.document(&json!("<xml/>"), ""), "application/xml");
    let missing = json!({"mediaType": "application/xml", "digest": Digest::of(b"gone"), "size": 4});
    let nameless = blobs.document(&json!({"some": "document"}), "application/vnd.example+json");
    let catalog1 = catalog(&blobs.layout("", &[xml, image.clone(), missing.clone(), nameless.clone()]));
    assert!(catalog1.broken.is_empty());
    assert_eq!(names(&catalog1), set(&["x.io/a:1"]));
    assert_eq!(left_out(&catalog1), ["index.json: no-image"; 3]);
    // What has a name is pushed as it is, or what is wrong with it is said.
    let catalog2 =
        catalog(&blobs.layout("", &[named(nameless.clone(), "x.io/doc:1"), named(missing, "x.io/gone:1")]));
    assert_eq!(names(&catalog2), set(&["x.io/doc:1"]));
    assert_eq!(catalog2.manifests[&digest(&nameless)].media_type, "application/vnd.example+json");
    assert_eq!(broken(&catalog2), [Fault::MissingBlob]);
    // Documents of known shapes are not passed on because their type is not known.
    let old = blobs.document(&json!({"schemaVersion": 1, "fsLayers": []}), media_type::DOCKER_SCHEMA1[0]);
    let both = blobs.document(&json!({"layers": [], "manifests": []}), "application/vnd.example+json");
    let catalog3 = catalog(&blobs.layout("", &[old, named(both, "x.io/both:1")]));
    assert_eq!(broken(&catalog3), [Fault::Unsupported, Fault::BadJson]);
}

#[test]
fn artifact_manifests_are_images_of_blobs() {
    let mut blobs = Blobs::default();
    let blob = with(blobs.document(&json!("signature"), ""), "mediaType", json!("application/jose+json"));
    let artifact =
        json!({"mediaType": media_type::OCI_ARTIFACT, "artifactType": "x/sig", "blobs": [blob.clone()]});
    let artifact = blobs.document(&artifact, media_type::OCI_ARTIFACT);
    // A blob may well be a manifest too: it is wanted as both.
    let image = blobs.image("a", &["one"]);
    let config = blobs.document(&json!({}), "application/vnd.oci.empty.v1+json");
    let holder = json!({"schemaVersion": 2, "config": config, "layers": [image.clone()]});
    let holder = blobs.document(&holder, media_type::OCI_MANIFEST);
    let listed =
        [named(artifact.clone(), "x.io/art:1"), named(image.clone(), "x.io/a:1"), named(holder, "x.io/h:1")];
    let catalog = catalog(&blobs.layout("", &listed));
    assert!(catalog.broken.is_empty(), "{:?}", catalog.broken);
    assert_eq!(catalog.manifests[&digest(&artifact)].media_type, media_type::OCI_ARTIFACT);
    assert!(catalog.blobs.contains_key(&digest(&blob)));
    assert!(catalog.blobs.contains_key(&digest(&image)) && catalog.manifests.contains_key(&digest(&image)));
}

#[test]
fn content_that_a_descriptor_embeds_is_content_if_it_is_right() {
    let outcome = |data: &str| {
        let mut blobs = Blobs::default();
        let empty = blobs.document(&json!({}), "application/vnd.oci.empty.v1+json");
        let embedded = with(empty.clone(), "data", json!(data));
        let artifact = json!({"schemaVersion": 2, "config": embedded, "layers": [embedded]});
        let artifact = blobs.document(&artifact, media_type::OCI_MANIFEST);
        blobs.0.remove(&digest(&empty).to_string());
        (digest(&empty), catalog(&blobs.layout("", &[named(artifact, "x.io/a:1")])))
    };
    let (empty, whole) = outcome("e30=");
    assert_eq!(&read_exact(&whole.blobs[&empty].extent, 0, 2).unwrap()[..], b"{}");
    for wrong in ["W10=", "?"] {
        assert_eq!(broken(&outcome(wrong).1), [Fault::MissingBlob]);
    }
}

#[test]
fn depth_breadth_and_size_are_limited() {
    let mut blobs = Blobs::default();
    let image = blobs.image("a", &["one"]);
    let nest = |blobs: &mut Blobs, levels: usize| {
        (0..levels).fold(image.clone(), |child, _| blobs.index(&[child.clone(), child]))
    };
    let fine = nest(&mut blobs, 8);
    assert!(catalog(&blobs.layout("", &[fine])).broken.is_empty());
    for levels in [9, 40, 1000] {
        let mut blobs = blobs.clone();
        let top = nest(&mut blobs, levels);
        assert_eq!(broken(&catalog(&blobs.layout("", &[top]))), [Fault::LimitExceeded]);
    }
    let huge = with(image.clone(), "size", json!(64 << 20));
    assert_eq!(broken(&catalog(&blobs.layout("", &[huge]))), [Fault::LimitExceeded]);
    let long = tar_of(&[("index.json".into(), vec![b' '; 9 << 20])]);
    assert_eq!(read_tar(long).unwrap_err().fault(), Fault::LimitExceeded);
    let limits = Limits { descriptors: 3, ..Limits::default() };
    let many = tar_of(&blobs.layout("", &vec![nest(&mut blobs.clone(), 1); 4]));
    assert_eq!(read(&space(many), &opener, &limits, &|_| {}).unwrap_err().fault(), Fault::LimitExceeded);
}

#[test]
fn documents_that_contradict_each_other_are_refused() {
    let mut blobs = Blobs::default();
    let image = blobs.image("a", &["one"]);
    let index = blobs.index(&[on(image.clone(), "amd64")]);
    for (entry, says) in [(&image, build::INDEX), (&index, build::MANIFEST)] {
        let entry = with(named(entry.clone(), "x.io/a:1"), "mediaType", json!(says));
        assert_eq!(broken(&catalog(&blobs.layout("", &[entry]))), [Fault::Contradiction], "{says}");
    }
    let first = blobs.layout("", &[named(image.clone(), "x.io/a:1")]);
    let second = blobs.layout("", &[named(image, "x.io/a:2")]);
    assert_eq!(
        read_tar(tar_of(&[first.clone(), second].concat())).unwrap_err().fault(),
        Fault::Contradiction
    );
    assert_eq!(catalog(&[first.clone(), first].concat()).images.len(), 1, "the same twice says one thing");
    // `tar --concatenate` of two saved images: the second manifest.json would hide the first.
    let joined = [saved("a:1", &["one"]), saved("b:1", &["two"])].concat();
    assert_eq!(read_tar(tar_of(&joined)).unwrap_err().fault(), Fault::Contradiction);
}

#[test]
fn an_index_saved_in_part_gives_what_is_there() {
    let mut blobs = Blobs::default();
    let platforms = ["amd64", "arm64", "s390x"];
    let images = platforms.map(|name| blobs.image(name, &[name]));
    let entries: Vec<Value> =
        images.iter().zip(platforms).map(|(image, name)| on(image.clone(), name)).collect();
    let index = blobs.index(&entries);
    let saved = with(index.clone(), "annotations", json!({"io.containerd.image.name": "x.io/a:1"}));
    let without = |blobs: &Blobs, number: usize| {
        let mut rest = blobs.clone();
        let layer = Digest::of(platforms[number].as_bytes());
        let config = Digest::of(&build::config(platforms[number], &[platforms[number].into()]));
        for gone in [digest(&images[number]), layer, config] {
            rest.0.remove(&gone.to_string());
        }
        rest
    };
    let two = catalog(&without(&blobs, 2).layout("", std::slice::from_ref(&saved)));
    let partial = two.images[0].partial.as_ref().unwrap();
    assert_eq!(
        (partial.index, partial.missing.as_slice()),
        (digest(&index), &["linux/s390x".to_owned()][..])
    );
    let narrowed = &two.manifests[&manifest_of(&two.images[0])];
    assert_eq!(narrowed.children().len(), 2, "an index of what is there");
    assert!(two.notes[0].contains("(missing: linux/s390x)"), "{:?}", two.notes);

    let one = catalog(&without(&without(&blobs, 2), 1).layout("", std::slice::from_ref(&saved)));
    assert_eq!(manifest_of(&one.images[0]), digest(&images[0]), "the one platform itself");

    // The manifest of a platform may be there without anything that it needs; with half of it, it is damaged.
    let mut hollow = without(&blobs, 2);
    let manifest = digest(&images[2]).to_string();
    hollow.0.insert(manifest.clone(), blobs.0[&manifest].clone());
    assert_eq!(
        catalog(&hollow.layout("", std::slice::from_ref(&saved))).images[0]
            .partial
            .as_ref()
            .unwrap()
            .present
            .len(),
        2
    );
    let layer = Digest::of(b"s390x").to_string();
    hollow.0.insert(layer.clone(), blobs.0[&layer].clone());
    assert_eq!(broken(&catalog(&hollow.layout("", &[saved]))), [Fault::MissingBlob]);

    // Without a sign that it was meant, a missing platform is damage, and what is there can be accepted.
    let mut unmeant = catalog(&without(&blobs, 2).layout("", &[named(index, "x.io/a:1")]));
    assert_eq!(broken(&unmeant), [Fault::MissingBlob]);
    unmeant.accept_parts();
    assert_eq!((unmeant.images.len(), unmeant.broken.len()), (1, 0));
    assert!(unmeant.manifests.contains_key(&digest(&images[1])));
}
