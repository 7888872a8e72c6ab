//! What is damaged, newer or a stranger's costs a note.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::super::layers::tests::layer;
use super::super::{Retention, State};
use crate::oci::Digest;

#[test]
fn what_lies_there_is_for_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("a/state");
    let state = State::open(&folder);
    state.begin_run("x", &[], Retention::default());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("state.sqlite"))), (0o700, 0o600));
    assert_eq!(mode(&folder.join("state.sqlite-wal")), 0o600);
    drop(state);
    fs::set_permissions(folder.join("state.sqlite"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(State::open(&folder).is_kept());
    assert_eq!(mode(&folder.join("state.sqlite")), 0o600);
}

#[test]
fn a_damaged_database_is_set_aside_and_a_new_one_begins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.sqlite");
    State::open(folder.path()).begin_run("first", &[], Retention::default());
    fs::write(&path, "this is no database, whatever it was".repeat(500)).unwrap();
    let state = State::open(folder.path());
    let notes = state.take_notes();
    assert!(notes.len() == 1 && notes[0].contains("set aside as"), "{notes:?}");
    assert!(state.is_kept() && state.runs(None, 5).is_empty());
    assert!(folder.path().join("state.sqlite.damaged").exists());
    state.begin_run("second", &[], Retention::default());
    drop(state);
    assert_eq!(State::open(folder.path()).runs(None, 5).len(), 1);
}

#[test]
fn damage_that_shows_late_ends_the_state_and_not_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.sqlite");
    let state = State::open(folder.path());
    let layers: Vec<_> = (0..2000).map(|number| layer(&number.to_string())).collect();
    state.remember_layers("gzip", &layers);
    drop(state);
    // The first page, with the schema, stays as it is.
    let mut bytes = fs::read(&path).unwrap();
    bytes[8192..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let state = State::open(folder.path());
    assert!(state.is_kept());
    let all: Vec<_> = layers.iter().map(|(diff_id, _)| *diff_id).collect();
    assert!(state.layers("gzip", &all).is_empty());
    assert!(!state.is_kept());
    let notes = state.take_notes();
    assert!(notes.len() == 1 && notes[0].contains("set aside as"), "{notes:?}");
    state.remember_layers("gzip", &layers);
    assert!(state.take_notes().is_empty());
    let state = State::open(folder.path());
    assert!(state.is_kept() && state.layers("gzip", &all).is_empty());
}

#[test]
fn a_newer_database_is_set_aside_and_a_strangers_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.sqlite");
    drop(State::open(folder.path()));
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let state = State::open(folder.path());
    assert!(state.is_kept() && state.take_notes()[0].contains("schema 99"));
    assert!(folder.path().join("state.sqlite.newer").exists());
    drop(state);

    fs::remove_file(&path).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE recipes (a); INSERT INTO recipes VALUES (1)").unwrap();
    let state = State::open(folder.path());
    assert!(!state.is_kept() && state.take_notes()[0].contains("another program"));
    assert_eq!(connection.query_row("SELECT a FROM recipes", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn a_database_in_use_is_not_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let first = State::open(folder.path());
    assert!(first.is_kept());
    let connection = rusqlite::Connection::open(folder.path().join("state.sqlite")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    let second = State::open(folder.path());
    let notes = second.take_notes();
    assert!(!second.is_kept() && notes[0].contains("another run is using it"), "{notes:?}");
    assert!(first.is_kept() && first.begin_run("x", &[], Retention::default()).is_some());
}

#[test]
fn a_home_that_cannot_be_used_is_no_state_and_a_note() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let state = State::open(&file.path().join("state"));
    assert!(!state.is_kept() && state.take_notes()[0].contains("--state-dir"));
    assert!(state.begin_run("x", &[], Retention::default()).is_none() && state.runs(None, 5).is_empty());
    assert!(state.layers("gzip", &[Digest::of(b"x")]).is_empty());
    let none = State::none();
    assert!(!none.is_kept() && none.take_notes().is_empty());
}

#[test]
fn a_database_that_is_full_ends_the_state_and_not_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let (known, more) = (vec![layer("known")], (0..5000).map(|number| layer(&number.to_string())));
    state.remember_layers("gzip", &known);
    let full =
        state.ask(|connection| connection.pragma_update_and_check(None, "max_page_count", 1, |_| Ok(())));
    assert!(full.is_some());
    state.remember_layers("gzip", &more.collect::<Vec<_>>());
    assert!(!state.is_kept() && state.layers("gzip", &[known[0].0]).is_empty());
    let notes = state.take_notes();
    assert!(notes.len() == 1 && notes[0].contains("from now on") && notes[0].contains("full"), "{notes:?}");
    // There is room again: nothing of what did not fit is there, and all that did.
    let state = State::open(folder.path());
    assert_eq!(state.layers("gzip", &[known[0].0, layer("17").0]).len(), 1);
    assert!(state.take_notes().is_empty());
}
