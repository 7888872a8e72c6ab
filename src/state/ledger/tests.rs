//! Sessions of uploads are one run's, go when they are over, and are a hint.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rusqlite::Connection;
use secrecy::ExposeSecret as _;

use super::super::State;
use super::*;
use crate::oci::Digest;
use crate::registry::SessionReach::{AnyRepository, OwnRepository};

const SECRET: &str = "https://r.example/v2/a/blobs/uploads/1?_state=c4n4ry";

fn key(name: &str) -> UploadKey {
    UploadKey {
        registry: "https://r.example".to_owned(),
        repository: "team/app".parse().unwrap(),
        digest: Digest::of(name.as_bytes()),
    }
}

fn stored(acknowledged: u64, lifetime: u32) -> StoredSession {
    let (size, sent, opened_at) = (1000, 700, now());
    StoredSession { location: SECRET.into(), size, acknowledged, sent, opened_at, lifetime }
}

fn ledger(folder: &Path) -> Ledger {
    Ledger::new(folder, &Notes::default())
}

fn notes(ledger: &Ledger) -> String {
    ledger.settle();
    ledger.notes.lock().join("\n")
}

fn holds_secret(folder: &Path) -> bool {
    let files = fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file());
    files
        .map(|entry| fs::read(entry.path()).unwrap())
        .any(|bytes| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()))
}

#[tokio::test]
async fn a_run_goes_on_with_what_a_dead_one_left_and_leaves_what_a_living_one_has() {
    let folder = tempfile::tempdir().unwrap();
    let first = ledger(folder.path());
    first.keep(key("a"), stored(100, 1000), KeptMark::default());
    let (written, refused) = (KeptMark::default(), KeptMark::default());
    first.keep(key("a"), stored(400, 1000), written.clone());
    first.settle();
    assert!(written.is_set());
    let second = ledger(folder.path());
    assert!(second.claim(key("a"), OwnRepository).await.is_none(), "the first run lives");
    second.keep(key("a"), stored(0, 1000), refused.clone());
    second.forget(key("a"));
    second.settle();
    assert!(!refused.is_set(), "another run has the session that stands there");
    drop(first);
    let (repository, taken) = second.claim(key("a"), OwnRepository).await.unwrap();
    assert_eq!(repository, key("a").repository);
    assert_eq!((taken.location.expose_secret(), taken.size), (SECRET, 1000));
    assert_eq!((taken.acknowledged, taken.sent), (400, 700));
    assert!(
        ledger(folder.path()).claim(key("a"), OwnRepository).await.is_none(),
        "it is the second run's now"
    );
    assert!(second.claim(key("b"), OwnRepository).await.is_none());
    let elsewhere = UploadKey { registry: "http://r.example".to_owned(), ..key("a") };
    assert!(second.claim(elsewhere, OwnRepository).await.is_none(), "another scheme is another registry");
}

#[tokio::test]
async fn a_session_goes_when_it_is_over_and_no_file_remembers_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(folder.path());
    ledger.keep(key("a"), stored(0, 1000), KeptMark::default());
    ledger.settle();
    assert!(holds_secret(folder.path()), "or the rest of this test says nothing");
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("uploads.sqlite"), mode("runs")), (0o600, 0o700));
    ledger.forget(key("a"));
    ledger.settle();
    assert!(!holds_secret(folder.path()));
    drop(ledger);
    assert_eq!(fs::read_dir(folder.path().join("runs")).unwrap().count(), 0);
}

#[tokio::test]
async fn sessions_expire() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(folder.path());
    ledger.keep(key("a"), stored(0, 0), KeptMark::default());
    assert!(ledger.claim(key("a"), OwnRepository).await.is_none());
    ledger.keep(key("a"), stored(0, 1000), KeptMark::default());
    assert!(ledger.claim(key("a"), OwnRepository).await.is_some());
}

#[tokio::test]
async fn where_nothing_broke_off_there_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let uploads = state.uploads().unwrap();
    assert!(uploads.claim(key("a"), OwnRepository).await.is_none());
    uploads.forget(key("a"));
    assert!(!folder.path().join("uploads.sqlite").exists() && state.take_notes().is_empty());
}

#[tokio::test]
async fn a_damaged_ledger_is_deleted_with_its_secrets_and_a_new_one_begins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("uploads.sqlite");
    fs::write(&path, SECRET.repeat(500)).unwrap();
    let damaged = ledger(folder.path());
    assert!(damaged.claim(key("a"), OwnRepository).await.is_none());
    assert!(notes(&damaged).contains("it was deleted, and a new one begins"), "{}", notes(&damaged));
    assert!(!holds_secret(folder.path()));
    damaged.keep(key("a"), stored(0, 1000), KeptMark::default());
    assert!(damaged.claim(key("a"), OwnRepository).await.is_some());
}

