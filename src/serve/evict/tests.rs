//! Which uploads go when the disk is full.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use super::super::tests::{Registry, codes, header};
use super::super::{Store, StoreOptions};
use crate::oci::media_type;

const KIB: usize = 1 << 10;

/// A store of a megabyte that is full of uploads of one kilobyte. Each is a minute older than the one before it, and the first
/// is in use now.
struct FullOfUploads {
    folder: TempDir,
    uploads: Vec<PathBuf>,
    registry: Registry,
}

impl FullOfUploads {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        drop(Store::open(folder.path()).unwrap());
        let path = |number: usize| {
            folder.path().join(format!("repositories/r{}/_uploads/{number:032x}", number % 3))
        };
        let uploads: Vec<PathBuf> = (0..1000).map(path).collect();
        for (minutes, upload) in uploads.iter().enumerate() {
            fs::create_dir_all(upload.parent().unwrap()).unwrap();
            fs::write(upload, [7; KIB]).unwrap();
            let since = SystemTime::now() - Duration::from_secs(60 * minutes as u64);
            File::options().append(true).open(upload).unwrap().set_modified(since).unwrap();
        }
        let options = StoreOptions { read_only: false, max_disk: Some(1000 * KIB as u64) };
        let registry = Registry::start_on(Store::open_with(folder.path(), options).unwrap()).await;
        Self { folder, uploads, registry }
    }

    /// The numbers of the uploads that are left.
    fn left(&self) -> Vec<usize> {
        (0..1000).filter(|number| self.uploads[*number].exists()).collect()
    }
}

#[tokio::test]
async fn the_longest_idle_uploads_make_room_and_no_more_than_it_takes() {
    let full = FullOfUploads::new().await;
    full.registry.blob("new", &vec![1; 100 * KIB]).await;
    assert!(full.left().into_iter().eq(0..900));
    // A manifest finds room too.
    let note = "x".repeat(KIB);
    let index =
        json!({ "mediaType": media_type::OCI_INDEX, "manifests": [], "annotations": { "note": note } });
    assert_eq!(full.registry.manifest("new", "1", &index).await.status(), 201);
    assert!(full.left().into_iter().eq(0..898));
    let status = full.registry.send(Method::GET, &format!("/v2/r0/blobs/uploads/{:032x}", 897)).await;
    assert_eq!((status.status().as_u16(), header(&status, "range")), (204, "0-1023"));
    let gone = full.registry.send(Method::GET, &format!("/v2/r0/blobs/uploads/{:032x}", 900)).await;
    assert_eq!(codes(gone).await, ["BLOB_UPLOAD_UNKNOWN"]);
    full.registry.stop().await;
}

#[tokio::test]
async fn of_too_many_uploads_the_longest_idle_go() {
    let full = FullOfUploads::new().await;
    full.registry.store.limit_uploads(1000).unwrap();
    assert!(full.left().into_iter().eq(0..1000));
    // The first one is not idle for a minute yet, and does not count.
    full.registry.store.limit_uploads(10).unwrap();
    assert!(full.left().into_iter().eq(0..11));
    full.registry.stop().await;
}

#[tokio::test]
async fn no_upload_goes_for_what_finds_no_room_anyway() {
    let full = FullOfUploads::new().await;
    let session = full.registry.session("new").await;
    let store = std::sync::Arc::clone(&full.registry.store);
    let refused = tokio::task::spawn_blocking(move || store.take_room(2000 * KIB as u64)).await.unwrap();
    assert!(refused.is_err());
    assert!(full.left().into_iter().eq(0..1000));
    full.registry.send(Method::DELETE, &session).await;
    full.registry.stop().await;
    assert!(full.folder.path().exists());
}
