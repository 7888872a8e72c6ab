//! What a run remembers: an unchanged bundle costs a request for each name and nothing is decoded; another release costs
//! what is new in it; two runs at one mirror do not get into each other's way. And what is found early is sent early.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::mirrors::inspect;
use crate::support::build::Bundle;
use crate::support::link;
use crate::support::registry::Registry;
use crate::support::scripted::{Action, Rule, ScriptedRegistry};
use crate::support::{Push, Pushed, bundle, comes_true, folder, judge, layercast, push, within};

/// Forms that are read in different ways: parts, a stream, archives in archives, a folder.
const FORMS: [(&str, &str, &str); 5] = [
    ("archives", "xz-multi", "b.tar.xz"),
    ("archives", "xz", "one.tar.xz"),
    ("oci-layout", "zstd-multi", "b.tar.zst"),
    ("nested", "gz", "b.tar.gz"),
    ("archives-dir", "none", "dir"),
];

#[test]
fn an_unchanged_bundle_costs_a_request_for_each_name_and_decodes_nothing() {
    for (format, outer, name) in FORMS {
        let folder = folder();
        let source = make(folder.path(), format, outer, name);
        let (registry, state) = (Registry::docker(), folder.path().join("state"));
        let first = run(&source, &registry, &state, &[]).complete();
        assert!(first.mirror(0)["bytes_sent"].as_u64().unwrap() > 0, "{format} in {outer}");
        judge(&registry.url(), &source);
        let second = run(&source, &registry, &state, &[]).complete();
        let images = second.report["images"].as_u64().unwrap();
        assert_eq!(second.mirror(0)["images_unchanged"], images, "{format} in {outer}");
        assert_eq!(second.report["decode"]["bytes"], 0, "{format} in {outer}");
        // One for each name. An image may have two names in one repository.
        let names = u64::try_from(names(&source)).unwrap();
        let requests = second.mirror(0)["requests"].as_u64().unwrap();
        assert!(requests <= names, "{format} in {outer}: {requests} requests for {names} names");
    }
}

#[test]
fn on_a_long_way_nothing_is_asked_ahead_of_a_mirror_that_is_full() {
    let folder = folder();
    let source = make(folder.path(), "oci-layout", "zstd-multi", "b.tar.zst");
    let (registry, state) = (Registry::docker(), folder.path().join("state"));
    let host = format!("http://127.0.0.1:{}", link::long(registry.port, Duration::from_millis(25)));
    let first = run_at(&host, &source, &state, &[]).complete();
    judge(&registry.url(), &source);
    // Each name is asked for and moved; each blob at most asked for, opened, sent; a layer that images share
    // is mounted; indexes and their children are put by digest.
    let [names, blobs] = [names(&source) as u64, first.mirror(0)["blobs_sent"].as_u64().unwrap()];
    let mounted = first.mirror(0)["blobs_mounted"].as_u64().unwrap();
    let requests = first.mirror(0)["requests"].as_u64().unwrap();
    assert!(requests <= 5 * names + 3 * blobs + mounted, "{requests} requests for {blobs} blobs");
    let second = run_at(&host, &source, &state, &[]).complete();
    let requests = second.mirror(0)["requests"].as_u64().unwrap();
    assert!(requests <= names, "{requests} requests for {names} names");
    // Somebody else filled it: what is asked and opened ahead is needless then, and nothing is sent all the same.
    let third = run_at(&host, &source, &folder.path().join("other"), &[]).complete();
    assert_eq!(third.mirror(0)["blobs_sent"], 0);
    let requests = third.mirror(0)["requests"].as_u64().unwrap();
    let mut largest = 0;
    for image in inspect(&source)["images"].as_array().unwrap() {
        largest = largest.max(image["blobs"].as_array().unwrap().len() as u64);
    }
    // A connection is opened while the bundle is read. Large blobs of the first four images are asked for, and sessions for them
    // opened and cancelled.
    assert!(requests <= 1 + names + 4 * 3 * largest, "{requests} requests for {names} names");
    assert_eq!(third.mirror(0)["images_unchanged"], third.report["images"]);
}

#[test]
fn what_is_remembered_of_layers_serves_an_empty_mirror_as_well() {
    let folder = folder();
    let source = make(folder.path(), "archives", "xz-multi", "b.tar.xz");
    let state = folder.path().join("state");
    for _ in 0..2 {
        let registry = Registry::docker();
        run(&source, &registry, &state, &[]).complete();
        judge(&registry.url(), &source);
    }
}

#[test]
fn a_changed_bundle_is_read_again() {
    let folder = folder();
    let source = make(folder.path(), "archives", "none", "b.tar");
    let (registry, state) = (Registry::docker(), folder.path().join("state"));
    run(&source, &registry, &state, &[]).complete();
    // Damage that leaves size and time of modification as they were.
    let modified = std::fs::metadata(&source).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&source).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0x5a);
    std::fs::write(&source, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(&source).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    let empty = Registry::docker();
    let again = run(&source, &empty, &state, &[]);
    assert_ne!(again.exit, 0, "{}", again.said());
}