#[tokio::test]
async fn a_ledger_of_another_program_or_a_later_version_stays_as_it_is() {
    for (sql, says) in [
        ("CREATE TABLE recipes (a)", "a database of another program"),
        (
            "PRAGMA application_id = 1818457452; PRAGMA user_version = 99; CREATE TABLE uploads (later);",
            "newer version",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uploads.sqlite");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(&path).unwrap();
        let (ledger, mark) = (ledger(folder.path()), KeptMark::default());
        ledger.keep(key("a"), stored(0, 1000), mark.clone());
        assert!(ledger.claim(key("a"), OwnRepository).await.is_none());
        assert!(notes(&ledger).contains(says), "{}", notes(&ledger));
        assert!(!mark.is_set(), "no later run finds it");
        assert!(fs::read(&path).unwrap() == before, "{says}");
    }
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_costs_a_note() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("uploads.sqlite")).unwrap();
    let ledger = ledger(folder.path());
    ledger.keep(key("a"), stored(0, 1000), KeptMark::default());
    assert!(ledger.claim(key("a"), OwnRepository).await.is_none());
    let said = notes(&ledger);
    assert!(said.contains("no later run goes on") && said.lines().count() == 1, "{said}");
}

#[tokio::test]
async fn a_ledger_that_is_full_costs_a_note_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let full = ledger(folder.path());
    full.keep(key("a"), stored(100, 1000), KeptMark::default());
    full.settle();
    let no_more_pages = |connection: &mut Connection| {
        connection.pragma_update_and_check(None, "max_page_count", 1, |_| Ok(()))
    };
    full.open().unwrap().thread.ask(no_more_pages).unwrap();
    for number in 0..100 {
        full.keep(key(&number.to_string()), stored(0, 1000), KeptMark::default());
    }
    assert!(full.claim(key("b"), OwnRepository).await.is_none());
    full.forget(key("a"));
    let said = notes(&full);
    assert!(said.contains("no later run goes on") && said.contains("full"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    drop(full);
    // There is room again.
    let next = ledger(folder.path());
    assert_eq!(next.claim(key("a"), OwnRepository).await.unwrap().1.acknowledged, 100);
    next.keep(key("c"), stored(0, 1000), KeptMark::default());
    assert!(next.claim(key("c"), OwnRepository).await.is_some() && notes(&next).is_empty());
}

#[tokio::test]
async fn a_blob_of_another_repository_is_gone_on_with_once_its_run_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = || UploadKey { repository: "team/other".parse().unwrap(), ..key("a") };
    let first = ledger(folder.path());
    first.keep(key("a"), stored(100, 1000), KeptMark::default());
    assert!(first.claim(elsewhere(), AnyRepository).await.is_none(), "its own upload is under way");
    let second = ledger(folder.path());
    assert!(second.claim(elsewhere(), AnyRepository).await.is_none(), "the first run lives");
    drop(first);
    assert!(second.claim(elsewhere(), OwnRepository).await.is_none());
    let (repository, taken) = second.claim(elsewhere(), AnyRepository).await.unwrap();
    assert_eq!((repository, taken.acknowledged), (key("a").repository, 100));
    assert!(second.claim(elsewhere(), AnyRepository).await.is_none(), "it is taken");
}

/// Another repository may still need its own: not every registry mounts.
#[tokio::test]
async fn a_blob_that_is_there_takes_what_dead_runs_left_of_it_in_its_repository_along() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = || UploadKey { repository: "team/other".parse().unwrap(), ..key("a") };
    let first = ledger(folder.path());
    first.keep(elsewhere(), stored(100, 1000), KeptMark::default());
    first.keep(key("a"), stored(100, 1000), KeptMark::default());
    first.settle();
    drop(first);
    let second = ledger(folder.path());
    second.keep(key("b"), stored(500, 1000), KeptMark::default());
    second.forget(key("a"));
    second.settle();
    let mut kept: Vec<_> = second.list().into_iter().map(|kept| kept.upload.repository.to_string()).collect();
    kept.sort();
    assert_eq!(kept, ["team/app", "team/other"]);
    assert!(second.claim(elsewhere(), OwnRepository).await.is_some());
}

/// A clock that was set back does not keep a session for ever, and throws none away.
#[tokio::test]
async fn a_session_from_the_future_counts_from_now_on() {
    let folder = tempfile::tempdir().unwrap();
    let ahead = now() + 1_000_000;
    let set = |used_at: i64| {
        let connection = Connection::open(folder.path().join("uploads.sqlite")).unwrap();
        connection.execute("UPDATE uploads SET used_at = ?1, opened_at = ?1", [used_at]).unwrap();
    };
    let first = ledger(folder.path());
    first.keep(key("a"), stored(100, 1000), KeptMark::default());
    first.settle();
    drop(first);
    set(ahead);
    let second = ledger(folder.path());
    let expires_at = second.list()[0].expires_at;
    assert!(expires_at <= now() + 1000, "{expires_at}");
    assert!(second.claim(key("a"), OwnRepository).await.is_some());
    let connection = Connection::open(folder.path().join("uploads.sqlite")).unwrap();
    let used_at: i64 = connection.query_row("SELECT used_at FROM uploads", [], |row| row.get(0)).unwrap();
    assert!(used_at <= now(), "{used_at}");
}
