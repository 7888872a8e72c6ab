//! Broken, hostile and odd-but-valid bundles: the verdict, the class of error, bounded memory and time, no stray files.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::http::{get, tags};
use crate::support::registry::Registry;
use crate::support::{folder, push_within, root, tool};

/// Names that hostile members try to write to.
const NEVER_WRITTEN: [&str; 3] = ["/tmp/ferry-evil", "/tmp/ferry-evil-abs", "/tmp/ferry-evil-dir"];

fn check(registry: &Registry, folder: &Path, name: &str, case: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let spool = folder.join(format!("spool-{name}"));
    std::fs::create_dir(&spool).unwrap();
    let target = format!("{}/{name}", registry.host());
    let source = folder.join(case["file"].as_str().unwrap());
    let seconds = case["limits"]["seconds"].as_u64().unwrap();
    let args = [
        "--source".as_ref(),
        source.as_os_str(),
        "--private-registry".as_ref(),
        target.as_ref(),
        "--need-credential=false".as_ref(),
        "--spool-dir".as_ref(),
        spool.as_os_str(),
        // What the limits are for.
        "--memory=256MiB".as_ref(),
    ];
    println!("{name}"); // which one, when it never ends
    let pushed = push_within(Duration::from_secs(seconds), &args);
    let said = pushed.said();
    let peak = pushed.report["peak_rss_bytes"].as_u64().unwrap_or(u64::MAX);
    let limit = case["limits"]["memory_mib"].as_u64().unwrap() << 20;
    if peak > limit {
        problems.push(format!("{peak} bytes of memory"));
    }
    if std::fs::read_dir(&spool).unwrap().next().is_some() {
        problems.push("files were left behind".to_owned());
    }
    let there = tags(&registry.url(), name);
    let accepted = pushed.exit == 0;
    match case["expect"].as_str().unwrap() {
        "accept" if !accepted => problems.push(format!("refused, exit {}: {said}", pushed.exit)),
        "reject" if accepted => problems.push(format!("accepted: {said}")),
        _ if !accepted => {
            let mut classes = vec![case["error"].as_str().unwrap_or_default()];
            classes.extend(case["also_ok"].as_array().unwrap().iter().filter_map(Value::as_str));
            if !classes.iter().any(|class| said.contains(&format!("[{class}]"))) {
                problems.push(format!("should be one of {classes:?}: {said}"));
            }
            if !there.is_empty() {
                problems.push(format!("refused, but tags were made: {there:?}"));
            }
        }
        _ => {}
    }
    if accepted {
        for (image, digest) in case["pushed"].as_object().into_iter().flatten() {
            let path = image.split_once('/').unwrap().1.rsplit_once(':').unwrap();
            let answer = get(&registry.url(), &format!("{name}/{}/manifests/{}", path.0, path.1));
            let right = match digest {
                Value::String(digest) => answer.digest.as_ref() == Some(digest),
                config => answer.status == 200 && answer.json()["config"]["digest"] == config["config"],
            };
            if !right {
                problems.push(format!("{image} is not there as {digest}"));
            }
        }
    }
    problems.into_iter().map(|problem| format!("{name}: {problem}")).collect()
}

/// The cases are dealt to a few tests, which run side by side.
fn run_share(share: usize, of: usize) {
    let folder = folder();
    let script = root().join("tests/bundles/make_hostile.py");
    tool("python3", &[script.as_os_str(), folder.path().as_os_str()]);
    let expected: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("hostile_expected.json")).unwrap()).unwrap();
    let registry = Registry::docker();
    let cases = expected["cases"].as_object().unwrap();
    assert!(cases.len() > 100);
    let root_reads_all = rustix::process::geteuid().is_root();
    let ours = cases.iter().enumerate().filter(|(number, _)| number % of == share).map(|(_, case)| case);
    let problems: Vec<String> = ours
        .filter(|(name, _)| !(root_reads_all && *name == "unreadable"))
        .flat_map(|(name, case)| check(&registry, folder.path(), name, case))
        .collect();
    for path in NEVER_WRITTEN {
        assert!(!Path::new(path).exists(), "{path} was written");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn hostile_bundles_get_their_verdict_1() {
    run_share(0, 4);
}

#[test]
fn hostile_bundles_get_their_verdict_2() {
    run_share(1, 4);
}

#[test]
fn hostile_bundles_get_their_verdict_3() {
    run_share(2, 4);
}

#[test]
fn hostile_bundles_get_their_verdict_4() {
    run_share(3, 4);
}
