//! The ways in.

use axum::body::Bytes;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::tests::{Registry, codes, files, header, with_registry};
use super::*;
use crate::oci::{Algorithm, Digest, Hasher};
use crate::testing::eventually;

#[tokio::test]
async fn a_blob_comes_in_every_way_there_is() {
    let (_folder, registry) = with_registry().await;
    let blob = Bytes::from((0..3_000_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let digest = Digest::of(&blob).to_string();
    // At once.
    let path = format!("one/blobs/uploads/?digest={digest}");
    let response = registry.ask(Method::POST, &path).body(blob.clone()).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "docker-content-digest")), (201, &*digest));
    assert_eq!(header(&response, "location"), format!("/v2/one/blobs/{digest}"));
    // POST and PUT.
    let session = registry.session("two").await;
    assert_eq!(registry.finish(&session, &digest, &blob).await.status(), 201);
    // A stream without a length, then PUT.
    let session = registry.session("three").await;
    let chunks: Vec<_> = blob.chunks(70_000).map(|c| Ok::<_, std::io::Error>(blob.slice_ref(c))).collect();
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let response = registry.ask(Method::PATCH, &session).body(stream).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-11999999"));
    assert_eq!(registry.finish(&session, &digest, b"").await.status(), 201);
    // Chunks, the last one in the PUT.
    let session = registry.session("four").await;
    let (first, last) = blob.split_at(5_000_000);
    let response = registry.patch(&session, Some("0-4999999"), first).await;
    assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-4999999"));
    assert_eq!(header(&response, "location"), session);
    assert_eq!(registry.finish(&session, &digest, last).await.status(), 201);
    for repository in ["one", "two", "three", "four"] {
        let response = registry.send(Method::GET, &format!("{repository}/blobs/{digest}")).await;
        assert_eq!(response.bytes().await.unwrap(), blob, "{repository}");
    }
    let gone = registry.send(Method::GET, &session).await;
    assert_eq!((gone.status().as_u16(), codes(gone).await), (404, vec!["BLOB_UPLOAD_UNKNOWN".to_owned()]));
    registry.stop().await;
}

#[tokio::test]
async fn chunks_out_of_order_are_refused_and_lose_nothing() {
    let (_folder, registry) = with_registry().await;
    let session = registry.session("a").await;
    assert_eq!(registry.patch(&session, Some("0-3"), b"0123").await.status(), 202);
    for range in ["0-3", "5-8", "3-6"] {
        let response = registry.patch(&session, Some(range), b"wxyz").await;
        assert_eq!((response.status().as_u16(), header(&response, "range")), (416, "0-3"));
        assert_eq!(header(&response, "location"), session);
        assert_eq!(codes(response).await, ["RANGE_INVALID"]);
    }
    let put = registry.ask(Method::PUT, &format!("{session}?digest={}", Digest::of(b"0123wxyz")));
    let put = put.header("content-range", "7-10").body("wxyz").send().await.unwrap();
    assert_eq!(put.status(), 416);
    for range in ["4-9", "bytes 4-7/8", "4"] {
        assert_eq!(registry.patch(&session, Some(range), b"wxyz").await.status(), 400, "{range}");
    }
    let status = registry.send(Method::GET, &session).await;
    assert_eq!((status.status().as_u16(), header(&status, "range")), (204, "0-3"));
    assert_eq!(registry.patch(&session, Some("4-7"), b"4567").await.status(), 202);
    let digest = Digest::of(b"01234567").to_string();
    assert_eq!(registry.finish(&session, &digest, b"").await.status(), 201);
    registry.stop().await;
}

#[tokio::test]
async fn a_session_can_be_cancelled() {
    let (folder, registry) = with_registry().await;
    let session = registry.session("a").await;
    registry.patch(&session, None, b"0123").await;
    assert_eq!(registry.send(Method::DELETE, &session).await.status(), 204);
    assert_eq!(registry.send(Method::DELETE, &session).await.status(), 404);
    assert_eq!(registry.patch(&session, None, b"0123").await.status(), 404);
    assert_eq!(files(folder.path()), Vec::<String>::new());
    registry.stop().await;
}

