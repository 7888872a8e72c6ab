//! hosts.toml and the trees that it lies in.

use super::memory::{CERTIFICATE, found, rules, version};
use crate::node::lint::FileKind::{HostsToml, Stray};
use crate::node::lint::LintOptions;

const TREE: &str = "/etc/containerd/certs.d";

fn hosts(directory: &str, text: &str) -> Vec<String> {
    rules(&format!("{TREE}/{directory}/hosts.toml"), HostsToml, text)
}

#[test]
fn urls_are_those_that_containerd_asks() {
    let host = |url: &str, rest: &str| {
        format!(
            "server = \"https://registry-1.docker.io\"\n[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n{rest}"
        )
    };
    let verbatim = "override_path = true\n";
    for (text, expected) in [
        (host("m.example:5000", ""), &[][..]),
        (host("ftp://m.example", ""), &["error bad-address 2"]),
        (host("HTTPS://m.example", ""), &["error bad-address 2"]),
        (host("https://m.example?ns=docker.io", ""), &["warning query-in-url 2"]),
        (host("https://m.example/v2/hub/manifests", verbatim), &["error not-the-api 2"]),
        // Every fault of a file that does not count, and none that only follows from another.
        (
            host(
                "https://m.example/v2/hub",
                "override_path = \"true\"\nca = \"/etc/containerd/certs.d/gone.crt\"\n",
            ),
            &["error ignored-file 4", "error certificate-missing 5"],
        ),
    ] {
        assert_eq!(hosts("docker.io", &text), expected, "{text}");
    }
    let path = format!("{TREE}/docker.io/hosts.toml");
    let v1 = found(&[(&path, HostsToml, &host("https://m.example/v1", verbatim))], &LintOptions::default());
    assert!(v1.len() == 1 && v1[0].1.contains("write https://m.example/v2 with"), "{v1:?}");
}

/// A copy of a node's configuration need not bring all of its certificates along.
#[test]
fn a_certificate_elsewhere_on_the_node_is_not_said_to_be_missing() {
    let host =
        |ca: &str| format!("server = \"https://quay.io\"\n[host.\"https://m.example\"]\nca = \"{ca}\"\n");
    for (ca, expected) in [
        ("/var/lib/rancher/k3s/agent/server-ca.crt", "warning certificate-missing 3"),
        ("/etc/containerd/certs.d/quay.io/ca.crt", "error certificate-missing 3"),
        ("ca.crt", "error certificate-missing 3"),
    ] {
        assert_eq!(hosts("quay.io", &host(ca)), [expected], "{ca}");
    }
}

#[test]
fn folders_of_a_tree_are_registries_or_put_aside() {
    let mirror = "[host.\"https://m.example\"]\n";
    for directory in ["_backup/docker.io", "docker.io/..2024_05_01"] {
        let path = format!("{TREE}/{directory}/hosts.toml");
        let keep = format!("{TREE}/docker.io/hosts.toml");
        let files = [(path.as_str(), HostsToml, mirror), (&keep, HostsToml, mirror)];
        assert_eq!(found(&files, &LintOptions::default()), [], "{directory}");
    }
    for directory in ["*.corp.example", "docker.io:443", "docker.io_443_", "https:__r.example"] {
        assert_eq!(
            hosts(directory, &format!("server = \"https://r.example\"\n{mirror}")),
            ["error wrong-directory-name"],
            "{directory}"
        );
    }
    let default = format!("{TREE}/_default/hosts.toml");
    for (text, expected) in
        [("1.6.17", Some("error file-too-new")), ("1.6.18", None), ("1.4", Some("error file-too-new"))]
    {
        let said = found(&[(&default, HostsToml, mirror)], &version(text));
        let errors: Vec<&str> =
            said.iter().map(|(short, _)| short.as_str()).filter(|short| short.starts_with("error")).collect();
        assert_eq!(errors, Vec::from_iter(expected), "{text}");
    }
}

#[test]
fn an_authority_beside_no_file_has_a_name_that_is_read() {
    for (name, expected) in [("ca.pem", &["error misnamed-file"][..]), ("ca.crt", &[])] {
        let path = format!("{TREE}/r.example:5000/{name}");
        assert_eq!(rules(&path, Stray, CERTIFICATE), expected, "{name}");
    }
}