/// The first mirror has everything, the other would need minutes. What is in the bundle is more than may be found and unread.
#[test]
fn a_mirror_that_is_full_does_not_wait_for_one_that_is_slow() {
    let folder = folder();
    let args = ["--preset", "small", "--format", "archives-oci", "--outer", "none"];
    let source = bundle(folder.path(), "b.tar", &args);
    let (full, state) = (Registry::docker(), folder.path().join("state"));
    run(&source, &full, &state, &[]).complete();
    let slow = Registry::docker();
    let host = format!("http://127.0.0.1:{}", link::slow(slow.port, 200_000));
    let mut command = layercast();
    command.args(["push", "images", "--need-credential=false", "--no-state", "--memory=32MiB", "--source"]);
    command.arg(&source).args(["--log-format=json", "--private-registry", &full.host()]);
    command.args(["--private-registry", &host]).stderr(Stdio::piped());
    let mut both = command.spawn().unwrap();
    let (finished, waits) = std::sync::mpsc::channel();
    let lines = BufReader::new(both.stderr.take().unwrap()).lines();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if event["event"] == "finished" {
                let _ = finished.send(event);
            }
        }
    });
    let event = waits.recv_timeout(Duration::from_secs(60));
    both.kill().unwrap();
    both.wait().unwrap();
    let event = event.expect("one mirror waits for the other");
    assert_eq!((event["mirror"].as_str(), event["images_failed"].as_u64()), (Some(&*full.host()), Some(0)));
}

/// Layers are compressed faster than the link takes them.
#[test]
fn layers_that_wait_for_a_slow_mirror_take_no_more_disk_than_they_may() {
    const MIB: u64 = 1 << 20;
    let folder = folder();
    let source =
        bundle(folder.path(), "b.tar", &["--preset", "small", "--format", "archives", "--outer", "none"]);
    let registry = Registry::docker();
    let link = link::slow(registry.port, 2 << 20);
    let mut command = layercast();
    command.args(["push", "images", "--need-credential=false", "--no-state", "--memory=32MiB"]);
    command.args([
        "--spool-limit=24MiB",
        "--quiet",
        "--private-registry",
        &format!("http://127.0.0.1:{link}"),
    ]);
    let mut push = command.arg("--source").arg(&source).spawn().unwrap();
    let mut most = 0;
    let ends = comes_true(Duration::from_secs(90), || {
        most = most.max(unlinked_bytes(push.id()));
        push.try_wait().unwrap().is_some()
    });
    push.kill().unwrap();
    let exit = push.wait().unwrap();
    assert!(ends && exit.success(), "{exit}");
    judge(&registry.url(), &source);
    assert!((MIB..=24 * MIB).contains(&most), "{most} bytes");
}

/// Layers lie in images in another order than in the archive, whose description stands at its end.
#[test]
fn a_docker_archive_that_memory_does_not_hold_is_decoded_at_most_twice() {
    let folder = folder();
    let seeds: Vec<String> = (0..24).map(|number| format!("layer {number}")).collect();
    let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
    let scattered: Vec<&str> = (0..24).map(|number| seeds[number * 7 % 24]).collect();
    let bundle = Bundle::docker_archive()
        .image("images.example/one:1", &seeds)
        .image("images.example/two:1", &scattered);
    let tar = bundle.layer_bytes(2 << 20).bytes();
    let frames: Vec<Vec<u8>> =
        tar.chunks(1 << 20).map(|part| zstd::bulk::compress(part, 1).unwrap()).collect();
    let source = folder.path().join("b.tar.zst");
    std::fs::write(&source, frames.concat()).unwrap();
    let registry = Registry::discard();
    let push = |memory: &str| Push::to(&registry).source(&source).flag(memory).run().complete();
    let (parts, decoded) =
        (frames.len() as u64, push("--memory=32MiB").report["decode"]["parts"].as_u64().unwrap());
    assert!((parts + 1..=2 * parts).contains(&decoded), "{decoded} decodings of {parts} parts");
    assert_eq!(push("--memory=256MiB").report["decode"]["parts"], parts, "memory holds all of them");
}

/// The bundle tells its size, which is more than may be spooled.
#[test]
fn a_limit_that_is_too_small_is_said_before_anything_is_decoded_with_the_number_that_is_needed() {
    let folder = folder();
    let source = Bundle::archives()
        .image("images.example/one:1", &["one"])
        .layer_bytes(3 << 20)
        .xz()
        .write(folder.path());
    let registry = Registry::docker();
    let refused = Push::to(&registry).source(&source).flag("--spool-limit=1MiB").run();
    assert_eq!(refused.exit, 1, "{}", refused.said());
    assert!(refused.said().contains("--spool-limit BYTES` to 3136KiB or more"), "{}", refused.said());
    assert_eq!(refused.report["decode"]["bytes"], 0);
}

