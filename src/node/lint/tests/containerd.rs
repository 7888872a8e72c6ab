//! containerd's main file. What stops it was tried with containerd 1.6.20; what 2.x does follows its source.

use super::memory::{found, version};
use crate::node::lint::FileKind::{ConfigToml, HostsToml};
use crate::node::lint::LintOptions;

const MAIN: &str = "/etc/containerd/config.toml";
const TREE: &str = "/etc/containerd/certs.d/docker.io/hosts.toml";
const HOSTS: &str = "server = \"https://registry-1.docker.io\"\n[host.\"https://m.example\"]\ncapabilities = [\"pull\", \"resolve\"]\n";
const CRI: &str =
    "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n";

fn errors(text: &str, options: &LintOptions, with_tree: bool) -> Vec<(String, String)> {
    let mut files = vec![(MAIN, ConfigToml, text)];
    if with_tree {
        files.push((TREE, HostsToml, HOSTS));
    }
    let mut found = found(&files, options);
    found.retain(|(short, _)| !short.starts_with("note"));
    found
}

/// With and without a tree, and without a version: each is one error.
#[test]
fn registries_that_no_version_reads_are_told_of_where_they_stand() {
    let path = "config_path = \"/etc/containerd/certs.d\"\n";
    for (text, line, fix) in [
        (
            format!("version = 2\n[plugins.\"io.containerd.grpc.v1.cri.registry\"]\n{path}"),
            2,
            "cri\".registry",
        ),
        (
            format!("version = 2\n[plugins.io.containerd.grpc.v1.cri.registry]\n{path}"),
            2,
            "[plugins.\"io.containerd.grpc.v1.cri\".registry]",
        ),
        (format!("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n{path}"), 3, "registry]"),
        (
            format!("version = 3\n[plugins.\"io.containerd.cri.v1.runtime\".registry]\n{path}"),
            2,
            "io.containerd.cri.v1.images",
        ),
        (
            format!("version = 3\n[plugins.\"io.containerd.cri.v1.image\".registry]\n{path}"),
            2,
            "io.containerd.cri.v1.images",
        ),
        (format!("version = 2\n[plugin.\"io.containerd.grpc.v1.cri\".registry]\n{path}"), 2, "[plugins.…]"),
        (format!("version = 2\n[registry]\n{path}"), 2, "plugins.\"io.containerd.grpc.v1.cri\".registry"),
        (format!("version = 2\n{path}"), 2, "registry]"),
    ] {
        for with_tree in [false, true] {
            let found = errors(&text, &LintOptions::default(), with_tree);
            let shorts: Vec<&str> = found.iter().map(|(short, _)| short.as_str()).collect();
            assert_eq!(shorts, [format!("error wrong-plugin-table {line}")], "{text}");
            assert!(found[0].1.contains(fix), "{text}: {}", found[0].1);
        }
    }
    // Other plugins have a config_path, or registries, of their own.
    let others = format!(
        "version = 3\n[plugins.\"io.containerd.transfer.v1.local\"]\n{path}[plugins.\"io.containerd.snapshotter.v1.stargz\".registry]\n{path}"
    );
    assert_eq!(errors(&others, &LintOptions::default(), false), []);
}

#[test]
fn what_every_version_refuses_is_an_error_also_where_each_does_for_its_own_reason() {
    let tls = format!(
        "version = 2\n{CRI}[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"m\".tls]\ninsecure_skip_verify = true\n"
    );
    let found = errors(&tls, &LintOptions::default(), true);
    let shorts: Vec<&str> = found.iter().map(|(short, _)| short.as_str()).collect();
    assert_eq!(shorts, ["error both-styles 4", "error tls-table-gone 4"]);
    assert!(
        found[0].1.contains("with containerd 1.6 and 1.7: ")
            && found[1].1.contains("with containerd 2.0 and later: "),
        "{found:?}"
    );
    // 2.3 alone reads it.
    let found = errors(CRI, &LintOptions::default(), true);
    assert!(
        found[0].0 == "error wrong-plugin-table 1" && found[0].1.contains("with containerd 1.6 to 2.2: "),
        "{found:?}"
    );
    assert_eq!(errors(CRI, &version("2.3"), true), []);
    // What 1.x reads rightly is not said to be wrong.
    let mirrors =
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"m\".tls]\nca_file = \"\"\n";
    assert_eq!(errors(mirrors, &LintOptions::default(), false), []);
}

