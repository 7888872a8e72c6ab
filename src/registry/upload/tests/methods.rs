//! The requests of an upload, and where they go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt as _;

use crate::oci::Digest;
use crate::registry::testing::{
    UPLOADS, answer, blob, connect, lines, options, registry, repository, with_password,
};
use crate::registry::{BlobBody, ClientOptions, FailureKind, RepositoryMaker};

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
