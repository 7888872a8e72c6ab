//! The table of catalogs keeps what is used, and drops what is damaged.

use std::fs;
use std::path::Path;

use super::super::catalog_codec::tests::{Reader, many, never};
use super::super::{BundleIdentity, Home, State};

fn touch(state: &State, bundle: &BundleIdentity) {
    let key = bundle.key.to_string();
    state.write(move |t| t.execute("UPDATE catalogs SET used_at = 5 WHERE key = ?1", [key]));
}

/// The identity of a file made for it.
fn some_file(folder: &Path, name: &str) -> BundleIdentity {
    fs::write(folder.join(name), name).unwrap();
    Reader::identity(&folder.join(name))
}

#[test]
fn the_least_used_catalogs_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let (catalog, space) = many(1, 1);
    let home = Home::Volume(space);
    let (old, new) = (some_file(folder.path(), "old"), some_file(folder.path(), "new"));
    for bundle in [&old, &new] {
        assert!(state.save_catalog(bundle, &catalog, &home));
    }
    touch(&state, &old);
    // Used again: it is the other one that goes.
    assert!(state.load_catalog(&old, &home, &never()).is_some());
    touch(&state, &new);
    // As if both took nearly all there is.
    state.write(|t| t.execute("UPDATE catalogs SET stored_bytes = 40 << 20", []));
    let third = some_file(folder.path(), "third");
    assert!(state.save_catalog(&third, &catalog, &home));
    let known = |bundle| state.load_catalog(bundle, &home, &never()).is_some();
    assert_eq!([known(&old), known(&new), known(&third)], [true, false, true]);
    state.forget_catalog(&old);
    assert!(!known(&old));
    // What another version of the program read is no answer, and goes.
    state.write(|t| t.execute("UPDATE catalogs SET reader = 'layercast 0.0.0'", []));
    assert!(!known(&third));
    assert!(state.save_catalog(&new, &catalog, &home));
    let rows = state.ask(|c| c.query_row("SELECT count(*) FROM catalogs", [], |row| row.get::<_, i64>(0)));
    assert_eq!(rows, Some(1));
    assert_eq!(state.take_notes(), [""; 0]);
}

#[test]
fn a_kept_catalog_that_is_damaged_is_dropped_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let (catalog, space) = many(1, 1);
    let home = Home::Volume(space);
    let bundle = some_file(folder.path(), "bundle");
    state.save_catalog(&bundle, &catalog, &home);
    state.write(|t| t.execute("UPDATE catalogs SET content = x'00'", []));
    assert!(state.load_catalog(&bundle, &home, &never()).is_none());
    assert_eq!(state.take_notes().len(), 1);
    assert!(state.load_catalog(&bundle, &home, &never()).is_none());
    assert!(state.take_notes().is_empty() && state.is_kept());
}
