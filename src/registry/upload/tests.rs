//! How blobs get in, and what is done when they do not.

mod broken;
mod commit;
mod elsewhere;

use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;

use crate::error::{BundleError, Fault};
use crate::oci::Digest;
use crate::registry::testing::{
    Log, SeenRequest, Told, UPLOADS, answer, blob, connect, late, lines, options, raw_server, registry,
    registry_at, repository, request_head, with_password,
};
use crate::registry::{BandwidthLimiter, BlobBody, BodyStream, ClientOptions, FailureKind, RepositoryMaker};
use crate::testing::eventually;

#[tokio::test]
async fn a_blob_goes_in_with_two_requests_and_its_exact_length() {
    let (here, log) = registry(|seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("location", "/v2/team/app/blobs/uploads/1?_state=a%2Fb=")], ""),
        "PUT" => answer(201, &[], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let (digest, body) = blob("some layer");
    let pushed = registry.push_blob(&repository(), &digest, &body, None).await.unwrap();
    assert_eq!((pushed.bytes_sent, pushed.resumed), (10, 0));
    let (empty_digest, empty) = blob("");
    registry.push_blob(&repository(), &empty_digest, &empty, None).await.unwrap();
    assert_eq!(
        lines(&log),
        [
            "GET /v2/",
            &format!("POST {UPLOADS}"),
            &format!("PUT {UPLOADS}1"),
            &format!("POST {UPLOADS}"),
            &format!("PUT {UPLOADS}1")
        ]
    );
    let log = log.lock();
    assert_eq!(log[2].target, format!("{UPLOADS}1?_state=a%2Fb=&digest=sha256%3A{}", digest.hex()));
    assert_eq!((log[2].header("content-length"), log[2].header("transfer-encoding")), ("10", ""));
    assert_eq!(
        (&log[2].body[..], log[2].header("content-type")),
        (&b"some layer"[..], "application/octet-stream")
    );
    assert_eq!(log[4].header("content-length"), "0");
}

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

#[tokio::test]
async fn a_registry_that_refuses_one_put_gets_a_patch_from_then_on() {
    let (here, log) = registry(|seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("location", "1")], ""),
        "PATCH" => answer(202, &[("location", "2?x=y")], ""),
        "PUT" if seen.body.is_empty() => answer(201, &[], ""),
        "PUT" => answer(405, &[], ""),
        "HEAD" => answer(404, &[], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    for text in ["first", "second"] {
        let (digest, body) = blob(text);
        registry.push_blob(&repository(), &digest, &body, None).await.unwrap();
    }
    let methods: Vec<_> = log.lock().iter().map(|seen| seen.method.clone()).collect();
    let first = ["GET", "POST", "PUT", "HEAD", "DELETE", "POST", "PATCH", "PUT"];
    assert_eq!(
        methods,
        [&first[..], &["POST", "PATCH", "PUT"]].concat(),
        "the first session is not left open"
    );
    assert_eq!(log.lock()[6].header("content-range"), "");
    assert!(log.lock()[7].target.starts_with("/v2/team/app/blobs/uploads/2?x=y&digest="));
}

#[tokio::test]
async fn an_upload_is_not_led_to_another_host() {
    let (evil, stolen) = registry(|_, _| answer(201, &[], "")).await;
    let elsewhere = evil.replace("127.0.0.1", "localhost");
    let (here, _) = registry(move |seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("location", &format!("http://{elsewhere}/v2/x"))], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, with_password()).await.unwrap();
    let (digest, body) = blob("some layer");
    let error = registry.push_blob(&repository(), &digest, &body, None).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Registry);
    assert!(error.to_string().contains("another host, localhost"), "{error}");
    assert!(stolen.lock().is_empty());
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
async fn a_server_that_takes_no_more_bytes_is_left() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = listener.local_addr().unwrap();
    let (here, _) = registry(move |seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("location", &format!("http://{dead}/v2/stuck"))], ""),
        "HEAD" => answer(404, &[], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let mut options = options();
    options.timeouts.stall = Duration::from_millis(100);
    options.retry.restarts = 0;
    let registry = connect(&here, options).await.unwrap();
    let body: Arc<dyn BlobBody> = Arc::new(Bytes::from(vec![0; 16 << 20]));
    let error = registry.push_blob(&repository(), &Digest::of(b"x"), &body, None).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (FailureKind::Stalled, true));
    drop(listener);
}

