//! The client against a registry that follows a script: what is promised about faults, tokens and secrets.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Response};
use bytes::Bytes;
use secrecy::SecretString;

use super::upload::Pushed;
use super::*;
use crate::error::{BundleError, Fault};
use crate::oci::Digest;

/// A request as the server saw it.
#[derive(Debug, Clone)]
struct Seen {
    /// How many requests with this method and path came before.
    nth: usize,
    method: String,
    target: String,
    headers: HeaderMap,
    body: Bytes,
    is_whole: bool,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// An answer: status, headers, body. Status 0 hangs up without one.
fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response<Body> {
    if status == 0 {
        // Ends the task of the connection without a word.
        std::panic::resume_unwind(Box::new(()));
    }
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body.to_owned())).unwrap()
}

/// Starts a registry that answers as `script` says, and gives its `host:port` and what it saw.
async fn registry<F>(script: F) -> (String, Log)
where
    F: Fn(&Seen, &str) -> Response<Body> + Send + Sync + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let (log, script, counts): (Log, _, _) =
        (Log::default(), Arc::new(script), Arc::new(Mutex::new(HashMap::new())));
    let (name, kept) = (here.clone(), Arc::clone(&log));
    let handle = move |request: Request| {
        let (log, script, counts, name) = (kept.clone(), script.clone(), Arc::clone(&counts), name.clone());
        async move {
            let (parts, body) = request.into_parts();
            let read = axum::body::to_bytes(body, 1 << 24).await;
            let (method, target) = (parts.method.to_string(), parts.uri.to_string());
            let path = format!("{method} {}", parts.uri.path());
            let nth = {
                let mut counts = counts.lock();
                let count: &mut usize = counts.entry(path).or_default();
                *count += 1;
                *count - 1
            };
            let is_whole = read.is_ok();
            let body = read.unwrap_or_default();
            let seen = Seen { nth, method, target, headers: parts.headers, body, is_whole };
            log.lock().push(seen.clone());
            script(&seen, &name)
        }
    };
    let app = axum::Router::new().fallback(handle);
    tokio::spawn(async move { axum::serve(listener, app).await });
    (here, log)
}

fn options() -> ClientOptions {
    // The first one wins, whichever test that is.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let retry = RetryPolicy {
        min_delay: Duration::from_millis(10),
        connect_patience: Duration::from_millis(100),
        ..RetryPolicy::default()
    };
    let timeouts = Timeouts { stall: Duration::from_millis(500), ..Timeouts::default() };
    ClientOptions { timeouts, retry, ..ClientOptions::default() }
}

fn with_password() -> ClientOptions {
    let credential = Credential::Basic { user: "user".into(), password: "hunter2".into() };
    ClientOptions { credential: Some(credential), ..options() }
}

async fn connect(here: &str, options: ClientOptions) -> Result<Registry, RegistryError> {
    let target: Target = format!("http://{here}").parse().unwrap();
    Registry::connect(&target.endpoint, options).await
}

fn repository() -> Repository {
    "team/app".parse().unwrap()
}

fn blob(text: &'static str) -> (Digest, Arc<dyn BlobBody>) {
    (Digest::of(text.as_bytes()), Arc::new(Bytes::from_static(text.as_bytes())))
}

fn lines(log: &Log) -> Vec<String> {
    let bare = |target: &str| target.split('?').next().unwrap_or_default().to_owned();
    log.lock().iter().map(|seen| format!("{} {}", seen.method, bare(&seen.target))).collect()
}

