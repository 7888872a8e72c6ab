//! Limits: on time, on the size of a request, on bytes a second.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::oci::Digest;
use crate::registry::testing::{answer, connect, options, raw_server, registry, repository, request_head};
use crate::registry::{BandwidthLimiter, BlobBody, ClientOptions, FailureKind};

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
    let mut options = options();
    options.timeouts.early_refusal = Duration::from_secs(1);
    let registry = connect(&here.to_string(), options).await.unwrap();
    let body: Arc<dyn BlobBody> = Arc::new(Bytes::from(vec![0; 32 << 20]));
    let error = registry.push_blob(&repository(), &Digest::of(b"x"), &body, None).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (FailureKind::TooLarge, Some(413)), "{error:?}");
    assert!(error.hint().unwrap().contains("proxy"));
    assert_eq!(registry.host().quirks().refused_bytes, Some(64 << 10), "nothing smaller is tried");
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
