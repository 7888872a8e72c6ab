//! `mirror lint`: every wrong file of `tests/lint/` is caught, at its line and with the right reason.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::{folder, layercast, root, within};

/// One folder of `tests/lint/`, and what must be said of it.
struct Case {
    folder: &'static str,
    args: &'static [&'static str],
    rule: &'static str,
    path: &'static str,
    line: Option<u64>,
    effect: &'static str,
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { folder: "empty-hosts-toml", args: &[], rule: "empty-file", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: None, effect: "never to a mirror" },
    Case { folder: "namespace-without-override-path", args: &[], rule: "missing-override-path", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(3), effect: "/v2/ns/v2/NAME/manifests/TAG" },
    Case { folder: "path-without-v2-or-override", args: &[], rule: "missing-override-path", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(3), effect: "/ns/v2/NAME/manifests/TAG" },
    Case { folder: "v2-twice", args: &[], rule: "double-v2", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(3), effect: "/v2/v2/ns/NAME/manifests/TAG" },
    Case { folder: "v2-before-and-after", args: &[], rule: "double-v2", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(3), effect: "404" },
    Case { folder: "override-without-v2", args: &[], rule: "missing-v2", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(3), effect: "https://mirror.example:5000/NAME/manifests/TAG" },
    Case { folder: "override-namespace-without-v2", args: &[], rule: "missing-v2", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(3), effect: "not the registry's API" },
    Case { folder: "server-override-without-v2", args: &[], rule: "missing-v2", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(1), effect: "https://gcr.io/NAME/manifests/TAG" },
    Case { folder: "unknown-capability", args: &[], rule: "unknown-capability", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "ignores the whole file" },
    Case { folder: "referrers-too-early", args: &["--containerd-version", "1.7"], rule: "unknown-capability", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "containerd 1.7 only logs that" },
    Case { folder: "capabilities-not-a-list", args: &[], rule: "ignored-file", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "ignores the whole file" },
    Case { folder: "timeout-without-unit", args: &["--containerd-version", "2.1"], rule: "ignored-file", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "ignores the whole file" },
    Case { folder: "timeout-too-early", args: &["--containerd-version", "1.7"], rule: "key-too-new", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "30 s" },
    Case { folder: "override-path-too-early", args: &["--containerd-version", "1.5.18"], rule: "key-too-new", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(5), effect: "404" },
    Case { folder: "broken-toml", args: &[], rule: "ignored-file", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(3), effect: "ignores the whole file" },
    Case { folder: "host-twice", args: &[], rule: "ignored-file", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "ignores the whole file" },
    Case { folder: "no-host-table-in-1.x", args: &["--containerd-version", "1.7"], rule: "no-host-table", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: None, effect: "ignores the whole file" },
    Case { folder: "inline-host", args: &["--containerd-version", "2.0"], rule: "host-not-a-table", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(3), effect: "never asks this one" },
    Case { folder: "misspelt-key", args: &[], rule: "unknown-key", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "passed over" },
    Case { folder: "plain-http", args: &[], rule: "plain-http", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(3), effect: "read passwords" },
    Case { folder: "certificates-unchecked", args: &[], rule: "unverified-tls", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "pose as the mirror" },
    Case { folder: "ca-missing", args: &[], rule: "certificate-missing", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "does not fall back" },
    Case { folder: "ca-not-pem", args: &[], rule: "certificate-unusable", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "does not fall back" },
    Case { folder: "client-key-missing", args: &[], rule: "certificate-missing", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "does not fall back" },
    Case { folder: "password-for-everybody", args: &[], rule: "readable-credentials", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "can pull" },
    Case { folder: "password-to-upstream", args: &[], rule: "credentials-to-upstream", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(1), effect: "sends these credentials to gcr.io" },
    Case { folder: "password-in-url", args: &[], rule: "password-in-url", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(3), effect: "without credentials" },
    Case { folder: "foreign-server", args: &[], rule: "foreign-server", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(1), effect: "another registry is asked" },
    Case { folder: "server-is-the-mirror", args: &[], rule: "no-fallback", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(1), effect: "nobody but the mirror is asked" },
    Case { folder: "fallback-in-a-closed-site", args: &["--no-fallback"], rule: "unwanted-fallback", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(1), effect: "out of the site" },
    Case { folder: "mirror-without-resolve", args: &[], rule: "no-resolve", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "asked of the upstream alone" },
    Case { folder: "mirror-without-pull", args: &[], rule: "no-pull", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(4), effect: "never pulls from it" },
    Case { folder: "upstream-before-mirror", args: &[], rule: "upstream-among-mirrors", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(1), effect: "only when it fails" },
    Case { folder: "no-mirror-at-all", args: &["--containerd-version", "2.0"], rule: "no-mirror", path: "etc/containerd/certs.d/gcr.io/hosts.toml", line: Some(1), effect: "every pull goes to the upstream" },
    Case { folder: "port-without-last-underscore", args: &[], rule: "wrong-directory-name", path: "etc/containerd/certs.d/registry.example_5000/hosts.toml", line: None, effect: "never looks into it" },
    Case { folder: "docker-by-its-address", args: &[], rule: "wrong-directory-name", path: "etc/containerd/certs.d/registry-1.docker.io/hosts.toml", line: None, effect: "never looks into it" },
    Case { folder: "star-directory", args: &[], rule: "wrong-directory-name", path: "etc/containerd/certs.d/*/hosts.toml", line: None, effect: "never looks into it" },
    Case { folder: "not-a-registry", args: &[], rule: "wrong-directory-name", path: "etc/containerd/certs.d/gcr/hosts.toml", line: None, effect: "never looks into it" },
    Case { folder: "two-directories-for-one", args: &[], rule: "shadowed-directory", path: "etc/containerd/certs.d/registry.example:5000/hosts.toml", line: None, effect: "never read" },
    Case { folder: "default-hidden-by-certificates", args: &[], rule: "default-shadowed", path: "etc/containerd/certs.d/_default/hosts.toml", line: None, effect: "images of quay.io are not asked of the mirror" },
    Case { folder: "default-beside-others", args: &[], rule: "default-catches-all", path: "etc/containerd/certs.d/_default/hosts.toml", line: None, effect: "asked of the mirror first" },
    Case { folder: "two-registries-one-place", args: &[], rule: "shared-place", path: "etc/containerd/certs.d/quay.io/hosts.toml", line: None, effect: "whichever was pushed last" },
    Case { folder: "default-with-a-server", args: &[], rule: "foreign-server", path: "etc/containerd/certs.d/_default/hosts.toml", line: Some(1), effect: "images of every other" },
    Case { folder: "both-styles", args: &[], rule: "both-styles", path: "etc/containerd/config.toml", line: Some(4), effect: "refuses both" },
    Case { folder: "tls-in-2.x", args: &[], rule: "tls-table-gone", path: "etc/containerd/config.toml", line: Some(4), effect: "not trusted" },
    Case { folder: "legacy-path-without-v2", args: &[], rule: "missing-v2", path: "etc/containerd/config.toml", line: Some(3), effect: "as it stands" },
    Case { folder: "legacy-config-with-scheme", args: &[], rule: "config-for-nobody", path: "etc/containerd/config.toml", line: Some(4), effect: "not used" },
    Case { folder: "legacy-password-for-everybody", args: &[], rule: "readable-credentials", path: "etc/containerd/config.toml", line: Some(4), effect: "can pull" },
    Case { folder: "legacy-ca-missing", args: &[], rule: "certificate-missing", path: "etc/containerd/config.toml", line: Some(5), effect: "pulls that would use this mirror fail" },
    Case { folder: "table-of-another-version", args: &[], rule: "wrong-plugin-table", path: "etc/containerd/config.toml", line: Some(1), effect: "does not read the table" },
    Case { folder: "config-path-to-nowhere", args: &[], rule: "config-path-missing", path: "etc/containerd/config.toml", line: Some(3), effect: "every pull goes to its upstream" },
    Case { folder: "config-path-misspelt", args: &[], rule: "config-path-missing", path: "etc/containerd/config.toml", line: Some(3), effect: "every pull goes to its upstream" },
    Case { folder: "config-path-elsewhere", args: &[], rule: "tree-not-read", path: "etc/containerd/config.toml", line: Some(3), effect: "its mirrors are not asked" },
    Case { folder: "config-without-config-path", args: &["--containerd-version", "2.1"], rule: "no-config-path", path: "etc/containerd/config.toml", line: None, effect: "containerd 2.1 reads no hosts.toml without it" },
    Case { folder: "tree-beside-mirrors", args: &[], rule: "tree-not-read", path: "etc/containerd/config.toml", line: Some(2), effect: "never reads the tree" },
    Case { folder: "star-beside-others", args: &[], rule: "default-shadowed", path: "etc/containerd/config.toml", line: Some(2), effect: "nothing is merged" },
    Case { folder: "legacy-config-on-another-port", args: &[], rule: "config-for-nobody", path: "etc/containerd/config.toml", line: Some(4), effect: "not used for that endpoint" },
    Case { folder: "crio-location-with-scheme", args: &[], rule: "scheme-in-location", path: "etc/containers/registries.conf.d/50-mirror.conf", line: Some(5), effect: "every pull fails" },
    Case { folder: "crio-location-with-v2", args: &[], rule: "double-v2", path: "etc/containers/registries.conf.d/50-mirror.conf", line: Some(5), effect: "begins with v2" },
    Case { folder: "crio-digests-alone", args: &[], rule: "digest-only", path: "etc/containers/registries.conf.d/50-mirror.conf", line: Some(4), effect: "not found where there is none" },
    Case { folder: "crio-two-forms", args: &[], rule: "both-styles", path: "etc/containers/registries.conf.d/50-mirror.conf", line: Some(1), effect: "every pull fails" },
    Case { folder: "crio-drop-in-name", args: &[], rule: "drop-in-name", path: "etc/containers/registries.conf.d/mirror.toml", line: None, effect: "passes it over" },
    Case { folder: "crio-insecure", args: &[], rule: "unverified-tls", path: "etc/containers/registries.conf.d/50-mirror.conf", line: Some(6), effect: "plain HTTP is good enough" },
    Case { folder: "k3s-rewrite-and-path", args: &[], rule: "rewrite-and-path", path: "etc/rancher/k3s/registries.yaml", line: Some(6), effect: "both are put in front" },
    Case { folder: "k3s-backslash-in-rewrite", args: &[], rule: "bad-rewrite", path: "etc/rancher/k3s/registries.yaml", line: Some(6), effect: "not on the mirror" },
    Case { folder: "k3s-rewrite-with-v2", args: &[], rule: "bad-rewrite", path: "etc/rancher/k3s/registries.yaml", line: Some(6), effect: "does not have" },
    Case { folder: "k3s-ca-missing", args: &[], rule: "certificate-missing", path: "etc/rancher/k3s/registries.yaml", line: Some(8), effect: "pulls that would use this mirror fail" },
    Case { folder: "k3s-config-with-scheme", args: &[], rule: "config-for-nobody", path: "etc/rancher/k3s/registries.yaml", line: Some(6), effect: "not used for any mirror" },
    Case { folder: "k3s-misspelt-key", args: &[], rule: "unknown-key", path: "etc/rancher/k3s/registries.yaml", line: Some(1), effect: "passed over" },
    Case { folder: "k3s-tab", args: &[], rule: "not-yaml", path: "etc/rancher/k3s/registries.yaml", line: Some(2), effect: "does not start" },
    Case { folder: "docker-mirror-with-namespace", args: &[], rule: "mirror-with-path", path: "etc/docker/daemon.json", line: Some(3), effect: "does not start again before 25.0 and 24.0.8" },
    Case { folder: "docker-mirror-without-scheme", args: &[], rule: "no-scheme", path: "etc/docker/daemon.json", line: Some(2), effect: "does not start" },
    Case { folder: "docker-comma-at-the-end", args: &[], rule: "not-json", path: "etc/docker/daemon.json", line: Some(3), effect: "does not start" },
    Case { folder: "docker-misspelt-key", args: &[], rule: "unknown-key", path: "etc/docker/daemon.json", line: Some(2), effect: "passes it over" },
];

