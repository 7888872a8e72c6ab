//! What is no image arrives as well: signatures, attestations, build caches, artifacts, and documents of unknown types.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::Push;
use crate::support::build::{CONTAINERD_NAME, Layout, REF_NAME};
use crate::support::http::{get, tags};
use crate::support::registry::Registry;
use crate::support::scripted::{Request, ScriptedRegistry};
use crate::support::{folder, layercast};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SIGNATURE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A manifest of one blob; gives its descriptor.
fn artifact(layout: &mut Layout, blob: &[u8], media_type: &str, more: &[(&str, Value)]) -> Value {
    let config = layout.blob(b"{}".to_vec(), "application/vnd.oci.empty.v1+json");
    let layer = layout.blob(blob.to_vec(), media_type);
    let mut manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    for (key, value) in more {
        manifest[*key] = value.clone();
    }
    layout.blob(manifest.to_string().into_bytes(), MANIFEST)
}

fn digest_of(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap()
}

fn write(folder: &Path, layout: &Layout) -> std::path::PathBuf {
    let path = folder.join("bundle.tar");
    fs::write(&path, layout.tar()).unwrap();
    path
}

#[test]
fn signatures_go_to_the_tags_where_cosign_looks_for_them() {
    let (folder, registry) = (folder(), Registry::docker());
    let mut layout = Layout::default();
    let image = layout.image("app", "amd64");
    let signature = artifact(&mut layout, b"{\"critical\":{}}", SIGNATURE, &[]);
    let tag = format!("{}.sig", digest_of(&image).replace(':', "-"));
    // As in a haul: both under one name.
    for (entry, kind) in [(&image, "dev.hauler/image"), (&signature, "dev.hauler/sigs")] {
        let names =
            json!({"kind": kind, REF_NAME: "team/app:1", CONTAINERD_NAME: "images.example/team/app:1"});
        layout.list_with(entry, &names);
    }
    let source = write(folder.path(), &layout);
    let to = format!("{}/haul", registry.host());
    Push::to(to.as_str()).source(&source).run().complete();
    let sorted = |namespace: &str| {
        let mut tags = tags(&registry.url(), namespace);
        tags.sort();
        tags
    };
    assert_eq!(sorted("haul"), ["haul/team/app:1", &format!("haul/team/app:{tag}")]);
    let at = |reference: &str| get(&registry.url(), &format!("haul/team/app/manifests/{reference}")).digest;
    assert_eq!(at("1").as_deref(), Some(digest_of(&image)));
    assert_eq!(at(&tag).as_deref(), Some(digest_of(&signature)));
    assert_eq!(Push::to(to.as_str()).source(&source).run().complete().mirror(0)["images_unchanged"], 2);

    // As `cosign save` writes it: without names, so that one name is enough for both.
    let mut layout = Layout::default();
    let image = layout.image("app", "amd64");
    let signature = artifact(&mut layout, b"{\"critical\":{}}", SIGNATURE, &[]);
    layout.list(&image, "kind", "dev.cosignproject.cosign/image");
    layout.list(&signature, "kind", "dev.cosignproject.cosign/sigs");
    let source = write(folder.path(), &layout);
    let to = format!("{}/saved", registry.host());
    let named = ["--name", "images.example/team/app:1"];
    Push::to(to.as_str()).source(&source).flags(&named).run().complete();
    assert_eq!(sorted("saved"), ["saved/team/app:1", &format!("saved/team/app:{tag}")]);
}

#[test]
fn a_build_cache_arrives_with_the_blobs_that_its_index_lists() {
    let folder = folder();
    for registry in [Registry::docker(), Registry::embedded(&folder.path().join("served"))] {
        let mut layout = Layout::default();
        let layer = layout.blob(b"layer".to_vec(), GZIP_LAYER);
        let records = json!({"layers": [{"blob": layer["digest"], "parent": -1}]}).to_string().into_bytes();
        let records = layout.blob(records, "application/vnd.buildkit.cacheconfig.v0");
        let index = layout.index(&[layer.clone(), records.clone()]);
        layout.list(&index, REF_NAME, "images.example/team/app:buildcache");
        let source = write(folder.path(), &layout);
        Push::to(&registry).source(&source).run().complete();
        for blob in [&layer, &records] {
            let path = format!("team/app/blobs/{}", digest_of(blob));
            assert_eq!(get(&registry.url(), &path).status, 200, "{blob}");
        }
        let mut verify = layercast();
        verify.args(["verify", "--deep", "--need-credential=false", "--private-registry", &registry.host()]);
        assert_eq!(verify.arg("--source").arg(&source).output().unwrap().status.code(), Some(0));
    }
}

