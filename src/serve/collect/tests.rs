//! What goes, and what stays.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::Method;
use tempfile::TempDir;

use super::super::tests::{Registry, codes, files, header, with_registry};
use super::super::{Store, StoreOptions};
use crate::oci::Digest;
use crate::testing::eventually;

#[tokio::test]
async fn what_nobody_links_to_goes_at_the_next_start() {
    let (folder, registry) = with_registry().await;
    registry.blob("a", b"kept").await;
    registry.blob("a", b"deleted").await;
    let path = |bytes: &[u8]| registry.store.content_path(&Digest::of(bytes));
    let (kept, deleted) = (path(b"kept"), path(b"deleted"));
    registry.send(Method::DELETE, &format!("a/blobs/{}", Digest::of(b"deleted"))).await;
    registry.stop().await;
    let left_over = folder.path().join("tmp/left/over");
    fs::create_dir_all(&left_over).unwrap();
    fs::write(folder.path().join("tmp/x"), b"x").unwrap();
    Store::open(folder.path()).unwrap();
    assert_eq!((kept.exists(), deleted.exists(), left_over.exists()), (true, false, false));
}

/// As if the last change of a file were an hour old.
fn age(path: &Path) {
    age_by(path, Duration::from_secs(3600));
}

fn age_by(path: &Path, age: Duration) {
    File::options().append(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[tokio::test]
async fn a_deleted_image_takes_along_what_it_alone_needed() {
    let (_folder, registry) = with_registry().await;
    let image = registry.image("a", "gone").await;
    registry.image("a", "kept").await;
    registry.blob("a", b"on its way to a manifest").await;
    let manifest = image.to_string();
    let digest = Digest::of(manifest.as_bytes());
    registry.send(Method::DELETE, &format!("a/manifests/{digest}")).await;
    let there = |bytes: &[u8]| registry.store.content_path(&Digest::of(bytes)).exists();
    registry.store.tidy().unwrap();
    assert!(there(b"gone"), "there is a grace");
    registry.store.collect(Duration::MAX, Duration::ZERO).unwrap();
    let left = [b"gone".as_slice(), manifest.as_bytes(), b"kept", b"{}", b"on its way to a manifest"];
    assert_eq!(left.map(there), [false, false, true, true, true]);
    assert_eq!(registry.send(Method::GET, "a/manifests/kept").await.status(), 200);
    // It can come again.
    registry.image("a", "gone").await;
    registry.store.collect(Duration::MAX, Duration::ZERO).unwrap();
    assert!(there(b"gone"));
    registry.stop().await;
}

#[tokio::test]
async fn an_image_that_comes_again_before_it_is_collected_stays() {
    let (_folder, registry) = with_registry().await;
    let image = registry.image("a", "v1").await;
    let digest = Digest::of(image.to_string().as_bytes());
    registry.send(Method::DELETE, &format!("a/manifests/{digest}")).await;
    assert_eq!(registry.manifest("a", "v1", &image).await.status(), 201);
    registry.store.collect(Duration::MAX, Duration::ZERO).unwrap();
    assert_eq!(registry.send(Method::GET, "a/manifests/v1").await.status(), 200);
    let blob = format!("a/blobs/{}", Digest::of(b"v1"));
    assert_eq!(registry.send(Method::HEAD, &blob).await.status(), 200);
    registry.stop().await;
}

/// Changes a file in place, as a failing disk does.
fn rot(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Nobody knows what a manifest needs whose bytes have changed. It may come again, and then it needs its blobs.
#[tokio::test]
async fn blobs_stay_where_a_manifest_cannot_be_read() {
    let (_folder, registry) = with_registry().await;
    let gone = registry.image("a", "shared").await;
    let mut kept = gone.clone();
    kept["annotations"] = serde_json::json!({ "of": "another image with the same blobs" });
    assert_eq!(registry.manifest("a", "kept", &kept).await.status(), 201);
    registry.send(Method::DELETE, &format!("a/manifests/{}", Digest::of(gone.to_string().as_bytes()))).await;
    rot(&registry.store.content_path(&Digest::of(kept.to_string().as_bytes())));
    registry.store.collect(Duration::MAX, Duration::ZERO).unwrap();
    assert_eq!(registry.manifest("a", "kept", &kept).await.status(), 201);
    let blob = format!("a/blobs/{}", Digest::of(b"shared"));
    assert_eq!(registry.send(Method::GET, &blob).await.status(), 200);
    // Now that it can be read again, what nobody needs goes.
    let content = registry.store.content_path(&Digest::of(gone.to_string().as_bytes()));
    registry.store.collect(Duration::MAX, Duration::ZERO).unwrap();
    assert!(!content.exists());
    assert_eq!(registry.send(Method::GET, &blob).await.status(), 200);
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_acknowledged_is_never_collected() {
    let (_folder, registry) = with_registry().await;
    let blob = format!("a/blobs/{}", Digest::of(b"again and again"));
    let (store, done) = (Arc::clone(&registry.store), Arc::new(AtomicBool::new(false)));
    let collecting = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while !done.load(Ordering::Relaxed) {
                store.collect(Duration::MAX, Duration::ZERO).unwrap();
            }
        }
    });
    for _ in 0..50 {
        registry.blob("a", b"again and again").await;
        assert_eq!(registry.send(Method::GET, &blob).await.status(), 200);
        assert_eq!(registry.send(Method::DELETE, &blob).await.status(), 202);
    }
    done.store(true, Ordering::Relaxed);
    collecting.join().unwrap();
    registry.stop().await;
}

#[tokio::test]
async fn uploads_that_were_given_up_make_room_when_there_is_none() {
    let folder = TempDir::new().unwrap();
    let options = StoreOptions { read_only: false, max_disk: Some(1000) };
    let registry = Registry::start_on(Store::open_with(folder.path(), options).unwrap()).await;
    let given_up = registry.session("a").await;
    assert_eq!(registry.patch(&given_up, None, &[1; 600]).await.status(), 202);
    age(&registry.session_file(&given_up));
    let goes_on = registry.session("a").await;
    assert_eq!(registry.patch(&goes_on, None, &[2; 300]).await.status(), 202);
    registry.blob("a", &[3; 500]).await;
    assert_eq!(registry.send(Method::GET, &given_up).await.status(), 404);
    assert_eq!(header(&registry.send(Method::GET, &goes_on).await, "range"), "0-299");
    // Now there is nothing left to remove.
    let full = registry.patch(&goes_on, None, &[4; 300]).await;
    assert_eq!((full.status().as_u16(), codes(full).await), (507, vec!["UNAVAILABLE".to_owned()]));
    registry.send(Method::DELETE, &goes_on).await;
    registry.blob("a", &[5; 400]).await;
    registry.stop().await;
    // What is there counts from the start.
    let registry = Registry::start_on(Store::open_with(folder.path(), options).unwrap()).await;
    let session = registry.session("a").await;
    assert_eq!(registry.patch(&session, None, &[6; 200]).await.status(), 507);
    registry.stop().await;
}

#[tokio::test]
async fn an_upload_is_kept_for_a_week_and_an_empty_one_for_a_day() {
    let (_folder, registry) = with_registry().await;
    let day = Duration::from_secs(24 * 3600);
    let mut there = Vec::new();
    for (bytes, age) in [(&b"some"[..], day * 6), (b"some", day * 8), (b"", day / 2), (b"", day * 2)] {
        let session = registry.session("a").await;
        registry.patch(&session, None, bytes).await;
        age_by(&registry.session_file(&session), age);
        there.push(session);
    }
    registry.store.tidy().unwrap();
    let there: Vec<_> = there.iter().map(|session| registry.session_file(session).exists()).collect();
    assert_eq!(there, [true, false, true, false]);
    registry.stop().await;
}

#[tokio::test]
async fn a_blob_that_came_with_one_request_and_half_leaves_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let (folder, registry) = with_registry().await;
    let mut raw = tokio::net::TcpStream::connect(registry.address).await.unwrap();
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"01234567"));
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8\r\n\r\n0123");
    raw.write_all(head.as_bytes()).await.unwrap();
    eventually("half of the blob is there", || !files(folder.path()).is_empty()).await;
    // Killed now, it would lie where the next start clears up.
    assert!(files(folder.path())[0].contains("/tmp/"));
    drop(raw);
    eventually("nothing is left of it", || files(folder.path()).is_empty()).await;
    registry.stop().await;
}
