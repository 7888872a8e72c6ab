//! What mirrors on one host share, and what they do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::registry::testing::{answer, connect, lines, options, registry, repository, with_password};
use crate::registry::{
    BandwidthLimiter, ClientOptions, Credential, CredentialSource, FailureKind, Keeping, MirrorMemory,
    Observer, Registry, Target,
};
use crate::testing::eventually;

/// Counts the requests of one mirror.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Observer for Counting {
    fn request(&self, _method: &str, _status: Option<u16>, _after: Duration) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn mirrors_on_one_host_ping_it_once_and_each_hears_of_its_own_requests() {
    let (here, log) =
        registry(|seen, _| answer(if seen.target == "/v2/" { 200 } else { 404 }, &[], "")).await;
    let options = options();
    let heard: Vec<Arc<Counting>> = (0..5).map(|_| Arc::default()).collect();
    let mirrors = heard.iter().enumerate().map(|(n, heard)| {
        let rate = "1MB/s".parse().unwrap();
        let own = ClientOptions {
            observer: Arc::clone(heard) as Arc<dyn Observer>,
            bandwidth: vec![Arc::new(BandwidthLimiter::new(rate))],
            ..options.clone()
        };
        let here = here.clone();
        async move {
            let registry = connect(&here, own).await.unwrap();
            for tag in 0..n {
                registry.head_manifest(&repository(), &tag.to_string()).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(mirrors).await;
    let pings = lines(&log).iter().filter(|line| line.ends_with("/v2/")).count();
    assert_eq!(pings, 1);
    let mut counts: Vec<usize> = heard.iter().map(|heard| heard.0.load(Ordering::Relaxed)).collect();
    let all: usize = counts.iter().sum();
    assert_eq!(all, log.lock().len());
    counts[0] -= 1;
    assert_eq!(counts, [0, 1, 2, 3, 4], "the first one pinged");
}

/// Remembers that a host keeps bytes, and takes its time to say so.
struct SlowMemory {
    asked: AtomicUsize,
    may_answer: tokio::sync::Semaphore,
}

impl MirrorMemory for SlowMemory {
    fn recall(&self, _: String, _: String) -> BoxFuture<'_, Option<String>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        async {
            let _turn = self.may_answer.acquire().await;
            Some(r#"{"keeping":"bytes"}"#.to_owned())
        }
        .boxed()
    }

    fn remember(&self, _: String, _: String, _: String) {}
}

#[tokio::test]
async fn no_mirror_on_a_host_goes_on_before_what_earlier_runs_learned_of_it_is_known() {
    let (here, _) = registry(|_, _| answer(200, &[], "")).await;
    let memory =
        Arc::new(SlowMemory { asked: AtomicUsize::new(0), may_answer: tokio::sync::Semaphore::new(0) });
    let options = ClientOptions { memory: Some(Arc::clone(&memory) as Arc<dyn MirrorMemory>), ..options() };
    let mirrors = (0..3).map(|_| {
        let connecting = connect(&here, options.clone());
        async { connecting.await.unwrap().keeping() }
    });
    let release = async {
        eventually("somebody asks", || memory.asked.load(Ordering::Relaxed) > 0).await;
        memory.may_answer.add_permits(1);
    };
    let (known, ()) = futures_util::future::join(futures_util::future::join_all(mirrors), release).await;
    assert_eq!(known, [Keeping::Bytes; 3]);
    assert_eq!(memory.asked.load(Ordering::Relaxed), 1, "one asks for all");
}

#[tokio::test]
async fn who_is_somebody_else_or_trusts_somebody_else_shares_nothing() {
    let (here, log) = registry(|_, _| answer(200, &[], "")).await;
    let options = with_password();
    let other = Credential::password("user", "other".into(), CredentialSource::fixed("a test"));
    let nobody = ClientOptions { credential: None, ..options.clone() };
    let somebody = ClientOptions { credential: Some(other), ..options.clone() };
    let mut patient = options.clone();
    patient.retry.connect_patience *= 2;
    for own in [&options, &nobody, &somebody, &patient, &options] {
        connect(&here, own.clone()).await.unwrap();
    }
    let below = format!("http://{here}").parse::<Target>().unwrap().endpoint.with_api_path("/a").unwrap();
    Registry::connect(&below, options).await.unwrap();
    let pings = |path: &str| lines(&log).iter().filter(|line| line.ends_with(path)).count();
    assert_eq!((pings(" /v2/"), pings(" /a/v2/")), (4, 1));
}

#[tokio::test]
async fn a_token_is_fetched_once_for_a_repository_whatever_mirrors_ask_for_it() {
    let (here, log) = registry(|seen, here| match seen.target.as_str() {
        target if target.starts_with("/token") => answer(200, &[], r#"{"token":"t","expires_in":300}"#),
        _ if seen.header("authorization").is_empty() => {
            answer(401, &[("www-authenticate", &format!("Bearer realm=\"http://{here}/token\""))], "")
        }
        _ => answer(404, &[], ""),
    })
    .await;
    let options = with_password();
    for _ in 0..4 {
        let registry = connect(&here, options.clone()).await.unwrap();
        registry.head_manifest(&repository(), "1").await.unwrap();
    }
    let lines = lines(&log);
    let count = |is: fn(&&String) -> bool| lines.iter().filter(is).count();
    let pings = count(|line| line.ends_with(" /v2/"));
    // One proves the login, one is for the repository.
    let tokens = count(|line| line.contains("/token"));
    assert_eq!((pings, tokens, count(|line| line.contains("/manifests/"))), (1, 2, 4), "{lines:?}");
}

#[tokio::test]
async fn a_login_that_is_refused_is_not_shown_again_for_other_mirrors() {
    let (here, log) = registry(|_, _| answer(401, &[("www-authenticate", "Basic realm=\"r\"")], "")).await;
    let options = with_password();
    for _ in 0..20 {
        let error = connect(&here, options.clone()).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Auth, "{error:?}");
    }
    let shown = log.lock().iter().filter(|seen| !seen.header("authorization").is_empty()).count();
    assert!(shown <= 3 && log.lock().len() <= 4, "{:?}", lines(&log));
}

#[tokio::test]
async fn a_dead_host_is_waited_for_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut options = options();
    options.retry.connect_patience = Duration::from_millis(300);
    let start = Instant::now();
    for _ in 0..30 {
        let error = connect(&format!("127.0.0.1:{port}"), options.clone()).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unreachable);
    }
    assert!(start.elapsed() < 10 * options.retry.connect_patience, "{:?}", start.elapsed());
}

#[tokio::test]
async fn retries_have_one_budget_whatever_mirrors_use_them() {
    let (here, _) = registry(|seen, _| answer(if seen.target == "/v2/" { 200 } else { 404 }, &[], "")).await;
    let options = options();
    let (one, other) =
        (connect(&here, options.clone()).await.unwrap(), connect(&here, options).await.unwrap());
    while one.host().take_retry() {}
    assert!(!other.host().take_retry());
}
