use proptest::prelude::*;

use super::*;
use crate::node::hosts::tests::ask;
use crate::node::hosts::{Host, HostsFile};
use crate::tls::Authorities;

const CA: &str = include_str!("../../../tests/it/support/authority.crt");

fn mirror(endpoint: &str, hosts: &[&str]) -> NodeMirror {
    NodeMirror::new(endpoint, hosts).unwrap_or_else(|refused| panic!("{refused}"))
}

fn with(version: &str) -> Options {
    Options { containerd: Some(version.parse().unwrap()), ..Options::default() }
}

/// Whom a containerd asks for `a/b:1`, by the file rendered for the first upstream.
fn asked(mirror: &NodeMirror, options: &Options, version: Version) -> Vec<String> {
    let rendered = render(Runtime::Containerd, mirror, options).unwrap();
    let file = HostsFile::parse(rendered.files[0].text(), version).unwrap();
    let upstream = &mirror.upstreams()[0].host;
    let hosts: Vec<Host> = file.resolve(upstream, std::path::Path::new("/"), version);
    ask(&hosts, true).map(|host| host.url(upstream, "a/b", "manifests", "1")).collect()
}

#[test]
fn every_containerd_asks_the_mirror_and_then_the_upstream() {
    for version in ["1.6", "1.7.20", "2.0", "2.1", "2.2"] {
        let mirror = mirror("https://m:5000/v2/ns", &["gcr.io"]);
        let version: Version = version.parse().unwrap();
        let expected =
            ["https://m:5000/v2/ns/a/b/manifests/1?ns=gcr.io", "https://gcr.io/v2/a/b/manifests/1"];
        for options in [Options::default(), Options { containerd: Some(version), ..Options::default() }] {
            assert_eq!(asked(&mirror, &options, version), expected, "{version}");
        }
        let mut docker = self::mirror("https://m", &["docker.io"]);
        let last = asked(&docker, &Options::default(), version).pop().unwrap();
        assert_eq!(last, "https://registry-1.docker.io/v2/a/b/manifests/1");
        docker.fallback = false;
        for options in [Options::default(), Options { containerd: Some(version), ..Options::default() }] {
            for url in asked(&docker, &options, version) {
                assert_eq!(
                    url, "https://m/v2/a/b/manifests/1?ns=docker.io",
                    "{version}: nobody else is asked"
                );
            }
        }
    }
}

#[test]
fn versions_decide_what_is_written() {
    let mirror = mirror("https://m/v2/ns", &["gcr.io"]);
    let text = |version: &str| {
        render(Runtime::Containerd, &mirror, &with(version))
            .map(|rendered| rendered.files[0].text().to_owned())
    };
    assert!(!text("2.0.6").unwrap().contains("dial_timeout"));
    assert!(text("2.0.7").unwrap().contains("dial_timeout"));
    assert!(text("2.1").unwrap().contains("dial_timeout = \"5s\""));
    assert!(!text("2.1").unwrap().contains("referrers"));
    assert!(text("2.2").unwrap().contains("\"referrers\""));
    let refused = text("1.5.18").unwrap_err().to_string();
    assert!(refused.contains("override_path"), "{refused}");
    let root = self::mirror("https://m", &["gcr.io"]);
    assert!(render(Runtime::Containerd, &root, &with("1.5.18")).is_ok(), "a root needs no override_path");
}

#[test]
fn what_a_runtime_cannot_say_is_refused_with_the_reason() {
    let refused = |runtime, mirror: &NodeMirror| {
        let refused = render(runtime, mirror, &Options::default()).expect_err(runtime.name());
        assert!(!refused.hint.is_empty());
        refused.to_string()
    };
    let namespace = mirror("https://m/v2/ns", &["docker.io"]);
    assert!(refused(Runtime::Docker, &namespace).contains("root of a host"));
    assert!(refused(Runtime::Docker, &mirror("https://m", &["gcr.io"])).contains("docker.io alone"));
    let mut closed = mirror("https://m", &["docker.io"]);
    closed.fallback = false;
    for runtime in [Runtime::Docker, Runtime::ContainerdLegacy, Runtime::EksAnywhere] {
        refused(runtime, &closed);
    }
    let plain = mirror("http://m", &["gcr.io"]);
    for runtime in [Runtime::OpenShift, Runtime::EksAnywhere] {
        refused(runtime, &plain);
    }
    assert!(refused(Runtime::PullSecret, &plain).contains("no credentials"));
}

#[test]
fn legacy_tables_for_2_x_have_no_tls() {
    let mut mirror = mirror("https://m:5000/v2/ns", &["gcr.io"]);
    mirror.authorities = Some(Authorities::parse("ca.crt", CA.as_bytes()).unwrap());
    let old = render(Runtime::ContainerdLegacy, &mirror, &with("1.7")).unwrap();
    assert!(old.files[0].text().contains(".tls]"));
    let new = render(Runtime::ContainerdLegacy, &mirror, &with("2.0")).unwrap();
    assert!(!new.files[0].text().contains("tls"), "{}", new.files[0].text());
    assert!(new.files[0].text().contains("version = 3"));
    assert!(new.notes.iter().any(|note| note.contains("no tls tables")), "{:?}", new.notes);
    assert!(!old.files[0].text().contains("config_path"));
}

