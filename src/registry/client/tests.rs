//! Pauses, redirects, and what may cross threads.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Response;
use bytes::Bytes;

use crate::clock;
use crate::oci::{Digest, Repository};
use crate::registry::testing::{
    Log, SeenRequest, Told, answer, blob, connect, late, lines, options, raw_server, registry, registry_at,
    repository, request_head, with_password,
};
use crate::registry::{Access, BlobBody, ClientOptions, FailureKind, Registry, RegistryError};
use crate::testing::eventually;

fn patient() -> ClientOptions {
    let mut options = options();
    options.retry.connect_patience = Duration::from_secs(5);
    options
}

#[tokio::test]
async fn the_pause_that_a_registry_asks_for_is_kept_by_everybody() {
    let (here, log) = registry(|seen, _| match seen.nth {
        0 if seen.is("HEAD", "/manifests/busy") => answer(429, &[("retry-after", "1")], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, patient()).await.unwrap();
    let start = Instant::now();
    let other = async {
        eventually("the pause is known", || registry.host().pause_left(clock::Instant::now()).is_some())
            .await;
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
    let stream = registry.get_blob(&repository(), &digest, 7).await.unwrap();
    let pieces: Vec<_> = futures_util::TryStreamExt::try_collect(stream).await.unwrap();
    assert_eq!(pieces.concat(), b"content");
    assert_eq!(log.lock().last().unwrap().header("authorization"), "Basic dXNlcjpodW50ZXIy");
    assert_eq!(seen_by_store.lock()[0].header("authorization"), "");
}

#[test]
fn everything_can_run_on_any_thread() {
    fn check<T: Send>(_: impl FnOnce(Registry, Repository, Digest, Arc<dyn BlobBody>) -> T) {}
    check(|r, n, d, b| async move { r.push_blob(&n, &d, &b, None).await.map(drop) });
    check(|r, n, d, _| async move { r.mount(&n, &d, &n).await.map(drop) });
    check(|r, n, d, _| async move { r.get_blob(&n, &d, 1).await.map(drop) });
    check(|r, n, _, _| async move { r.put_manifest(&n, "1", "a/b", Bytes::new()).await.map(drop) });
    check(
        |r, _, _, _| async move { Registry::connect(r.endpoint(), ClientOptions::default()).await.map(drop) },
    );
}

/// Of each connection one request is answered, so that a registry that goes takes no connection along.
fn closing(seen: &SeenRequest) -> Response<Body> {
    match seen.method.as_str() {
        "POST" => answer(202, &[("location", "1"), ("connection", "close")], ""),
        "PUT" => answer(201, &[("connection", "close")], ""),
        "HEAD" if seen.target.contains("/blobs/") => answer(404, &[("connection", "close")], ""),
        _ => answer(200, &[("connection", "close")], ""),
    }
}

#[tokio::test]
async fn an_outage_shorter_than_patience_loses_nothing_and_one_looks_for_its_end() {
    for access in [Access::PullPush, Access::Pull] {
        let (here, _, serving) = registry_at("127.0.0.1:0", |seen, _| closing(seen)).await;
        let told = Arc::new(Told::default());
        let registry =
            connect(&here, ClientOptions { access, observer: told.clone(), ..patient() }).await.unwrap();
        serving.abort();
        let _ = serving.await;
        let many = (0..150).map(|n| {
            let registry = registry.clone();
            tokio::spawn(async move {
                if n % 10 > 0 || access == Access::Pull {
                    return registry.head_manifest(&repository(), &n.to_string()).await.map(drop);
                }
                let (digest, body) = blob("some layer");
                registry.push_blob(&repository(), &digest, &body, None).await.map(drop)
            })
        });
        let many: Vec<_> = many.collect();
        eventually("it is found to be away", || !told.retries().is_empty()).await;
        let (_, log, _serving) = registry_at(&here, |seen, _| closing(seen)).await;
        for one in many {
            one.await.unwrap().unwrap();
        }
        assert_eq!(lines(&log).iter().filter(|line| *line == "GET /v2/").count(), 1);
        let retries = told.retries();
        assert!(!retries.is_empty() && retries.len() < 20, "{retries:?}");
        assert!(retries.iter().all(|(what, ..)| what.ends_with("/v2/")), "{retries:?}");
    }
}

/// As when a proxy is drained: connections that stand are served to their end.
#[tokio::test]
async fn a_connection_that_still_stands_does_not_pass_for_a_host_that_is_back() {
    let (here, kept, serving) = registry_at("127.0.0.1:0", |_, _| answer(200, &[], "")).await;
    let registry = connect(&here, patient()).await.unwrap();
    serving.abort();
    let _ = serving.await;
    let many = (0..20).map(|n: u32| {
        let registry = registry.clone();
        tokio::spawn(async move { registry.head_manifest(&repository(), &n.to_string()).await })
    });
    let many: Vec<_> = many.collect();
    eventually("it is found to be away", || registry.host().breaker().is_open().ok() == Some(true)).await;
    let (_, _, _serving) = registry_at(&here, |_, _| answer(200, &[], "")).await;
    for one in many {
        one.await.unwrap().unwrap();
    }
    assert_eq!(lines(&kept).iter().filter(|line| *line == "GET /v2/").count(), 1, "the ping alone");
}

#[tokio::test]
async fn a_store_that_requests_are_led_to_is_waited_for_as_well() {
    let (store, _, serving) = registry_at("127.0.0.1:0", |seen, _| closing(seen)).await;
    let away = format!("http://{store}/x");
    let (here, log) = registry(move |seen, _| match seen.method.as_str() {
        "HEAD" => answer(307, &[("location", &away)], ""),
        _ => closing(seen),
    })
    .await;
    let told = Arc::new(Told::default());
    let registry = connect(&here, ClientOptions { observer: told.clone(), ..patient() }).await.unwrap();
    serving.abort();
    let _ = serving.await;
    let asking = tokio::spawn(async move { registry.head_manifest(&repository(), "1").await });
    eventually("it is found to be away", || !told.retries().is_empty()).await;
    let (_, _, _serving) = registry_at(&store, |seen, _| closing(seen)).await;
    asking.await.unwrap().unwrap();
    assert_eq!(lines(&log).iter().filter(|line| line.starts_with("HEAD")).count(), 2);
}

#[tokio::test]
async fn a_registry_that_stays_away_is_given_up_once_for_all() {
    let (here, _, serving) = registry_at("127.0.0.1:0", |seen, _| closing(seen)).await;
    let registry = connect(&here, options()).await.unwrap();
    serving.abort();
    let _ = serving.await;
    let start = Instant::now();
    let many: Vec<_> = (0..40)
        .map(|_| {
            let registry = registry.clone();
            tokio::spawn(async move { registry.head_manifest(&repository(), "1").await.unwrap_err() })
        })
        .collect();
    for one in many {
        assert_eq!(one.await.unwrap().kind(), FailureKind::Unreachable);
    }
    assert!(start.elapsed() >= Duration::from_millis(100));
    // It is not asked again, even if it is back by now.
    let (_, log, _serving) = registry_at(&here, |seen, _| closing(seen)).await;
    assert_eq!(
        registry.head_manifest(&repository(), "1").await.unwrap_err().kind(),
        FailureKind::Unreachable
    );
    assert!(lines(&log).is_empty());
}

#[tokio::test]
async fn a_registry_that_hangs_up_on_everybody_for_a_while_is_waited_for() {
    let away = Arc::new(AtomicBool::new(false));
    let is_away = Arc::clone(&away);
    let (here, log) = registry(move |seen, _| {
        if is_away.load(Ordering::SeqCst) {
            answer(if seen.nth % 2 == 0 { 0 } else { 502 }, &[], "")
        } else {
            closing(seen)
        }
    })
    .await;
    let registry = connect(&here, patient()).await.unwrap();
    away.store(true, Ordering::SeqCst);
    let pings = || lines(&log).iter().filter(|line| *line == "GET /v2/").count();
    let before = pings();
    let many = (0..150).map(|n| {
        let registry = registry.clone();
        tokio::spawn(async move { registry.head_manifest(&repository(), &n.to_string()).await })
    });
    let many: Vec<_> = many.collect();
    eventually("it was probed twice", || pings() >= before + 2).await;
    away.store(false, Ordering::SeqCst);
    for one in many {
        one.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_pause_that_exceeds_patience_is_said_and_not_waited_out() {
    let (here, log) = registry(|seen, _| match seen.method.as_str() {
        "HEAD" => answer(429, &[("retry-after", "3600")], ""),
        _ => closing(seen),
    })
    .await;
    let registry = connect(&here, patient()).await.unwrap();
    for name in ["1", "2", "3"] {
        let error = registry.head_manifest(&repository(), name).await.unwrap_err();
        assert!(error.to_string().contains("left alone for 3600 s"), "{error}");
        assert!(error.hint().unwrap().contains("--patience"), "{error}");
    }
    assert_eq!(lines(&log).len(), 2, "it is not asked again");
}

#[tokio::test]
async fn a_document_that_trickles_is_given_up() {
    let here = raw_server(|mut socket| {
        loop {
            let head = request_head(&mut socket)?;
            if !head.windows(10).any(|part| part == b"/manifests") {
                write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
                continue;
            }
            write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")?;
            for _ in 0..500 {
                socket.write_all(b"{")?;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    });
    let registry = connect(&here.to_string(), patient()).await.unwrap();
    let error = registry.get_manifest(&repository(), "1", 1000).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Stalled);
    assert!(error.to_string().contains("bytes of a document came in 0.5"), "{error}");
}

/// A server may quote what it was sent in every address that it gives: `hunter2` is the password.
#[tokio::test]
async fn a_secret_in_an_address_that_a_server_gives_is_not_shown() {
    let realm = "Bearer realm=\"https://hunter2.example/hunter2/token\"";
    let basic = "Basic realm=\"r\"";
    for (challenge, location) in [
        (realm, ""),
        (basic, "https://hunter2.example/hunter2"),
        (basic, "/hunter2/1"),
        (basic, "ftp://hunter2.example/"),
        (basic, "http://hunter2@127.0.0.1/"),
    ] {
        let (here, _) = registry(move |seen, _| match seen.method.as_str() {
            _ if seen.header("authorization").is_empty() => {
                answer(401, &[("www-authenticate", challenge)], "")
            }
            "POST" => answer(202, &[("location", location)], ""),
            "HEAD" => answer(307, &[("location", location)], ""),
            "PUT" => answer(403, &[], ""),
            _ => answer(200, &[], ""),
        })
        .await;
        let told = Arc::new(Told::default());
        let options = ClientOptions { observer: told.clone(), ..with_password() };
        let mut said = Vec::new();
        match connect(&here, options).await {
            Err(error) => said.extend([format!("{error:?}"), error.hint().unwrap_or_default()]),
            Ok(registry) => {
                let (digest, body) = blob("some layer");
                let pushed = registry.push_blob(&repository(), &digest, &body, None).await;
                let asked = registry.head_manifest(&repository(), "1").await;
                said.extend([format!("{pushed:?}"), format!("{asked:?}")]);
                assert!(pushed.is_err() && asked.is_err(), "{said:?}");
            }
        }
        said.push(format!("{:?}", told.retries()));
        assert!(!said.concat().contains("hunter2"), "{said:?}");
    }
}

#[tokio::test]
async fn a_secret_in_the_title_of_a_page_is_not_shown() {
    let (here, _) = registry(|seen, _| match seen.header("authorization") {
        "" => answer(401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
        _ => answer(200, &[("content-type", "text/html")], "<title>Hello hunter2</title>"),
    })
    .await;
    let registry = connect(&here, with_password()).await.unwrap();
    let error = registry.get_manifest(&repository(), "1", 1000).await.unwrap_err();
    assert!(error.to_string().contains("titled \"Hello …\""), "{error}");
}

/// What each request for a manifest meets, by its number among all of them; and the registry that answers so.
async fn failing(
    options: ClientOptions,
    meets: impl Fn(usize, &SeenRequest) -> u16 + Send + Sync + 'static,
) -> (Registry, Log) {
    let count = AtomicUsize::new(0);
    let (here, log) = registry(move |seen, _| match seen.method.as_str() {
        "HEAD" => answer(meets(count.fetch_add(1, Ordering::SeqCst), seen), &[], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    (connect(&here, options).await.unwrap(), log)
}

/// Asks for so many manifests at once.
async fn ask(registry: &Registry, names: impl IntoIterator<Item = String>) -> Vec<Result<(), RegistryError>> {
    let asked = names.into_iter().map(|name| {
        let registry = registry.clone();
        async move { registry.head_manifest(&repository(), &name).await.map(drop) }
    });
    futures_util::future::join_all(asked).await
}

fn names(of: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{of}{n}")).collect()
}

#[tokio::test]
async fn a_registry_that_fails_whatever_is_asked_is_asked_by_one_and_given_up_for_all() {
    let told = Arc::new(Told::default());
    let options = ClientOptions { observer: told.clone(), ..options() };
    let (registry, log) = failing(options, |_, _| 500).await;
    for error in ask(&registry, names("m", 40)).await {
        let error = error.unwrap_err();
        assert_eq!(error.status(), Some(500), "{error}");
        assert!(error.to_string().contains("to whatever was asked"), "{error}");
    }
    // Each once, and within 100 ms of patience one after the other: 10, 20, 40, 30 ms.
    let heads = |log: &Log| lines(log).iter().filter(|line| line.starts_with("HEAD")).count();
    let asked = heads(&log);
    assert!((41..=50).contains(&asked), "{asked}");
    assert!(told.retries().len() <= 10, "{:?}", told.retries());
    assert!(ask(&registry, names("n", 40)).await.iter().all(Result::is_err));
    assert_eq!(heads(&log), asked, "nothing is asked any more");
    assert!(registry.start_upload(&repository()).await.is_err(), "no Location");
    assert!(lines(&log).last().unwrap().starts_with("POST"), "writes are another matter");
}

#[tokio::test]
async fn a_registry_that_recovers_within_patience_loses_nothing() {
    let (registry, log) = failing(patient(), |n, _| if n < 45 { 500 } else { 200 }).await;
    assert!(ask(&registry, names("m", 40)).await.iter().all(Result::is_ok));
    let asked = lines(&log).len();
    assert!(asked <= 1 + 40 + 40 + 6, "{asked}");
}

#[tokio::test]
async fn what_fails_for_itself_holds_up_nobody_and_has_its_own_tries() {
    let (registry, log) =
        failing(patient(), |_, seen| if seen.target.contains("bad") { 500 } else { 200 }).await;
    for turn in 0..6 {
        let bad = ask(&registry, [format!("bad{turn}")]);
        let good = ask(&registry, names("good", 4));
        let (bad, good) = futures_util::future::join(bad, good).await;
        assert!(bad[0].is_err() && good.iter().all(Result::is_ok));
        assert!(!bad[0].as_ref().unwrap_err().to_string().contains("whatever"), "{bad:?}");
    }
    let bad = lines(&log).iter().filter(|line| line.contains("bad")).count();
    assert_eq!(bad, 6 * 4);
}

#[tokio::test]
async fn the_pause_that_a_registry_asks_for_with_a_date_is_kept_by_everybody() {
    let (here, log) = registry(|seen, _| match seen.nth {
        0 if seen.is("HEAD", "/manifests/m0") => {
            let at = clock::timestamp() + jiff::SignedDuration::from_secs(1);
            let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap();
            answer(503, &[("retry-after", &date)], "")
        }
        _ => answer(200, &[], ""),
    })
    .await;
    let told = Arc::new(Told::default());
    let registry = connect(&here, ClientOptions { observer: told.clone(), ..patient() }).await.unwrap();
    assert!(ask(&registry, names("m", 1)).await[0].is_ok());
    let [(_, why, after)] = &told.retries()[..] else { panic!("{:?}", told.retries()) };
    assert!(why.contains("503") && *after > Duration::from_millis(500), "{why} {after:?}");
    assert_eq!(lines(&log).len(), 3);
}

#[tokio::test]
async fn an_overload_without_a_word_of_how_long_costs_each_request_one_more() {
    let options = ClientOptions {
        retry: crate::registry::RetryPolicy { min_delay: Duration::from_millis(400), ..patient().retry },
        ..patient()
    };
    let (registry, log) = failing(options, |n, _| if n < 30 { 429 } else { 200 }).await;
    assert!(ask(&registry, names("m", 30)).await.iter().all(Result::is_ok));
    assert_eq!(lines(&log).len(), 1 + 30 + 30);
}

#[tokio::test]
async fn nothing_is_on_its_way_while_a_pause_lasts() {
    let (here, log) = registry(|seen, _| match seen.target.as_str() {
        target if target.ends_with("/manifests/busy") => answer(429, &[("retry-after", "4")], ""),
        target if target.ends_with("/manifests/slow") => {
            late(Duration::from_millis(600), answer(200, &[], ""))
        }
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, patient()).await.unwrap();
    let start = Instant::now();
    let name = repository();
    let (slow, ()) = tokio::join!(registry.head_manifest(&name, "slow"), async {
        tokio::task::yield_now().await;
        registry.idle().await;
        assert!(start.elapsed() >= Duration::from_millis(600), "an answer was to come");
    });
    assert!(slow.unwrap().is_some());
    tokio::select! {
        _ = registry.head_manifest(&name, "busy") => panic!("the pause is over"),
        () = async {
            eventually("it was asked to wait", || lines(&log).len() == 3).await;
            registry.idle().await;
        } => {}
    }
}