#[test]
fn values_of_another_type_and_names_that_are_not_whole_stop_containerd() {
    for (text, expected) in [
        (format!("version = \"2\"\n{CRI}"), "error wrong-type 1"),
        (format!("version = 2\nimports = \"/x.toml\"\n{CRI}"), "error wrong-type 2"),
        (format!("version = 2\noom_score = \"1\"\n{CRI}"), "error wrong-type 2"),
        (format!("version = 2\ndisabled_plugins = [\"cri\"]\n{CRI}"), "error wrong-plugin-name 2"),
        (format!("version = 2\nrequired_plugins = [\"cri\"]\n{CRI}"), "error wrong-plugin-name 2"),
        (format!("version = 2\n{CRI}headers = {{ x = \"y\" }}\n"), "error wrong-type 4"),
        (
            format!(
                "version = 2\n{CRI}[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.m.auth]\nusername = 3\n"
            ),
            "error wrong-type 5",
        ),
    ] {
        for options in [LintOptions::default(), version("1.7"), version("2.1")] {
            let found = errors(&text, &options, true);
            let shorts: Vec<&str> = found.iter().map(|(short, _)| short.as_str()).collect();
            assert_eq!(shorts, [expected], "{text}");
        }
    }
}

/// Docker's package switches CRI off: a tree is for nobody then, and a config_path would not change that.
#[test]
fn a_plugin_that_is_switched_off_is_named_as_the_cause() {
    let docker = "disabled_plugins = [\"cri\"]\n";
    assert_eq!(errors(docker, &LintOptions::default(), false), []);
    for options in [LintOptions::default(), version("1.7"), version("2.1")] {
        let found = errors(docker, &options, true);
        assert!(found.len() == 1 && found[0].0 == "error cri-disabled 1", "{found:?}");
        assert!(found[0].1.contains("take the name out of disabled_plugins"), "{found:?}");
    }
}

/// `addDefaultScheme`: endpoints are completed since 1.5 at the latest.
#[test]
fn endpoints_are_completed_and_those_that_lead_nowhere_are_named() {
    let main = |name: &str, endpoint: &str| {
        format!(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"{name}\"]\nendpoint = [\"{endpoint}\"]\n"
        )
    };
    for (name, endpoint, expected) in [
        ("docker.io", "m.example:5000", None),
        ("docker.io", "192.168.1.5:5000", None),
        ("r.example:5000", "https://m.example", None),
        ("*", "https://m.example", None),
        ("docker.io", "ftp://m.example", Some("error bad-address 3")),
        ("docker.io", "https://m.example:port", Some("error bad-address 3")),
        ("docker.io", "https://m.example,https://n.example", Some("error bad-address 3")),
        ("docker.io/library", "https://m.example", Some("error wrong-registry-name 2")),
        ("registry", "https://registry:5000", Some("error wrong-registry-name 2")),
        ("*.corp.example", "https://m.example", Some("error wrong-registry-name 2")),
        ("", "https://m.example", Some("error wrong-registry-name 2")),
    ] {
        let found = errors(&main(name, endpoint), &version("1.7"), false);
        let shorts: Vec<&str> = found.iter().map(|(short, _)| short.as_str()).collect();
        assert_eq!(shorts, Vec::from_iter(expected), "{name} {endpoint}");
    }
    let found = errors(&main("registry", "http://127.0.0.1:5000"), &version("1.7"), false);
    assert!(found[0].1.contains("docker.io/registry/a"), "{found:?}");
}

#[test]
fn a_config_path_that_names_the_folder_of_one_registry_is_the_cause() {
    let main = format!("version = 2\n{}", CRI.replace("certs.d", "certs.d/docker.io"));
    let found = errors(&main, &LintOptions::default(), true);
    assert!(found.len() == 1 && found[0].0 == "error tree-not-read 3", "{found:?}");
    assert!(found[0].1.contains("config_path = \"/etc/containerd/certs.d\""), "{found:?}");
}
