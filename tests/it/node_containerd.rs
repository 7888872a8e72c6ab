//! `mirror lint` of containerd's files as one set: the main file with what it imports, and the tree of `hosts.toml` beside it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use crate::node_lint::lint;
use crate::support::folder;

const MAIN: &str = "etc/containerd/config.toml";
const DROP_IN: &str = "etc/containerd/conf.d/50-own.toml";
const HOSTS: &str = "etc/containerd/certs.d/docker.io/hosts.toml";
const MIRROR: &str = "server = \"https://registry-1.docker.io\"\n[host.\"https://mirror.example:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n";
const IMPORTS: &str = "imports = [\"/etc/containerd/conf.d/*.toml\"]\n";
const OLD: &str =
    "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n";
const NEW: &str =
    "[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n";
const RUNTIME: &str =
    "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"nvidia\"\n";

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// `severity rule file` of each finding.
fn found(files: &[(&str, &str)], version: &str) -> Vec<String> {
    let disk = folder();
    write(disk.path(), files);
    let args: Vec<&str> = if version.is_empty() { vec![] } else { vec!["--containerd-version", version] };
    let (_, found) = lint(disk.path(), &args);
    let mut said: Vec<String> = found.iter().map(said).collect();
    said.sort();
    said
}

fn said(finding: &Value) -> String {
    let path = Path::new(finding["path"].as_str().unwrap()).file_name().unwrap().to_str().unwrap();
    format!("{} {} {path}", finding["severity"].as_str().unwrap(), finding["rule"].as_str().unwrap())
}

#[test]
fn the_set_is_read_as_each_version_reads_it() {
    let main = |text: &str| format!("version = 2\n{IMPORTS}{text}");
    let drop_in = |version: u8, text: &str| format!("version = {version}\n{text}");
    for (files, version, expected) in [
        // The drop-in of a runtime replaces the whole table in 1.x, and is added to it since 2.0.
        ([main(OLD), drop_in(2, RUNTIME)], "1.7", &["error replaced-table config.toml"][..]),
        ([main(OLD), drop_in(2, RUNTIME)], "2.0", &[]),
        // A drop-in of version 3 hides the tables of version 2, and stops 2.3.
        ([main(OLD), drop_in(3, "")], "2.1", &["error newer-import config.toml"]),
        ([main(OLD), drop_in(3, "")], "2.3", &["error newer-import 50-own.toml"]),
        // What the drop-in says is what counts.
        ([main(""), drop_in(2, OLD)], "1.7", &[]),
        ([main(""), drop_in(2, OLD)], "2.3", &[]),
        ([main(""), drop_in(3, NEW)], "2.1", &[]),
        (["version = 2\n".to_owned() + OLD, drop_in(2, OLD)], "1.7", &["warning not-imported 50-own.toml"]),
        (
            ["version = 2\nimports = [\"conf.d/60-gone.toml\"]\n".to_owned() + OLD, drop_in(2, "")],
            "1.7",
            &["error import-missing config.toml"],
        ),
    ] {
        let [main, drop_in] = &files;
        let files = [(MAIN, main.as_str()), (DROP_IN, drop_in.as_str()), (HOSTS, MIRROR)];
        assert_eq!(found(&files, version), expected, "{version}: {main}{drop_in}");
    }
}