/// Sends the second half of `01234567`, and ends the upload.
async fn goes_on(registry: &Registry, session: &str) {
    assert_eq!(registry.patch(session, Some("4-7"), b"4567").await.status(), 202);
    let digest = Digest::of(b"01234567").to_string();
    assert_eq!(registry.finish(session, &digest, b"").await.status(), 201);
}

/// A request that announces eight bytes and has sent four, when those have been written.
async fn half_a_request(registry: &Registry, session: &str) -> TcpStream {
    let mut raw = TcpStream::connect(registry.address).await.unwrap();
    let head = format!("PATCH {session} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8\r\n\r\n0123");
    raw.write_all(head.as_bytes()).await.unwrap();
    let file = registry.session_file(session);
    eventually("half of the upload is there", || fs::metadata(&file).unwrap().len() == 4).await;
    raw
}

/// A client that was killed in the request that was to end its upload goes on with another one.
#[tokio::test]
async fn a_blob_that_is_there_takes_along_idle_uploads_of_it() {
    let (_folder, registry) = with_registry().await;
    let digest = Digest::of(b"01234567").to_string();
    let (cut, other, new) =
        (registry.session("a").await, registry.session("a").await, registry.session("a").await);
    let (cut_file, other_file) = (registry.session_file(&cut), registry.session_file(&other));
    registry.patch(&other, None, b"0123").await;
    let mut raw = TcpStream::connect(registry.address).await.unwrap();
    let head =
        format!("PUT {cut}?digest={digest} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8\r\n\r\n0123");
    raw.write_all(head.as_bytes()).await.unwrap();
    eventually("half of the upload is there", || fs::metadata(&cut_file).unwrap().len() == 4).await;
    drop(raw);
    // Asked for with a chunk at the wrong place: the request before has let go of it by then.
    assert_eq!(registry.patch(&cut, Some("9-9"), b"x").await.status(), 416);
    assert_eq!(registry.finish(&new, &digest, b"01234567").await.status(), 201);
    assert!(!cut_file.exists(), "nobody goes on with it");
    assert!(other_file.exists(), "whose upload that is nobody knows");
    registry.stop().await;
}

#[tokio::test]
async fn half_a_blob_survives_a_restart() {
    let (folder, registry) = with_registry().await;
    let session = registry.session("a").await;
    registry.patch(&session, Some("0-3"), b"0123").await;
    registry.stop().await;
    let registry = Registry::start(folder.path()).await;
    let status = registry.send(Method::GET, &session).await;
    assert_eq!((status.status().as_u16(), header(&status, "range")), (204, "0-3"));
    goes_on(&registry, &session).await;
    registry.stop().await;
    let registry = Registry::start(folder.path()).await;
    let blob = registry.send(Method::GET, &format!("a/blobs/{}", Digest::of(b"01234567"))).await;
    assert_eq!(blob.text().await.unwrap(), "01234567");
    registry.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_can_go_on_where_it_was() {
    let (_folder, registry) = with_registry().await;
    let session = registry.session("a").await;
    drop(half_a_request(&registry, &session).await);
    let status = registry.send(Method::GET, &session).await;
    assert_eq!((status.status().as_u16(), header(&status, "range")), (204, "0-3"));
    goes_on(&registry, &session).await;
    registry.stop().await;
}

/// On a broken link the registry may not hear of the end of a connection before the client is there again.
#[tokio::test]
async fn a_client_that_comes_again_need_not_wait_for_the_end_of_its_old_connection() {
    let (_folder, registry) = with_registry().await;
    let session = registry.session("a").await;
    let mut old = half_a_request(&registry, &session).await;
    goes_on(&registry, &session).await;
    let mut heard = Vec::new();
    old.read_to_end(&mut heard).await.unwrap();
    assert!(heard.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&heard));
    let mut old = half_a_request(&registry, &registry.session("a").await).await;
    let session = registry.session("a").await;
    assert_eq!(registry.patch(&session, None, b"another session").await.status(), 202);
    old.write_all(b"4567").await.unwrap();
    let mut start = [0; 12];
    old.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 202");
    registry.stop().await;
}

