//! One read, many mirrors: each part is decoded once, and what is wrong with one mirror costs the others nothing.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::support::build::Bundle;
use crate::support::registry::free_port;
use crate::support::scripted::{Action, Rule, ScriptedRegistry};
use crate::support::{Push, folder};

/// Docker-archives of one image and two layers each, in zstd frames of 1 MiB; how many frames there are.
fn archives(folder: &Path, images: usize) -> (PathBuf, usize) {
    let bundle = (0..images).fold(Bundle::archives(), |bundle, number| {
        let seeds = [format!("base {number}"), format!("top {number}")];
        bundle.image(&format!("images.example/{number}:1"), &[&seeds[0], &seeds[1]])
    });
    let tar = bundle.layer_bytes(1 << 20).bytes();
    let frames: Vec<Vec<u8>> =
        tar.chunks(1 << 20).map(|part| zstd::bulk::compress(part, 1).unwrap()).collect();
    let source = folder.join("b.tar.zst");
    std::fs::write(&source, frames.concat()).unwrap();
    (source, frames.len())
}

#[test]
fn eight_mirrors_cost_as_many_decodings_as_one() {
    let folder = folder();
    let (source, frames) = archives(folder.path(), 12);
    let registries: Vec<ScriptedRegistry> = (0..8).map(|_| ScriptedRegistry::strict()).collect();
    let to_all = registries[1..].iter().fold(Push::to(&registries[0]), Push::and_to);
    let pushed = to_all.source(&source).run().complete();
    let decoded = pushed.report["decode"]["parts"].as_u64().unwrap();
    assert!(decoded * 100 <= frames as u64 * 105, "{decoded} decodings of {frames} parts");
    for (number, registry) in registries.iter().enumerate() {
        assert_eq!(registry.store(|store| (store.shown().len(), store.faults())), (12, vec![]));
        assert_eq!(pushed.mirror(number)["state"], "complete");
    }
}

/// There is room for the layers of three images. The first mirror takes no blob and says nothing, the second is not there.
#[test]
fn a_mirror_that_stands_still_and_one_that_refuses_hold_up_neither_the_others_nor_whoever_reads() {
    let folder = folder();
    let (source, _) = archives(folder.path(), 24);
    let registries: Vec<ScriptedRegistry> = (0..4).map(|_| ScriptedRegistry::strict()).collect();
    registries[0].on(Rule::on("POST", "/blobs/uploads/", Action::Hold));
    let dead = format!("http://127.0.0.1:{}", free_port());
    let to_all = registries[1..].iter().fold(Push::to(&registries[0]).and_to(dead.as_str()), Push::and_to);
    let to_all = to_all.source(&source).flags(&["--memory=32MiB", "--spool-limit=1MiB", "--log-format=json"]);
    let mut push = to_all.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (finished, ends) = std::sync::mpsc::channel();
    let lines = BufReader::new(push.stderr.take().unwrap()).lines();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if event["event"] == "finished" && event["images_failed"] == 0 && event["images_complete"] == 24 {
                let _ = finished.send(event["mirror"].as_str().unwrap_or_default().to_owned());
            }
        }
    });
    let mut good = BTreeSet::new();
    while good.len() < 3
        && let Ok(mirror) = ends.recv_timeout(Duration::from_secs(90))
    {
        good.insert(mirror);
    }
    push.kill().unwrap();
    push.wait().unwrap();
    let wanted: BTreeSet<String> = registries[1..].iter().map(ScriptedRegistry::host).collect();
    assert_eq!(good, wanted);
    for registry in &registries[1..] {
        assert_eq!(registry.store(|store| (store.shown().len(), store.faults())), (24, vec![]));
    }
}

/// There is room for one of two images, which share a layer. One mirror stands still in its blobs until the other one, which goes
/// ahead meanwhile, is complete: then the first image has given way to the second, which waits for what the first has.
#[test]
fn a_mirror_that_stood_still_while_another_went_ahead_is_completed() {
    let folder = folder();
    let bundle = Bundle::docker_archive().image("images.example/a:1", &["shared", "a"]);
    let bundle = bundle.image("images.example/b:1", &["shared", "b"]).layer_bytes(16 << 20);
    let source = bundle.write(folder.path());
    let [slow, fast] = [0, 1].map(|_| ScriptedRegistry::strict());
    let is_over = Arc::new((Mutex::new(0), Condvar::new()));
    let tagged = Arc::clone(&is_over);
    let tag = Action::meanwhile(move |_| {
        *tagged.0.lock() += 1;
        tagged.1.notify_all();
    });
    fast.on(Rule::on("PUT", "/manifests/1", tag));
    let wait = Action::read_after(move |request| {
        if request.header("content-length").parse().is_ok_and(|bytes: u64| bytes > 1 << 20) {
            is_over.1.wait_while(&mut is_over.0.lock(), |tags| *tags < 2);
        }
    });
    slow.on(Rule::on("PUT", "/blobs/uploads/", wait.clone())).on(Rule::on("PATCH", "/blobs/uploads/", wait));
    let push = Push::to(&slow).and_to(&fast).source(&source);
    push.flags(&["--memory=32MiB", "--spool-limit=40MiB"]).run().complete();
    for registry in [&slow, &fast] {
        assert_eq!(registry.store(|store| (store.shown(), store.faults())), (bundle.shown(), vec![]));
    }
}
