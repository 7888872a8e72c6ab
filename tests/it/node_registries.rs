//! `mirror lint` of registries.conf, registries.yaml and daemon.json, as containers/image, k3s and the Docker daemon read them.

use std::os::unix::fs::PermissionsExt as _;

use crate::node_lint::lint;
use crate::support::folder;

/// `severity rule line` of each finding in a file.
fn found(path: &str, text: &str, args: &[&str]) -> Vec<String> {
    let disk = folder();
    let path = disk.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let word = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let (_, found) = lint(disk.path(), args);
    let mut said: Vec<String> = found
        .iter()
        .map(|one| format!("{} {} {}", word(one, "severity"), word(one, "rule"), one["line"]))
        .collect();
    said.sort();
    said
}

const MIRROR: &str = "[[registry.mirror]]\nlocation = \"m.example/hub\"\n";
const HUB: &str = "[[registry]]\nlocation = \"docker.io\"\n";

#[test]
fn what_makes_the_library_refuse_everything_is_an_error_and_what_it_takes_is_none() {
    for (text, expected) in [
        // What OpenShift writes: the source alone is blocked.
        (format!("{HUB}blocked = true\n{MIRROR}"), &[][..]),
        (
            format!(
                "{HUB}{MIRROR}pull-from-mirror = \"digest-only\"\n{MIRROR}pull-from-mirror = \"tag-only\"\n"
            ),
            &[],
        ),
        (MIRROR.to_owned(), &["error mirror-without-registry 1"]),
        (format!("{HUB}{MIRROR}short-name-mode = \"permissive\"\n"), &["warning misplaced-key 5"]),
        (format!("{HUB}{MIRROR}blocked = true\n"), &["error misplaced-key 5"]),
        ("short-name-mode = \"on\"\n".to_owned(), &["error unknown-value 1"]),
        (
            "unqualified-search-registries = [\"h.example/a\", \"https://b.example\"]\n".to_owned(),
            &["error search-registry 1", "error search-registry 1"],
        ),
        ("[[registry]]\nprefix = \"docker.io\"\n".to_owned(), &["error no-location 2"]),
        ("[[registry]]\nprefix = \"*.corp.example\"\n".to_owned(), &[]),
        (format!("{HUB}{HUB}{MIRROR}"), &["error duplicate-prefix 3"]),
        (
            format!("{HUB}[[registry]]\nprefix = \"a.example\"\nlocation = \"docker.io\"\nblocked = true\n"),
            &["error conflicting-entries 3"],
        ),
        (
            format!(
                "{HUB}[[registry]]\nlocation = \"quay.io\"\n{MIRROR}[[registry.mirror]]\nlocation = \"m.example/dockerhub\"\n"
            ),
            &["warning mirror-of-another 7"],
        ),
        ("[aliases]\n\"a\" = \"docker.io/library/a\"\n\"b\" = \"b:1\"\n".to_owned(), &["error bad-alias 3"]),
    ] {
        assert_eq!(found("etc/containers/registries.conf", &text, &[]), expected, "{text}");
    }
    let first = "[registries.search]\nregistries = [\"docker.io\"]\n";
    let path = "etc/containers/registries.conf";
    assert_eq!(found(path, first, &[]), ["warning first-form 1"]);
    assert_eq!(found(path, first, &["--podman-version", "6.0"]), ["error first-form 1"]);
    assert_eq!(found("etc/containers/registries.conf.d/a.conf", first, &[]), ["error first-form 1"]);
    assert_eq!(found(path, &format!("{first}{HUB}"), &[]), ["error both-styles 1"]);
}

#[test]
fn k3s_completes_endpoints_and_refuses_shapes_that_it_cannot_read() {
    for (text, expected) in [
        (
            "mirrors:\n  docker.io:\n    endpoint: [\"m.example:5000\", \"https://n.example/\"]\n  ghcr.io: {}\n  quay.io:\n",
            &[][..],
        ),
        ("mirrors:\n- docker.io:\n    endpoint: [\"https://m.example\"]\n", &["error wrong-type 1"]),
        ("mirrors:\n  docker.io: https://m.example\n", &["error wrong-type 2"]),
        ("mirrors:\n  docker.io:\n    endpoint: https://m.example\n", &["error wrong-type 3"]),
        ("mirrors:\n  docker.io:\n    endpoints: [\"https://m.example\"]\n", &["error unknown-key 3"]),
        (
            "mirrors:\n  docker.io:\n    endpoint: [\"https://m.example\", \"https://m.example\"]\n",
            &["warning duplicate-endpoint 3"],
        ),
        (
            "mirrors:\n  docker.io:\n    endpoint: [\"https://m.example\"]\nconfigs:\n  docker.io:\n    tls: {insecure_skip_verify: false}\n",
            &["error config-for-nobody 5"],
        ),
        // The account at the upstream, for what the mirror does not have.
        (
            "mirrors:\n  docker.io:\n    endpoint: [\"https://m.example\"]\nconfigs:\n  docker.io:\n    auth: {username: u}\n",
            &[],
        ),
    ] {
        assert_eq!(found("etc/rancher/k3s/registries.yaml", text, &[]), expected, "{text}");
    }
}
