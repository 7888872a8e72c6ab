use super::*;

const SAMPLE: &str = include_str!("../../../tests/cluster/admin1.yaml");
const DAMAGED: &str = include_str!("../../../tests/cluster/admin1-damaged.yaml");

fn findings(text: &str) -> Vec<Finding> {
    parse(Path::new("x.yaml"), text, &FileRequirements::default()).findings
}

/// The one finding of a text, as its line, message and fix.
#[track_caller]
fn one(text: &str) -> (usize, String, String) {
    let mut found = findings(text);
    assert_eq!(found.len(), 1, "{text}\n{found:#?}");
    let found = found.remove(0);
    (found.line.unwrap(), found.what, found.fix)
}

fn has_errors(reading: &ParsedClusterFile) -> bool {
    reading.findings.iter().any(|finding| finding.severity == Severity::Error)
}

#[test]
fn the_vendors_sample_passes_as_it_stands() {
    let reading = parse(
        Path::new("x.yaml"),
        SAMPLE,
        &FileRequirements { fallback: true, ..FileRequirements::default() },
    );
    assert_eq!(reading.findings, []);
    let cluster = reading.mirrors.unwrap();
    assert_eq!((cluster.name.as_str(), cluster.namespace.as_str()), ("admin1", "cluster-admin1"));
    let mirror = &cluster.mirrors[0];
    assert_eq!(mirror.target.to_string(), "172.18.0.20:5000");
    let named = |file: &Option<NamedFile>| file.as_ref().map(|it| (it.path.clone(), it.at.line)).unwrap();
    let at = |key: &str| SAMPLE.lines().position(|line| line.contains(key)).unwrap() + 1;
    assert_eq!(named(&mirror.ca_cert_path), ("/root/ca.crt".into(), at("caCertPath")));
    let config = ("/root/.docker/config.json".into(), at("pullCredentialConfigPath"));
    assert_eq!(named(&mirror.pull_credential_config_path), config);
    assert_eq!(mirror.upstreams(), ["gcr.io"]);
    assert_eq!(mirror.at.line, 6);
}

#[test]
fn lost_indentation_is_told_line_by_line() {
    let reading = parse(Path::new("x.yaml"), DAMAGED, &FileRequirements::default());
    assert!(has_errors(&reading) && reading.mirrors.is_none());
    let lost: Vec<usize> = reading
        .findings
        .iter()
        .filter(|found| found.what.contains("indentation"))
        .filter_map(|found| found.line)
        .collect();
    assert_eq!(lost, [7, 8, 13, 18, 19, 21, 22]);
    let runtime = reading.findings.iter().find(|found| found.line == Some(22)).unwrap();
    assert!(runtime.fix.contains("spec.nodeConfig"), "{runtime:?}");
}

#[test]
fn every_mistake_is_found_where_it_is_with_its_correction() {
    for (from, to, line, what, fix) in [
        ("caCertPath:", "caCertpath:", 7, "no key of registryMirrors", "caCertPath: …"),
        ("sshPrivateKeyPath:", "sshPrivatKeyPath:", 4, "no key of the header", "sshPrivateKeyPath: …"),
        ("sshPrivateKeyPath:", "wholly: x\nsshPrivateKeyPath:", 4, "no key of the header", "remove it"),
        ("/root/ca.crt", "./certs/ca.crt", 7, "not an absolute path", "caCertPath: /FOLDER/certs/ca.crt"),
        ("/root/ca.crt", "~/ca.crt", 7, "shell", "absolute path"),
        ("/root/ca.crt", "$HOME/ca.crt", 7, "shell", "absolute path"),
        ("/root/ca.crt", "false", 7, "caCertPath is not text", "leave it blank"),
        (
            "20:5000",
            "20:5000/test-namespace",
            6,
            "/v2 is missing",
            "https://172.18.0.20:5000/v2/test-namespace",
        ),
        ("https://172.18.0.20:5000", "", 6, "without an endpoint", "endpoint: https://"),
        ("Runtime: containerd", "Runtime: docker", 22, "need containerd", "containerRuntime: containerd"),
        (
            "    containerRuntime: containerd",
            "  anthosBareMetalVersion: 1.8.0",
            15,
            "before 1.9",
            "containerd",
        ),
        (
            "name: cluster-admin1\n---",
            "name: cluster-other\n---",
            13,
            "cluster-other",
            "name: cluster-admin1",
        ),
        ("name: admin1", "name: Admin_1", 17, "no name", "lower case"),
        ("  namespace: cluster-admin1\n", "", 17, "no namespace", "namespace:"),
        ("kind: Namespace", "king: Namespace", 10, "without a kind", "kind:"),
        ("kind: Cluster", "kind: Cluter", 15, "no object of kind Cluster", "bmctl"),
        ("/root/ca.crt", "/root/ca.crt\n  caCertPath: /b", 8, "second time", "remove"),
        ("/root/ca.crt", "/root/ca.crt\n  hosts: [https://quay.io]", 8, "not a domain name", "- quay.io"),
        ("/root/ca.crt", "/root/ca.crt\n  hosts: [quay.io, quay.io]", 8, "listed twice", "remove"),
        ("/root/ca.crt", "/root/ca.crt\n- endpoint: https://172.18.0.20:5000/v2", 8, "given twice", "join"),
        ("spec:\n", "spec:\n  registryMirrors: []\n", 21, "read by nobody", "first document"),
        (
            "  nodeConfig:\n",
            "  nodeConfig:\n    registryMirrors: []\n",
            22,
            "disagree",
            "first document only",
        ),
        ("\n  caCertPath", "\n\tcaCertPath", 6, "not YAML", "indentation"),
    ] {
        assert!(SAMPLE.contains(from), "{from}");
        let text = SAMPLE.replacen(from, to, 1);
        // A second finding may follow from the first; the one that is looked for has to be there.
        let found = findings(&text);
        let hit = found.iter().any(|f| f.line == Some(line) && f.what.contains(what) && f.fix.contains(fix));
        assert!(hit, "{to}: wanted line {line}: {what}: {fix}\n{found:#?}");
    }
}

