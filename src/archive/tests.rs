//! What a catalog promises, on bundles small enough to be built here.

mod listing;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::build::{ArchiveFiles, Blobs, header, named, on, saved, space, tar_of};
use super::*;
use crate::error::Fault;
use crate::oci::media_type;
use crate::source::read_exact;

fn opener(stored: Arc<dyn ByteSpace>) -> Result<Arc<dyn ByteSpace>, BundleError> {
    let bytes = read_exact(stored.as_ref(), 0, usize::try_from(stored.len()?).unwrap())?;
    let mut decoder: Box<dyn std::io::Read> = if bytes.starts_with(&[0x1f, 0x8b]) {
        Box::new(MultiGzDecoder::new(&bytes[..]))
    } else if bytes.starts_with(b"\xfd7zXZ\0") {
        Box::new(xz2::read::XzDecoder::new(&bytes[..]))
    } else if bytes.starts_with(b"BZh") {
        Box::new(bzip2::read::BzDecoder::new(&bytes[..]))
    } else {
        return Ok(stored);
    };
    let mut out = Vec::new();
    decoder.read_to_end(&mut out).map_err(|e| BundleError::new(Fault::CorruptCompression, e.to_string()))?;
    Ok(space(out))
}

fn open_file(path: &Path) -> Result<Arc<dyn ByteSpace>, BundleError> {
    fs::read(path).map(space).map_err(|e| BundleError::io("open", &e))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn read_tar(bytes: Vec<u8>) -> Result<Catalog, BundleError> {
    let catalog = read(&space(bytes), &opener, &Limits::default(), &|_| {})?;
    if catalog.has_images() { Ok(catalog) } else { Err(catalog.nothing_in_it()) }
}

/// What was left out of a bundle, as `path: class`.
fn left_out(catalog: &Catalog) -> Vec<String> {
    catalog.left_out.iter().map(|it| format!("{}: {}", it.path, it.class.name())).collect()
}

fn catalog(files: &[(String, Vec<u8>)]) -> Catalog {
    read_tar(tar_of(files)).unwrap()
}

fn names(catalog: &Catalog) -> BTreeSet<String> {
    catalog.images.iter().flat_map(|image| &image.names).map(ToString::to_string).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn broken(catalog: &Catalog) -> Vec<Fault> {
    catalog.broken.iter().map(|image| image.error.fault()).collect()
}

fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

fn manifest_of(image: &Image) -> Digest {
    match &image.content {
        Content::Manifest(digest) => *digest,
        Content::Unpacked(_) => panic!("{image:?} has no manifest"),
    }
}

fn with(mut descriptor: Value, key: &str, value: Value) -> Value {
    descriptor[key] = value;
    descriptor
}

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
fn damage_to_the_container_is_an_error_for_all() {
    let mut blobs = Blobs::default();
    let image = named(blobs.image("a", &["one"]), "x.io/a:1");
    let fault = |files: &[(String, Vec<u8>)]| read_tar(tar_of(files)).unwrap_err().fault();
    let mut files = blobs.layout("", &[image]);
    assert_eq!(read_tar(tar_of(&files)[..1600].to_vec()).unwrap_err().fault(), Fault::Truncated);
    files[1].1.truncate(30);
    assert_eq!(fault(&files), Fault::BadJson);
    files[0].1 = br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec();
    assert_eq!(fault(&files), Fault::Unsupported);
    let twice = [tar_of(&saved("a:1", &["x"])), tar_of(&saved("b:1", &["x"]))].concat();
    assert_eq!(read_tar(twice).unwrap_err().fault(), Fault::Unsupported);
}

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

#[test]
fn archives_inside_archives_are_read_in_the_order_of_the_bundle() {
    let mut blobs = Blobs::default();
    let listed = named(blobs.image("own", &["own layer"]), "x.io/own:1");
    let mut files = vec![("b/first.tar".to_owned(), tar_of(&saved("first:1", &["f1", "f2"])))];
    files.extend(blobs.layout("images/", &[listed]));
    files.push(("a/last.tgz".into(), gzip(&tar_of(&saved("last:1", &["l1"])))));
    files.push(("README.gz".into(), gzip(&b"no archive ".repeat(99))));
    files.push(("etc.tar".into(), tar_of(&[("etc/hosts".into(), b"x".to_vec())])));
    let catalog = catalog(&files);
    assert!(catalog.broken.is_empty());
    let origins: Vec<_> = catalog.images.iter().map(|image| image.origin.as_str()).collect();
    assert_eq!(origins, ["images", "b/first.tar", "a/last.tgz"]);
    let orders = |at: usize| match &catalog.images[at].content {
        Content::Unpacked(image) => image.layers.iter().map(|layer| layer.order).collect::<Vec<_>>(),
        Content::Manifest(_) => Vec::new(),
    };
    assert_eq!(orders(1), [0, 1]);
    let own: BTreeSet<_> = catalog.blobs.values().map(|blob| blob.order).collect();
    assert_eq!(own, BTreeSet::from([2, 3]));
    assert_eq!(orders(2), [4]);
}

#[test]
fn a_damaged_archive_is_named_and_costs_no_other() {
    let whole = tar_of(&saved("a:1", &["one"]));
    let cut = whole[..1300].to_vec();
    let zipped = gzip(&whole);
    let deep = (0..5).fold(whole.clone(), |inner, _| tar_of(&[("in.tar".into(), inner)]));
    let files = [
        ("good.tar".to_owned(), whole),
        ("cut.tar".into(), cut),
        ("cut.tar.gz".into(), zipped[..zipped.len() - 4].to_vec()),
        ("deep.tar".into(), deep),
    ];
    let catalog = catalog(&files);
    assert_eq!(names(&catalog), set(&["docker.io/library/a:1"]));
    assert_eq!(broken(&catalog), [Fault::Truncated, Fault::CorruptCompression, Fault::LimitExceeded]);
    assert!(catalog.broken[0].error.to_string().starts_with("cut.tar: "));
    assert!(catalog.broken[2].error.to_string().starts_with("deep.tar: in.tar: "));
}

#[test]
fn directories_are_read_as_what_lies_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let mut blobs = Blobs::default();
    let image = named(blobs.image("a", &["one"]), "x.io/a:1");
    for (name, bytes) in blobs.layout("images/", &[image]) {
        write(&name, &bytes);
    }
    for (name, bytes) in saved("saved:1", &["s"]) {
        write(&name, &bytes);
    }
    write("more/x.tar.gz", &gzip(&tar_of(&saved("x:1", &["x"]))));
    write("notes.txt", b"nothing");
    std::os::unix::fs::symlink("/etc", folder.path().join("outside")).unwrap();
    let catalog = read_directory(folder.path(), &open_file, &opener, &Limits::default()).unwrap();
    let expected = ["docker.io/library/saved:1", "docker.io/library/x:1", "x.io/a:1"];
    assert_eq!(names(&catalog), set(&expected));
    assert!(catalog.broken.is_empty());
}

#[test]
fn what_was_met_and_not_taken_is_named() {
    let good = tar_of(&saved("a:1", &["one"]));
    let chart = tar_of(&[("web/Chart.yaml".into(), b"name: web".repeat(9))]);
    let lz4 = [b"\x04\x22\x4d\x18".as_slice(), &[7; 200]].concat();
    let with_lz4 = tar_of(&[("in/x.tar.lz4".into(), lz4.clone()), ("in/note".into(), b"text ".repeat(40))]);
    let files = [
        ("good.tar".to_owned(), good.clone()),
        ("chart.tgz".into(), gzip(&chart)),
        ("lz4".into(), lz4),
        ("deeper.tar".into(), with_lz4),
        ("twice.gz".into(), gzip(&gzip(&good))),
        ("README".into(), b"read me ".repeat(20)),
    ];
    let catalog = catalog(&files);
    assert_eq!(names(&catalog), set(&["docker.io/library/a:1"]));
    assert!(catalog.broken.is_empty());
    let expected = [
        "chart.tgz: no-image",
        "lz4: unreadable",
        "deeper.tar/in/x.tar.lz4: unreadable",
        "twice.gz: unreadable",
        "README: no-image",
    ];
    let told: BTreeSet<_> = left_out(&catalog).into_iter().collect();
    assert_eq!(told, expected.map(str::to_owned).into());
}

#[test]
fn links_of_a_tar_that_lead_to_nothing_are_named() {
    let good = tar_of(&[("a.tar".into(), tar_of(&saved("a:1", &["one"])))]);
    let links = [("gone.tar", "../store/gone.tar"), ("same.tar", "a.tar"), ("abs.tar", "/srv/b.tar")];
    let links: Vec<u8> = links.iter().flat_map(|(name, target)| header(name, 0, b'2', target)).collect();
    let catalog = read_tar([links, good].concat()).unwrap();
    assert_eq!(catalog.images.len(), 1);
    assert_eq!(left_out(&catalog), ["abs.tar: unreadable", "gone.tar: unreadable"]);
    assert!(catalog.left_out[1].why.contains("\"../store/gone.tar\""), "{:?}", catalog.left_out[1]);
}

#[test]
fn a_member_that_a_later_one_replaces_is_named() {
    let archive = |name: &str| ("a.tar".to_owned(), tar_of(&saved(name, &[name])));
    let catalog = catalog(&[archive("a:1"), archive("b:1")]);
    assert_eq!(names(&catalog), set(&["docker.io/library/b:1"]));
    assert_eq!(left_out(&catalog), ["a.tar: no-image"]);
}

#[test]
fn damaged_beginnings_and_unknown_data_are_no_other_files() {
    let good = tar_of(&saved("a:1", &["one"]));
    let mut headless = good.clone();
    headless[..512].fill(b'x');
    let mut zeroed = good.clone();
    zeroed[..1024].fill(0);
    let noise: Vec<u8> = (0..4096u32)
        .flat_map(|n| Digest::of(&n.to_le_bytes()).to_string().into_bytes()[7..9].to_vec())
        .collect();
    let random: Vec<u8> = (0..4096u32)
        .flat_map(|n| match Digest::of(&n.to_le_bytes()) {
            Digest::Sha256(bytes) => bytes.to_vec(),
            Digest::Sha512(bytes) => bytes.to_vec(),
        })
        .collect();
    let files = [
        ("good.tar".to_owned(), good),
        ("headless".into(), headless),
        ("hex".into(), noise),
        ("random".into(), random),
        ("zeroed".into(), zeroed),
        ("zeros".into(), vec![0; 8192]),
    ];
    let expected = [
        "headless: unreadable",
        "random: unreadable",
        "zeroed: unreadable",
        "hex: no-image",
        "zeros: no-image",
    ];
    assert_eq!(left_out(&catalog(&files)), expected);
}

/// Bytes that look compressed.
fn noise(len: usize) -> Vec<u8> {
    let blocks = (0u32..).flat_map(|n| Digest::of(&n.to_le_bytes()).hex().into_bytes());
    let digits: Vec<u8> = blocks.take(2 * len).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn what_is_called_an_archive_and_is_none_has_not_arrived() {
    let good = ("good.tar".to_owned(), tar_of(&saved("a:1", &["one"])));
    let page = b"<!DOCTYPE html><html>502</html>".repeat(9);
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".to_vec();
    let entry = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let not_arrived = [
        entry("empty.tar.xz", b""),
        entry("zeros.tgz", &[0; 4096]),
        entry("zeros.tar", &[0; 10240]),
        entry("page.tar.zst", &page),
        entry("page.xz", &page),
        entry("pointer.tar.gz", &pointer),
        entry("short.tar", b"Not found"),
        entry("text.tar.gz", &gzip(b"no such key")),
        entry("begun.tar.xz.part", &[0; 2048]),
        entry("piece.tar.002", b"any thing"),
        entry("piece.tar.xz.ac", &noise(300)),
        entry("ad", &noise(2000)),
    ];
    let others = [
        entry("empty", b""),
        entry("page.html", &page),
        entry("good.tar.sha256", b"00  good.tar"),
        entry("good.tar.md", b"# What is in it"),
        entry("notes.gz", &gzip(b"notes")),
        entry("._good.tar", b"\0\x05\x16\x07"),
        entry("key.der", &[b"\x30\x82\x07\xd0".as_slice(), &noise(2000)].concat()),
        entry("signature", &noise(512)),
    ];
    let files = [vec![good], not_arrived.to_vec(), others.to_vec()].concat();
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in &files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let read = read_directory(folder.path(), &open_file, &opener, &Limits::default()).unwrap();
    let expected = |class: &str, files: &[(String, Vec<u8>)]| -> BTreeSet<String> {
        files.iter().map(|(name, _)| format!("{name}: {class}")).collect()
    };
    let told: BTreeSet<_> = left_out(&read).into_iter().collect();
    assert_eq!(told, &expected("unreadable", &not_arrived) | &expected("no-image", &others));
    // In an archive nobody goes back for what is too short to be one, but its name counts all the same.
    let told: BTreeSet<_> = left_out(&catalog(&files)).into_iter().collect();
    assert_eq!(told, &expected("unreadable", &not_arrived) | &expected("no-image", &others));
    for (name, bytes) in not_arrived {
        assert_eq!(read_tar(bytes).unwrap_err().fault(), Fault::NotABundle, "{name} alone");
    }
}

#[test]
fn what_follows_the_first_piece_of_a_split_archive_is_the_rest_of_it() {
    let whole = tar_of(&saved("cut:1", &["one"]));
    let folder = tempfile::tempdir().unwrap();
    for (piece, name) in whole.chunks(1300).zip(["xaa", "xab", "xac", "xad", "xae"]) {
        fs::write(folder.path().join(name), piece).unwrap();
    }
    fs::write(folder.path().join("good.tar"), tar_of(&saved("good:1", &["two"]))).unwrap();
    fs::write(folder.path().join("yab"), "of another").unwrap();
    let read = read_directory(folder.path(), &open_file, &opener, &Limits::default()).unwrap();
    let told: BTreeSet<_> = left_out(&read).into_iter().collect();
    let pieces = whole.chunks(1300).zip(["xaa", "xab", "xac", "xad", "xae"]);
    let pieces = pieces.map(|(_, name)| format!("{name}: unreadable"));
    assert_eq!(told, pieces.chain(["yab: no-image".to_owned()]).collect());
}

#[test]
fn marks_of_images_that_yield_none_are_named() {
    let good = ("good.tar".to_owned(), tar_of(&saved("a:1", &["one"])));
    let mut blobs = Blobs::default();
    blobs.image("x", &["layer"]);
    let layout = |folder: &str, without: &str| -> ArchiveFiles {
        let files = blobs.layout(folder, &[]).into_iter();
        files.filter(|(name, _)| without.is_empty() || !name.ends_with(without)).collect()
    };
    let text = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_vec());
    let cases: [(ArchiveFiles, &str); 8] = [
        (
            vec![text(&format!("x/{}.json", Digest::of(b"c").hex()), "{}"), text("x/id/layer.tar", "")],
            "without its manifest.json",
        ),
        (layout("x/", "index.json"), "without its index.json"),
        (layout("x/", ""), "lists no image"),
        (vec![text("x/index.json", r#"{"manifests":[]}"#)], "without blobs"),
        (vec![text("x/manifest.json", "[]")], "lists no image"),
        (vec![text("x/id/json", "{}"), text("x/id/layer.tar", "")], "before 1.10"),
        (vec![text("x/manifest.json", r#"{"schemaVersion":1,"fsLayers":[]}"#)], "schema 1"),
        (
            layout("x/", "x").into_iter().filter(|(name, _)| name.contains("blobs/")).collect(),
            "anything that lists",
        ),
    ];
    for (files, seems) in cases {
        let catalog = catalog(&[vec![good.clone()], files].concat());
        assert_eq!(left_out(&catalog), ["x: unreadable"], "{seems}");
        assert!(catalog.left_out[0].what.contains(seems), "{:?}", catalog.left_out);
    }
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

#[test]
fn links_out_of_a_folder_lead_to_archives() {
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, at(name)).unwrap();
    fs::write(store.path().join("one.tar"), tar_of(&saved("one:1", &["1"]))).unwrap();
    fs::create_dir(store.path().join("layout")).unwrap();
    let mut blobs = Blobs::default();
    let image = named(blobs.image("a", &["layer"]), "x.io/a:1");
    for (name, bytes) in blobs.layout("layout/", &[image]) {
        let path = store.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    link(&store.path().join("one.tar"), "one.tar");
    link(&store.path().join("layout"), "layout");
    link(Path::new("one.tar"), "latest.tar");
    link(Path::new("gone.tar"), "dangling.tar");
    link(Path::new("."), "loop");
    let catalog = read_directory(folder.path(), &open_file, &opener, &Limits::default()).unwrap();
    assert_eq!(names(&catalog), set(&["docker.io/library/one:1", "x.io/a:1"]));
    assert_eq!(catalog.images.len(), 2, "a second name is no second image");
    let told: BTreeSet<_> = left_out(&catalog).into_iter().collect();
    assert_eq!(told, ["dangling.tar: unreadable", "loop: no-image"].map(str::to_owned).into());
}

#[test]
fn one_bad_archive_of_a_folder_costs_the_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = tar_of(&saved("good:1", &["one"]));
    let cut = tar_of(&saved("cut:1", &["two"]))[..1300].to_vec();
    let two = [saved("half:1", &["three"]), Vec::new()].concat();
    let mut half = two.clone();
    half.remove(1);
    for (name, bytes) in [("good.tar", whole), ("cut.tar", cut), ("half.tar", tar_of(&half))] {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    fs::create_dir(folder.path().join("layout")).unwrap();
    fs::write(folder.path().join("layout/index.json"), "{").unwrap();
    fs::write(folder.path().join("layout/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let mut catalog = read_directory(folder.path(), &open_file, &opener, &Limits::default()).unwrap();
    catalog.leave_out_damaged();
    assert_eq!((names(&catalog), catalog.broken.len()), (set(&["docker.io/library/good:1"]), 0));
    let told: BTreeSet<_> = left_out(&catalog).into_iter().collect();
    let expected = ["cut.tar: unreadable", "half.tar: unreadable", "layout: unreadable"];
    assert_eq!(told, expected.map(str::to_owned).into());
}

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

/// Files are passed over because an image uses them, never because of their names.
#[test]
fn archives_with_names_of_layers_are_looked_into() {
    let archive = |name: &str| tar_of(&saved(name, &[name]));
    let hex = Digest::of(b"any").hex();
    let mut blobs = Blobs::default();
    let listed = named(blobs.image("own", &["own layer"]), "x.io/own:1");
    let mut files = blobs.layout("layout/", &[listed]);
    files.extend([
        ("sub/layer.tar".to_owned(), archive("a:1")),
        (format!("sub/sha256-{hex}.tar.gz"), gzip(&archive("b:1"))),
        ("layout/blobs/extra.tar".into(), archive("c:1")),
        (format!("other/blobs/sha256/{hex}"), archive("d:1")),
    ]);
    let expected = ["a:1", "b:1", "c:1", "d:1"].map(|name| format!("docker.io/library/{name}"));
    let found = names(&catalog(&files));
    for name in expected {
        assert!(found.contains(&name), "{name} in {found:?}");
    }
    assert!(found.contains("x.io/own:1") && found.len() == 5, "{found:?}");
    assert!(left_out(&catalog(&files)).is_empty(), "they are no marks of others");
}

#[test]
fn sources_charts_and_layers_have_things_in_them_that_are_no_images() {
    let good = ("good.tar".to_owned(), tar_of(&saved("a:1", &["one"])));
    let cut = tar_of(&saved("b:1", &["two"]))[..1300].to_vec();
    let zip = [b"PK\x03\x04".as_slice(), &[7; 300]].concat();
    let sources = tar_of(&[
        ("src/main.c".to_owned(), b"int main(void);\n".repeat(600)),
        ("testdata/cut.tar".into(), cut),
        ("lib/wrapper.jar".into(), zip.clone()),
        ("testdata/twice.gz".into(), gzip(&gzip(&zip))),
    ]);
    let catalog1 = catalog(&[good.clone(), ("sources.tgz".into(), gzip(&sources))]);
    assert_eq!((left_out(&catalog1), catalog1.broken.len()), (vec!["sources.tgz: no-image".to_owned()], 0));
    let note = "sources.tgz: 2 files of it cannot be read, and a small part of an archive without images: \
                testdata/cut.tar, lib/wrapper.jar";
    assert_eq!(catalog1.notes, [note]);
    // What is most of an archive is what it was made for.
    let release = tar_of(&[("images.zip".to_owned(), zip), ("VERSION".into(), b"1.2.3".to_vec())]);
    let catalog2 = catalog(&[good.clone(), ("release.tar".into(), release)]);
    assert_eq!(left_out(&catalog2), ["release.tar/images.zip: unreadable"]);
    for (name, content) in [
        ("manifest.json", r#"{"schemaVersion":2,"name":"app"}"#),
        ("manifest.json", r#"[{"id":1,"layers":["a"]}]"#),
        ("index.json", r#"{"manifests":[{"name":"x"}]}"#),
    ] {
        let of_others = (format!("web/{name}"), content.as_bytes().to_vec());
        let catalog = catalog(&[good.clone(), of_others]);
        assert_eq!(
            (left_out(&catalog), catalog.broken.len()),
            (vec![format!("web/{name}: no-image")], 0),
            "{content}"
        );
    }
}

#[test]
fn archives_that_cannot_be_read_count_however_little_each_is_of_what_they_lie_in() {
    let good = ("good.tar".to_owned(), tar_of(&saved("a:1", &["one"])));
    let lz4 = [b"\x04\x22\x4d\x18".as_slice(), &[7; 200]].concat();
    let three = |contents: &[u8], end: &str| -> ArchiveFiles {
        ["a", "b", "c"].map(|name| (format!("{name}{end}"), contents.to_vec())).into()
    };
    let text = ("NOTES".to_owned(), b"much text ".repeat(900));
    // Together they are most of it, whatever they are called.
    let nameless = catalog(&[good.clone(), ("images.tar".into(), tar_of(&three(&lz4, "")))]);
    let expected = ["a", "b", "c"].map(|name| format!("images.tar/{name}: unreadable"));
    assert_eq!(left_out(&nameless), expected);
    // Their names say what they are.
    let named = [three(&lz4, ".tar.lz4"), vec![text.clone()]].concat();
    let named = catalog(&[good.clone(), ("images.tar".into(), tar_of(&named))]);
    let expected = ["a", "b", "c"].map(|name| format!("images.tar/{name}.tar.lz4: unreadable"));
    assert_eq!(left_out(&named), expected);
    let cut = &tar_of(&saved("b:1", &["two"]))[..1300];
    let broken = [three(cut, ".tar"), vec![text.clone()]].concat();
    let broken = catalog(&[good.clone(), ("images.tar".into(), tar_of(&broken))]);
    assert_eq!(broken.broken.len(), 3, "{:?}", broken.broken);
    let links: Vec<u8> = header("gone.tar", 0, b'2', "../store/gone.tar");
    let linked = catalog(&[good, ("links.tar".into(), [links, tar_of(&[text])].concat())]);
    assert_eq!(left_out(&linked), ["links.tar/gone.tar: unreadable"]);
}

#[test]
fn a_pipe_or_device_that_is_called_as_an_archive_is_named() {
    let good = tar_of(&[("a.tar".into(), tar_of(&saved("a:1", &["one"])))]);
    let odd = [header("b.tar", 0, b'6', ""), header("c.tar.xz", 0, b'3', ""), header("fifo", 0, b'6', "")];
    let catalog = read_tar([odd.concat(), good].concat()).unwrap();
    assert_eq!(left_out(&catalog), ["b.tar: unreadable", "c.tar.xz: unreadable"]);
}

#[test]
fn an_image_in_a_member_of_an_unknown_type_is_found() {
    let inner = tar_of(&saved("a:1", &["one"]));
    let member = [header("a.tar", inner.len() as u64, b'Z', ""), inner].concat();
    assert_eq!(names(&read_tar([member, vec![0; 1024]].concat()).unwrap()), set(&["docker.io/library/a:1"]));
}

#[test]
fn members_with_names_of_another_place_are_read_where_tar_would_put_them() {
    let mut blobs = Blobs::default();
    let image = named(blobs.image("a", &["one"]), "x.io/a:1");
    for folder in ["/data/images/", "../images/", "a/../../images/"] {
        let files = blobs.layout(folder, std::slice::from_ref(&image));
        assert_eq!(names(&catalog(&files)), set(&["x.io/a:1"]), "{folder}");
    }
    let rooted: ArchiveFiles =
        saved("b:1", &["two"]).into_iter().map(|(name, bytes)| (format!("/{name}"), bytes)).collect();
    assert_eq!(names(&catalog(&rooted)), set(&["docker.io/library/b:1"]));
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

#[test]
fn what_is_no_bundle_is_told_what_it_seems_to_be() {
    let text = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_vec());
    for (bytes, seems) in [
        (vec![], "an empty file"),
        (b"<!DOCTYPE html><html>403".to_vec(), "an HTML page"),
        (vec![0; 10240], "nothing"),
        (tar_of(&[text("etc/hosts", "x"), text("usr/x", "y")]), "a file system"),
        (
            tar_of(&[text("manifest.json", "{}"), text("version", "Directory Transport Version: 1.1\n")]),
            "`dir:` transport",
        ),
        (tar_of(&[text("a/json", "{}"), text("a/layer.tar", ""), text("repositories", "{}")]), "before 1.10"),
        (tar_of(&[text("oci-layout", "{}"), text("blobs/sha256/x", "{}")]), "without its index.json"),
        (tar_of(&[text("manifest.json", "[]")]), "lists no image"),
    ] {
        let error = read_tar(bytes).unwrap_err();
        assert_eq!(error.fault(), Fault::NotABundle);
        assert!(error.to_string().contains(seems), "{error}");
    }
}

/// A space that tells which blocks of it were read.
#[derive(Debug)]
struct Watched(Bytes, crate::locks::Mutex<u64>);

impl ByteSpace for Watched {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.0.len() as u64)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        let chunk = self.0.chunk_at(offset, max)?;
        *self.1.lock() += chunk.len() as u64;
        Ok(chunk)
    }
}

#[test]
fn layers_are_not_read_and_the_last_of_two_members_counts() {
    let big = "x".repeat(3 << 20);
    let mut blobs = Blobs::default();
    let image = named(blobs.image("a", &[&big]), "x.io/a:1");
    let mut files = blobs.layout("", &[image]);
    let layout = files[0].clone();
    files.insert(0, (layout.0, b"not this one".to_vec()));
    let watched = Arc::new(Watched(tar_of(&files).into(), crate::locks::Mutex::default()));
    let space: Arc<dyn ByteSpace> = Arc::<Watched>::clone(&watched);
    let catalog = read(&space, &opener, &Limits::default(), &|_| {}).unwrap();
    assert_eq!(catalog.images.len(), 1);
    assert!(*watched.1.lock() < 16 << 10);
}

fn everything() -> Vec<u8> {
    let mut blobs = Blobs::default();
    let (amd, arm) = (blobs.image("amd", &["one"]), blobs.image("arm", &["two"]));
    let index = blobs.index(&[on(amd.clone(), "amd64"), on(arm, "arm64")]);
    let mut files = blobs.layout("", &[named(index, "x.io/a:1"), named(amd, "v1")]);
    files.extend(saved("x.io/b:1", &["three"]));
    files.push(("inner.tar".into(), tar_of(&saved("c:1", &["four"]))));
    tar_of(&files)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// What is taken as whole is whole: each blob of the catalog lies in the bundle and has its length.
    #[test]
    fn damage_anywhere_is_survived(at in any::<prop::sample::Index>(), value: u8, cut in any::<Option<prop::sample::Index>>()) {
        let mut bytes = everything();
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(catalog) = read_tar(bytes) {
            for blob in catalog.blobs.values() {
                let len = usize::try_from(blob.size).unwrap();
                prop_assert_eq!(read_exact(&blob.extent, 0, len).unwrap().len(), len);
            }
            for image in &catalog.images {
                if let Content::Manifest(digest) = &image.content {
                    prop_assert!(digest.matches(&catalog.manifests[digest].bytes));
                }
            }
        }
    }
}
