//! The ways out.

use reqwest::Method;

use super::super::tests::{codes, header, with_registry};
use super::*;
use crate::oci::Digest;

#[tokio::test]
async fn a_blob_goes_out_whole_or_in_part() {
    let (_folder, registry) = with_registry().await;
    registry.blob("a/b", b"0123456789").await;
    registry.blob("a/b", b"").await;
    let path = format!("a/b/blobs/{}", Digest::of(b"0123456789"));
    let response = registry.send(Method::HEAD, &path).await;
    assert_eq!((response.status().as_u16(), header(&response, "content-length")), (200, "10"));
    for (range, status, content_range, body) in [
        ("bytes=2-4", 206, "bytes 2-4/10", "234"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=-1", 206, "bytes 9-9/10", "9"),
        ("bytes=0-1,5-6", 200, "", "0123456789"),
    ] {
        let response = registry.ask(Method::GET, &path).header("range", range).send().await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "content-range")), (status, content_range));
        assert_eq!(response.text().await.unwrap(), body);
    }
    let response = registry.ask(Method::GET, &path).header("range", "bytes=10-").send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "content-range")), (416, "bytes */10"));
    let response = registry.send(Method::GET, &format!("a/b/blobs/{}", Digest::of(b""))).await;
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, ""));
    // Another repository has nothing of it, until it is deleted here nothing changes.
    assert_eq!(registry.send(Method::HEAD, &path.replace("a/b", "a/c")).await.status(), 404);
    assert_eq!(registry.send(Method::DELETE, &path).await.status(), 202);
    assert_eq!(codes(registry.send(Method::DELETE, &path).await).await, ["BLOB_UNKNOWN"]);
    registry.stop().await;
}

#[tokio::test]
async fn a_blob_stays_while_a_manifest_names_it() {
    let (_folder, registry) = with_registry().await;
    registry.image("a", "1").await;
    let blob = |repository: &str| format!("{repository}/blobs/{}", Digest::of(b"1"));
    registry.blob("b", b"1").await;
    let refused = registry.send(Method::DELETE, &blob("a")).await;
    assert_eq!(refused.status(), 403);
    assert_eq!(codes(refused).await, ["DENIED"]);
    assert_eq!(registry.send(Method::GET, &blob("a")).await.status(), 200);
    assert_eq!(
        registry.send(Method::DELETE, &blob("b")).await.status(),
        202,
        "in another repository nothing does"
    );
    registry.stop().await;
}

#[tokio::test]
async fn a_mount_copies_nothing_and_a_declined_one_opens_a_session() {
    let (_folder, registry) = with_registry().await;
    registry.blob("from", b"blob").await;
    let digest = Digest::of(b"blob");
    for (target, from) in [("to/one", "&from=from"), ("to/two", "")] {
        let path = format!("{target}/blobs/uploads/?mount={digest}{from}");
        assert_eq!(registry.send(Method::POST, &path).await.status(), 201);
        assert_eq!(registry.send(Method::HEAD, &format!("{target}/blobs/{digest}")).await.status(), 200);
    }
    for (digest, from) in [(digest, "elsewhere"), (digest, "../x"), (Digest::of(b"other"), "from")] {
        let path = format!("to/three/blobs/uploads/?mount={digest}&from={from}");
        let response = registry.send(Method::POST, &path).await;
        assert_eq!(response.status(), 202);
        assert_eq!(registry.send(Method::GET, header(&response, "location")).await.status(), 204);
    }
    registry.stop().await;
}

#[test]
fn ranges_of_a_blob() {
    let ask = |header| byte_range(Some(header), 10);
    assert_eq!(ask("bytes=0-0"), RequestedRange::Part(0..1));
    assert_eq!(ask("bytes=2-"), RequestedRange::Part(2..10));
    assert_eq!(ask("bytes=2-99"), RequestedRange::Part(2..10));
    assert_eq!(ask("bytes=-3"), RequestedRange::Part(7..10));
    assert_eq!(ask("bytes=-99"), RequestedRange::Part(0..10));
    for nothing in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
        assert_eq!(ask(nothing), RequestedRange::Nothing, "{nothing}");
    }
    for ignored in ["", "bytes=", "bytes=-", "bytes=3-2", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2"] {
        assert_eq!(ask(ignored), RequestedRange::Whole, "{ignored}");
    }
    assert_eq!(byte_range(Some("bytes=0-0"), 0), RequestedRange::Nothing);
    assert_eq!(byte_range(None, 0), RequestedRange::Whole);
}

#[tokio::test]
async fn content_that_was_cut_short_is_mounted_from_nowhere() {
    let (_folder, registry) = with_registry().await;
    registry.blob("from", b"0123456789").await;
    let digest = Digest::of(b"0123456789");
    let content = registry.store.content_path(&digest);
    std::fs::remove_file(&content).unwrap();
    std::fs::write(&content, b"0123").unwrap();
    for from in ["&from=from", ""] {
        let path = format!("to/blobs/uploads/?mount={digest}{from}");
        assert_eq!(registry.send(Method::POST, &path).await.status(), 202, "{from}");
    }
    assert_eq!(registry.send(Method::HEAD, &format!("to/blobs/{digest}")).await.status(), 404);
    registry.stop().await;
}
