//! Which folders are taken.

use std::fs;

use tempfile::TempDir;

use super::super::{ServeError, Store, StoreOptions};

const READ_ONLY: StoreOptions = StoreOptions { read_only: true, max_disk: None };

#[test]
fn a_folder_of_somebody_else_is_refused_and_left_as_it_is() {
    let layout = &["oci-layout", "index.json", "blobs/sha256/ab"][..];
    let docker = &["blobs/sha256/ab/data", "repositories/a/_layers/link"];
    let temporary = &["tmp/precious"];
    for files in [layout, docker, temporary] {
        let folder = TempDir::new().unwrap();
        for file in files {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "precious").unwrap();
        }
        for options in [StoreOptions::default(), READ_ONLY] {
            let error = Store::open_with(folder.path(), options).unwrap_err();
            assert!(matches!(error, ServeError::Foreign(..)), "{files:?}: {error}");
        }
        assert!(files.iter().all(|file| folder.path().join(file).exists()), "{files:?}");
        assert!(!folder.path().join("lock").exists());
    }
}

#[test]
fn an_empty_folder_a_new_file_system_and_a_store_are_taken() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    let there = Store::open_with(folder.path(), READ_ONLY).unwrap_err();
    assert!(matches!(there, ServeError::NoStore(_)), "{there}");
    drop(Store::open(folder.path()).unwrap());
    drop(Store::open(folder.path()).unwrap());
    // As a version before the marker left it.
    fs::remove_file(folder.path().join("layercast-store")).unwrap();
    Store::open_with(folder.path(), READ_ONLY).unwrap();
    drop(Store::open(folder.path()).unwrap());
    let marker = folder.path().join("layercast-store");
    assert_eq!(fs::read_to_string(&marker).unwrap(), "1\n");
    fs::write(&marker, "2\n").unwrap();
    let newer = Store::open(folder.path()).unwrap_err();
    assert!(matches!(newer, ServeError::Newer(..)), "{newer}");
}

#[test]
fn one_process_writes_and_many_read_beside_it() {
    let folder = TempDir::new().unwrap();
    let writer = Store::open(folder.path()).unwrap();
    assert!(matches!(Store::open(folder.path()), Err(ServeError::Locked(_))));
    let readers = [0, 1].map(|_| Store::open_with(folder.path(), READ_ONLY).unwrap());
    drop(writer);
    drop(Store::open(folder.path()).unwrap());
    drop(readers);
    assert!(Store::open_with(&folder.path().join("nowhere"), READ_ONLY).is_err());
    assert!(!folder.path().join("nowhere").exists());
}