#[test]
fn every_cause_is_told_once_and_none_in_its_place() {
    let tls = format!(
        "version = 2\n{OLD}[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"m\".tls]\ninsecure_skip_verify = true\n"
    );
    let list = format!("version = 3\n{}", NEW.replace("certs.d\"", "certs.d:/etc/docker/certs.d\""));
    let mirrors = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = [\"https://mirror.example\"]\n";
    let auths = format!(
        "{mirrors}[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.auths.\"https://mirror.example\"]\nauth = \"eA==\"\n"
    );
    let endpoints = mirrors.replace("endpoint", "endpoints");
    for (main, version, expected) in [
        (tls.as_str(), "1.7", &["error both-styles config.toml"][..]),
        (&list, "2.1.5", &["error config-path-list config.toml"]),
        (&list, "2.0", &[]),
        (&format!("version = 3\n{OLD}"), "2.1", &["error wrong-plugin-table config.toml"]),
        (&format!("version = 2\n{NEW}"), "2.1", &[]),
        (&format!("version = 2\n{NEW}"), "1.7", &["error wrong-plugin-table config.toml"]),
        (
            &format!("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n{OLD}"),
            "1.7",
            &["warning cri-disabled config.toml"],
        ),
    ] {
        assert_eq!(found(&[(MAIN, main), (HOSTS, MIRROR)], version), expected, "{version}: {main}");
    }
    for (main, version, expected) in [
        (mirrors, "2.2.0", &["error mirrors-in-2.2 config.toml"][..]),
        (mirrors, "2.2", &[]),
        (mirrors, "", &[]),
        (&auths, "1.7", &["error misplaced-key config.toml"]),
        (&endpoints, "1.7", &["error unknown-key config.toml"]),
        (
            &mirrors.replace("[\"https://mirror.example\"]", "\"https://mirror.example\""),
            "1.7",
            &["error wrong-type config.toml"],
        ),
    ] {
        assert_eq!(found(&[(MAIN, main)], version), expected, "{version}: {main}");
    }
}

#[test]
fn files_of_a_tree_lie_where_containerd_looks_and_say_what_it_reads() {
    let registry = "etc/containerd/certs.d/docker.io";
    let below = "[host.\"https://mirror.example\"]\ncapabilities = [\"pull\", \"resolve\"]\nserver = \"https://registry-1.docker.io\"\n";
    let header = "server = \"https://registry-1.docker.io\"\n[host.\"https://mirror.example\"]\n[host.\"https://mirror.example\".header]\nx-a = \"b\"\nskip_verify = true\n";
    let ca =
        "server = \"https://registry-1.docker.io\"\nskip_verify = true\n[host.\"https://mirror.example\"]\n";
    let two_faults = "[host.\"https://mirror.example\"]\ncapabilities = [\"pul\"]\nskip_verify = \"no\"\n";
    for (path, text, expected) in [
        (format!("{registry}/host.toml"), MIRROR, &["error misnamed-file host.toml"][..]),
        (format!("{registry}/hosts.conf"), MIRROR, &["error misnamed-file hosts.conf"]),
        ("etc/containerd/certs.d/hosts.toml".to_owned(), MIRROR, &["error misplaced-file hosts.toml"]),
        (format!("{registry}/library/hosts.toml"), MIRROR, &["error misplaced-file hosts.toml"]),
        (HOSTS.to_owned(), below, &["error misplaced-key hosts.toml"]),
        (HOSTS.to_owned(), header, &["error misplaced-key hosts.toml"]),
        (HOSTS.to_owned(), ca, &["warning misplaced-key hosts.toml", "warning unverified-tls hosts.toml"]),
        (
            HOSTS.to_owned(),
            &MIRROR.replace("registry-1.docker.io", "docker.io"),
            &["error not-a-registry hosts.toml"],
        ),
        (
            HOSTS.to_owned(),
            &MIRROR.replace("https://registry-1", "https://docker.i://registry-1"),
            &["error bad-address hosts.toml"],
        ),
        (
            HOSTS.to_owned(),
            &MIRROR.replace("mirror.example:5000", "a.example,https://b.example"),
            &["error bad-address hosts.toml"],
        ),
        (
            HOSTS.to_owned(),
            &MIRROR.replace("[host", "[hosts"),
            &["error unknown-key hosts.toml", "warning no-mirror hosts.toml"],
        ),
        (
            HOSTS.to_owned(),
            two_faults,
            &["error ignored-file hosts.toml", "error unknown-capability hosts.toml"],
        ),
        // Nexus and Artifactory have their API below a path.
        (HOSTS.to_owned(), &MIRROR.replace(":5000", "/repository/hub"), &[]),
        (HOSTS.to_owned(), &MIRROR.replace(":5000", "/hub"), &["warning missing-override-path hosts.toml"]),
        (
            "etc/containerd/certs.d/_default/hosts.toml".to_owned(),
            &MIRROR.replace("https://registry-1.docker.io", "*"),
            &["error bad-address hosts.toml", "warning default-catches-all hosts.toml"],
        ),
        ("etc/containerd/certs.d/docker.io/hosts.toml.bak".to_owned(), "nothing", &[]),
    ] {
        let keep = ("etc/containerd/certs.d/quay.io/hosts.toml", "[host.\"https://quay-mirror.example\"]\n");
        assert_eq!(found(&[(&path, text), keep], "2.1"), expected, "{path}: {text}");
    }
    // What k3s writes, which its own containerd knows.
    let rewrite = format!(
        "# File generated by k3s. DO NOT EDIT.\n{MIRROR}[host.\"https://mirror.example:5000\".rewrite]\n\"^(.*)$\" = \"hub/$1\"\n"
    );
    assert_eq!(found(&[(HOSTS, &rewrite)], "2.1"), [""; 0]);
}

#[test]
fn client_certificates_are_pairs_as_containerd_takes_them() {
    let key = KeyPair::generate().unwrap();
    let pem = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    let secret = key.serialize_pem();
    let both = format!("{pem}{secret}");
    let folder = "etc/containerd/certs.d/docker.io";
    for (client, expected) in [
        ("[[\"c.cert\", \"c.key\"]]", &[][..]),
        ("\"both.pem\"", &[]),
        ("[\"both.pem\", \"both.pem\"]", &[]),
        ("[[\"c.key\", \"c.cert\"]]", &["error certificate-unusable hosts.toml"]),
        ("[\"c.cert\", \"c.key\"]", &["error client-flat-list hosts.toml"]),
        ("\"c.cert\"", &["error certificate-unusable hosts.toml"]),
        ("[[\"c.cert\", \"gone.key\"]]", &["error certificate-missing hosts.toml"]),
    ] {
        let text = format!("{MIRROR}  client = {client}\n");
        let (cert, key, pair) =
            (format!("{folder}/c.cert"), format!("{folder}/c.key"), format!("{folder}/both.pem"));
        let files = [(HOSTS, text.as_str()), (&cert, &pem), (&key, &secret), (&pair, &both)];
        assert_eq!(found(&files, "1.7"), expected, "{client}");
    }
    // Without a hosts.toml, names decide; a key is no authority.
    let root = "etc/containerd/certs.d/r.example";
    let (ca, own) = (format!("{root}/ca.crt"), "etc/containerd/certs.d/mirror.example:5000/ca.crt");
    assert_eq!(found(&[(HOSTS, MIRROR), (&ca, &secret)], "1.7"), ["error certificate-unusable ca.crt"]);
    assert_eq!(found(&[(HOSTS, MIRROR), (own, &pem)], "1.7"), ["warning ca-elsewhere hosts.toml"]);
}
