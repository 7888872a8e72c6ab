//! Tags: they move last, all together where that is asked for, and never stand for an image that is not complete.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::build::Bundle;
use crate::support::http::get;
use crate::support::link;
use crate::support::registry::Registry;
use crate::support::scripted::{Action, Answer, Rule, ScriptedRegistry};
use crate::support::{Push, folder};

const REFUSED: &str = "/v2/b/two/";

fn two_images() -> Bundle {
    Bundle::oci_layout()
        .image("images.example/a/one:1", &["base", "one"])
        .image("images.example/b/two:1", &["base", "two"])
}

/// One image cannot be completed: its manifest is refused.
fn registry_that_refuses_one() -> ScriptedRegistry {
    let registry = ScriptedRegistry::start();
    let denied = Answer::error(403, "DENIED", "a quota");
    registry.on(Rule::on("PUT", format!("{REFUSED}manifests/"), Action::Answer(denied)));
    registry
}

#[test]
fn with_atomic_tags_no_tag_moves_unless_every_image_is_complete() {
    let folder = folder();
    let bundle = two_images().write(folder.path());
    let registry = registry_that_refuses_one();
    let push = Push::to(&registry).source(&bundle);
    let atomic = push.clone().flag("--atomic-tags");

    let pushed = atomic.run();
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    assert_eq!(registry.store(|store| store.shown()), [""; 0]);
    let failed = pushed.mirror(0)["images_failed"].as_array().unwrap();
    assert_eq!(failed.len(), 2, "the image whose tag was held back is named too: {failed:?}");

    // Without it the image that is complete is shown.
    assert_eq!(push.run().exit, 3);
    assert_eq!(registry.store(|store| store.shown()), ["a/one:1"]);

    registry.forget_rules();
    atomic.run().complete();
    assert_eq!(registry.store(|store| (store.shown(), store.faults())), (two_images().shown(), vec![]));
}

/// The registry loses a child of an index that it took, which shows when all is sent and the tags are about to move.
#[test]
fn with_atomic_tags_no_tag_moves_when_an_image_proves_lost_at_the_last_look() {
    let folder = folder();
    let bundle = two_images().index("images.example/c/three:1", &["base", "three"], &["amd64", "arm64"]);
    let path = bundle.write(folder.path());
    let registry = ScriptedRegistry::start();
    registry.on(Rule::on("HEAD", "/v2/c/three/manifests/sha256:", Action::Answer(Answer::status(404))));
    let push = Push::to(&registry).source(&path);
    let pushed = push.clone().flag("--atomic-tags").run();
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    assert_eq!(registry.store(|store| store.shown()), [""; 0]);
    let mut failed: Vec<&str> = pushed.mirror(0)["images_failed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["class"].as_str().unwrap())
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, ["integrity", "withheld", "withheld"]);

    assert_eq!(push.run().exit, 3);
    assert_eq!(registry.store(|store| store.shown()), ["a/one:1", "b/two:1"]);
}

#[test]
fn with_atomic_tags_manifests_go_by_digest_and_all_tags_after_them() {
    let folder = folder();
    let registry = ScriptedRegistry::start();
    let bundle = two_images().write(folder.path());
    Push::to(&registry).source(&bundle).flag("--atomic-tags").run().complete();
    let puts: Vec<bool> = registry
        .asked()
        .iter()
        .filter(|request| request.kind() == "PUT manifest")
        .map(|request| request.path.contains("sha256:"))
        .collect();
    assert_eq!(puts, [true, true, false, false]);
}

/// Somebody who pulls whatever has a tag, all the time, from real registries over a link that takes a while.
#[test]
fn whoever_reads_during_a_push_finds_behind_each_tag_a_complete_image() {
    let folder = folder();
    let bundle = two_images()
        .index("images.example/c/three:1", &["base", "three"], &["amd64", "arm64"])
        .layer_bytes(60_000);
    let path = bundle.write(folder.path());
    for registry in [Registry::docker(), Registry::embedded(&folder.path().join("store"))] {
        let slow = format!("http://127.0.0.1:{}", link::slow(registry.port, 200_000));
        let done = AtomicBool::new(false);
        let (looks, shown) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut looks, mut shown) = (0, BTreeSet::new());
                loop {
                    let last = done.load(Ordering::Acquire);
                    for name in bundle.shown() {
                        let (repository, tag) = name.split_once(':').unwrap();
                        if pull(&registry.url(), repository, tag) {
                            shown.insert(name);
                        }
                    }
                    looks += 1;
                    if last {
                        return (looks, shown);
                    }
                }
            });
            Push::to(slow.as_str()).source(&path).run().complete();
            done.store(true, Ordering::Release);
            reader.join().unwrap()
        });
        assert!(looks > 3, "{looks}");
        assert_eq!(shown.into_iter().collect::<Vec<_>>(), bundle.shown());
    }
}

/// Asks for an image, and if it is there for everything that belongs to it. Says whether it is there.
fn pull(registry: &str, repository: &str, reference: &str) -> bool {
    let answer = get(registry, &format!("{repository}/manifests/{reference}"));
    if answer.status == 404 && !reference.contains(':') {
        return false;
    }
    assert_eq!(answer.status, 200, "{repository}@{reference}");
    let manifest = answer.json();
    let parts = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
    let digest = |part: &Value| part["digest"].as_str().unwrap().to_owned();
    for child in parts("manifests") {
        pull(registry, repository, &digest(&child));
    }
    for blob in parts("layers").into_iter().chain(manifest.get("config").cloned()) {
        let found = get(registry, &format!("{repository}/blobs/{}", digest(&blob)));
        assert_eq!(found.status, 200, "{repository}:{reference} lacks {}", digest(&blob));
        assert_eq!(crate::support::build::digest(&found.body), digest(&blob));
    }
    true
}
