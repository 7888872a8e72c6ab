//! daemon.json, as the source of moby has it.

use super::memory::rules;
use crate::node::lint::FileKind::DaemonJson;

#[test]
fn the_daemon_knows_its_keys_and_their_types() {
    for (text, expected) in [
        (r#"{"registry-mirros": ["https://m.example"]}"#, Some("error unknown-key 1")),
        (r#"{"insecure-registrys": ["m.example"]}"#, Some("error unknown-key 1")),
        (r#"{"log-drivers": "json-file"}"#, Some("error unknown-key 1")),
        (r#"{"graph": "/data"}"#, Some("error unknown-key 1")),
        (r#"{"registry-mirror": ["https://m.example"]}"#, Some("error unknown-key 1")),
        (r#"{"zzz": 1}"#, Some("warning unknown-key 1")),
        (r#"{"live-restore": "true"}"#, Some("error wrong-type 1")),
        (r#"{"dns": "10.0.0.1"}"#, Some("error wrong-type 1")),
        (r#"{"proxies": {"http-proxy": "http://p:1"}, "builder": {"gc": {"x": 1}}, "mtu": null}"#, None),
        (
            r#"{"debug": true, "log-opts": {"max-size": "1m"}, "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}]}"#,
            None,
        ),
        ("null", None),
        ("[]", Some("error wrong-type 1")),
        (r#"{"debug": true, "debug": false}"#, Some("warning key-twice 1")),
    ] {
        assert_eq!(
            rules("/etc/docker/daemon.json", DaemonJson, text),
            Vec::from_iter(expected.map(str::to_owned)),
            "{text}"
        );
    }
}

#[test]
fn mirrors_are_urls_of_a_mirror_of_docker_hub() {
    for (mirror, expected) in [
        ("HTTPS://m.example", None),
        ("", Some("error no-scheme 1")),
        ("eg:https://m.example", Some("error no-scheme 1")),
        ("ftp://m.example", Some("error no-scheme 1")),
        ("https://m.example:port", Some("error bad-address 1")),
        ("https://m.example, https://n.example", Some("error bad-address 1")),
        ("https://quay.io", Some("warning not-a-mirror 1")),
        ("https://m.example/hub", Some("error mirror-with-path 1")),
    ] {
        let text = format!("{{\"registry-mirrors\": [\"{mirror}\"]}}");
        assert_eq!(
            rules("/etc/docker/daemon.json", DaemonJson, &text),
            Vec::from_iter(expected.map(str::to_owned)),
            "{mirror}"
        );
    }
}
