//! registries.yaml, by the types of wharfie and what k3s makes of them.

use super::memory::{found, rules};
use crate::node::lint::FileKind::RegistriesYaml;
use crate::node::lint::LintOptions;

const PATH: &str = "/etc/rancher/k3s/registries.yaml";
const MIRROR: &str = "mirrors:\n  docker.io:\n    endpoint: [\"https://m.example:5000\"]\n";

#[test]
fn every_leaf_has_its_type() {
    for (text, expected) in [
        (
            format!("{MIRROR}configs:\n  m.example:5000:\n    tls: {{insecure_skip_verify: \"true\"}}\n"),
            &["error wrong-type 6"][..],
        ),
        (format!("{MIRROR}configs:\n  m.example:5000:\n    auth: dXNlcg==\n"), &["error wrong-type 6"]),
        (
            format!("{MIRROR}configs:\n  m.example:5000:\n    auth: {{username: [a]}}\n"),
            &["error wrong-type 6"],
        ),
        (format!("{MIRROR}    rewrite:\n    - \"^a\": b\n"), &["error wrong-type 4"]),
        ("mirrors:\n  docker.io:\n    endpoint: [{url: x}]\n".to_owned(), &["error wrong-type 3"]),
        // yaml.v2 takes the words of YAML 1.1 for truths, and numbers for texts.
        (
            format!(
                "{MIRROR}configs:\n  m.example:5000:\n    auth: {{username: u, password: 123}}\n    tls: {{insecure_skip_verify: no}}\n"
            ),
            &[],
        ),
        (
            "mirrors:\n  docker.io: &m\n    endpoint: [\"https://m.example\"]\n  quay.io:\n    <<: *m\n"
                .to_owned(),
            &[],
        ),
        (
            format!("{MIRROR}configs:\n  m.example:5000:\n    auth: {{identitytoken: x}}\n"),
            &["error unknown-key 6"],
        ),
        (
            format!("{MIRROR}configs:\n  m.example:5000:\n    tls: {{cert_file: c.crt}}\n"),
            &["error client-without-key 6"],
        ),
        (format!("{MIRROR}mirrors:\n  quay.io:\n"), &["warning key-twice 4"]),
        (
            format!("{MIRROR}---\nconfigs:\n  m.example:5000:\n    auth: {{username: u}}\n"),
            &["error second-document 5"],
        ),
    ] {
        assert_eq!(rules(PATH, RegistriesYaml, &text), expected, "{text}");
    }
}

#[test]
fn names_are_those_that_are_looked_up() {
    let config = |name: &str| format!("{MIRROR}configs:\n  {name}:\n    auth: {{username: u}}\n");
    let both = format!("{}  m.example:5000:\n    auth: {{username: u}}\n", config("m.example"));
    for (text, expected) in [
        (config("m.example:5000"), &[][..]),
        (config("m.example"), &["error config-for-nobody 5"]),
        // Settings for images of that registry itself, beside those of the mirror.
        (both, &["warning config-for-nobody 5"]),
        (config("m:5000"), &["warning config-for-nobody 5"]),
        (config("n.example"), &[]),
        (MIRROR.replace("docker.io", "\"*.corp.example\""), &["error wrong-registry-name 2"]),
        (MIRROR.replace("docker.io", "\"\""), &["error wrong-registry-name 2"]),
        (MIRROR.replace("docker.io", "docker.io/rancher"), &["error wrong-registry-name 2"]),
        (MIRROR.replace("docker.io", "\"[fd00::5]:5000\""), &[]),
        (MIRROR.replace("docker.io", "\"*\""), &[]),
        (MIRROR.replace(":5000", ":port"), &["error bad-address 3"]),
    ] {
        assert_eq!(rules(PATH, RegistriesYaml, &text), expected, "{text}");
    }
    assert_eq!(rules("/etc/rancher/k3s/registries.yml", RegistriesYaml, MIRROR), ["error misnamed-file"]);
    assert_eq!(rules("/etc/rancher/registries.yaml", RegistriesYaml, MIRROR), ["error misplaced-file"]);
    assert_eq!(rules("/srv/registries.yaml", RegistriesYaml, MIRROR), [""; 0]);
    let closed = LintOptions { no_fallback: true, ..LintOptions::default() };
    let said = found(&[(PATH, RegistriesYaml, MIRROR)], &closed);
    assert!(said.len() == 1 && said[0].1.contains("disable-default-registry-endpoint"), "{said:?}");
}

#[test]
fn a_rewrite_names_groups_that_its_pattern_has() {
    let rewrite = |endpoint: &str, pattern: &str, text: &str| {
        format!(
            "mirrors:\n  docker.io:\n    endpoint: [\"{endpoint}\"]\n    rewrite:\n      '{pattern}': '{text}'\n"
        )
    };
    let (bare, path) = ("https://m.example", "https://m.example/v2/local");
    for (text, expected) in [
        (rewrite(bare, "^rancher/(.*)", "x/$1"), &[][..]),
        (rewrite(bare, "^rancher/(.*)", "x/${1}y"), &[]),
        (rewrite(bare, "(?P<all>.*)", "x/$all"), &[]),
        (rewrite(bare, "rancher", "x/$1"), &["error bad-rewrite 5"]),
        (rewrite(bare, "^rancher/(.*)", "x/$1y"), &["error bad-rewrite 5"]),
        // A namespace in the endpoint and one in the rewrite both count, as people mean them to.
        (rewrite(path, "^rancher/(.*)", "rancher-mirror/$1"), &[]),
        (rewrite(path, "^rancher/(.*)", "local/$1"), &["warning rewrite-and-path 5"]),
    ] {
        assert_eq!(rules(PATH, RegistriesYaml, &text), expected, "{text}");
    }
}
