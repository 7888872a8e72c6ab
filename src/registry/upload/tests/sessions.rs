//! Upload sessions: their end, and what is measured in them.

use bytes::Bytes;

use crate::registry::testing::{Log, answer, connect, lines, options, registry, repository};
use crate::registry::upload::{CancelAnswer, MeasuredMethod, MeasuredUpload, unmatched_digest};
use crate::testing::eventually;

#[tokio::test]
async fn a_session_that_is_dropped_is_cancelled_where_the_account_may() {
    let (here, log) = registry(|seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("location", &seen.nth.to_string())], ""),
        "DELETE" => answer(405, &[], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let session = registry.start_upload(&repository()).await.unwrap();
    assert!(!format!("{session:?}").contains("uploads"), "its location is a secret: {session:?}");
    drop(session);
    let cancelled = |log: &Log| lines(log).iter().filter(|line| line.starts_with("DELETE")).count();
    let is_learned = || cancelled(&log) == 1 && registry.host().quirks().keeps_sessions;
    eventually("the session is cancelled in the background", is_learned).await;
    drop(registry.start_upload(&repository()).await.unwrap());
    tokio::task::yield_now().await;
    registry.idle().await;
    assert_eq!(cancelled(&log), 1, "a registry that refused is not asked again");
}

#[tokio::test]
async fn a_session_that_has_more_than_its_location_says_is_cancelled_all_the_same() {
    let (here, log) = registry(|seen, _| match (seen.method.as_str(), seen.target.as_str()) {
        ("POST", _) => answer(202, &[("location", "/v2/team/app/blobs/uploads/1?_state=old")], ""),
        ("GET", target) if target.contains("/uploads/1") => {
            answer(204, &[("location", "/v2/team/app/blobs/uploads/1?_state=new"), ("range", "0-99")], "")
        }
        ("DELETE", target) => answer(if target.ends_with("=new") { 204 } else { 416 }, &[], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    assert!(registry.start_upload(&repository()).await.unwrap().cancel().await);
    let log = log.lock();
    let of_session = log.iter().filter(|seen| seen.target.contains("/uploads/1"));
    let asked: Vec<_> = of_session.map(|seen| (&*seen.method, seen.target.split('=').nth(1))).collect();
    // It is asked until nothing more arrives.
    let settled = [("GET", Some("old")), ("GET", Some("new"))];
    assert_eq!(asked, [&[("DELETE", Some("old"))], &settled[..], &[("DELETE", Some("new"))]].concat());
}

/// A measured upload ends with a digest that its bytes do not have: the registry refuses it, and nothing is kept.
#[tokio::test]
async fn what_is_measured_is_not_kept() {
    let (host, log) = registry(|seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("Location", "/v2/r/blobs/uploads/1")], ""),
        "PATCH" => answer(202, &[], ""),
        "PUT" => answer(400, &[], r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&host, options()).await.unwrap();
    let (repository, body) = (repository(), Bytes::from_static(b"0123456789"));
    for (method, patches, puts) in [
        (MeasuredMethod::Chunks(4), 3, 1),
        (MeasuredMethod::Patch, 1, 1),
        (MeasuredMethod::OpenPatch, 1, 0),
        (MeasuredMethod::Put, 0, 1),
    ] {
        log.lock().clear();
        let mut session = registry.start_upload(&repository).await.unwrap();
        let digest = unmatched_digest();
        let measured =
            MeasuredUpload { repository: &repository, body: &body, digest: &digest, method, holds: false };
        let times = registry.measure_upload(&mut session, &measured).await.unwrap();
        session.finished();
        assert!(!times.is_kept);
        assert_eq!(times.commit.is_some(), patches > 0 && puts > 0, "only a request of its own is a commit");
        let seen = lines(&log);
        let count = |method: &str| seen.iter().filter(|line| line.starts_with(method)).count();
        assert_eq!((count("PATCH"), count("PUT")), (patches, puts), "{seen:?}");
    }
}

/// A 404 is no proof that a session is gone where the registry says that its state is out of date.
#[tokio::test]
async fn a_session_is_gone_only_where_the_registry_has_lost_it() {
    use CancelAnswer::{OutOfDate, Removed, Unknown};
    const INVALID: &str = r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"no"}]}"#;
    const UNKNOWN: &str = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"no"}]}"#;
    for (location, status, body, expected) in [
        ("/v2/r/blobs/uploads/1?_state=a", 204, "", Some(Removed)),
        ("/v2/r/blobs/uploads/1?_state=a", 404, UNKNOWN, Some(Unknown)),
        ("/v2/r/blobs/uploads/1?_state=a", 404, INVALID, Some(OutOfDate)),
        ("/v2/r/blobs/uploads/1", 404, INVALID, Some(Unknown)),
        ("/v2/r/blobs/uploads/1", 400, "", Some(Unknown)),
        ("/v2/r/blobs/uploads/1", 405, "", None),
    ] {
        let (host, _) = registry(move |seen, _| match seen.method.as_str() {
            "POST" => answer(202, &[("Location", location)], ""),
            "DELETE" => answer(status, &[], body),
            "GET" if seen.target.contains("uploads") => answer(404, &[], body),
            _ => answer(200, &[], ""),
        })
        .await;
        let registry = connect(&host, options()).await.unwrap();
        let mut session = registry.start_upload(&repository()).await.unwrap();
        let answered = registry.cancel_upload(&repository(), &mut session).await;
        assert_eq!(answered.as_ref().ok(), expected.as_ref(), "{location} {status} {body}: {answered:?}");
        let has = registry.has_upload(&repository(), &session).await.unwrap();
        assert_eq!(has, body == INVALID, "{location} {body}");
        session.finished();
    }
}

/// docker-registry 3 cancels a session of which more has arrived once it was asked where that stands.
#[tokio::test]
async fn a_session_is_cancelled_where_it_stands_now() {
    let (host, log) = registry(|seen, _| match (seen.method.as_str(), seen.target.as_str()) {
        ("POST", _) => answer(202, &[("Location", "/v2/r/blobs/uploads/1?_state=old")], ""),
        ("GET", target) if target.contains("/uploads/1") => {
            answer(204, &[("Location", "/v2/r/blobs/uploads/1?_state=new"), ("Range", "0-99")], "")
        }
        ("DELETE", target) => answer(if target.ends_with("=new") { 204 } else { 416 }, &[], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&host, options()).await.unwrap();
    let mut session = registry.start_upload(&repository()).await.unwrap();
    let answered = registry.cancel_upload(&repository(), &mut session).await.unwrap();
    assert_eq!(answered, CancelAnswer::Removed);
    session.finished();
    assert_eq!(lines(&log).iter().filter(|line| line.starts_with("DELETE")).count(), 2);
}