/// The last of four images is not taken. What the others needed of a stream of one block is not kept for it.
#[test]
fn what_every_mirror_has_of_a_stream_leaves_the_disk_during_the_push() {
    const MIB: u64 = 1 << 20;
    let folder = folder();
    let bundle = ["one", "two", "three", "four"].iter().fold(Bundle::oci_layout(), |bundle, name| {
        bundle.image(&format!("images.example/{name}:1"), &[name])
    });
    let source = bundle.layer_bytes(3 << 20).xz().write(folder.path());
    let registries = [ScriptedRegistry::strict(), ScriptedRegistry::strict()];
    for registry in &registries {
        registry.on(Rule::on("POST", "/v2/four/blobs/uploads/", Action::Hold));
    }
    let push = Push::to(&registries[0]).and_to(&registries[1]).source(&source).flag("--spool-dir");
    let mut push = push.flag(folder.path()).start();
    registries.iter().for_each(ScriptedRegistry::wait_for_held);
    let on_disk = || unlinked(push.id(), |file| file.blocks() * 512);
    let shrank = comes_true(Duration::from_secs(30), || on_disk() <= 4 * MIB);
    let left = on_disk();
    let whole = unlinked(push.id(), std::fs::Metadata::len);
    push.kill().unwrap();
    push.wait().unwrap();
    assert!(whole >= 12 * MIB, "all of it was spooled: {whole}");
    assert!(shrank && left >= 3 * MIB, "{left} bytes are left");
}

/// What a process keeps in files that have no name any more.
fn unlinked_bytes(process: u32) -> u64 {
    unlinked(process, std::fs::Metadata::len)
}

fn unlinked(process: u32, measure: impl Fn(&std::fs::Metadata) -> u64) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let unlinked = open.filter(|file| {
        std::fs::read_link(file.path()).is_ok_and(|link| link.to_string_lossy().ends_with(" (deleted)"))
    });
    unlinked.filter_map(|file| std::fs::metadata(file.path()).ok()).map(|file| measure(&file)).sum()
}

#[test]
fn a_second_run_at_the_same_mirror_ends_at_once_and_says_who_is_there() {
    let folder = folder();
    let source = make(folder.path(), "archives", "none", "b.tar");
    let state = folder.path().join("state");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let command = || {
        let mut command = layercast();
        command.env_remove("LAYERCAST_NO_STATE").args(["push", "images", "--need-credential=false"]);
        command.arg("--state-dir").arg(&state).arg("--source").arg(&source);
        command.args(["--private-registry", &host]);
        command
    };
    let mut first = command().stderr(std::process::Stdio::null()).spawn().unwrap();
    // It has the lock when it knocks.
    let _connection = silent.accept().unwrap();
    let second = within(Duration::from_secs(20), command());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(7), "{said}");
    assert!(said.contains(&format!("process {}", first.id())) && said.contains(&host), "{said}");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn archives_of_a_large_bundle_are_decoded_once() {
    let folder = folder();
    // Half as much again as a budget of 64 MiB leaves for decoded parts.
    let args =
        ["--preset", "small", "--format", "archives", "--outer", "xz-multi", "--block-size", "1048576"];
    let source = bundle(folder.path(), "b.tar.xz", &args);
    let registry = Registry::docker();
    let pushed = run(&source, &registry, &folder.path().join("state"), &["--memory", "64MiB"]).complete();
    judge(&registry.url(), &source);
    let output = layercast().args(["inspect", "--json", "--source"]).arg(&source).output().unwrap();
    let structure: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let parts = structure["sources"][0]["structure"]["parts"].as_u64().unwrap();
    let decoded = pushed.report["decode"]["parts"].as_u64().unwrap();
    assert!(decoded <= parts + parts / 10, "{decoded} decodings of {parts} parts");
}

fn make(folder: &Path, format: &str, outer: &str, name: &str) -> std::path::PathBuf {
    let args = ["--preset", "tiny", "--format", format, "--outer", outer, "--block-size", "262144"];
    bundle(folder, name, &args)
}

fn names(source: &Path) -> usize {
    let truth = std::fs::read(format!("{}.TRUTH.json", source.display())).unwrap();
    let truth: serde_json::Value = serde_json::from_slice(&truth).unwrap();
    truth["images"].as_array().unwrap().len()
}

fn run(source: &Path, registry: &Registry, state: &Path, more: &[&str]) -> Pushed {
    run_at(&registry.host(), source, state, more)
}

fn run_at(host: &str, source: &Path, state: &Path, more: &[&str]) -> Pushed {
    let (source, state) = (source.to_str().unwrap(), state.to_str().unwrap());
    let mut args =
        vec!["--source", source, "--private-registry", host, "--need-credential=false", "--state-dir", state];
    args.extend(more);
    push(&args)
}