/// There is no least length of a chunk, so none is announced.
#[tokio::test]
async fn chunks_may_be_as_small_as_they_like() {
    let (_folder, registry) = with_registry().await;
    let opened = registry.send(Method::POST, "a/blobs/uploads/").await;
    assert_eq!(header(&opened, "oci-chunk-min-length"), "");
    let session = header(&opened, "location");
    for (at, byte) in b"0123".iter().enumerate() {
        let range = format!("{at}-{at}");
        assert_eq!(registry.patch(session, Some(&range), &[*byte]).await.status(), 202);
    }
    goes_on(&registry, session).await;
    registry.stop().await;
}

#[tokio::test]
async fn what_is_damaged_is_not_kept() {
    let (folder, registry) = with_registry().await;
    let right = Digest::of(b"right").to_string();
    let single = registry.ask(Method::POST, &format!("a/blobs/uploads/?digest={right}")).body("wrong");
    assert_eq!(codes(single.send().await.unwrap()).await, ["DIGEST_INVALID"]);
    let session = registry.session("a").await;
    assert_eq!(registry.finish(&session, &right, b"wrong").await.status(), 400);
    assert_eq!(registry.send(Method::GET, &session).await.status(), 404);
    let session = registry.session("a").await;
    registry.patch(&session, None, b"wro").await;
    let response = registry.finish(&session, &right, b"ng").await;
    assert_eq!((response.status().as_u16(), codes(response).await), (400, vec!["DIGEST_INVALID".to_owned()]));
    assert_eq!(files(folder.path()), Vec::<String>::new());
    // What is no digest at all ends nothing.
    let session = registry.session("a").await;
    for digest in ["", "sha256:00", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        assert_eq!(registry.finish(&session, digest, b"").await.status(), 400);
    }
    assert_eq!(registry.send(Method::GET, &session).await.status(), 204);
    let manifest = registry.manifest("a", &right, &json!({})).await;
    assert_eq!(codes(manifest).await, ["DIGEST_INVALID"]);
    registry.stop().await;
}

#[tokio::test]
async fn sha512_is_as_good() {
    let (_folder, registry) = with_registry().await;
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(b"long");
    let digest = hasher.finish().to_string();
    for parameter in ["", "?digest-algorithm=sha512"] {
        let session = registry.send(Method::POST, &format!("a/blobs/uploads/{parameter}")).await;
        let session = header(&session, "location").to_owned();
        registry.patch(&session, None, b"lo").await;
        assert_eq!(registry.finish(&session, &digest, b"ng").await.status(), 201);
    }
    assert_eq!(registry.send(Method::HEAD, &format!("a/blobs/{digest}")).await.status(), 200);
    registry.stop().await;
}

#[tokio::test]
async fn the_same_blob_from_many_at_once() {
    let (_folder, registry) = with_registry().await;
    let blob = vec![7; 300_000];
    let digest = Digest::of(&blob).to_string();
    let push = async |n: usize| {
        let session = registry.session(&format!("r{}", n % 3)).await;
        registry.finish(&session, &digest, &blob).await.status().as_u16()
    };
    assert_eq!(join_all((0..12).map(push)).await, [201; 12]);
    let response = registry.send(Method::GET, &format!("r1/blobs/{digest}")).await;
    assert_eq!(response.bytes().await.unwrap(), blob);
    registry.stop().await;
}

#[test]
fn content_ranges() {
    let range = |first, len| Some(ContentRange { first, len });
    assert_eq!(ContentRange::parse("0-9"), range(0, 10));
    assert_eq!(ContentRange::parse("7-7"), range(7, 1));
    for text in
        ["", "-", "3-2", "+1-2", "bytes 0-9/10", "0-9/10", "0-18446744073709551615", "1-99999999999999999999"]
    {
        assert_eq!(ContentRange::parse(text), None, "{text}");
    }
}

#[test]
fn session_names_are_strict() {
    let id = SessionId::random().unwrap();
    assert_eq!(SessionId::parse(id.as_str()), Some(id));
    for text in ["", "..", "0123456789abcdef0123456789abcdeF", "0123456789abcdef0123456789abcdef0"] {
        assert_eq!(SessionId::parse(text), None);
    }
}
