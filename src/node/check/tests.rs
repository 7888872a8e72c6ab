//! Given what each host answers: who is asked, who serves, and what that is called.

use std::path::Path;

use bytes::Bytes;

use super::decision::{Other, Seen, verdict};
use super::failover::{ContentAddress, Failover, HostAnswer, Question, ServedContent, Settled};
use super::{MirrorEndpoint, PullDecision, Role, UpstreamHosts};
use crate::node::hosts::{HostsFile, Version};
use crate::oci::Digest;

/// A mirror at `m` and the upstream behind it.
const USUAL: &str =
    "server = \"https://gcr.io\"\n[host.\"https://m\"]\ncapabilities = [\"pull\", \"resolve\"]\n";

fn upstream(text: &str) -> UpstreamHosts {
    let file = HostsFile::parse(text, Version::NEWEST).unwrap();
    UpstreamHosts::new("gcr.io", file.resolve("gcr.io", Path::new("/certs.d/gcr.io"), Version::NEWEST))
}

fn digest() -> Digest {
    Digest::of(b"manifest")
}

fn content() -> ContentAddress {
    ContentAddress { digest: digest(), size: Some(8) }
}

fn found() -> ServedContent {
    ServedContent {
        digest: Some(digest().to_string()),
        size: Some(8),
        media_type: crate::oci::media_type::OCI_MANIFEST.to_owned(),
        body: Some(Bytes::from_static(b"manifest")),
    }
}

fn yes() -> HostAnswer {
    HostAnswer::Found(found())
}

fn status(status: u16) -> HostAnswer {
    HostAnswer::Status(status, format!("said {status}"))
}

fn silence() -> HostAnswer {
    HostAnswer::Silence("said nothing".to_owned())
}

/// Who was asked, and how it ended. Asking more hosts than there are answers is an error of the test.
fn settle(upstream: &UpstreamHosts, question: Question, answers: &[HostAnswer]) -> (Vec<usize>, Settled) {
    let (mut failover, mut asked) = (Failover::new(question, &upstream.hosts), Vec::new());
    while let Some(host) = failover.next_host() {
        failover.take(answers[asked.len()].clone());
        asked.push(host);
    }
    (asked, failover.end())
}

#[test]
fn who_is_asked_after_whom() {
    let both = upstream(USUAL);
    let (tag, digested) = (Question::Tag, Question::Digest(digest()));
    let (manifest, blob) = (Question::Manifest(content()), Question::Blob(content()));
    for question in [tag, digested, manifest, blob] {
        assert_eq!(settle(&both, question, &[yes()]).0, [0], "{question:?}");
        // https://github.com/containerd/containerd/pull/5275: any status goes on, not only 404.
        for miss in [status(404), status(401), status(403), status(429), status(500), status(503), silence()]
        {
            let (asked, settled) = settle(&both, question, &[miss.clone(), yes()]);
            assert_eq!(asked, [0, 1], "{question:?} {miss:?}");
            assert!(matches!(settled, Settled::Served { by: 1, .. }), "{question:?} {miss:?}");
        }
        let (asked, settled) = settle(&both, question, &[status(404), status(403)]);
        let Settled::Ended { misses } = settled else { panic!("{question:?}") };
        assert_eq!((asked.len(), misses.len(), misses[1].why.as_str()), (2, 2, "said 403"));
    }
    // A redirect that leads nowhere ends the pull while a name is resolved, and not while content is fetched.
    for (question, asked) in [(tag, vec![0]), (digested, vec![0]), (manifest, vec![0, 1]), (blob, vec![0, 1])]
    {
        assert_eq!(settle(&both, question, &[status(304), yes()]).0, asked, "{question:?}");
    }
}

