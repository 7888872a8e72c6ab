//! A layer that several images share may have been on its way to another repository when its run was killed.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Response;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::broken::content;
use crate::locks::Mutex;
use crate::oci::{Digest, Repository};
use crate::registry::quirks::Keeping;
use crate::registry::testing::{Log, SeenRequest, answer, connect, options, registry, repository};
use crate::registry::upload::Pushed;
use crate::registry::{
    BlobBody, ClientOptions, KeptMark, Registry, SessionReach, StoredSession, UploadKey, UploadLedger,
};

/// What the registry has of the blob, in the session of the other repository.
const HELD: u64 = 700_000;
const SESSION: &str = "/v2/team/other/blobs/uploads/7";

/// A ledger with one session, of another repository.
#[derive(Default)]
struct OneSession {
    location: Mutex<String>,
    opened_at: i64,
    forgotten: Mutex<Vec<Repository>>,
}

fn other() -> Repository {
    "team/other".parse().unwrap()
}

impl UploadLedger for OneSession {
    fn claim(&self, _: UploadKey, reach: SessionReach) -> BoxFuture<'_, Option<(Repository, StoredSession)>> {
        let (size, acknowledged) = (content().len() as u64, HELD);
        let location = self.location.lock().clone().into();
        let (sent, opened_at, lifetime) = (acknowledged, self.opened_at, 1000);
        let kept = StoredSession { location, size, acknowledged, sent, opened_at, lifetime };
        let reaches = reach == SessionReach::AnyRepository;
        std::future::ready(reaches.then(|| (other(), kept))).boxed()
    }

    fn keep(&self, _: UploadKey, _: StoredSession, mark: KeptMark) {
        mark.set();
    }

    fn forget(&self, upload: UploadKey) {
        self.forgotten.lock().push(upload.repository);
    }
}

/// A registry that has the session, and mounts or not.
fn answers(seen: &SeenRequest, mounts: bool, refused: u16) -> Response<Body> {
    let own = ("location", "/v2/team/app/blobs/uploads/1");
    match (seen.method.as_str(), seen.target.as_str()) {
        ("GET", SESSION) => answer(204, &[("location", SESSION), ("range", &format!("0-{}", HELD - 1))], ""),
        ("PUT" | "PATCH", target) if target.starts_with(SESSION) && refused != 0 => answer(refused, &[], ""),
        ("POST", target) if target.contains("mount=") && mounts => answer(201, &[], ""),
        ("POST", target) if target.starts_with("/v2/team/app/") => answer(202, &[own], ""),
        ("PATCH", target) => answer(202, &[("location", target)], ""),
        ("PUT", _) => answer(201, &[], ""),
        ("GET", "/v2/") => answer(200, &[], ""),
        _ => answer(404, &[], ""),
    }
}

async fn pushed(mounts: bool, refused: u16) -> (Pushed, Log, Vec<Repository>) {
    let (here, log) = registry(move |seen, _| answers(seen, mounts, refused)).await;
    let ledger = Arc::new(OneSession::default());
    *ledger.location.lock() = format!("http://{here}{SESSION}");
    let options = ClientOptions { uploads: Some(Arc::clone(&ledger) as Arc<dyn UploadLedger>), ..options() };
    let registry: Registry = connect(&here, options).await.unwrap();
    let body: Arc<dyn BlobBody> = Arc::new(content());
    let pushed = registry.push_blob(&repository(), &Digest::of(&content()), &body, None).await.unwrap();
    let forgotten = ledger.forgotten.lock().clone();
    (pushed, log, forgotten)
}

/// The requests that open and commit uploads.
fn writes(log: &Log) -> Vec<String> {
    let log = log.lock();
    let writes = log.iter().filter(|seen| matches!(seen.method.as_str(), "POST" | "PUT"));
    writes.map(|seen| format!("{} {}", seen.method, seen.target)).collect()
}

#[tokio::test]
async fn it_is_finished_there_and_mounted_here() {
    let (pushed, log, forgotten) = pushed(true, 0).await;
    assert_eq!(pushed.bytes_sent, content().len() as u64 - HELD);
    assert_eq!((pushed.bytes_found, pushed.resumed), (HELD, 1));
    let lines = writes(&log);
    assert!(lines[0].starts_with(&format!("PUT {SESSION}?digest=")), "{lines:?}");
    assert!(lines[1].starts_with("POST /v2/team/app/blobs/uploads/?mount="), "{lines:?}");
    assert!(lines[1].ends_with("from=team/other") && lines.len() == 2, "{lines:?}");
    assert_eq!(forgotten, [other(), repository()], "it is committed there, and mounted here");
}

#[tokio::test]
async fn it_is_sent_whole_where_the_registry_does_not_hand_it_over() {
    let (pushed, log, _) = pushed(false, 0).await;
    assert_eq!((pushed.bytes_found, pushed.resumed), (0, 0), "all of it was sent in the end");
    assert_eq!(pushed.bytes_sent, 2 * content().len() as u64 - HELD);
    let lines = writes(&log);
    assert!(lines.last().unwrap().starts_with("PUT /v2/team/app/blobs/uploads/1?digest="), "{lines:?}");
}

#[tokio::test]
async fn a_repository_that_may_not_be_written_any_more_stops_nothing() {
    let (_, log, forgotten) = pushed(true, 403).await;
    let lines = writes(&log);
    assert!(lines.last().unwrap().starts_with("PUT /v2/team/app/blobs/uploads/1?digest="), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("mount=")), "{lines:?}");
    assert_eq!(forgotten[0], other());
}

/// The registry may have been started anew, over an empty store.
#[tokio::test]
async fn a_session_that_is_lost_between_runs_says_nothing_of_its_mirror() {
    let (here, _) = registry(|seen, _| match (seen.method.as_str(), seen.target.as_str()) {
        ("GET", SESSION) => answer(404, &[], ""),
        _ => answers(seen, true, 0),
    })
    .await;
    let opened_at = crate::clock::unix_seconds() - 60;
    let location = Mutex::new(format!("http://{here}{SESSION}"));
    let ledger = Arc::new(OneSession { location, opened_at, ..OneSession::default() });
    let options = ClientOptions { uploads: Some(ledger as Arc<dyn UploadLedger>), ..options() };
    let registry = connect(&here, options).await.unwrap();
    let body: Arc<dyn BlobBody> = Arc::new(content());
    registry.push_blob(&repository(), &Digest::of(&content()), &body, None).await.unwrap();
    assert_eq!(registry.host().quirks().keeping, Keeping::Unknown);
}
