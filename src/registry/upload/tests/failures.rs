//! Uploads that fail: what is tried again, what is final, what the error says.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{BundleError, Fault};
use crate::oci::Digest;
use crate::registry::testing::{
    SeenRequest, Told, answer, blob, connect, late, lines, options, registry, registry_at, repository,
};
use crate::registry::{BlobBody, BodyStream, ClientOptions, FailureKind};

#[tokio::test]
async fn a_lost_answer_to_a_commit_is_a_success_if_the_blob_is_there() {
    let (here, log) = registry(|seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("location", "1")], ""),
        "PUT" => answer(0, &[], ""),
        "HEAD" => answer(200, &[("content-length", "10")], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let (digest, body) = blob("some layer");
    let pushed = registry.push_blob(&repository(), &digest, &body, None).await.unwrap();
    assert_eq!(pushed.bytes_sent, 10);
    assert_eq!(lines(&log).last().unwrap(), &format!("HEAD /v2/team/app/blobs/{digest}"));
}

#[tokio::test]
async fn a_broken_upload_begins_anew_with_a_new_session() {
    let (here, log) = registry(|seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("location", &seen.nth.to_string())], ""),
        "PUT" if seen.target.contains("/uploads/2?") => answer(201, &[], ""),
        "PUT" => answer(0, &[], ""),
        "HEAD" => answer(404, &[], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let (digest, body) = blob("some layer");
    assert_eq!(registry.push_blob(&repository(), &digest, &body, None).await.unwrap().bytes_sent, 30);
    assert_eq!(lines(&log).iter().filter(|line| line.starts_with("POST")).count(), 3);
}

/// A blob whose end turns out to be wrong.
struct Damaged;

impl BlobBody for Damaged {
    fn len(&self) -> u64 {
        100
    }

    fn open(&self, _range: Range<u64>) -> BodyStream {
        let pieces = [
            Ok(Bytes::from_static(&[7; 90])),
            Err(BundleError::new(Fault::DigestMismatch, "layer is damaged")),
        ];
        Box::pin(futures_util::stream::iter(pieces))
    }
}

#[tokio::test]
async fn a_damaged_blob_is_never_committed_nor_tried_again() {
    let (here, log) = registry(|seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("location", "1")], ""),
        _ => answer(if seen.is_whole { 201 } else { 400 }, &[], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let body: Arc<dyn BlobBody> = Arc::new(Damaged);
    let error = registry.push_blob(&repository(), &Digest::of(b"x"), &body, None).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Source);
    assert_eq!(error.source_error().unwrap().fault(), Fault::DigestMismatch);
    assert!(!error.is_retryable());
    let log = log.lock();
    assert!(log.iter().filter(|seen| seen.method == "PUT").all(|seen| !seen.is_whole));
    assert_eq!(log.iter().filter(|seen| seen.method == "POST").count(), 1);
    assert_eq!(log.iter().filter(|seen| seen.method == "DELETE").count(), 1, "the session is cancelled");
}

#[tokio::test]
async fn a_slow_commit_is_asked_for_and_its_bytes_are_not_sent_again() {
    for by_patch in [false, true] {
        let done = Instant::now() + Duration::from_millis(900);
        let (here, log) = registry(move |seen, _| match seen.method.as_str() {
            "POST" => answer(202, &[("location", "1")], ""),
            "PUT" if by_patch && !seen.body.is_empty() => answer(405, &[], ""),
            "PATCH" => answer(202, &[("location", "2")], ""),
            // A proxy before it waits for 300 ms, and the registry needs longer.
            "PUT" => late(Duration::from_millis(300), answer(if by_patch { 504 } else { 0 }, &[], "")),
            "HEAD" if Instant::now() >= done => answer(200, &[("content-length", "10")], ""),
            "HEAD" => answer(404, &[], ""),
            _ => answer(200, &[], ""),
        })
        .await;
        let mut options = options();
        options.timeouts.response = Duration::from_secs(3);
        let registry = connect(&here, options).await.unwrap();
        let (digest, body) = blob("some layer");
        registry.push_blob(&repository(), &digest, &body, None).await.unwrap();
        let is_commit = |seen: &&SeenRequest| seen.method == "PUT" && (seen.body.is_empty() == by_patch);
        assert_eq!(log.lock().iter().filter(is_commit).count(), 1, "{:?}", lines(&log));
    }
}

#[tokio::test]
async fn the_wait_that_a_registry_asks_of_an_upload_is_told_as_it_is() {
    let (here, _) = registry(|seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("location", &seen.nth.to_string())], ""),
        "PUT" if seen.target.contains("/uploads/0?") => answer(429, &[("retry-after", "1")], ""),
        "PUT" => answer(201, &[], ""),
        "HEAD" => answer(404, &[], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let told = Arc::new(Told::default());
    let mut options = ClientOptions { observer: told.clone(), ..options() };
    options.retry.connect_patience = Duration::from_secs(5);
    let registry = connect(&here, options).await.unwrap();
    let (digest, body) = blob("some layer");
    let start = Instant::now();
    registry.push_blob(&repository(), &digest, &body, None).await.unwrap();
    let waited = start.elapsed();
    let [(_, _, after)] = &told.retries()[..] else { panic!("{:?}", told.retries()) };
    assert!(*after > Duration::from_millis(900) && *after <= waited, "{after:?} of {waited:?}");
}

#[tokio::test]
async fn what_ended_an_upload_is_told_although_the_registry_cannot_be_asked_for_the_blob() {
    let (here, log) = registry(|seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("location", "1")], ""),
        "PUT" => answer(507, &[], "the disk is full"),
        "HEAD" => answer(500, &[], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let (digest, body) = blob("some layer");
    let error = registry.push_blob(&repository(), &digest, &body, None).await.unwrap_err();
    assert_eq!(error.status(), Some(507), "{error}");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert_eq!(lines(&log).iter().filter(|line| line.starts_with("PUT")).count(), 1);
}

#[tokio::test]
async fn a_registry_that_is_gone_after_an_upload_is_unreachable_and_both_are_told() {
    let (here, _, serving) = registry_at("127.0.0.1:0", |seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("location", "1"), ("connection", "close")], ""),
        "PUT" => answer(500, &[("connection", "close")], "out of memory"),
        _ => answer(200, &[("connection", "close")], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let session = registry.start_upload(&repository()).await.unwrap();
    let body: Arc<dyn BlobBody> = Arc::new(Goodbye(serving));
    let error = registry.push_blob(&repository(), &Digest::of(b"x"), &body, Some(session)).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unreachable, "{error}");
    assert!(error.to_string().contains("; before that PUT"), "{error}");
}

/// A blob during which the registry stops to listen.
struct Goodbye(tokio::task::JoinHandle<()>);

impl BlobBody for Goodbye {
    fn len(&self) -> u64 {
        1
    }

    fn open(&self, _range: Range<u64>) -> BodyStream {
        self.0.abort();
        Box::pin(futures_util::stream::once(std::future::ready(Ok(Bytes::from_static(b"x")))))
    }
}