#[test]
fn blank_fields_are_none_and_other_documents_are_nobodys_business() {
    let text = SAMPLE
        .replace("Path: /root/ca.crt", "Path:")
        .replace("/root/.docker/config.json", "\"\"")
        .replace("\n...", "\n---\napiVersion: baremetal.cluster.gke.io/v1\nkind: NodePool\nspec: {a: ~}");
    let reading = parse(Path::new("x.yaml"), &text, &FileRequirements::default());
    assert_eq!(reading.findings, []);
    let mirror = &reading.mirrors.unwrap().mirrors[0];
    assert_eq!((&mirror.ca_cert_path, &mirror.pull_credential_config_path), (&None, &None));
}

#[test]
fn fall_back_needs_a_key_only_where_it_is_wanted() {
    let text = SAMPLE.replace(
        "gcrKeyPath: /bmctl/bmctl-workspace/.sa-keys/my-gcp-project-anthos-baremetal-gcr.json\n",
        "",
    );
    let (line, message, fix) = one(&text);
    assert!(line == 3 && message.contains("cannot fall back") && fix.contains("isolated site"), "{message}");
    let reading = parse(
        Path::new("x.yaml"),
        &text,
        &FileRequirements { fallback: true, ..FileRequirements::default() },
    );
    assert!(has_errors(&reading) && reading.findings[0].fix.contains("gcrKeyPath: /"));
}

#[test]
fn where_the_bundle_was_pushed_is_where_nodes_look() {
    let check = |pushed: &str| {
        let pushed_to = vec![pushed.parse().unwrap()];
        parse(Path::new("x.yaml"), SAMPLE, &FileRequirements { pushed_to, ..FileRequirements::default() })
            .findings
    };
    assert_eq!(check("172.18.0.20:5000"), []);
    let found = check("172.18.0.20:5000/test-namespace");
    assert_eq!(found[0].line, Some(6));
    assert!(found[0].fix.contains("https://172.18.0.20:5000/v2/test-namespace"), "{found:?}");
    let found = check("172.18.0.21:5000");
    assert_eq!(found[0].line, Some(3));
    assert!(found[0].fix.contains("endpoint: https://172.18.0.21:5000"), "{found:?}");
}

#[test]
fn hosts_are_held_against_the_release() {
    let with = |version: &str, host: &str| {
        let text = SAMPLE
            .replace("ca.crt\n", &format!("ca.crt\n  hosts:\n  - {host}\n"))
            .replace("spec:\n", &format!("spec:\n  anthosBareMetalVersion: {version}\n"));
        parse(Path::new("x.yaml"), &text, &FileRequirements::default())
    };
    assert!(with("1.10.2", "quay.io").findings[0].what.contains("1.11"));
    assert!(with("1.28.0-gke.1", "quay.io:8443").findings[0].what.contains("1.29.300"));
    let fine = with("1.34.0-gke.566", "quay.io:8443");
    assert_eq!(fine.findings, []);
    assert_eq!(fine.mirrors.unwrap().mirrors[0].upstreams(), ["gcr.io", "quay.io:8443"]);
}

#[test]
fn a_file_is_read_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    assert!(matches!(read(&path, &FileRequirements::default()), Err(ClusterError::Io { .. })));
    std::fs::write(&path, format!("{SAMPLE}# {}\n", "x".repeat(5 << 20))).unwrap();
    assert!(read(&path, &FileRequirements::default()).unwrap_err().to_string().contains("MiB"));
    std::fs::write(&path, DAMAGED).unwrap();
    let said = read(&path, &FileRequirements::default()).unwrap_err().to_string();
    assert!(said.contains("line 7") && said.contains("more)"), "{said}");
    std::fs::write(&path, SAMPLE).unwrap();
    assert!(read(&path, &FileRequirements::default()).is_ok());
}