/// A copy whose modes are those of a careless administrator. Names hold `%3A` and `%2A` where nodes have `:` and `*`.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap().replace("%3A", ":").replace("%2A", "*");
        let to = to.join(name);
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

/// The exit code, and what was found.
pub(crate) fn lint(folder: &Path, args: &[&str]) -> (i32, Vec<Value>) {
    let mut command = layercast();
    command.args(["mirror", "lint", "--json"]).args(args).arg(folder);
    let output = within(Duration::from_secs(60), command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (output.status.code().unwrap(), document["findings"].as_array().unwrap().clone())
}

#[test]
fn every_wrong_file_is_caught_for_the_right_reason() {
    let disk = folder();
    for case in CASES {
        let at = disk.path().join(case.folder);
        copy(&root().join("tests/lint").join(case.folder), &at);
        let (exit, found) = lint(&at, case.args);
        let hit = found.iter().find(|finding| {
            finding["rule"] == case.rule
                && finding["path"].as_str() == at.join(case.path).to_str()
                && finding["line"].as_u64() == case.line
        });
        let hit = hit.unwrap_or_else(|| panic!("{}: {} is not among {found:#?}", case.folder, case.rule));
        assert!(hit["effect"].as_str().unwrap().contains(case.effect), "{}: {hit:#}", case.folder);
        assert!(!hit["fix"].as_str().unwrap().is_empty());
        let is_error = found.iter().any(|finding| finding["severity"] == "error");
        assert_eq!(exit, if is_error { 3 } else { 0 }, "{}", case.folder);
    }
}

#[test]
fn every_case_has_its_folder_and_every_folder_its_case() {
    let folders: Vec<String> = std::fs::read_dir(root().join("tests/lint"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders.len(), CASES.len());
    assert!(CASES.iter().all(|case| folders.iter().any(|folder| folder == case.folder)));
}

/// A file with one mistake is told of that mistake: what else is found must follow from the same line's cause.
#[test]
fn one_mistake_is_told_once() {
    let disk = folder();
    let with_more = [
        "override-path-too-early",        // the path is completed, and the key is unknown
        "inline-host",                    // not seen, so there is no mirror
        "password-to-upstream",           // and everybody can read it
        "two-directories-for-one",        // and both name one place
        "default-hidden-by-certificates", // and _default is there
        "default-with-a-server",          // the same
        "both-styles",                    // and the folder is not
    ];
    for case in CASES.iter().filter(|case| !with_more.contains(&case.folder)) {
        let at = disk.path().join(case.folder);
        copy(&root().join("tests/lint").join(case.folder), &at);
        let (_, found) = lint(&at, case.args);
        assert_eq!(found.len(), 1, "{}: {found:#?}", case.folder);
    }
}

/// What people rightly write, mirrors or not.
#[rustfmt::skip]
const RIGHT: &[(&str, &str)] = &[
    // A private registry's own certificate, as containerd's documentation has it.
    ("certs.d/registry.example_5000_/hosts.toml", "server = \"https://registry.example:5000\"\n[host.\"https://registry.example:5000\"]\n  skip_verify = false\n"),
    ("certs.d/docker.io/hosts.toml", "server = \"https://registry-1.docker.io\"\n[host.\"https://mirror.example\"]\n  capabilities = [\"pull\", \"resolve\"]\n"),
    ("certs.d/quay.io/hosts.toml", "[host.\"https://harbor.example/v2/quay\"]\n  override_path = true\n[host.\"http://127.0.0.1:30020\"]\n"),
    ("rancher/registries.yaml", "mirrors:\n  docker.io:\n    endpoint: [\"https://mirror.example/v2/hub\"]\nconfigs:\n  registry.example:\n    auth: {}\n"),
    ("containers/registries.conf", "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"*.example.com\"\nlocation = \"mirror.example/x\"\n"),
    ("containers/registries.conf.d/README", "about this folder"),
    ("docker/daemon.json", "{\n\t\"registry-mirrors\": [\"https://mirror.example/\"],\n\t\"log-driver\": \"json-file\"\n}\n"),
];

#[test]
fn what_is_right_is_left_alone() {
    let disk = folder();
    for (path, text) in RIGHT {
        let path = disk.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(lint(disk.path(), &[]), (0, Vec::new()));
}

/// Rules and severities of what is found in a folder.
fn said(folder: &Path, args: &[&str]) -> (i32, Vec<String>) {
    let (exit, found) = lint(folder, args);
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let words = found.iter().map(|one| format!("{}: {}", word(one, "severity"), word(one, "rule")));
    (exit, words.collect())
}

#[test]
fn a_tree_that_containerd_is_not_told_of_is_an_error_where_that_is_certain() {
    let disk = folder();
    copy(&root().join("tests/lint/config-without-config-path"), disk.path());
    let config = disk.path().join("etc/containerd/config.toml");
    let [old, new] = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"]
        .map(|plugin| format!("[plugins.\"{plugin}\".registry]\n  config_path = "));
    let (warning, error) = ((0, vec!["warning: no-config-path"]), (3, vec!["error: no-config-path"]));
    let (none, list) = ((0, Vec::new()), (0, vec!["warning: config-path-list"]));
    let (too_new, is_list) = ((3, vec!["error: unsupported-version"]), (3, vec!["error: config-path-list"]));
    for (text, unknown, seven, two) in [
        ("version = 2\n".to_owned(), &error, &error, &error),
        (String::new(), &error, &error, &error),
        (format!("version = 2\n{old}\"\"\n"), &error, &error, &error),
        (
            "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n".to_owned(),
            &warning,
            &warning,
            &warning,
        ),
        (format!("version = 2\n{old}\"/etc/containerd/certs.d\"\n"), &none, &none, &none),
        (
            format!("version = 2\n{old}\"/etc/docker/certs.d:/etc/containerd/certs.d\"\n"),
            &none,
            &none,
            &is_list,
        ),
        (
            format!("version = 3\n{new}\"/etc/docker/certs.d:/etc/containerd/certs.d\"\n"),
            &list,
            &too_new,
            &is_list,
        ),
    ] {
        std::fs::write(&config, &text).unwrap();
        let versions: [(&[&str], _); 3] =
            [(&[], unknown), (&["--containerd-version=1.7"], seven), (&["--containerd-version=2.2"], two)];
        for (args, (exit, words)) in versions {
            let expected = (*exit, words.iter().map(ToString::to_string).collect());
            assert_eq!(said(disk.path(), args), expected, "{text} {args:?}");
        }
    }
    // The file alone: whoever lints it asks about mirrors.
    std::fs::write(&config, "version = 2\n").unwrap();
    std::fs::rename(disk.path().join("etc/containerd/certs.d"), disk.path().join("certs.d")).unwrap();
    assert_eq!(said(&config, &["--containerd-version=1.7"]), (0, vec!["note: no-config-path".to_owned()]));
    assert_eq!(said(&config, &["--containerd-version=2.2"]), (0, vec!["note: no-config-path".to_owned()]));
    // The tree alone, and a tree that has yet to go where the node's file says it is.
    assert_eq!(said(&disk.path().join("certs.d"), &["--containerd-version=1.7"]), (0, Vec::new()));
    let rendered = disk.path().join("rendered/etc/containerd");
    std::fs::create_dir_all(&rendered).unwrap();
    std::fs::rename(disk.path().join("certs.d"), rendered.join("certs.d")).unwrap();
    std::fs::write(&config, format!("version = 2\n{old}\"/etc/containerd/certs.d\"\n")).unwrap();
    assert_eq!(said(disk.path(), &["--containerd-version=1.7"]), (0, Vec::new()));
}

#[test]
fn a_config_path_to_another_place_than_the_trees_is_an_error_where_that_is_certain() {
    let disk = folder();
    for (case, expected) in [
        ("config-path-misspelt", (3, "error: config-path-missing")),
        ("config-path-elsewhere", (3, "error: tree-not-read")),
        // Perhaps only this file was copied.
        ("config-path-to-nowhere", (0, "warning: config-path-missing")),
        ("tree-beside-mirrors", (0, "warning: tree-not-read")),
    ] {
        let at = disk.path().join(case);
        copy(&root().join("tests/lint").join(case), &at);
        assert_eq!(said(&at, &[]), (expected.0, vec![expected.1.to_owned()]), "{case}");
    }
    let whole = disk.path().join("config-path-to-nowhere");
    let args = ["--root", whole.to_str().unwrap()];
    assert_eq!(said(&whole, &args), (3, vec!["error: config-path-missing".to_owned()]));
    // k3s has its own far below the root of the node, and names it by the whole path.
    let deep = disk.path().join("node/var/lib/rancher/k3s/agent/etc/containerd");
    copy(&root().join("tests/lint/config-path-misspelt/etc/containerd"), &deep);
    let text = std::fs::read_to_string(deep.join("config.toml")).unwrap();
    let path = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d";
    std::fs::write(deep.join("config.toml"), text.replace("/etc/containerd/cert.d", path)).unwrap();
    assert_eq!(said(&disk.path().join("node"), &[]), (0, Vec::new()));
}

#[test]
fn findings_are_told_with_place_effect_and_correction() {
    let disk = folder();
    copy(&root().join("tests/lint/namespace-without-override-path"), &disk.path().join("node"));
    let mut command = layercast();
    command.current_dir(disk.path()).args(["mirror", "lint", "node"]);
    let output = within(Duration::from_secs(60), command);
    assert_eq!(output.status.code(), Some(3));
    insta::assert_snapshot!("lint", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_is_no_configuration_is_not_passed_over_in_silence() {
    let disk = folder();
    std::fs::write(disk.path().join("notes.txt"), "hello").unwrap();
    for path in [disk.path().to_owned(), disk.path().join("notes.txt"), disk.path().join("missing")] {
        let mut command = layercast();
        command.args(["mirror", "lint"]).arg(&path);
        assert_eq!(within(Duration::from_secs(60), command).status.code(), Some(2), "{}", path.display());
    }
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn what_is_rendered_is_read_and_right_for_every_runtime() {
    let disk = folder();
    let credentials = disk.path().join("config.json");
    std::fs::write(&credentials, r#"{"auths":{"mirror.example:5000":{"auth":"cDpw"}}}"#).unwrap();
    let certificate = rcgen::generate_simple_self_signed(["mirror.example".to_owned()]).unwrap();
    std::fs::write(disk.path().join("ca.crt"), certificate.cert.pem()).unwrap();
    for runtime in [
        "containerd",
        "containerd-legacy",
        "crio",
        "podman",
        "docker",
        "k3s",
        "rke2",
        "talos",
        "talos-legacy",
        "kind",
        "openshift",
        "eks-anywhere",
        "image-pull-secret",
        "daemonset",
    ] {
        let root = disk.path().join(runtime);
        let docker = runtime == "docker";
        let endpoint =
            if docker { "https://mirror.example:5000" } else { "https://mirror.example:5000/v2/ns" };
        let mut command = layercast();
        command.current_dir(disk.path());
        command.args(["mirror", "render", "--runtime", runtime, "--endpoint", endpoint, "--ca", "ca.crt"]);
        command.args(["--host", if docker { "docker.io" } else { "quay.io" }, "--output"]).arg(&root);
        command.arg("--pull-credentials").arg(&credentials);
        let rendered = within(Duration::from_secs(60), command);
        assert!(rendered.status.success(), "{runtime}: {}", String::from_utf8_lossy(&rendered.stderr));
        assert_eq!(said(&root, &[]), (0, Vec::new()), "{runtime}");
    }
}

#[test]
fn mistakes_in_documents_of_clusters_are_found_where_they_stand() {
    let disk = folder();
    let talos = "apiVersion: v1alpha1\nkind: RegistryMirrorConfig\nname: quay.io\nendpoints:\n  - url: https://mirror.example/v2/ns\n  - url: mirror.example:5000\n";
    let patch = "machine:\n  registries:\n    mirrors:\n      registry-1.docker.io:\n        endpoints:\n          - https://mirror.example\n";
    let set = "apiVersion: config.openshift.io/v1\nkind: ImageTagMirrorSet\nspec:\n  imageTagMirrors:\n    - source: quay.io\n      mirrors:\n        - https://mirror.example/ns\n        - mirror.example/v2/ns\n";
    let eks =
        "kind: Cluster\nspec:\n  registryMirrorConfiguration:\n    endpoint: https://mirror.example:5000\n";
    let kind = "kind: Cluster\ncontainerdConfigPatches:\n  - |\n    [plugins\n";
    let secret = "kind: ConfigMap\ndata:\n  hosts.toml: |\n    server = \"https://quay.io\"\n    [host.\"https://mirror.example/v2/ns\"]\n";
    for (name, text, expected) in [
        ("talos.yaml", talos, vec![("missing-override-path", 5), ("no-scheme", 6)]),
        ("patch.yaml", patch, vec![("wrong-registry-name", 4)]),
        ("set.yaml", set, vec![("scheme-in-location", 7), ("double-v2", 8)]),
        ("eks.yaml", eks, vec![("not-a-host", 4)]),
        ("kind.yaml", kind, vec![("not-toml", 4)]),
        ("map.yaml", secret, vec![("missing-override-path", 3)]),
    ] {
        write(disk.path(), name, text);
        let (exit, found) = lint(&disk.path().join(name), &[]);
        let errors = found.iter().filter(|one| one["severity"] == "error");
        let told: Vec<(&str, u64)> =
            errors.map(|one| (one["rule"].as_str().unwrap(), one["line"].as_u64().unwrap())).collect();
        assert_eq!((exit, told), (3, expected), "{name}: {found:#?}");
    }
    write(disk.path(), "other/deployment.yaml", "kind: Deployment\n");
    let mut command = layercast();
    command.args(["mirror", "lint"]).arg(disk.path().join("other"));
    assert_eq!(within(Duration::from_secs(60), command).status.code(), Some(2), "it says nothing of mirrors");
}

#[test]
fn an_entry_that_a_drop_in_replaces_is_named() {
    let disk = folder();
    let entry = |mirror: &str| {
        format!(
            "[[registry]]\nprefix = \"quay.io\"\nlocation = \"quay.io\"\n[[registry.mirror]]\nlocation = \"{mirror}\"\n"
        )
    };
    write(disk.path(), "containers/registries.conf", &entry("one.example/quay"));
    write(disk.path(), "containers/registries.conf.d/10.conf", &entry("two.example/quay"));
    let (exit, found) = lint(disk.path(), &[]);
    assert_eq!((exit, found.len()), (0, 1), "{found:#?}");
    let [what, effect] = ["what", "effect"].map(|key| found[0][key].as_str().unwrap());
    assert_eq!(found[0]["rule"], "replaced-entry");
    assert!(found[0]["path"].as_str().unwrap().ends_with("registries.conf.d/10.conf"));
    assert!(
        what.contains("registries.conf (line 1)") && effect.ends_with(": one.example/quay"),
        "{what} {effect}"
    );
    // What has all of them again loses nothing.
    write(disk.path(), "containers/registries.conf.d/10.conf", &entry("one.example/quay"));
    assert_eq!(lint(disk.path(), &[]), (0, Vec::new()));
}

/// As `ValidateMirror`, `loadInsecureRegistries` and `getConflictFreeConfiguration` of moby have it.
#[test]
fn docker_takes_and_refuses_what_its_source_says() {
    let disk = folder();
    for (text, expected) in [
        ("", None),
        ("\u{feff}{}", None),
        (
            r#"{"registry-mirrors": null, "insecure-registries": ["10.0.0.0/8", "r:5000", "[::1]:5000", "fd00::/8"]}"#,
            None,
        ),
        (r#"{"insecure-registries": ["http://r:5000"]}"#, Some("warning: scheme-in-location")),
        (r#"{"insecure-registries": ["ftp://r:5000"]}"#, Some("error: scheme-in-location")),
        (r#"{"insecure-registries": ["r:5000/ns"]}"#, Some("error: not-a-host")),
        (r#"{"insecure-registries": ["-r"]}"#, Some("error: not-a-host")),
        (r#"{"registry-mirrors": "https://r"}"#, Some("error: wrong-type")),
        (r#"{"registry-mirrors": ["r:5000"]}"#, Some("error: no-scheme")),
        (r#"{"registry-mirrors": ["https://u:p@r"]}"#, Some("error: password-in-url")),
        (r#"{"registry-mirrors": ["https://r/ns/"]}"#, Some("error: mirror-with-path")),
        (r#"{"registry": {"registry-mirrors": ["https://r"]}}"#, Some("error: misplaced-key")),
    ] {
        write(disk.path(), "docker/daemon.json", text);
        let (_, found) = said(disk.path(), &[]);
        assert_eq!(found, Vec::from_iter(expected.map(str::to_owned)), "{text}");
    }
}

/// `hosts.toml` as k3s and RKE2 write it of a `registries.yaml`.
fn of_rancher(program: &str, upstream: &str, endpoints: &[&str], rewrite: bool) -> String {
    let mut text = format!("# File generated by {program}. DO NOT EDIT.\n\n\n");
    if upstream != "*" {
        let server = if upstream == "docker.io" { "registry-1.docker.io" } else { upstream };
        let _ = write!(
            text,
            "server = \"https://{server}/v2\"\ncapabilities = [\"pull\", \"resolve\", \"push\"]\n\n\n[host]\n"
        );
    }
    for endpoint in endpoints {
        let overrides = if endpoint.ends_with("/v2") { "" } else { "  override_path = true\n" };
        let _ = write!(text, "[host.\"{endpoint}\"]\n  capabilities = [\"pull\", \"resolve\"]\n{overrides}");
        if rewrite {
            let _ = write!(text, "  [host.\"{endpoint}\".rewrite]\n    \"^(.*)$\" = \"hub/$1\"\n");
        }
    }
    text
}

#[test]
fn what_distributions_write_themselves_is_left_alone() {
    let clean = |what: &str, files: &[(&str, String)]| {
        let disk = folder();
        for (path, text) in files {
            write(disk.path(), path, text);
        }
        let (_, found) = lint(disk.path(), &[]);
        let found: Vec<&Value> = found.iter().filter(|one| one["severity"] != "note").collect();
        assert!(found.is_empty(), "{what}: {found:#?}");
    };
    let endpoints = ["https://mirror.example:5000/v2", "https://other.example/v2/hub"];
    for program in ["k3s", "rke2"] {
        let root = format!("var/lib/rancher/{program}/agent/etc/containerd");
        let main = format!(
            "# File generated by {program}. DO NOT EDIT. Use config-v3.toml.tmpl instead.\nversion = 3\nimports = \
             [\"/{root}/config-v3.toml.d/*.toml\"]\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = \
             \"/{root}/certs.d\"\n"
        );
        for (upstream, directory) in [
            ("docker.io", "docker.io"),
            ("quay.io", "quay.io"),
            ("r.example:5000", "r.example_5000_"),
            ("*", "_default"),
        ] {
            for (count, rewrite) in [(1, false), (2, false), (1, true)] {
                let text = of_rancher(program, upstream, &endpoints[..count], rewrite);
                let tree = format!("{root}/certs.d/{directory}/hosts.toml");
                clean(
                    &format!("{program} {upstream} {count} {rewrite}"),
                    &[(&format!("{root}/config.toml"), main.clone()), (&tree, text)],
                );
            }
        }
    }
    let registries = "mirrors:\n  \"*\":\n  docker.io:\n    endpoint: [mirror.example:5000, https://other.example/v2]\n    rewrite:\n      \
                      \"^library/(.*)\": \"hub/library/$1\"\nconfigs:\n  \"*\":\n    tls: {insecure_skip_verify: false}\n  mirror.example:5000:\n    \
                      auth: {username: puller, password: secret}\n";
    for program in ["k3s", "rke2"] {
        clean(program, &[(&format!("etc/rancher/{program}/registries.yaml"), registries.to_owned())]);
    }
    let tree = |upstream: &str, server: &str, host: &str, rest: &str| {
        let text = format!(
            "server = \"{server}\"\n\n[host.\"{host}\"]\n  capabilities = [\"pull\", \"resolve\"]\n{rest}"
        );
        (format!("etc/containerd/certs.d/{upstream}/hosts.toml"), text)
    };
    let main = |version: u8, plugin: &str| {
        let text = format!(
            "version = {version}\n[plugins.\"{plugin}\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n"
        );
        ("etc/containerd/config.toml", text)
    };
    let (old, new) = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images");
    let (path, text) = tree("docker.io", "https://registry-1.docker.io", "https://mirror.example:5000", "");
    clean("kubespray", &[main(2, old), (&path, text.clone())]);
    clean("AKS", &[main(3, new), (&path, text)]);
    let spegel = "[host]\n\n[host.'http://127.0.0.1:30020']\ncapabilities = ['pull', 'resolve']\ndial_timeout = '200ms'\n";
    clean("spegel", &[main(2, old), ("etc/containerd/certs.d/_default/hosts.toml", spegel.to_owned())]);
    let (path, text) = tree("localhost:32000", "http://localhost:32000", "http://localhost:32000", "");
    clean("microk8s", &[(&path.replace("etc/containerd", "var/snap/microk8s/current/args"), text)]);
    clean("kind", &[
        ("kind.yaml", "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\ncontainerdConfigPatches:\n- |-\n  \
                       [plugins.\"io.containerd.grpc.v1.cri\".registry]\n    config_path = \"/etc/containerd/certs.d\"\n".to_owned()),
        ("etc/containerd/certs.d/localhost:5001/hosts.toml", "[host.\"http://kind-registry:5000\"]\n".to_owned()),
    ]);
    let openshift = "unqualified-search-registries = [\"registry.access.redhat.com\", \"docker.io\"]\nshort-name-mode = \"\"\n\n[[registry]]\n  \
                     prefix = \"\"\n  location = \"registry.redhat.io\"\n  blocked = true\n\n  [[registry.mirror]]\n    location = \
                     \"mirror.example:5000/redhat\"\n    pull-from-mirror = \"digest-only\"\n\n  [[registry.mirror]]\n    location = \
                     \"mirror.example:5000/redhat\"\n    pull-from-mirror = \"tag-only\"\n";
    clean("OpenShift", &[("etc/containers/registries.conf", openshift.to_owned())]);
}
