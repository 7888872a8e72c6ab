//! `config check` and `config show`.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::support::{folder, layercast, root, within};

fn config(args: &[&str]) -> (i32, String, String) {
    let mut command = layercast();
    command.arg("config").args(args).current_dir(root());
    let Output { status, stdout, stderr } = within(Duration::from_secs(60), command);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn the_default_file_and_all_examples_pass() {
    // With commands in it, a file that others may write is refused; a checkout may be such a one.
    let folder = folder();
    let mut files = vec![root().join("config/layercast.yaml")];
    files.extend(
        std::fs::read_dir(root().join("config/examples")).unwrap().map(|entry| entry.unwrap().path()),
    );
    for file in files {
        let copy = folder.path().join(file.file_name().unwrap());
        std::fs::write(&copy, std::fs::read(&file).unwrap()).unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&copy, permissions).unwrap();
        let (exit, stdout, stderr) = config(&["check", "-c", copy.to_str().unwrap()]);
        assert_eq!(exit, 0, "{}: {stderr}", file.display());
        assert!(stdout.contains(" bundle") && stdout.contains(" for "), "{stdout}");
        // What it names is not there, and may still come.
        let is_fine = |line: &str| {
            line.starts_with("warning: there is no")
                || line.starts_with("  next: ")
                || [": No such file or directory", ": Permission denied", " is not installed"]
                    .iter()
                    .any(|why| line.contains(": warning: ") && line.contains(why))
        };
        assert!(stderr.lines().all(is_fine), "{stderr}");
    }
}

#[test]
fn a_wrong_key_is_refused_with_its_line_and_column() {
    let folder = folder();
    let path = folder.path().join("sites.yaml");
    let text = "version: 1\nbundles: [{path: b.tar}]\nsites:\n- name: a\n  registry: r.example\n  thread: 4\n  retrys: 5\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let (exit, _, stderr) = config(&["check", "-c", path]);
    assert_eq!(exit, 2);
    assert!(stderr.contains(&format!("{path}:6:3: error: thread is no key of a site")), "{stderr}");
    assert!(stderr.contains("write: threads: …") && stderr.contains("sites.yaml:7:3:"), "{stderr}");
    let (exit, stdout, _) = config(&["check", "-c", path, "--json"]);
    let findings: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((exit, &findings[0]["line"], &findings[1]["column"]), (2, &6.into(), &3.into()));
}

#[test]
fn a_site_is_shown_with_all_that_it_inherits() {
    let example = Path::new("config/examples/air-gap.yaml").to_str().unwrap();
    let (exit, stdout, _) = config(&["show", "-c", example, "--resolved", "--site", "plant-1"]);
    assert_eq!(exit, 0);
    for line in
        ["registry: \"http://10.200.0.2:5000\"", "credentials: none", "atomic_tags: true", "keep_host: true"]
    {
        assert!(stdout.contains(line), "{line}\n{stdout}");
    }
    let (exit, _, stderr) = config(&["show", "-c", example, "--resolved", "--site", "plant1"]);
    assert!(exit == 2 && stderr.contains("--site plant-1"), "{stderr}");
}

/// Flags of `push images` that have no key of their name, each with the key that says the same, or why there is none.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("images", "bundles: only an archive of many images that a file names has a list"),
    ("decode-memory", "memory: the share for decoders follows from it"),
    ("private-registry", "registry"),
    ("cluster", "sites: it names mirrors, as the sites do here"),
    ("cacert", "ca_file"),
    ("need-credential", "credentials: none"),
    ("no-registry-credential", "credentials: none"),
    ("password", "no secret stands in the file"),
    ("password-stdin", "nobody types into a scheduled run"),
    ("password-command", "command"),
    ("credential-file", "docker_config"),
    ("auth-realm", "auth_realms"),
    ("source-username", "bundles: credentials: username"),
    ("source-password-file", "bundles: credentials: password_file"),
    ("source-password-command", "bundles: credentials: command"),
    ("source-credential-file", "bundles: credentials: docker_config"),
    ("source-auth-realm", "bundles: auth_realms"),
    ("source-cacert", "bundles: ca_file"),
    ("source-client-cert", "bundles: client_cert"),
    ("source-client-key", "bundles: client_key"),
    ("stage-limit", "stage: limit"),
    ("allow-damaged", "nobody looks at what is left of a damaged bundle in a scheduled run"),
    ("report", "a flag of sync: each run writes its own"),
    ("regate", "a flag of sync: for once"),
    ("keep-runs", "retention: runs"),
    ("keep-days", "retention: days"),
    ("metrics-textfile", "metrics: textfile"),
    ("metrics-listen", "metrics: listen"),
    ("no-state", "a flag of sync"),
    ("io", "a flag of sync: it is about this machine"),
    ("quiet", "a flag of every command"),
    ("log-format", "a flag of every command"),
    ("verbose", "a flag of every command"),
    ("progress", "a flag of every command"),
    ("color", "a flag of every command"),
    ("help", "no setting"),
];

#[test]
fn every_flag_of_a_push_has_a_key_or_a_reason_to_have_none() {
    let schema = std::fs::read(root().join("config/layercast.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&schema).unwrap();
    let mut keys = Vec::new();
    for section in schema["definitions"].as_object().unwrap().values().chain([&schema]) {
        keys.extend(section["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone()));
    }
    let mut help = layercast();
    help.args(["push", "images", "--help"]);
    let help = String::from_utf8(within(Duration::from_secs(60), help).stdout).unwrap();
    let flag = |line: &str| {
        let (_, behind) = line.trim_start().starts_with('-').then(|| line.split_once("--"))??;
        let end = behind.find(|c: char| !c.is_ascii_lowercase() && c != '-');
        Some(behind[..end.unwrap_or(behind.len())].to_owned())
    };
    let flags: Vec<String> = help.lines().filter_map(flag).collect();
    assert!(flags.len() > 40, "{flags:?}");
    let has_key = |flag: &str| keys.contains(&flag.replace('-', "_"));
    let missing: Vec<&String> = flags
        .iter()
        .filter(|flag| !has_key(flag) && OTHER_WORDS.iter().all(|(other, _)| other != flag))
        .collect();
    assert!(missing.is_empty(), "no key and no reason: {missing:?}");
    let stale: Vec<&str> = OTHER_WORDS
        .iter()
        .map(|(flag, _)| *flag)
        .filter(|flag| !flags.iter().any(|known| known == flag) || has_key(flag))
        .collect();
    assert!(stale.is_empty(), "a reason for what needs none: {stale:?}");
}
