//! Manifests as a client sees them.

use reqwest::Method;
use serde_json::{Value, json};

use super::super::tests::{Registry, codes, header, with_registry};
use crate::oci::{Digest, media_type};

#[tokio::test]
async fn manifests_are_kept_byte_for_byte() {
    let (folder, registry) = with_registry().await;
    let image = registry.image("a/b", "v1").await;
    let text = format!("{image}  \n");
    let digest = Digest::of(text.as_bytes()).to_string();
    let put = registry.ask(Method::PUT, &format!("a/b/manifests/{digest}")).body(text.clone());
    let response = put.header("content-type", media_type::OCI_MANIFEST).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "docker-content-digest")), (201, &*digest));
    let put = registry.ask(Method::PUT, &format!("a/b/manifests/{digest}?tag=x&tag=y")).body(text.clone());
    let response = put.header("content-type", media_type::OCI_MANIFEST).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "oci-tag")), (201, "x, y"));
    let response = registry.send(Method::HEAD, "a/b/manifests/y").await;
    assert_eq!(header(&response, "docker-content-digest"), digest);
    let response = registry.send(Method::GET, &format!("a/b/manifests/{digest}")).await;
    assert_eq!(header(&response, "content-type"), media_type::OCI_MANIFEST);
    assert_eq!(response.text().await.unwrap(), text);
    let response = registry.send(Method::HEAD, "a/b/manifests/v1").await;
    assert_eq!(
        header(&response, "docker-content-digest"),
        Digest::of(image.to_string().as_bytes()).to_string()
    );
    assert_eq!(header(&response, "content-length"), image.to_string().len().to_string());
    assert_eq!(codes(registry.send(Method::GET, "a/b/manifests/v2").await).await, ["MANIFEST_UNKNOWN"]);
    registry.stop().await;
    // The next start clears up, but not what is in use.
    let registry = Registry::start(folder.path()).await;
    let response = registry.send(Method::GET, "a/b/manifests/v1").await;
    assert_eq!(response.text().await.unwrap(), image.to_string());
    for blob in [&image["config"], &image["layers"][0]] {
        let path = format!("a/b/blobs/{}", blob["digest"].as_str().unwrap());
        assert_eq!(registry.send(Method::HEAD, &path).await.status(), 200);
    }
    registry.stop().await;
}

#[tokio::test]
async fn manifests_need_what_they_name() {
    let (_folder, registry) = with_registry().await;
    let config = registry.blob("a", b"{}").await;
    let absent = |kind: &str, name: &str| json!({ "mediaType": kind, "digest": Digest::of(name.as_bytes()), "size": 1 });
    let foreign = absent("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "foreign");
    let broken = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config,
        "layers": [absent("x/y", "one"), foreign, absent("x/y", "two")],
    });
    let response = registry.manifest("a", "v1", &broken).await;
    assert_eq!(response.status(), 400);
    let body: Value = response.json().await.unwrap();
    let errors = body["errors"].as_array().unwrap();
    let told: Vec<_> =
        errors.iter().map(|error| (error["code"].as_str(), error["detail"].as_str())).collect();
    let code = Some("MANIFEST_BLOB_UNKNOWN");
    let digests = ["one", "two"].map(|name| Digest::of(name.as_bytes()).to_string());
    assert_eq!(told, [(code, Some(&*digests[0])), (code, Some(&*digests[1]))]);
    assert_eq!(registry.send(Method::HEAD, "a/manifests/v1").await.status(), 404);
    // Foreign layers alone are no obstacle, and neither is a subject that has not come yet.
    let whole = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [foreign],
        "subject": absent(media_type::OCI_MANIFEST, "later"),
    });
    let response = registry.manifest("a", "v1", &whole).await;
    let later = Digest::of(b"later").to_string();
    assert_eq!((response.status().as_u16(), header(&response, "oci-subject")), (201, &*later));
    // An index needs its manifests, in its own repository.
    let child = json!({
        "mediaType": media_type::OCI_MANIFEST, "digest": Digest::of(whole.to_string().as_bytes()), "size": 1,
    });
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [child] });
    assert_eq!(codes(registry.manifest("b", "v1", &index).await).await, ["MANIFEST_BLOB_UNKNOWN"]);
    assert_eq!(registry.manifest("a", "all", &index).await.status(), 201);
    registry.stop().await;
}

