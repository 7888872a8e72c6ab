//! What `config/` gives to operators, held against the programs that read it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::support::{folder, layercast, root, tool};

fn config(path: &str) -> PathBuf {
    root().join("config").join(path)
}

#[test]
fn prometheus_takes_the_alert_rules_and_they_fire_when_they_should() {
    let rules = config("prometheus/layercast.rules.yaml");
    tool("promtool", &["check".as_ref(), "rules".as_ref(), rules.as_os_str()]);
    let cases = root().join("tests/prometheus/layercast.test.yaml");
    tool("promtool", &["test".as_ref(), "rules".as_ref(), cases.as_os_str()]);
}

/// What kustomize makes of the overlays is committed for those who apply files.
#[test]
fn rendered_manifests_are_what_kubectl_makes_of_the_overlays() {
    let overlays: Vec<PathBuf> =
        fs::read_dir(config("kubernetes/overlays")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(overlays.len() >= 2);
    for overlay in overlays {
        let name = overlay.file_name().unwrap().to_str().unwrap();
        let rendered = tool("kubectl", &["kustomize".as_ref(), overlay.as_os_str()]).stdout;
        let committed = config(&format!("kubernetes/rendered/{name}.yaml"));
        assert!(
            fs::read(&committed).unwrap() == rendered,
            "kubectl kustomize config/kubernetes/overlays/{name} > config/kubernetes/rendered/{name}.yaml"
        );
    }
}

/// Every sites file that is given to people, as the command reads it.
#[test]
fn config_check_has_nothing_against_the_sites_files() {
    let mut folders = vec![config("")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let is_yaml = entry.extension().is_some_and(|ending| ending == "yaml");
            if entry.is_dir() {
                folders.push(entry);
            } else if is_yaml && fs::read_to_string(&entry).unwrap().lines().any(|line| line == "sites:") {
                files.push(entry);
            }
        }
    }
    assert!(files.contains(&config("kubernetes/base/layercast.yaml")) && files.len() >= 6, "{files:?}");
    for file in files {
        let mut command = layercast();
        let output = command.args(["config", "check", "-c"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    }
}

/// The units as they are, but for the path of the program, which is installed nowhere here.
#[test]
fn systemd_has_nothing_against_the_units() {
    let folder = folder();
    for unit in ["layercast-sync.service", "layercast-sync.timer"] {
        let text = fs::read_to_string(config("systemd").join(unit)).unwrap();
        let text = text.replace("/usr/local/bin/layercast", env!("CARGO_BIN_EXE_layercast"));
        fs::write(folder.path().join(unit), text).unwrap();
    }
    let units = ["layercast-sync.service", "layercast-sync.timer"].map(|unit| folder.path().join(unit));
    let mut words: Vec<&OsStr> = vec!["verify".as_ref(), "--man=no".as_ref()];
    words.extend(units.iter().map(|unit| unit.as_os_str()));
    let output = tool("systemd-analyze", &words);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let service = fs::read_to_string(&units[0]).unwrap();
    for key in [
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=\n",
        "SystemCallFilter=@system-service",
    ] {
        assert!(service.contains(key), "{key}");
    }
}

/// cron passes over files with a dot in their name, and a last line without an end.
#[test]
fn the_line_for_cron_is_one_that_cron_reads() {
    let path = config("cron/layercast");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.ends_with('\n') && !path.file_name().unwrap().to_str().unwrap().contains('.'));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o022,
        0,
        "cron refuses what others may write"
    );
    let jobs: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_digit() || first == '*'))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let [job] = &jobs[..] else { panic!("one job: {jobs:?}") };
    // Five fields of time, then the account, then the command.
    assert!(job[..5].iter().all(|field| field.chars().all(|c| c.is_ascii_digit() || "*,-/".contains(c))));
    assert_eq!(job[5..8], ["layercast", "layercast", "sync"]);
}
