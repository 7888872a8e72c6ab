//! `bench link`: what is said of a link is true of it, and nothing stays at the mirror that is not named.
//!
//! Speeds of this machine are noise, so they are never asserted; what limits a link, and what lies at the mirror afterwards, is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

use crate::support::registry::{Registry, Setup, free_port};
use crate::support::scripted::{Action, Answer, Request, Rule, ScriptedRegistry};
use crate::support::terminal::Terminal;
use crate::support::{eventually, folder, layercast, link, within};
use crate::tls::authority;

const LIMIT: Duration = Duration::from_secs(110);

fn bench(target: &str, json: &Path) -> Command {
    bench_with("16MiB", target, json)
}

fn bench_with(bytes: &str, target: &str, json: &Path) -> Command {
    bench_for("60", bytes, target, json)
}

fn bench_for(seconds: &str, bytes: &str, target: &str, json: &Path) -> Command {
    let mut command = layercast();
    command.args([
        "bench",
        "link",
        target,
        "--need-credential=false",
        "--bytes",
        bytes,
        "--seconds",
        seconds,
    ]);
    command.arg("--json").arg(json);
    command
}

struct Measured {
    output: Output,
    document: Value,
}

impl Measured {
    fn target(&self) -> &Value {
        &self.document["targets"][0]
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
            + &String::from_utf8_lossy(&self.output.stderr)
    }

    #[track_caller]
    fn good(self) -> Self {
        assert_eq!(self.output.status.code(), Some(0), "{}\n{}", self.said(), self.document);
        self
    }

    #[track_caller]
    fn limited_by(self, limit: &str) -> Self {
        assert_eq!(self.target()["limit"], limit, "{}\n{}", self.said(), self.document);
        self
    }
}