#[test]
fn what_a_good_answer_can_have_wrong() {
    let both = upstream(USUAL);
    let with = |change: fn(&mut ServedContent)| {
        let mut found = found();
        change(&mut found);
        HostAnswer::Found(found)
    };
    // Larger than containerd takes: the next host.
    let large = with(|found| found.size = Some(5 << 20));
    assert_eq!(settle(&both, Question::Tag, &[large, yes()]).0, [0, 1]);
    // A digest that is none ends the pull; none at all does not.
    let garbled = with(|found| found.digest = Some("latest".to_owned()));
    let (asked, settled) = settle(&both, Question::Tag, &[garbled, yes()]);
    assert!(asked == [0] && matches!(settled, Settled::Ended { .. }));
    let silent = with(|found| found.digest = None);
    assert!(matches!(settle(&both, Question::Tag, &[silent]).1, Settled::Served { by: 0, .. }));
    // Wrong content is found out after it was fetched, and then nobody else is asked.
    let wrong = with(|found| found.body = Some(Bytes::from_static(b"an error page")));
    let (asked, settled) = settle(&both, Question::Manifest(content()), &[wrong, yes()]);
    assert!(asked == [0] && matches!(settled, Settled::Ended { .. }));
    let short = with(|found| found.size = Some(3));
    let (asked, settled) = settle(&both, Question::Blob(content()), &[short, yes()]);
    assert!(asked == [0] && matches!(settled, Settled::Ended { .. }));
    let unsaid = with(|found| found.size = None);
    assert!(matches!(settle(&both, Question::Blob(content()), &[unsaid]).1, Settled::Served { by: 0, .. }));
}

#[test]
fn capabilities_decide_who_is_asked_for_names_but_not_for_content() {
    for (capabilities, by_tag, by_digest) in
        [("\"pull\", \"resolve\"", 0, 0), ("\"pull\"", 1, 0), ("\"resolve\"", 1, 1), ("\"push\"", 1, 1)]
    {
        let upstream = upstream(&USUAL.replace("\"pull\", \"resolve\"", capabilities));
        assert_eq!(settle(&upstream, Question::Tag, &[yes()]).0, [by_tag], "{capabilities}");
        assert_eq!(settle(&upstream, Question::Digest(digest()), &[yes()]).0, [by_digest], "{capabilities}");
        assert_eq!(settle(&upstream, Question::Blob(content()), &[yes()]).0, [0], "{capabilities}");
    }
    let nobody = upstream("capabilities = [\"push\"]\nserver = \"https://m\"\n");
    assert_eq!(settle(&nobody, Question::Tag, &[]).0, [0; 0]);
    assert_eq!(settle(&nobody, Question::Blob(content()), &[]).0, [0; 0]);
}

#[test]
fn who_stands_in_for_the_upstream() {
    use Role::{Mirror, Upstream as Up};
    let host = |url: &str| format!("[host.\"{url}\"]\n");
    let server = |url: &str| format!("server = \"{url}\"\n");
    for (text, roles) in [
        (USUAL.to_owned(), vec![Mirror, Up]),
        (host("https://m"), vec![Mirror, Up]),
        (host("https://a") + &host("https://b"), vec![Mirror, Mirror, Up]),
        // Another registry than the one in the name may be what is behind the mirrors.
        (server("http://127.0.0.1:5000") + &host("https://m"), vec![Mirror, Up]),
        // The ways to have no fail-over.
        (server("https://m"), vec![Mirror]),
        (server("https://m/v2/ns") + &host("https://m/v2/ns"), vec![Mirror, Mirror]),
        (server("https://gcr.io"), vec![Up]),
        (server("https://gcr.io") + &host("https://gcr.io"), vec![Up, Up]),
    ] {
        let found: Vec<Role> = upstream(&text).hosts.iter().map(|host| host.role).collect();
        assert_eq!(found, roles, "{text}");
    }
}

