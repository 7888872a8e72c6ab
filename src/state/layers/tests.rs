//! Layers are known by what made them.

use std::collections::HashMap;

use super::super::{KnownLayer, State};
use super::trim;
use crate::oci::Digest;

pub(in crate::state) fn layer(text: &str) -> (Digest, KnownLayer) {
    let digest = Digest::of(format!("compressed {text}").as_bytes());
    (Digest::of(text.as_bytes()), KnownLayer { digest, size: 77, media_type: "application/x".into() })
}

#[test]
fn layers_are_known_by_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let (one, two) = (layer("one"), layer("two"));
    assert!(state.layers("gzip 3", &[one.0]).is_empty());
    state.remember_layers("gzip 3", &[one.clone(), two.clone()]);
    drop(state);
    let state = State::open(folder.path());
    assert_eq!(state.layers("gzip 3", &[one.0, Digest::of(b"unknown")]), HashMap::from([one.clone()]));
    assert!(state.layers("zstd 1", &[one.0]).is_empty());
    assert_eq!(state.layers("gzip 3", &[one.0, two.0]), HashMap::from([one, two]));
}

#[test]
fn the_least_used_layers_go() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let (old, new) = (layer("old"), layer("new"));
    state.remember_layers("gzip", &[old.clone(), new.clone()]);
    let least = old.0.to_string();
    state.write(move |t| {
        t.execute("UPDATE layers SET used_at = 5 WHERE diff_id = ?1", [least])?;
        trim(t, 1)
    });
    assert_eq!(state.layers("gzip", &[old.0, new.0]), HashMap::from([new]));
}