const UPLOADS: &str = "/v2/team/app/blobs/uploads/";

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
    assert_eq!(pushed, Pushed { bytes_sent: 10 });
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
    assert_eq!(methods, ["GET", "POST", "PUT", "HEAD", "POST", "PATCH", "PUT", "POST", "PATCH", "PUT"]);
    assert_eq!(log.lock()[5].header("content-range"), "");
    assert!(log.lock()[6].target.starts_with("/v2/team/app/blobs/uploads/2?x=y&digest="));
}

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
async fn the_pause_that_a_registry_asks_for_is_kept_by_everybody() {
    let (here, log) = registry(|seen, _| match seen.nth {
        0 if seen.is("HEAD", "/manifests/busy") => answer(429, &[("retry-after", "1")], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let start = Instant::now();
    let other = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        registry.head_manifest(&repository(), "other").await.unwrap();
        start.elapsed()
    };
    let busy = repository();
    let (busy, other) = tokio::join!(registry.head_manifest(&busy, "busy"), other);
    assert!(busy.unwrap().is_some());
    assert!(other >= Duration::from_secs(1) && start.elapsed() >= Duration::from_secs(1), "{other:?}");
    assert_eq!(lines(&log).len(), 4);
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
    assert_eq!(error.kind(), Kind::Registry);
    assert!(error.to_string().contains("another host, localhost"), "{error}");
    assert!(stolen.lock().is_empty());
}

#[tokio::test]
async fn a_redirect_is_followed_without_the_credentials() {
    let (store, seen_by_store) = registry(|_, _| answer(200, &[], "content")).await;
    let (here, log) = registry(move |seen, _| match seen.header("authorization") {
        "" => answer(401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
        _ if seen.target.contains("/blobs/") => {
            answer(307, &[("location", &format!("http://{store}/x?sig=1"))], "")
        }
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, with_password()).await.unwrap();
    let digest = Digest::of(b"content");
    let stream = registry.get_blob(&repository(), &digest).await.unwrap();
    let pieces: Vec<_> = futures_util::TryStreamExt::try_collect(stream).await.unwrap();
    assert_eq!(pieces.concat(), b"content");
    assert_eq!(log.lock().last().unwrap().header("authorization"), "Basic dXNlcjpodW50ZXIy");
    assert_eq!(seen_by_store.lock()[0].header("authorization"), "");
}

/// A token server beside the API: tokens are numbered and last `ttl` seconds.
fn with_tokens(seen: &Seen, here: &str, issued: &AtomicU32, ttl: &str) -> Result<u32, Box<Response<Body>>> {
    if seen.target.starts_with("/token") {
        std::thread::sleep(Duration::from_millis(20));
        let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
        return Err(Box::new(answer(200, &[], &format!(r#"{{"token":"t{number}","expires_in":{ttl}}}"#))));
    }
    let challenge = format!("Bearer realm=\"http://{here}/token\",service=\"s\",error=\"invalid_token\"");
    let denied = || Box::new(answer(401, &[("www-authenticate", &challenge)], ""));
    seen.header("authorization").strip_prefix("Bearer t").and_then(|n| n.parse().ok()).ok_or_else(denied)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_serves_all_who_wait_and_is_renewed_before_it_ends() {
    let issued = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&issued);
    let (here, log) = registry(move |seen, here| match with_tokens(seen, here, &counter, "1") {
        Ok(_) => answer(200, &[], ""),
        Err(other) => *other,
    })
    .await;
    let registry = connect(&here, with_password()).await.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 1, "the credentials are shown when connecting");
    let heads = (0..8).map(|_| {
        let registry = registry.clone();
        tokio::spawn(async move { registry.head_manifest(&repository(), "1").await.unwrap() })
    });
    for head in heads.collect::<Vec<_>>() {
        head.await.unwrap();
    }
    assert_eq!(issued.load(Ordering::SeqCst), 2);
    tokio::time::sleep(Duration::from_millis(900)).await;
    registry.head_manifest(&repository(), "1").await.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 3);
    let log = log.lock();
    let asked: Vec<_> = log.iter().filter(|seen| seen.target.starts_with("/token")).collect();
    assert!(
        asked[1].target.contains("service=s&scope=repository%3Ateam%2Fapp%3Apull%2Cpush&client_id=layercast")
    );
    assert!(asked.iter().all(|seen| seen.header("authorization") == "Basic dXNlcjpodW50ZXIy"));
    // Renewed in time, so nothing but the front door was ever refused.
    assert_eq!(log.iter().filter(|seen| seen.header("authorization").is_empty()).count(), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once_and_the_body_sent_again() {
    let issued = Arc::new(AtomicU32::new(0));
    let (here, log) = registry(move |seen, here| match with_tokens(seen, here, &issued, "300") {
        Err(other) => *other,
        Ok(2) if seen.method == "PUT" => {
            let challenge = format!("Bearer realm=\"http://{here}/token\",service=\"s\"");
            answer(401, &[("www-authenticate", &challenge)], "")
        }
        Ok(_) if seen.method == "POST" => answer(202, &[("location", "1")], ""),
        Ok(_) => answer(201, &[], ""),
    })
    .await;
    let registry = connect(&here, with_password()).await.unwrap();
    let (digest, body) = blob("some layer");
    registry.push_blob(&repository(), &digest, &body, None).await.unwrap();
    let log = log.lock();
    let puts: Vec<_> = log.iter().filter(|seen| seen.method == "PUT").collect();
    assert_eq!(puts.len(), 2);
    assert_eq!(puts[0].target, puts[1].target);
    assert_eq!((puts[1].header("authorization"), &puts[1].body[..]), ("Bearer t3", &b"some layer"[..]));
}

#[tokio::test]
async fn refused_credentials_are_shown_once() {
    let basic = [("www-authenticate", "Basic realm=\"r\"")];
    let (here, log) = registry(move |_, _| answer(401, &basic, "")).await;
    let error = connect(&here, with_password()).await.unwrap_err();
    assert_eq!((error.kind(), error.exit()), (Kind::Auth, crate::exit::Exit::Credentials));
    assert!(error.hint().unwrap().contains("--username"));
    assert_eq!(lines(&log).len(), 2);
    let error = connect(&here, options()).await.unwrap_err();
    assert!(error.to_string().contains("none were given"), "{error}");
    assert_eq!(lines(&log).len(), 3);
}

#[tokio::test]
async fn a_second_401_is_final() {
    let issued = Arc::new(AtomicU32::new(0));
    let (here, log) = registry(move |seen, here| match with_tokens(seen, here, &issued, "300") {
        Ok(_) if seen.target == "/v2/" => answer(200, &[], ""),
        Err(other) if seen.target.starts_with("/token") => *other,
        _ => answer(
            401,
            &[("www-authenticate", &format!("Bearer realm=\"http://{here}/token\",service=\"s\""))],
            "",
        ),
    })
    .await;
    let registry = connect(&here, with_password()).await.unwrap();
    let error = registry.head_manifest(&repository(), "1").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (Kind::Auth, false));
    assert_eq!(lines(&log).iter().filter(|line| line.starts_with("HEAD")).count(), 2);
}

#[tokio::test]
async fn an_identity_token_is_traded_in() {
    let (here, log) = registry(|seen, here| match seen.header("authorization") {
        _ if seen.is("POST", "/token") => answer(200, &[], r#"{"access_token":"abc"}"#),
        "Bearer abc" => answer(200, &[], ""),
        _ => answer(
            401,
            &[("www-authenticate", &format!("Bearer realm=\"http://{here}/token\",service=\"s\""))],
            "",
        ),
    })
    .await;
    let secret = SecretString::from("id+token");
    let options = ClientOptions { credential: Some(Credential::IdentityToken(secret)), ..options() };
    let registry = connect(&here, options).await.unwrap();
    registry.head_manifest(&repository(), "1").await.unwrap();
    let log = log.lock();
    let form = std::str::from_utf8(&log.iter().rfind(|seen| seen.method == "POST").unwrap().body).unwrap();
    assert!(form.contains("grant_type=refresh_token") && form.contains("refresh_token=id%2Btoken"), "{form}");
    assert!(form.contains("scope=repository%3Ateam%2Fapp%3Apull%2Cpush"), "{form}");
}

#[tokio::test]
async fn a_token_server_elsewhere_gets_nothing() {
    let (here, log) = registry(|_, _| {
        answer(401, &[("www-authenticate", "Bearer realm=\"http://169.254.169.254/token\"")], "")
    })
    .await;
    let error = connect(&here, with_password()).await.unwrap_err();
    assert!(error.to_string().contains("is not trusted"), "{error}");
    assert_eq!(lines(&log).len(), 1);
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
    assert_eq!(error.kind(), Kind::Source);
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
    assert_eq!((error.kind(), error.is_retryable()), (Kind::Stalled, true));
    drop(listener);
}

#[tokio::test]
async fn what_is_there_and_what_is_not() {
    let (here, _) = registry(|seen, _| {
        let found = [
            ("content-length", "3"),
            ("content-type", "a/b; charset=x"),
            ("docker-content-digest", "nonsense"),
        ];
        match (seen.method.as_str(), seen.target.rsplit('/').next().unwrap_or_default()) {
            ("HEAD", "no-head") => answer(405, &[], ""),
            ("HEAD" | "GET", "missing") => answer(404, &[], ""),
            ("HEAD", "present") => answer(200, &found, ""),
            ("GET", "no-head") => answer(200, &[("content-type", "a/b")], "abc"),
            ("GET", part) if part.starts_with("sha256") => answer(200, &[], "not what was asked for"),
            ("PUT", _) => answer(201, &[("docker-content-digest", &Digest::of(b"other").to_string())], ""),
            _ => answer(200, &[], ""),
        }
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let head = async |reference: &str| registry.head_manifest(&repository(), reference).await.unwrap();
    assert_eq!(head("missing").await, None);
    let present = ManifestHead { digest: None, size: Some(3), media_type: "a/b".into() };
    assert_eq!(head("present").await, Some(present));
    assert_eq!(head("no-head").await.unwrap().digest, Some(Digest::of(b"abc")));
    let by_digest = Digest::of(b"abc").to_string();
    let error = registry.get_manifest(&repository(), &by_digest, 1000).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity);
    let error = registry.get_manifest(&repository(), "no-head", 2).await.unwrap_err();
    assert!(error.to_string().contains("longer than 2 bytes"), "{error}");
    let error = registry.put_manifest(&repository(), "1", "a/b", "{}".into()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity);
    let error = registry.head_manifest(&repository(), "../x").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Internal);
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
async fn a_dead_host_is_waited_for_and_then_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for text in [format!("http://127.0.0.1:{port}"), format!("127.0.0.1:{port}")] {
        let target: Target = text.parse().unwrap();
        let start = Instant::now();
        let error = Registry::connect(&target.endpoint, options()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.exit()),
            (Kind::Unreachable, crate::exit::Exit::Unreachable),
            "{error:?}"
        );
        assert!(start.elapsed() >= Duration::from_millis(100));
    }
}

#[tokio::test]
async fn plain_http_is_found_on_this_machine_only_and_never_with_an_authority() {
    let (here, _) = registry(|_, _| answer(200, &[], "")).await;
    let target: Target = here.parse().unwrap();
    let registry = Registry::connect(&target.endpoint, options()).await.unwrap();
    assert_eq!(registry.endpoint().to_string(), format!("http://{here}"));
    let strict = ClientOptions { authorities: vec![trusted(&authority().0)], ..options() };
    let error = Registry::connect(&target.endpoint, strict).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Tls);
    assert!(error.hint().unwrap().contains("http://"), "{error:?}");
}

/// What proxies do with a request that is too large: they answer at once and hang up on the rest.
#[tokio::test]
async fn a_refusal_that_got_lost_in_a_reset_is_heard_at_the_second_try() {
    use std::io::{Read, Write};
    fn serve(mut socket: std::net::TcpStream) -> std::io::Result<()> {
        loop {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                socket.read_exact(&mut byte)?;
                head.extend(byte);
            }
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
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(|| serve(socket));
        }
    });
    let registry = connect(&here, options()).await.unwrap();
    let body: Arc<dyn BlobBody> = Arc::new(Bytes::from(vec![0; 32 << 20]));
    let error = registry.push_blob(&repository(), &Digest::of(b"x"), &body, None).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (Kind::TooLarge, Some(413)), "{error:?}");
    assert!(error.hint().unwrap().contains("proxy"));
}

#[test]
fn everything_can_run_on_any_thread() {
    fn check<T: Send>(_: impl FnOnce(Registry, Repository, Digest, Arc<dyn BlobBody>) -> T) {}
    check(|r, n, d, b| async move { r.push_blob(&n, &d, &b, None).await.map(drop) });
    check(|r, n, d, _| async move { r.mount(&n, &d, &n).await.map(drop) });
    check(|r, n, d, _| async move { r.get_blob(&n, &d).await.map(drop) });
    check(|r, n, _, _| async move { r.put_manifest(&n, "1", "a/b", Bytes::new()).await.map(drop) });
    check(
        |r, _, _, _| async move { Registry::connect(r.endpoint(), ClientOptions::default()).await.map(drop) },
    );
}

fn authority() -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate, key)
}

fn trusted(certificate: &rcgen::Certificate) -> crate::tls::Authorities {
    crate::tls::Authorities::parse("ca.crt", certificate.pem().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_certificate_of_nobody_we_know_is_final_until_its_authority_is_given() {
    use std::io::{Read, Write};
    let options = options();
    let (certificate, key) = authority();
    let secret = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&connections);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            let session = rustls::ServerConnection::new(Arc::new(config.clone())).unwrap();
            let mut stream = rustls::StreamOwned::new(session, socket.unwrap());
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let target: Target = format!("https://{here}").parse().unwrap();
    let error = Registry::connect(&target.endpoint, options.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (Kind::Tls, false), "{error:?}");
    assert!(error.hint().unwrap().contains("--cacert"), "{error:?}");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    let trusting = ClientOptions { authorities: vec![trusted(&certificate)], ..options.clone() };
    Registry::connect(&target.endpoint, trusting).await.unwrap();
    // Found by itself on this machine, and not taken for plain HTTP.
    let unstated: Target = here.to_string().parse().unwrap();
    assert_eq!(Registry::connect(&unstated.endpoint, options).await.unwrap_err().kind(), Kind::Tls);
}

fn puller(root: &str, headers: &[(&str, &str)], options: ClientOptions) -> Puller {
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    Puller::new(&root.parse().unwrap(), &headers, options).unwrap()
}

#[tokio::test]
async fn a_node_asks_below_its_root_at_once_and_says_for_whom() {
    let (here, log) = registry(|seen, _| match seen.nth {
        // Asked again at once, as containerd does it; more than that is an answer.
        0..=3 if seen.is("HEAD", "/manifests/") => answer(429, &[("retry-after", "900")], ""),
        _ if seen.is("HEAD", "/manifests/") => answer(405, &[], ""),
        _ if seen.is("GET", "/manifests/") => answer(200, &[("content-type", "text/x")], "manifest"),
        _ => answer(503, &[("retry-after", "900")], ""),
    })
    .await;
    let puller = puller(&format!("http://{here}/v2/ns"), &[], options());
    let repository = "a/b".parse().unwrap();
    let began = Instant::now();
    let ask = |wanted| Ask { repository: &repository, wanted, namespace: Some("localhost:5000") };
    let found = puller.ask(&ask(Wanted::Head("1"))).await.unwrap();
    assert_eq!((found.size, found.media_type.as_str()), (Some(8), "text/x"));
    let refused = puller.ask(&ask(Wanted::Blob(Digest::of(b"x")))).await.unwrap_err();
    assert_eq!(refused.status(), Some(503));
    assert!(began.elapsed() < Duration::from_secs(5), "a pause was waited out");
    let asked: Vec<String> =
        log.lock().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    let head = "HEAD /v2/ns/a/b/manifests/1?ns=localhost%3A5000";
    assert_eq!(asked[..6], [head, head, head, head, head, &head.replace("HEAD", "GET")]);
    let blob = format!("/v2/ns/a/b/blobs/{}?ns=localhost%3A5000", Digest::of(b"x"));
    assert_eq!(
        asked[6..],
        [format!("HEAD {blob}"), format!("GET {blob}")],
        "nobody knocks at the front door"
    );
}

#[tokio::test]
async fn a_nodes_headers_and_credentials_stay_with_their_host() {
    let (store, store_log) = registry(|_, _| answer(200, &[], "")).await;
    let (here, log) =
        registry(move |_, _| answer(307, &[("location", &format!("http://{store}/blob?signature=1"))], ""))
            .await;
    let secret = [("Authorization", "Basic c2VjcmV0"), ("X-Key", "secret")];
    let puller = puller(&format!("http://{here}/v2"), &secret, options());
    let repository = "a".parse().unwrap();
    let ask = Ask { repository: &repository, wanted: Wanted::Blob(Digest::of(b"x")), namespace: None };
    puller.ask(&ask).await.unwrap();
    let (asked, led_to) = (log.lock()[0].clone(), store_log.lock()[0].clone());
    assert_eq!((asked.header("authorization"), asked.header("x-key")), ("Basic c2VjcmV0", "secret"));
    assert_eq!((led_to.header("authorization"), led_to.header("x-key")), ("", ""));
    assert_eq!(
        asked.target,
        format!("/v2/a/blobs/{}", Digest::of(b"x")),
        "an upstream is not told who it is"
    );
}

#[tokio::test]
async fn a_node_asks_for_the_scope_that_it_knows_and_the_one_that_it_is_told() {
    let (here, log) = registry(|seen, here| {
        if seen.is("GET", "/token") {
            return answer(200, &[], r#"{"token":"t"}"#);
        }
        if seen.header("authorization") == "Bearer t" {
            return answer(200, &[("docker-content-digest", "sha256:0")], "");
        }
        let challenge =
            format!(r#"Bearer realm="http://{here}/token",service="s",scope="repository:ns/a:pull""#);
        answer(401, &[("www-authenticate", &challenge)], "")
    })
    .await;
    let puller = puller(&format!("http://{here}/v2/ns"), &[], with_password());
    let repository = "a".parse().unwrap();
    let ask = Ask { repository: &repository, wanted: Wanted::Head("1"), namespace: Some("gcr.io") };
    let found = puller.ask(&ask).await.unwrap();
    assert_eq!(found.digest.as_deref(), Some("sha256:0"), "as it stands, for others to judge");
    let log = log.lock();
    let token = log.iter().find(|seen| seen.is("GET", "/token")).unwrap();
    for scope in ["scope=repository%3Aa%3Apull", "scope=repository%3Ans%2Fa%3Apull"] {
        assert!(token.target.contains(scope), "{}", token.target);
    }
}