#[test]
fn upstreams_that_share_a_place_are_told_and_given_one_each() {
    let shared = mirror("https://m/v2/ns", &["gcr.io", "quay.io", "registry.example:5000=other"]);
    let notes = render(Runtime::Containerd, &shared, &Options::default()).unwrap().notes;
    let note = &notes[0];
    for part in [
        "gcr.io/a/b and quay.io/a/b",
        "--host gcr.io=gcr.io --host quay.io=quay.io",
        "--rewrite 'gcr\\.io/(.*)=gcr.io/$1'",
    ] {
        assert!(note.contains(part), "{note}");
    }
    assert!(!note.contains("registry.example"));
    let apart = mirror("https://m", &["gcr.io=gcr.io", "quay.io=quay.io"]);
    let notes = render(Runtime::Crio, &apart, &Options::default()).unwrap().notes;
    assert!(notes.iter().all(|note| !note.contains("one name")), "{notes:?}");
}

#[test]
fn endpoints_and_hosts_are_corrected_not_guessed() {
    let error = |endpoint: &str, host: &str| NodeMirror::new(endpoint, &[host]).unwrap_err();
    assert!(error("https://m/ns", "gcr.io").hint.contains("https://m/v2/ns"));
    for endpoint in ["m:5000", "ftp://m", "https://", "https://u:p@m", "https://m/v2/UPPER", "https://m?x"] {
        error(endpoint, "gcr.io");
    }
    assert!(!error("https://u:secret@m", "gcr.io").to_string().contains("secret"));
    for (host, hint) in [
        ("registry-1.docker.io", "docker.io"),
        ("*", "name each"),
        ("https://gcr.io", "gcr.io"),
        ("GCR.io", ""),
        ("gcr.io=/x", "HOST=PATH"),
        ("gcr.io,quay.io", "--host gcr.io --host quay.io"),
        ("gcr.io=a, quay.io=b", "--host gcr.io=a --host quay.io=b"),
        ("gcr!io", "names of images"),
        ("registry.example_5000_", "names of images"),
    ] {
        let refused = error("https://m", host);
        assert!(refused.hint.contains(hint), "{host}: {refused}");
    }
    for endpoint in ["https://a,https://b", "https://a:1,b:1", "https://a https://b"] {
        assert!(error(endpoint, "gcr.io").hint.contains("once for each"), "{endpoint}");
    }
    assert!(error("https://a!b", "gcr.io").to_string().contains("'!'"));
    assert!(NodeMirror::new("https://m", &["gcr.io", "gcr.io"]).is_err());
    assert!(NodeMirror::new("https://m", &[] as &[&str]).is_err());
    let full = mirror("https://m:443/v2/a/b/", &["[::1]:5000"]);
    assert_eq!(full.api(&full.upstreams()[0]), "https://m:443/v2/a/b");
}

#[test]
fn files_begin_with_where_images_come_from() {
    let apart = mirror("https://m:5000/v2/ns", &["gcr.io", "docker.io=hub", "quay.io"]);
    let rendered = render(Runtime::Containerd, &apart, &Options::default()).unwrap();
    let line = rendered.files[0].text().lines().nth(1).unwrap();
    let places = "gcr.io, quay.io come from https://m:5000/ns, those of docker.io from https://m:5000/ns/hub";
    assert_eq!(line, format!("# Images of {places}; the upstream is asked for the rest."));
}

#[test]
fn passwords_are_never_in_a_file_for_everybody() {
    let mut mirror = mirror("https://m", &["gcr.io"]);
    let password = SecretString::from("hunter2");
    mirror.credentials = Some(MirrorLogin { username: "u".to_owned(), password });
    let secret = mirror.credentials.as_ref().unwrap().basic();
    for runtime in Runtime::ALL {
        let Ok(rendered) = render(runtime, &mirror, &Options::default()) else { continue };
        for file in &rendered.files {
            let holds = file.text().contains("hunter2") || file.text().contains(secret.expose_secret());
            assert!(!holds || file.mode == 0o600, "{}: {}", runtime.name(), file.path);
        }
        assert!(!format!("{rendered:?}").contains("hunter2"));
    }
}

proptest! {
    #[test]
    fn nothing_given_makes_it_panic(endpoint in "(https?://)?[a-z0-9.:/\\[\\]@=*-]{0,30}", host in "[a-z0-9.:/\\[\\]@=*_-]{0,20}") {
        if let Ok(mirror) = NodeMirror::new(&endpoint, &[host]) {
            for runtime in Runtime::ALL {
                let _ = render(runtime, &mirror, &Options::default());
            }
        }
    }
}