#[tokio::test]
async fn what_is_no_manifest() {
    let (_folder, registry) = with_registry().await;
    let put = |kind: &'static str, body: String| {
        let request = registry.ask(Method::PUT, "a/manifests/v1").header("content-type", kind).body(body);
        async { request.send().await.unwrap() }
    };
    let empty =
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] }).to_string();
    for (kind, body) in [
        (media_type::OCI_MANIFEST, "{".to_owned()),
        (media_type::OCI_MANIFEST, "{}".to_owned()),
        (media_type::OCI_MANIFEST, empty.clone()),
        (media_type::DOCKER_SCHEMA1[0], r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned()),
    ] {
        let response = put(kind, body).await;
        assert_eq!(
            (response.status().as_u16(), codes(response).await[0].as_str()),
            (400, "MANIFEST_INVALID")
        );
    }
    let padded = |len: usize| format!("{empty}{}", " ".repeat(len - empty.len()));
    assert_eq!(put(media_type::OCI_INDEX, padded(4 << 20)).await.status(), 201);
    assert_eq!(put(media_type::OCI_INDEX, padded((4 << 20) + 1)).await.status(), 413);
    registry.stop().await;
}

#[tokio::test]
async fn deleting_a_manifest_takes_its_tags_along() {
    let (_folder, registry) = with_registry().await;
    let image = registry.image("a", "v1").await;
    registry.manifest("a", "v2", &image).await;
    registry.image("a", "other").await;
    assert_eq!(registry.send(Method::DELETE, "a/manifests/v2").await.status(), 202);
    assert_eq!(registry.send(Method::GET, "a/manifests/v2").await.status(), 404);
    let path = format!("a/manifests/{}", Digest::of(image.to_string().as_bytes()));
    assert_eq!(registry.send(Method::GET, &path).await.status(), 200);
    assert_eq!(registry.send(Method::DELETE, &path).await.status(), 202);
    assert_eq!(codes(registry.send(Method::DELETE, &path).await).await, ["MANIFEST_UNKNOWN"]);
    let tags: Value = registry.send(Method::GET, "a/tags/list").await.json().await.unwrap();
    assert_eq!(tags["tags"], json!(["other"]));
    registry.stop().await;
}

#[tokio::test]
async fn kinds_that_nobody_has_heard_of_are_stored_when_what_they_name_is_there() {
    let (_folder, registry) = with_registry().await;
    let put = async |kind: Option<&str>, body: &Value| {
        let mut request = registry.ask(Method::PUT, "a/manifests/v1").body(body.to_string());
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        request.send().await.unwrap()
    };
    let artifact = "application/vnd.oci.artifact.manifest.v1+json";
    let mut document =
        json!({ "mediaType": artifact, "blobs": [{ "digest": Digest::of(b"sbom"), "size": 4 }] });
    assert_eq!(codes(put(Some(artifact), &document).await).await, ["MANIFEST_BLOB_UNKNOWN"]);
    registry.blob("a", b"sbom").await;
    document["subject"] = json!({ "digest": Digest::of(b"subject"), "size": 7 });
    let response = put(Some(artifact), &document).await;
    let subject = Digest::of(b"subject").to_string();
    assert_eq!((response.status().as_u16(), header(&response, "oci-subject")), (201, &*subject));
    let response = registry.send(Method::GET, "a/manifests/v1").await;
    assert_eq!(header(&response, "content-type"), artifact);
    assert_eq!(response.text().await.unwrap(), document.to_string());
    // A type must be said, and it must be the document's own.
    assert_eq!(codes(put(None, &document).await).await, ["MANIFEST_INVALID"]);
    assert_eq!(codes(put(Some("application/x"), &document).await).await, ["MANIFEST_INVALID"]);
    assert_eq!(codes(put(Some("application/x"), &json!("text")).await).await, ["MANIFEST_INVALID"]);
    registry.stop().await;
}