/// What proxies do with a request that is too large: they answer at once and hang up on the rest.
#[tokio::test]
async fn a_refusal_that_got_lost_in_a_reset_is_heard_at_the_second_try() {
    let here = raw_server(|mut socket| {
        loop {
            let head = request_head(&mut socket)?;
            let answer = match head[0] {
                b'G' => "200 OK",
                b'H' => "404 Not Found\r\nconnection: close",
                _ if head.starts_with(b"POST") => "202 Accepted\r\nlocation: 1",
                _ => "413 Too Large\r\nconnection: close",
            };
            write!(socket, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n")?;
            if answer.contains("close") {
                return Ok(());
            }
        }
    });
    let registry = connect(&here.to_string(), options()).await.unwrap();
    let body: Arc<dyn BlobBody> = Arc::new(Bytes::from(vec![0; 32 << 20]));
    let error = registry.push_blob(&repository(), &Digest::of(b"x"), &body, None).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (FailureKind::TooLarge, Some(413)), "{error:?}");
    assert!(error.hint().unwrap().contains("proxy"));
    assert_eq!(registry.host().quirks().refused_bytes, Some(64 << 10), "nothing smaller is tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_switch_at_the_same_time_do_not_turn_each_other_back() {
    for status in [404, 405, 413] {
        let (here, _) = registry(move |seen, _| match seen.method.as_str() {
            "POST" => answer(202, &[("location", &format!("{}?of={}", seen.nth, seen.nth))], ""),
            "PATCH" => answer(202, &[("location", "2?x=y")], ""),
            "PUT" if seen.body.is_empty() => answer(201, &[], ""),
            "PUT" => answer(status, &[], ""),
            "HEAD" => answer(404, &[], ""),
            _ => answer(200, &[], ""),
        })
        .await;
        let registry = connect(&here, options()).await.unwrap();
        let pushes = (0..12).map(|n| {
            let registry = registry.clone();
            tokio::spawn(async move {
                let bytes = Bytes::from(vec![n; 1000]);
                let (digest, body): (_, Arc<dyn BlobBody>) = (Digest::of(&bytes), Arc::new(bytes));
                registry.push_blob(&repository(), &digest, &body, None).await
            })
        });
        for push in pushes.collect::<Vec<_>>() {
            push.await.unwrap().unwrap();
        }
    }
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
async fn a_repository_that_is_missing_is_made_once_and_the_blob_is_sent() {
    let made = Arc::new(AtomicUsize::new(0));
    let there = Arc::clone(&made);
    let (here, log) = registry(move |seen, _| match seen.method.as_str() {
        "POST" if there.load(Ordering::Relaxed) == 0 => {
            answer(404, &[], r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}"#)
        }
        "POST" => answer(202, &[("location", &seen.nth.to_string())], ""),
        "PUT" => answer(201, &[], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let (digest, body) = blob("some layer");
    let registry_without = connect(&here, options()).await.unwrap();
    let error = registry_without.push_blob(&repository(), &digest, &body, None).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFound);
    let maker = RepositoryMaker::new(move |_| {
        made.fetch_add(1, Ordering::Relaxed);
        futures_util::future::ready(Ok(())).boxed()
    });
    let with_maker = ClientOptions { repositories: Some(Arc::new(maker)), ..options() };
    let registry = connect(&here, with_maker).await.unwrap();
    let before = lines(&log).len();
    for _ in 0..2 {
        registry.push_blob(&repository(), &digest, &body, None).await.unwrap();
    }
    let kinds: Vec<String> = lines(&log)[before..]
        .iter()
        .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(kinds, ["POST", "POST", "PUT", "POST", "PUT"]);
}

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

/// The time limits are shorter than the wait for one slice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_keep_to_a_limit_both_ways_and_no_time_limit_counts_the_wait() {
    let bytes = Bytes::from(vec![7; 60_000]);
    let content = bytes.clone();
    let (here, _) = registry(move |seen, _| match seen.method.as_str() {
        "POST" => answer(202, &[("location", &seen.nth.to_string())], ""),
        "PUT" => answer(201, &[], ""),
        "GET" if seen.target.contains("/blobs/") => axum::http::Response::new(content.clone().into()),
        _ => answer(200, &[], ""),
    })
    .await;
    let limiter = Arc::new(BandwidthLimiter::new("100kB/s".parse().unwrap()));
    let mut options = ClientOptions { bandwidth: vec![limiter], ..options() };
    options.timeouts.stall = Duration::from_millis(30);
    let registry = connect(&here, options).await.unwrap();
    let digest = Digest::of(&bytes);
    let body: Arc<dyn BlobBody> = Arc::new(bytes);
    let start = Instant::now();
    let two = ["team/a", "team/b"].map(|name| {
        let (registry, body) = (registry.clone(), Arc::clone(&body));
        async move { registry.push_blob(&name.parse().unwrap(), &digest, &body, None).await.unwrap() }
    });
    let sent: u64 = futures_util::future::join_all(two).await.iter().map(|pushed| pushed.bytes_sent).sum();
    let pushed = start.elapsed();
    assert_eq!(sent, 120_000, "nothing is sent twice");
    assert!(pushed > Duration::from_millis(900) && pushed < Duration::from_secs(10), "{pushed:?}");
    let start = Instant::now();
    let stream = registry.get_blob(&repository(), &digest, 60_000).await.unwrap();
    let pieces: Vec<_> = futures_util::TryStreamExt::try_collect(stream).await.unwrap();
    assert_eq!(pieces.concat().len(), 60_000);
    let pulled = start.elapsed();
    assert!(pulled > Duration::from_millis(400) && pulled < Duration::from_secs(10), "{pulled:?}");
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
    let (repository, body) = (repository(), bytes::Bytes::from_static(b"0123456789"));
    for (method, patches, puts) in [
        (super::MeasuredMethod::Chunks(4), 3, 1),
        (super::MeasuredMethod::Patch, 1, 1),
        (super::MeasuredMethod::OpenPatch, 1, 0),
        (super::MeasuredMethod::Put, 0, 1),
    ] {
        log.lock().clear();
        let mut session = registry.start_upload(&repository).await.unwrap();
        let digest = super::unmatched_digest();
        let measured = super::MeasuredUpload {
            repository: &repository,
            body: &body,
            digest: &digest,
            method,
            holds: false,
        };
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
    use super::CancelAnswer::{OutOfDate, Removed, Unknown};
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
    assert_eq!(answered, super::CancelAnswer::Removed);
    session.finished();
    assert_eq!(lines(&log).iter().filter(|line| line.starts_with("DELETE")).count(), 2);
}
