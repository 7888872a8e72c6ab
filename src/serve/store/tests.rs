//! What lies on the disk.

use std::fs;

use reqwest::Method;

use super::super::tests::{Registry, with_registry};
use crate::oci::Digest;

#[tokio::test]
async fn content_that_was_cut_short_is_absent_until_it_comes_again() {
    let (_folder, registry) = with_registry().await;
    registry.blob("a", b"0123456789").await;
    let digest = Digest::of(b"0123456789");
    let content = registry.store.content_path(&digest);
    fs::remove_file(&content).unwrap();
    fs::write(&content, b"0123").unwrap();
    assert_eq!(registry.send(Method::HEAD, &format!("a/blobs/{digest}")).await.status(), 404);
    registry.blob("a", b"0123456789").await;
    let response = registry.send(Method::GET, &format!("a/blobs/{digest}")).await;
    assert_eq!(response.text().await.unwrap(), "0123456789");
    registry.stop().await;
}

/// Same-size rot shows in the digest only, and a client that asks first would never send it again.
#[tokio::test]
async fn a_manifest_that_rotted_is_absent_until_it_comes_again() {
    let (_folder, registry) = with_registry().await;
    let image = registry.image("a", "v1").await;
    let content = registry.store.content_path(&Digest::of(image.to_string().as_bytes()));
    let mut bytes = fs::read(&content).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::remove_file(&content).unwrap();
    fs::write(&content, bytes).unwrap();
    for method in [Method::HEAD, Method::GET] {
        assert_eq!(registry.send(method, "a/manifests/v1").await.status(), 404);
    }
    assert_eq!(registry.manifest("a", "v1", &image).await.status(), 201);
    let response = registry.send(Method::GET, "a/manifests/v1").await;
    assert_eq!(response.text().await.unwrap(), image.to_string());
    registry.stop().await;
}

/// A store that is made anew at the old path would be one without a lock.
#[tokio::test]
async fn a_root_that_is_moved_away_is_not_made_anew() {
    let folder = tempfile::TempDir::new().unwrap();
    let root = folder.path().join("root");
    let registry = Registry::start(&root).await;
    fs::rename(&root, folder.path().join("moved")).unwrap();
    let refused = registry.send(Method::POST, "a/blobs/uploads/").await;
    assert_eq!(refused.status(), 500);
    assert!(!root.exists());
    registry.stop().await;
}
