//! Questions as the runtime of a node asks them.

use std::time::{Duration, Instant};

use super::{Ask, PullQuery, Puller};
use crate::oci::Digest;
use crate::registry::ClientOptions;
use crate::registry::testing::{answer, options, registry, with_password};

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
    let found = puller.ask(&ask(PullQuery::Head("1"))).await.unwrap();
    assert_eq!((found.size, found.media_type.as_str()), (Some(8), "text/x"));
    let refused = puller.ask(&ask(PullQuery::Blob(Digest::of(b"x")))).await.unwrap_err();
    assert_eq!(refused.status(), Some(503));
    assert!(began.elapsed() < Duration::from_secs(5), "a pause was waited out");
    let asked: Vec<String> =
        log.lock().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    let head = "HEAD /v2/ns/a/b/manifests/1?ns=localhost%3A5000";
    assert_eq!(asked[..6], [head, head, head, head, head, &head.replace("HEAD", "GET")]);
    let blob = format!("/v2/ns/a/b/blobs/{}?ns=localhost%3A5000", Digest::of(b"x"));
    assert_eq!(asked[6..], [format!("HEAD {blob}"), format!("GET {blob}")], "no ping is sent");
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
    let ask = Ask { repository: &repository, wanted: PullQuery::Blob(Digest::of(b"x")), namespace: None };
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
    let ask = Ask { repository: &repository, wanted: PullQuery::Head("1"), namespace: Some("gcr.io") };
    let found = puller.ask(&ask).await.unwrap();
    assert_eq!(found.digest.as_deref(), Some("sha256:0"), "as it stands, for others to judge");
    let log = log.lock();
    let token = log.iter().find(|seen| seen.is("GET", "/token")).unwrap();
    for scope in ["scope=repository%3Aa%3Apull", "scope=repository%3Ans%2Fa%3Apull"] {
        assert!(token.target.contains(scope), "{}", token.target);
    }
}