fn measure(command: impl FnOnce(&Path) -> Command) -> Measured {
    let folder = folder();
    let json = folder.path().join("link.json");
    let output = within(LIMIT, command(&json));
    let document = std::fs::read(&json).ok().and_then(|text| serde_json::from_slice(&text).ok());
    Measured { output, document: document.unwrap_or(Value::Null) }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

/// What the store of a registry has beyond what was named as left: sessions, links, manifests, blobs. docker-registry keeps a file
/// below `_uploads` of each session that is cancelled; so many as were named are not counted.
fn unnamed(store: &Path, document: &Value) -> Vec<PathBuf> {
    let left = document["targets"][0]["left_behind"].as_array().unwrap();
    let is_named = |hex: &str| left.iter().any(|it| it["what"].as_str().unwrap().ends_with(hex));
    let of_cancelled =
        left.iter().find(|it| it["what"].as_str().unwrap().contains(" cancelled upload session"));
    let mut named_states = of_cancelled.map_or(0, |it| {
        let number = it["what"].as_str().unwrap().split(' ').next().unwrap();
        number.parse::<u64>().unwrap()
    });
    let bytes_of_states = of_cancelled.map_or(0, |it| it["bytes"].as_u64().unwrap());
    assert_eq!(bytes_of_states, named_states * 108);
    let is_hex = |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_unnamed = |path: &PathBuf| {
        let text = path.to_string_lossy();
        if text.ends_with("/hashstates/sha256/0") && named_states > 0 && path.metadata().unwrap().len() <= 108
        {
            // What makes a session open is the file beside it.
            named_states -= 1;
            return path.ancestors().nth(3).unwrap().join("startedat").exists();
        }
        let is_state =
            ["/_uploads/", "/_manifests/", "/_layers/", "/tags/"].iter().any(|part| text.contains(part));
        is_state || text.split('/').find(is_hex).is_some_and(|hex| !is_named(hex))
    };
    files(store).into_iter().filter(is_unnamed).collect()
}

/// All figures are there, and the embedded registry has nothing more than before.
#[test]
fn a_link_is_measured_and_nothing_stays() {
    let (root, reports) = (folder(), folder());
    let registry = Registry::embedded(root.path());
    let report = |name: &str| reports.path().join(name);
    let measured = measure(|json| {
        let mut command = bench(&format!("{}/ns", registry.host()), json);
        command.arg("--probe-resume");
        for name in ["link.html", "same.json"] {
            command.arg("--report").arg(report(name));
        }
        command
    })
    .good();
    let page = std::fs::read_to_string(report("link.html")).unwrap();
    assert!(page.contains("<title>The link to ") && page.contains("Time of a commit"));
    let same: Value = serde_json::from_slice(&std::fs::read(report("same.json")).unwrap()).unwrap();
    assert_eq!(same, measured.document);
    let target = measured.target();
    assert_eq!(measured.document["schema_version"], 1);
    assert!(target["place"].as_str().unwrap().ends_with("/ns/layercast-bench"), "{target}");
    for percentile in ["p50", "p90", "p99"] {
        assert!(target["rtt_seconds"][percentile].as_f64().unwrap() > 0.0, "{target}");
        assert!(target["cold_seconds"][percentile].is_f64(), "{target}");
        assert!(target["mount_seconds"][percentile].is_f64(), "{target}");
    }
    for way in ["upload", "download"] {
        let figures = &target[way];
        assert!(figures["best_bytes_per_second"].as_f64().unwrap() > 0.0, "{target}");
        assert!(figures["streams"].is_u64() && figures["request_bytes"].is_u64(), "{target}");
        assert_eq!(figures["protocol"], "HTTP/1.1");
    }
    let methods = target["upload"]["trials"].as_array().unwrap().iter().map(|trial| trial["method"].clone());
    let methods: Vec<Value> = methods.collect();
    assert!(methods.contains(&"put".into()) && methods.contains(&"patch".into()), "{methods:?}");
    assert!(target["small_blobs_per_second"]["median"].as_f64().unwrap() > 0.0);
    assert!(target["commit_seconds"].as_array().unwrap().len() >= 3, "{target}");
    assert_eq!(target["keeps"], "bytes", "the embedded registry keeps what has arrived");
    assert!(target["limit"].is_string() && !target["evidence"].as_array().unwrap().is_empty(), "{target}");
    assert!(target["recommendation"]["site"].as_str().unwrap().starts_with("threads: "), "{target}");
    let bytes = target["bytes_sent"].as_u64().unwrap() + target["bytes_received"].as_u64().unwrap();
    assert!(bytes <= 16 << 20, "{bytes} bytes went over the link, of 16 MiB that might");
    assert_eq!(unnamed(root.path(), &measured.document), Vec::<PathBuf>::new());
    assert!(measured.said().contains("held back by"), "{}", measured.said());
}

/// On a terminal it is seen what is measured, and how many bytes went over the link.
#[test]
fn a_terminal_shows_what_is_measured() {
    let (root, folder) = (folder(), folder());
    let registry = Registry::embedded(root.path());
    let port = link::slow(registry.port, 2_000_000);
    let command = bench_with("4MiB", &format!("http://127.0.0.1:{port}"), &folder.path().join("link.json"));
    let mut terminal = Terminal::run(command, 24, 80);
    for step in ["measuring uploads  ", "measuring downloads  "] {
        terminal.until(step, |lines| lines.iter().any(|line| line.starts_with(step) && line.contains("iB")));
    }
    while terminal.next().is_some() {}
    assert!(terminal.child.wait().unwrap().success(), "{:?}", terminal.lines());
}

/// docker-registry keeps the bytes of a blob until it collects garbage: they are named, and nothing else is there.
#[test]
fn docker_registry_keeps_only_what_is_named_also_after_an_interruption() {
    let registry = Registry::docker();
    let measured = measure(|json| {
        let mut command = bench(&registry.host(), json);
        command.arg("--probe-resume");
        command
    })
    .good();
    let target = measured.target();
    assert!(!target["left_behind"].as_array().unwrap().is_empty());
    assert_eq!(target["keeps"], "nothing");
    assert!(target["upload"]["best_bytes_per_second"].as_f64().unwrap() > 0.0, "{target}");
    assert_eq!(unnamed(&registry.data(), &measured.document), Vec::<PathBuf>::new());
    assert!(measured.said().contains("cancelled upload sessions of layercast-bench"), "{}", measured.said());

    let slow = Registry::docker();
    let folder = folder();
    let json = folder.path().join("link.json");
    let port = link::slow(slow.port, 1_500_000);
    let mut command = bench(&format!("http://127.0.0.1:{port}"), &json);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let is_body = |path: &PathBuf| {
        path.to_string_lossy().contains("/_uploads/")
            && path.metadata().is_ok_and(|file| file.len() > 100_000)
    };
    eventually("a large body is on its way", || files(&slow.data()).iter().any(is_body));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let document: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(document["exit_code"], 130);
    assert_eq!(unnamed(&slow.data(), &document), Vec::<PathBuf>::new());
}

/// Where a registry offers HTTP/2, bodies are measured over it too; what is recommended is what a push uses.
#[test]
fn bodies_are_measured_over_both_protocols() {
    let folder = folder();
    authority(folder.path(), "ca");
    let path = |name: &str| folder.path().join(name);
    let certificate = Some((path("ca-server.crt"), path("ca-server.key")));
    let registry = Registry::docker_with(&Setup { certificate, ..Setup::default() });
    let measured = measure(|json| {
        let mut command = bench(&registry.host(), json);
        command.arg("--cacert").arg(path("ca.crt"));
        command
    })
    .good();
    let target = measured.target();
    assert_eq!(target["tls"]["alpn"], "h2", "{target}");
    for way in ["upload", "download"] {
        assert_eq!(target[way]["protocol"], "HTTP/1.1");
        let over = |protocol: &str| {
            let trials = target[way]["trials"].as_array().unwrap().iter();
            let over = trials.filter(|trial| trial["protocol"] == protocol);
            over.map(|trial| trial["bytes_per_second"].as_array().unwrap().len()).max()
        };
        assert_eq!(over("HTTP/2"), Some(5), "{target}");
        assert!(over("HTTP/1.1") >= Some(5), "{target}");
    }
    let notes = target["notes"].to_string();
    assert!(notes.contains("uploads over HTTP/2") && notes.contains("downloads over HTTP/2"), "{notes}");
    assert_eq!(unnamed(&registry.data(), &measured.document), Vec::<PathBuf>::new());
}

/// A proxy that takes no bodies above a size is named, and so is the size that it takes.
#[test]
fn a_limit_on_the_size_of_requests_is_named() {
    let registry = ScriptedRegistry::start();
    let refused = Action::Answer(Answer::error(413, "SIZE_INVALID", "too large"));
    let is_large =
        |request: &Request| request.header("content-length").parse().is_ok_and(|bytes: u64| bytes > 1 << 20);
    registry.on(Rule::any(refused).when(is_large));
    let measured =
        measure(|json| bench_with("48MiB", &registry.host(), json)).good().limited_by("request-size");
    let target = measured.target();
    assert_eq!(target["refused_bytes"], 4 << 20);
    assert_eq!(target["recommendation"]["request_bytes"], 1 << 20);
    assert_eq!(target["upload"]["method"], "chunks");
}

/// One that counts requests is named, with about how many it takes.
#[test]
fn a_limit_on_the_number_of_requests_is_named() {
    let registry = ScriptedRegistry::start();
    let window = Mutex::new((Instant::now(), 0));
    let is_too_many = move |_: &Request| {
        let mut window = window.lock();
        if window.0.elapsed() >= Duration::from_secs(1) {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        window.1 > 20
    };
    let refused =
        Action::Answer(Answer::error(429, "TOOMANYREQUESTS", "slow down").header("Retry-After", "1"));
    registry.on(Rule::any(refused).when(is_too_many));
    let measured = measure(|json| bench_for("30", "16MiB", &registry.host(), json)).limited_by("rate-limit");
    let taken = measured.target()["requests_per_second"].as_f64().unwrap();
    assert!((5.0..=40.0).contains(&taken), "{taken}");
}

/// A registry that is slow with what it has is named, and not the network.
#[test]
fn a_registry_that_commits_slowly_is_named() {
    let registry = ScriptedRegistry::start();
    let sizes: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let noted = Arc::clone(&sizes);
    registry.on(Rule::on(
        "PATCH",
        "/blobs/uploads/",
        Action::meanwhile(move |request| {
            *noted.lock().entry(request.path.clone()).or_default() += request.body_len;
        }),
    ));
    let disk = Mutex::new(());
    registry.on(Rule::on(
        "PUT",
        "/blobs/uploads/",
        Action::meanwhile(move |request| {
            let bytes = sizes.lock().remove(&request.path).unwrap_or(0) + request.body_len;
            let _one_at_a_time = disk.lock();
            std::thread::sleep(Duration::from_secs_f64(bytes as f64 / 4e6));
        }),
    ));
    let measured = measure(|json| bench(&registry.host(), json)).limited_by("server");
    assert!(measured.said().contains("held back by the registry"), "{}", measured.said());
}

/// What stands in the way of a measurement ends it with the usual exit codes, and stands in the document.
#[test]
fn a_mirror_that_cannot_be_measured_says_why() {
    let away = format!("127.0.0.1:{}", free_port());
    let measured = measure(|json| {
        let mut command = bench(&away, json);
        command.args(["--patience", "0s"]);
        command
    });
    assert_eq!(measured.output.status.code(), Some(6), "{}", measured.said());
    assert_eq!(measured.target()["error"]["class"], "unreachable");

    let denied = ScriptedRegistry::start();
    denied.on(Rule::any(Action::Answer(Answer::error(401, "UNAUTHORIZED", "log in"))));
    let measured = measure(|json| bench(&denied.host(), json));
    assert_eq!(measured.output.status.code(), Some(4), "{}", measured.said());

    let mut command = layercast();
    command.args(["bench", "link"]);
    assert_eq!(within(LIMIT, command).status.code(), Some(2));
}

/// Two measurements of one link have nothing that is really different, where the samples are the same.
#[test]
fn measurements_are_held_against_each_other() {
    let registry = Registry::discard();
    let folder = folder();
    let before = folder.path().join("before.json");
    let state = folder.path().join("state");
    let mut command = bench(&registry.host(), &before);
    command.env_remove("LAYERCAST_NO_STATE").arg("--state-dir").arg(&state).arg("--apply");
    let output = within(LIMIT, command);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let compare = |after: &Path| {
        let mut command = layercast();
        command.args(["bench", "compare", "--json"]).arg(&before).arg(after);
        let output = within(LIMIT, command);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let verdicts = |compared: &Value| -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let figures = compared["targets"][0]["figures"].as_array().unwrap();
        figures.iter().map(|it| (word(&it["figure"]), word(&it["verdict"]))).collect()
    };
    let same = compare(&before);
    assert!(verdicts(&same).iter().all(|(_, verdict)| verdict == "same"), "{same}");
    // The same link, with twice the round trip.
    let mut document: Value = serde_json::from_slice(&std::fs::read(&before).unwrap()).unwrap();
    let samples = document["targets"][0]["rtt_seconds"]["median"]["samples"].as_array_mut().unwrap();
    for sample in samples {
        *sample = (sample.as_f64().unwrap() * 2.0).into();
    }
    let after = folder.path().join("after.json");
    std::fs::write(&after, document.to_string()).unwrap();
    let worse = compare(&after);
    assert!(verdicts(&worse).contains(&("rtt_seconds".to_owned(), "worse".to_owned())), "{worse}");
    // What was found out is there for the next run.
    let mut command = layercast();
    command.env_remove("LAYERCAST_NO_STATE").args(["state", "show", "--json", "--state-dir"]).arg(&state);
    let shown: Value = serde_json::from_slice(&within(LIMIT, command).stdout).unwrap();
    assert!(shown["mirrors"][0]["does"].to_string().contains("a second for one blob"), "{shown}");
}
