//! What is asked of blobs, and mounts.

use crate::oci::Digest;
use crate::registry::Mount;
use crate::registry::testing::{answer, blob, connect, lines, options, registry, repository};

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
    assert!(matches!(mount("team/good").await, Mount::Done));
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
