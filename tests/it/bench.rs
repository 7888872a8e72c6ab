//! The tools that measure: what they count is right, whatever the times are.

use std::time::Duration;

use serde_json::Value;

use crate::support::build::Bundle;
use crate::support::registry::Registry;
use crate::support::scripted::{Action, Answer, Rule, ScriptedRegistry};
use crate::support::{Push, bundle, folder, layercast, push, within};

const LAYOUT: [&str; 4] = ["--preset", "tiny", "--format", "oci-layout"];

/// A sink takes a push from beginning to end, says that it keeps nothing, and a second push finds nothing to do.
#[test]
fn a_push_to_the_sink_completes() {
    let folder = folder();
    let made = bundle(folder.path(), "b.tar", &LAYOUT);
    let sink = Registry::discard();
    let host = format!("{}/n", sink.host());
    let args = ["--source", made.to_str().unwrap(), "--private-registry", &host, "--need-credential=false"];
    let first = push(&args).complete();
    assert!(first.mirror(0)["bytes_sent"].as_u64().unwrap() > 0);
    let again = push(&args).complete();
    assert_eq!(again.mirror(0)["blobs_sent"], 0);
    assert_eq!(again.mirror(0)["images_unchanged"], again.mirror(0)["images_complete"]);
}

/// The report of a push says what each stage took, how busy the threads were, and who waited for whom.
#[test]
fn a_push_says_how_well_it_used_the_machine() {
    let folder = folder();
    let archives =
        ["--preset", "tiny", "--format", "archives", "--outer", "xz-multi", "--block-size", "262144"];
    let made = bundle(folder.path(), "b.tar.xz", &archives);
    let sink = Registry::discard();
    let host = format!("{}/n", sink.host());
    let args = ["--source", made.to_str().unwrap(), "--private-registry", &host, "--need-credential=false"];
    let pushed = push(&args).complete();
    let used = &pushed.report["utilisation"];
    let seconds = |value: &Value| value.as_f64().unwrap();
    for stage in ["decode", "compress", "sha256", "other"] {
        assert!(seconds(&used["core_seconds"][stage]) > 0.0, "{stage}: {used}");
    }
    assert_eq!(used["core_seconds"]["decode"], pushed.report["decode"]["cpu_seconds"]);
    assert_eq!(used["core_seconds"]["compress"], pushed.report["compress"]["cpu_seconds"]);
    let busy = seconds(&used["pool_busy_share"]);
    assert!(busy > 0.0 && busy <= 1.0, "{busy}");
    assert!(
        ["decode", "compress", "registry", "link", "limit"].contains(&used["bottleneck"].as_str().unwrap())
    );
    let waits = &pushed.mirror(0)["waits"];
    let parts = ["mirror", "bytes", "answers", "limit", "retries"].map(|who| format!("{who}_waited_seconds"));
    let whole: f64 = parts.iter().map(|part| seconds(&waits[part])).sum();
    assert!(whole > 0.0 && whole <= seconds(&pushed.mirror(0)["elapsed_seconds"]), "{waits}");
    assert!(seconds(&waits["round_trip_seconds"]) > 0.0);
}

/// What holds a push back on purpose is told from a slow link, and pauses after refusals from a bundle that gives nothing.
#[test]
fn limits_and_pauses_are_not_taken_for_the_link() {
    let folder = folder();
    let bundle =
        Bundle::oci_layout().image("images.example/a:1", &["a"]).layer_bytes(1 << 20).write(folder.path());
    for (flag, busy, held_by) in [("--bandwidth=1MB/s", 0, "limit"), ("--patience=60s", 1, "retries")] {
        let registry = ScriptedRegistry::strict();
        let busy_answer = Answer::error(429, "TOOMANYREQUESTS", "later").header("Retry-After", "1");
        registry.on(Rule::on("POST", "/blobs/uploads/", Action::Answer(busy_answer)).times(busy));
        let pushed = Push::to(&registry).source(&bundle).flag(flag).run().complete();
        let waits = pushed.mirror(0)["waits"].as_object().unwrap();
        let of = |who: &str| waits[&format!("{who}_waited_seconds")].as_f64().unwrap();
        let others: f64 = waits.values().map(|value| value.as_f64().unwrap()).sum::<f64>() - of(held_by);
        assert!(of(held_by) > others, "{held_by}: {waits:?}");
        let bottleneck = if held_by == "limit" { "limit" } else { "registry" };
        assert_eq!(pushed.report["utilisation"]["bottleneck"], bottleneck, "{waits:?}");
    }
}

/// Nobody serves a folder and throws away at once.
#[test]
fn a_sink_has_no_folder() {
    let mut command = layercast();
    command.args(["serve", "--discard", "--root", "x"]);
    assert_eq!(within(Duration::from_secs(10), command).status.code(), Some(2));
}

/// `bench decode` decodes every byte, with any number of threads, and names a bottleneck for each way of pushing.
#[test]
fn decoding_is_measured_whole() {
    let folder = folder();
    let mut options = LAYOUT.to_vec();
    options.extend(["--outer", "xz-multi", "--block-size", "262144"]);
    let made = bundle(folder.path(), "b.tar.xz", &options);
    let truth = std::fs::read(format!("{}.TRUTH.json", made.display())).unwrap();
    let truth: Value = serde_json::from_slice(&truth).unwrap();
    for threads in ["1", "3"] {
        let mut command = layercast();
        command.args(["bench", "decode", "--json", "--threads", threads]).arg(&made);
        let told = within(Duration::from_secs(60), command);
        assert_eq!(told.status.code(), Some(0));
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(told["decoded_bytes"], truth["bundle"]["tar_bytes"]);
        assert_eq!(told["threads"].to_string(), threads);
        assert_eq!(told["kind"], "blocks");
        assert!(told["parts"].as_u64().unwrap() > 1);
        let busy = told["pool_busy_share"].as_f64().unwrap();
        assert!(busy > 0.0 && busy <= 1.0, "{busy}");
        for way in ["as_stored", "gzip", "zstd"] {
            assert!(told["push"][way]["bottleneck"].is_string(), "{way}");
        }
    }
}
