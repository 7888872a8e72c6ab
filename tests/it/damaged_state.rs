//! What is remembered between runs is a hint: whatever becomes of it, a push does what it would have done without it.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use crate::support::build::Bundle;
use crate::support::scripted::ScriptedRegistry;
use crate::support::{Push, Pushed, folder};

/// Layers that have to be compressed, so that what became of them is remembered.
fn bundle() -> Bundle {
    Bundle::archives()
        .image("images.example/a/one:1", &["base", "one"])
        .image("images.example/b/two:1", &["base", "two"])
}

/// Pushes once, damages what was remembered, and pushes to a mirror that has lost everything and to one that has not.
fn survives(damage: impl Fn(&Path)) -> Pushed {
    let folder = folder();
    let state = folder.path().join("state");
    let path = bundle().gzip().write(folder.path());
    let (full, empty) = (ScriptedRegistry::strict(), ScriptedRegistry::strict());
    let push = |to: &ScriptedRegistry| Push::to(to).source(&path).state(&state).run();
    push(&full).complete();
    damage(&state.join("state.sqlite"));
    full.asked();
    let first = push(&empty).complete();
    assert_eq!(empty.store(|store| (store.shown(), store.faults())), (bundle().shown(), vec![]));
    push(&full).complete();
    assert_eq!(full.asked().iter().filter(|request| request.sends()).count(), 0);
    first
}

fn change(database: &Path, sql: &str) {
    let connection = Connection::open(database).unwrap();
    assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
}

#[test]
fn that_is_no_database_any_more() {
    let pushed = survives(|database| fs::write(database, "whatever it was ".repeat(4096)).unwrap());
    assert!(pushed.stderr.contains("set aside as"), "{}", pushed.said());
}

#[test]
fn that_ends_in_the_middle() {
    survives(|database| {
        let file = fs::File::options().write(true).open(database).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    });
}

#[test]
fn of_which_pages_are_overwritten() {
    survives(|database| {
        let mut bytes = fs::read(database).unwrap();
        bytes[4096..].fill(0xa5);
        fs::write(database, bytes).unwrap();
    });
}

#[test]
fn that_is_empty() {
    survives(|database| fs::write(database, "").unwrap());
}

#[test]
fn that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt as _;
    survives(|database| fs::set_permissions(database, fs::Permissions::from_mode(0o400)).unwrap());
}

#[test]
fn that_remembers_catalogs_wrongly() {
    survives(|database| change(database, "UPDATE catalogs SET content = zeroblob(length(content))"));
}

#[test]
fn that_remembers_layers_wrongly() {
    survives(|database| change(database, "UPDATE layers SET size = size + 1"));
    survives(|database| change(database, "UPDATE layers SET digest = 'sha256:' || substr(diff_id, -64)"));
}
