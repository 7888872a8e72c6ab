//! Who is let in, and what they hear.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::super::limits::ServerLimits;
use super::super::tests::{Registry, codes, header, with_registry};
use super::super::{ServeError, Server, ServerOptions, Store};

#[tokio::test]
async fn it_says_what_it_is() {
    let (_folder, registry) = with_registry().await;
    let response = registry.send(Method::GET, "/v2/").await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    let response = registry.send(Method::PUT, "/v2/").await;
    assert_eq!((response.status().as_u16(), header(&response, "allow")), (405, "GET, HEAD"));
    assert_eq!(codes(response).await, ["UNSUPPORTED"]);
    registry.stop().await;
}

#[tokio::test]
async fn others_are_let_in_only_when_that_is_said() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let bind = |options| Server::bind(everywhere, Arc::clone(&store), options, CancellationToken::new());
    let error = bind(ServerOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("--anonymous"), "{error}");
    assert!(matches!(error, ServeError::NotLoopback(_)), "{error}");
    bind(ServerOptions::new(true, false, None)).await.unwrap();
}

#[tokio::test]
async fn every_answer_forbids_to_guess_its_type() {
    let (_folder, registry) = with_registry().await;
    for path in ["/v2/", "/healthz", "/v2/_catalog", "/nothing", "/v2/a/blobs/sha256:00"] {
        let response = registry.send(Method::GET, path).await;
        assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{path}");
    }
    let response = registry.ask(Method::GET, "/v2/").header("origin", "https://evil.example");
    assert_eq!(codes(response.send().await.unwrap()).await, ["DENIED"]);
    registry.stop().await;
}

#[tokio::test]
async fn what_is_here_and_whether_it_is_well() {
    let (folder, registry) = with_registry().await;
    let list = async |query: &str| {
        let response = registry.send(Method::GET, &format!("/v2/_catalog{query}")).await;
        let link = header(&response, "link").to_owned();
        let body: serde_json::Value = response.json().await.unwrap();
        (body["repositories"].clone(), link)
    };
    assert_eq!(list("").await.0, serde_json::json!([]));
    for repository in ["b", "a/x", "a"] {
        registry.image(repository, "1").await;
    }
    assert_eq!(list("").await, (serde_json::json!(["a", "a/x", "b"]), String::new()));
    let (first, link) = list("?n=2").await;
    assert_eq!(
        (first, link.as_str()),
        (serde_json::json!(["a", "a/x"]), "</v2/_catalog?n=2&last=a/x>; rel=\"next\"")
    );
    assert_eq!(list("?n=2&last=a/x").await, (serde_json::json!(["b"]), String::new()));
    assert_eq!(registry.send(Method::GET, "/healthz").await.status(), 200);
    std::fs::remove_dir_all(folder.path().join("tmp")).unwrap();
    assert_eq!(registry.send(Method::GET, "/healthz").await.status(), 503);
    registry.stop().await;
}

/// A client that lost its power in the middle of a chunk says no more, and its end is never heard of.
#[tokio::test]
async fn a_client_that_died_gives_its_upload_free() {
    let folder = TempDir::new().unwrap();
    let short = Duration::from_millis(200);
    let limits = ServerLimits {
        connections: 10,
        head_timeout: short,
        rate_window: short,
        rate_bytes: 1,
        ..ServerLimits::default()
    };
    let registry =
        Registry::start_with(folder.path(), ServerOptions { limits, ..ServerOptions::default() }).await;
    let session = registry.session("a").await;
    let mut dead = tokio::net::TcpStream::connect(registry.address).await.unwrap();
    let head = format!("PATCH {session} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8\r\n\r\n0123");
    dead.write_all(head.as_bytes()).await.unwrap();
    let mut silent = tokio::net::TcpStream::connect(registry.address).await.unwrap();
    silent.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\nx-half").await.unwrap();
    let mut heard = Vec::new();
    dead.read_to_end(&mut heard).await.unwrap();
    assert!(heard.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&heard));
    silent.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(registry.patch(&session, Some("4-7"), b"4567").await.status(), 202);
    registry.stop().await;
}

/// Requests that wait for a place get their answer, and none of them takes the place of another.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_place_is_served() {
    let folder = TempDir::new().unwrap();
    let limits = ServerLimits { connections: 1, ..ServerLimits::default() };
    let registry =
        Registry::start_with(folder.path(), ServerOptions { limits, ..ServerOptions::default() }).await;
    let ask = async |_| {
        let mut stream = tokio::net::TcpStream::connect(registry.address).await.unwrap();
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    for answer in join_all((0..30).map(ask)).await {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    registry.stop().await;
}

/// Clients that begin uploads and send no more of them do not keep others out, and may go on with them later.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_stand_still_give_way_to_who_needs_their_place() {
    let folder = TempDir::new().unwrap();
    let limits =
        ServerLimits { connections: 2, yields_after: Duration::from_millis(100), ..ServerLimits::default() };
    let registry =
        Registry::start_with(folder.path(), ServerOptions { limits, ..ServerOptions::default() }).await;
    let session = registry.session("a").await;
    let mut held = Vec::new();
    for head in [format!("PATCH {session}"), "PUT /v2/a/manifests/1".to_owned()] {
        let mut stream = tokio::net::TcpStream::connect(registry.address).await.unwrap();
        let head = format!("{head} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8\r\n\r\n0123");
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
    }
    for _ in 0..3 {
        let mut stream = tokio::net::TcpStream::connect(registry.address).await.unwrap();
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    drop(held);
    assert_eq!(registry.patch(&session, Some("4-7"), b"4567").await.status(), 202);
    registry.stop().await;
}

/// A client that keeps its connection open after an upload does not keep others out.
#[tokio::test]
async fn a_connection_that_becomes_idle_gives_its_place_to_one_that_waits() {
    let folder = TempDir::new().unwrap();
    let limits = ServerLimits { connections: 2, ..ServerLimits::default() };
    let registry =
        Registry::start_with(folder.path(), ServerOptions { limits, ..ServerOptions::default() }).await;
    let session = registry.session("a").await;
    let upload = format!("PATCH {session} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n01");
    let mut busy = tokio::net::TcpStream::connect(registry.address).await.unwrap();
    busy.write_all(upload.as_bytes()).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut stream = tokio::net::TcpStream::connect(registry.address).await.unwrap();
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        waiting.push(stream);
    }
    busy.write_all(b"23").await.unwrap();
    for stream in waiting.iter_mut().chain([&mut busy]) {
        let mut start = [0; 10];
        let answer = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut start));
        answer.await.unwrap().unwrap();
        assert!(start.starts_with(b"HTTP/1.1 2"), "{start:?}");
    }
    registry.stop().await;
}
