//! What is asked of blobs, and mounts.

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::oci::Digest;
use crate::registry::testing::{answer, blob, connect, lines, options, registry, repository};
use crate::registry::{BlobProof, FailureKind, Mount};

type Log = crate::registry::testing::Log;

#[tokio::test]
async fn a_declined_mount_leaves_a_session_that_is_used() {
    let (here, log) = registry(|seen, _| match seen.method.as_str() {
        "POST" if seen.target.contains("from=team/good") => answer(201, &[], ""),
        "POST" if seen.target.contains("from=team/bad") => answer(405, &[], ""),
        "POST" => answer(202, &[("location", "7")], ""),
        "PUT" => answer(201, &[], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let (digest, body) = blob("some layer");
    let mount =
        async |from: &str| registry.mount(&repository(), &digest, &from.parse().unwrap()).await.unwrap();
    assert!(matches!(mount("team/good").await, Mount::Done(BlobProof::Claimed)));
    assert!(matches!(mount("team/bad").await, Mount::Session(_)));
    let Mount::Session(session) = mount("team/other").await else { panic!("no session") };
    let posts = |log: &Log| lines(log).iter().filter(|line| line.starts_with("POST")).count();
    let before = posts(&log);
    registry.push_blob(&repository(), &digest, &body, Some(session)).await.unwrap();
    assert_eq!(posts(&log), before);
    assert!(log.lock().last().unwrap().is("PUT", "/uploads/7?digest="));
}

#[tokio::test]
async fn blobs_are_asked_for_in_two_ways() {
    let (here, _) = registry(|seen, _| match (seen.method.as_str(), seen.header("range")) {
        ("HEAD", _) => answer(405, &[], ""),
        ("GET", "bytes=0-0") => answer(206, &[("content-range", "bytes 0-0/1234")], "x"),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    assert_eq!(registry.head_blob(&repository(), &Digest::of(b"x")).await.unwrap(), Some(1234));
}

#[tokio::test]
async fn a_blob_without_an_end_is_read_no_further_than_its_size() {
    let (here, _) = registry(|seen, _| {
        let mut answer = answer(200, &[], "");
        if seen.is("GET", "/blobs/") {
            let endless =
                futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![7; 4096])));
            *answer.body_mut() = axum::body::Body::from_stream(endless);
        }
        answer
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let mut stream = registry.get_blob(&repository(), &Digest::of(b"x"), 10_000).await.unwrap();
    let mut bytes = 0;
    let error = loop {
        match stream.next().await.unwrap() {
            Ok(piece) => bytes += piece.len(),
            Err(error) => break error,
        }
    };
    assert!(bytes <= 10_000 && error.kind() == FailureKind::Integrity, "{bytes} {error}");
    assert!(error.to_string().contains("longer than its size, 10000 bytes"), "{error}");
}