#[test]
fn documents_of_other_types_are_pushed_as_they_are_or_named() {
    let folder = folder();
    let registry = ScriptedRegistry::strict();
    let mut layout = Layout::default();
    let image = layout.image("app", "amd64");
    layout.list(&image, REF_NAME, "images.example/team/app:1");
    let blob = layout.blob(b"signature".to_vec(), "application/jose+json");
    let types = ["application/vnd.oci.artifact.manifest.v1+json", "application/vnd.example.thing+json"];
    for (media_type, tag) in types.iter().zip(["artifact", "thing"]) {
        let document = json!({"mediaType": media_type, "artifactType": "example/a", "blobs": [blob]});
        let document = layout.blob(document.to_string().into_bytes(), media_type);
        layout.list(&document, REF_NAME, &format!("images.example/team/app:{tag}"));
    }
    // The example of the specification of layouts has such an entry.
    let xml = layout.blob(b"<component/>".to_vec(), "application/xml");
    layout.list(&xml, "org.freedesktop.specifications.metainfo.version", "1.0");
    let pushed = Push::to(&registry).source(&write(folder.path(), &layout)).run().complete();
    assert_eq!(pushed.report["left_out"][0]["class"], "no-image");
    assert!(pushed.said().contains("application/xml"), "{}", pushed.said());
    let asked = registry.asked();
    for (media_type, tag) in types.iter().zip(["artifact", "thing"]) {
        let path = format!("/v2/team/app/manifests/{tag}");
        let put = asked.iter().find(|it| it.method == "PUT" && it.path == path).unwrap();
        assert_eq!(put.header("content-type"), *media_type);
    }
    let sent = |it: &&Request| it.method == "PUT" && it.query.contains(&digest_of(&blob)[7..]);
    assert_eq!(asked.iter().filter(sent).count(), 1, "the blob that the documents name");
    let served = Registry::embedded(&folder.path().join("served"));
    Push::to(&served).source(&write(folder.path(), &layout)).run().complete();
    assert_eq!(get(&served.url(), "team/app/manifests/thing").json()["mediaType"], types[1]);
}

/// GitLab refuses a manifest whose subject it does not have; whatever is listed first, and whether the subject has only a
/// tag.
#[test]
fn a_subject_is_put_before_what_refers_to_it() {
    let folder = folder();
    for (listed_first, flags) in [(false, &[][..]), (true, &[][..]), (true, &["--atomic-tags"][..])] {
        let registry = ScriptedRegistry::strict();
        let mut layout = Layout::default();
        let image = layout.image("app", "amd64");
        let about = |layout: &mut Layout, subject: &Value| {
            let subject =
                json!({"mediaType": MANIFEST, "digest": subject["digest"], "size": subject["size"]});
            artifact(layout, digest_of(&subject).as_bytes(), "text/plain", &[("subject", subject.clone())])
        };
        let bill = about(&mut layout, &image);
        let signature = about(&mut layout, &bill);
        if listed_first {
            layout.list_with(&signature, &json!({}));
            layout.list_with(&bill, &json!({}));
        }
        layout.list(&image, REF_NAME, "images.example/team/app:1");
        if !listed_first {
            layout.list_with(&bill, &json!({}));
            layout.list_with(&signature, &json!({}));
        }
        Push::to(&registry).source(&write(folder.path(), &layout)).flags(flags).run().complete();
        let asked = registry.asked();
        let put = |descriptor: &Value| {
            let path = format!("/v2/team/app/manifests/{}", digest_of(descriptor));
            asked.iter().position(|it| it.method == "PUT" && it.path == path).unwrap()
        };
        assert!(put(&image) < put(&bill) && put(&bill) < put(&signature));
        let tag = asked.iter().position(|it| it.method == "PUT" && it.path == "/v2/team/app/manifests/1");
        assert!(tag.unwrap() > put(&image), "tags are last");
    }
}

/// What a registry without the referrers API shows under `sha256-HEX` may be somebody's image.
#[test]
fn a_tag_for_referrers_that_shows_something_else_is_left_alone_and_fails_its_image() {
    let folder = folder();
    let registry = ScriptedRegistry::start();
    let mut layout = Layout::default();
    let image = layout.image("app", "amd64");
    let subject = json!({"mediaType": MANIFEST, "digest": image["digest"], "size": image["size"]});
    let signature = artifact(&mut layout, b"signature", "text/plain", &[("subject", subject)]);
    layout.list(&image, REF_NAME, "images.example/team/app:1");
    layout.list_with(&signature, &json!({}));
    let tag = digest_of(&image).replace(':', "-");
    let name = ("team/app".to_owned(), tag.clone());
    registry.store(|store| store.tags.insert(name.clone(), digest_of(&image).to_owned()));
    let pushed = Push::to(&registry).source(&write(folder.path(), &layout)).run();
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    assert_eq!(registry.store(|store| store.tags[&name].clone()), digest_of(&image), "it is not replaced");
    let [failed] = &pushed.mirror(0)["images_failed"].as_array().unwrap()[..] else { panic!("{pushed:?}") };
    assert!(failed["message"].as_str().unwrap().contains(&format!("the tag team/app:{tag}")), "{failed}");
    assert!(failed["hint"].as_str().unwrap().contains("delete the tag"), "{failed}");
    assert!(pushed.said().contains("and not an image index"), "{}", pushed.said());
}