#[test]
fn endpoints_alone_are_asked_at_their_address() {
    let endpoint = |url: &str| MirrorEndpoint { url: url.to_owned(), ca: None, pull_credentials: None };
    let behind = |urls: &[&str], fail_over| {
        let endpoints: Vec<_> = urls.iter().map(|url| endpoint(url)).collect();
        let upstream = UpstreamHosts::behind("gcr.io", &endpoints, fail_over, Version::NEWEST)?;
        Ok::<_, String>(
            upstream.hosts.iter().map(|h| h.node.url("gcr.io", "a/b", "manifests", "1")).collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        behind(&["https://10.0.0.1:5000", "https://m/v2/ns"], true).unwrap(),
        [
            "https://10.0.0.1:5000/v2/a/b/manifests/1?ns=gcr.io",
            "https://m/v2/ns/a/b/manifests/1?ns=gcr.io",
            "https://gcr.io/v2/a/b/manifests/1",
        ]
    );
    assert_eq!(behind(&["https://m/"], false).unwrap(), ["https://m/v2/a/b/manifests/1?ns=gcr.io"]);
    assert!(behind(&["m:5000"], true).is_err() && behind(&["ftp://m"], true).is_err());
}

#[test]
fn from_answers_to_a_verdict() {
    let both = upstream(USUAL);
    let judge = |upstream: &UpstreamHosts, questions: &[(Question, &[HostAnswer])], other: Option<&Other>| {
        let seen = questions.iter().map(|(question, answers)| Seen {
            what: "it".to_owned(),
            settled: settle(upstream, *question, answers).1,
        });
        verdict("gcr.io", &upstream.hosts, &seen.collect::<Vec<_>>(), other)
    };
    let (tag, blob) = (Question::Tag, Question::Blob(content()));
    let other = Other { found: Digest::of(b"old"), wanted: Digest::of(b"new") };
    let because = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let fail_over =
        |words: &[&str]| PullDecision::FailOver { to: "gcr.io".to_owned(), because: because(words) };
    let fail = |words: &[&str]| PullDecision::Fail { because: because(words) };
    let mirror = PullDecision::Mirror { from: vec!["m".to_owned()] };

    assert_eq!(judge(&both, &[(tag, &[yes()]), (blob, &[yes()])], None), mirror);
    // One layer from elsewhere is enough.
    assert_eq!(
        judge(&both, &[(tag, &[yes()]), (blob, &[status(404), yes()])], None),
        fail_over(&["said 404"])
    );
    assert_eq!(judge(&both, &[(tag, &[silence(), yes()])], None), fail_over(&["said nothing"]));
    assert_eq!(
        judge(&both, &[(tag, &[yes()]), (blob, &[status(404), status(403)])], None),
        fail(&["said 404", "said 403"])
    );
    // What is there wins over what ought to be; what does not work at all is said first.
    let old = judge(&both, &[(tag, &[yes()])], Some(&other));
    assert!(
        matches!(&old, PullDecision::OtherImage { from, .. } if from == "m") && !old.is_good(),
        "{old:?}"
    );
    assert_eq!(
        judge(&both, &[(tag, &[yes()]), (blob, &[silence(), silence()])], Some(&other)).name(),
        "fail"
    );
    // A mirror that may not be asked for tags.
    let no_tags = upstream(&USUAL.replace("\"pull\", \"resolve\"", "\"pull\""));
    let told = judge(&no_tags, &[(tag, &[yes()]), (blob, &[yes()])], None);
    assert_eq!(told, fail_over(&["it: no mirror may be asked for it (capabilities)"]));
    let nobody = upstream("capabilities = [\"push\"]\nserver = \"https://m\"\n");
    assert_eq!(
        judge(&nobody, &[(tag, &[])], None),
        fail(&["it: no host may be asked for it (capabilities)"])
    );
    // Two mirrors share the work.
    let two = upstream("[host.\"https://a\"]\n[host.\"https://b\"]\n");
    let shared = judge(&two, &[(tag, &[status(404), yes()]), (blob, &[yes()])], None);
    assert_eq!(shared, PullDecision::Mirror { from: vec!["b".to_owned(), "a".to_owned()] });
    // No mirror at all.
    let direct = upstream("server = \"https://gcr.io\"\n");
    assert_eq!(
        judge(&direct, &[(tag, &[yes()])], None),
        PullDecision::NotMirrored { from: "gcr.io".to_owned() }
    );
    assert_eq!(judge(&direct, &[(tag, &[silence()])], None), fail(&["said nothing"]));
}

#[test]
fn a_node_pulls_what_is_for_its_platform() {
    let children = [("amd64", ""), ("arm", r#","variant":"v7""#), ("unknown", "")].map(|(arch, variant)| {
        let text = format!(
            r#"{{"manifests":[{{"digest":"{}","size":1,"platform":{{"os":"linux","architecture":"{arch}"{variant}}}}}]}}"#,
            digest()
        );
        crate::oci::Manifest::parse(text.into(), crate::oci::media_type::OCI_INDEX).unwrap().children()[0].clone()
    });
    for (wanted, pulled) in [
        (&[][..], [true, true, true]),
        (&["linux/amd64"], [true, false, false]),
        (&["linux/arm/v7"], [false, true, false]),
        (&["linux/arm", "linux/amd64"], [true, true, false]),
        (&["windows/amd64"], [false, false, false]),
    ] {
        let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
        let found = children.each_ref().map(|child| super::walk::is_pulled(child, &wanted));
        assert_eq!(found, pulled, "{wanted:?}");
    }
    let bare = crate::oci::Descriptor { platform: None, ..children[0].clone() };
    assert!(super::walk::is_pulled(&bare, &["linux/s390x".to_owned()]));
}

/// A registry with two tags of one image; gives its address and every request that it saw.
async fn serving_two_tags() -> (String, std::sync::Arc<crate::locks::Mutex<Vec<String>>>, Digest) {
    use axum::body::Body;
    use axum::extract::Request;
    use axum::http::Response;

    let blob = |content: &[u8]| format!(r#""digest":"{}","size":{}"#, Digest::of(content), content.len());
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c",{}}},"layers":[{{"mediaType":"l",{}}}]}}"#,
        blob(b"config"),
        blob(b"the layer")
    );
    let root = Digest::of(manifest.as_bytes());
    let log = std::sync::Arc::new(crate::locks::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&log);
    let handle = move |request: Request| {
        let (method, target) = (request.method().to_string(), request.uri().to_string());
        seen.lock().push(format!("{method} {target}"));
        let (length, body) = if target.contains("/manifests/") {
            let body = if method == "GET" { manifest.clone() } else { String::new() };
            (manifest.len(), body)
        } else if target.contains(&Digest::of(b"config").to_string()) {
            (6, String::new())
        } else {
            (9, String::new())
        };
        let response = Response::builder()
            .header("content-length", length)
            .header("content-type", crate::oci::media_type::OCI_MANIFEST)
            .header("docker-content-digest", root.to_string());
        std::future::ready(response.body(Body::from(body)).unwrap())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let app = axum::Router::new().fallback(handle);
    tokio::spawn(async move { axum::serve(listener, app).await });
    (here, log, root)
}

#[tokio::test]
async fn what_images_share_is_asked_for_once() {
    use super::{CheckOptions, Expected, ImageToCheck, run};

    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (here, log, root) = serving_two_tags().await;
    let endpoint = MirrorEndpoint { url: format!("http://{here}"), ca: None, pull_credentials: None };
    let behind = UpstreamHosts::behind("gcr.io", &[endpoint], false, Version::NEWEST).unwrap();
    let settings = CheckOptions {
        upstreams: [("gcr.io".to_owned(), behind)].into(),
        upstream_down: false,
        platforms: Vec::new(),
    };
    let wanted = |name: &str, expected: Expected| ImageToCheck { name: name.parse().unwrap(), expected };
    let image = Expected::Image { config: Digest::of(b"config"), layers: 1 };
    let images = [
        wanted("gcr.io/a:1", Expected::Manifest(root)),
        wanted("gcr.io/a:2", Expected::Manifest(root)),
        wanted("gcr.io/a:3", image),
        wanted("gcr.io/a:4", Expected::Image { config: Digest::of(b"another"), layers: 1 }),
    ];
    let checked = run(&images, &settings).await;
    let verdicts: Vec<(&str, &str)> =
        checked.iter().map(|checked| (checked.image.as_str(), checked.verdict.name())).collect();
    let by_digest = format!("gcr.io/a@{root}");
    assert_eq!(
        verdicts,
        [
            ("gcr.io/a:1", "mirror"),
            (&by_digest, "mirror"),
            ("gcr.io/a:2", "mirror"),
            (&by_digest, "mirror"),
            ("gcr.io/a:3", "mirror"),
            ("gcr.io/a:4", "other-image"),
        ]
    );
    let mut log = log.lock().clone();
    log.sort();
    let before = log.len();
    log.dedup();
    assert_eq!((log.len(), before), (8, 8), "4 tags, the digest, the manifest and 2 blobs: {log:#?}");
    assert!(log.iter().all(|line| line.ends_with("?ns=gcr.io")), "{log:#?}");
}
