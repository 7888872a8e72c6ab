//! Runs that are stopped, politely or not: no tag of an incomplete image, and the next run goes on to the end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::build::Bundle;
use crate::support::http::tags;
use crate::support::link::PoorLink;
use crate::support::registry::Registry;
use crate::support::scripted::{Action, Rule, ScriptedRegistry};
use crate::support::{Push, bundle, eventually, folder, judge, layercast, push};

fn start(source: &Path, target: &str, report: &Path) -> Child {
    let mut command = layercast();
    command
        .args(["push", "images", "--need-credential=false", "--private-registry", target, "--source"])
        .arg(source);
    let words = File::create(words(report)).unwrap();
    command.arg("--report").arg(report).stdout(Stdio::null()).stderr(words).spawn().unwrap()
}

/// What a run that writes this report has said.
fn words(report: &Path) -> PathBuf {
    report.with_extension("stderr")
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

fn sample(folder: &Path) -> PathBuf {
    bundle(folder, "b.tar.xz", &["--preset", "tiny", "--format", "archives", "--outer", "xz-multi"])
}

#[test]
fn the_first_signal_ends_the_run_well_and_the_next_run_completes_it() {
    let folder = folder();
    let source = sample(folder.path());
    let registry = Registry::docker();
    let slow = PoorLink::new(registry.port, 40_000, &[]);
    let report = folder.path().join("report.json");
    let mut child = start(&source, &format!("{}/ns", slow.url()), &report);
    eventually("blobs are on their way", || slow.carried() > 20_000);
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["exit_code"], 130);
    assert_eq!(report["mirrors"][0]["images_complete"], 0);
    assert!(tags(&registry.url(), "ns").is_empty());
    let target = format!("{}/ns", registry.host());
    push(&["--source", source.to_str().unwrap(), "--private-registry", &target, "--need-credential=false"])
        .complete();
    judge(&format!("{}/ns", registry.url()), &source);
}

/// On one mirror all but the tag is there, on the other a blob is on its way.
#[test]
fn an_image_of_a_run_that_was_stopped_is_told_with_the_phase_that_it_was_in() {
    let folder = folder();
    let source = Bundle::oci_layout().image("gcr.io/team/app:1", &["one"]).write(folder.path());
    let [tagging, sending] = [0; 2].map(|_| ScriptedRegistry::strict());
    tagging.on(Rule::on("PUT", "/manifests/1", Action::Hold));
    sending.on(Rule::on("PUT", "/blobs/uploads/", Action::Hold));
    let report = folder.path().join("report.json");
    let push = Push::to(&tagging).and_to(&sending).source(&source).flag("--report").flag(&report);
    let mut child = push.start();
    tagging.wait_for_held();
    sending.wait_for_held();
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let phase = |mirror: usize| &report["mirrors"][mirror]["images_failed"][0]["phase"];
    assert_eq!((phase(0), phase(1)), (&"tag".into(), &"upload".into()), "{report}");
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let folder = folder();
    let source = sample(folder.path());
    let registry = Registry::docker();
    let slow = PoorLink::new(registry.port, 10_000, &[]);
    let report = folder.path().join("report.json");
    let mut child = start(&source, &slow.url(), &report);
    eventually("it is at work", || slow.carried() > 1000);
    signal(&child, "-TERM");
    eventually("the first signal was heard", || {
        std::fs::read_to_string(words(&report)).unwrap().contains("stopping: ")
    });
    let began = std::time::Instant::now();
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_killed_run_leaves_nothing_that_the_next_one_cannot_complete() {
    let folder = folder();
    let source = sample(folder.path());
    let registry = Registry::docker();
    for (number, after_bytes) in [0, 1, 10_000, 50_000, 150_000, 400_000].into_iter().enumerate() {
        let namespace = format!("ns{number}");
        let link = PoorLink::new(registry.port, 400_000, &[]);
        let mut child = start(&source, &format!("{}/{namespace}", link.url()), &folder.path().join("r.json"));
        eventually("it has come so far, or to its end", || {
            link.carried() >= after_bytes || child.try_wait().unwrap().is_some()
        });
        let _ = child.kill();
        child.wait().unwrap();
        let target = format!("{}/{namespace}", registry.host());
        push(&[
            "--source",
            source.to_str().unwrap(),
            "--private-registry",
            &target,
            "--need-credential=false",
        ])
        .complete();
        judge(&format!("{}/{namespace}", registry.url()), &source);
    }
}

/// A command that never answers: the signal ends it with all that it started, and that is said.
#[test]
fn a_signal_ends_commands_that_are_asked_for_credentials() {
    let folder = folder();
    let pid = folder.path().join("pid");
    for name in ["-TERM", "-HUP"] {
        let script = format!("sleep 300 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display());
        let mut command = layercast();
        command.args(["push", "images", "--private-registry=http://127.0.0.1:1", "--username=pusher"]);
        command.args(["--source=/dev/null", "--password-command", &script]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        eventually("the command runs", || pid.exists());
        let started = std::fs::read_to_string(&pid).unwrap();
        signal(&child, name);
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(130), "{said}");
        assert!(said.contains("error: the run was interrupted [interrupted]"), "{said}");
        let status = format!("/proc/{}/status", started.trim());
        // It may wait for a parent to ask for its end.
        eventually("what it started has ended", || {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            status.is_empty() || status.contains("State:\tZ")
        });
        std::fs::remove_file(&pid).unwrap();
    }
}
