//! Exit code 0 means that the images are there, whatever the registry says of what it has.

use std::sync::Arc;

use serde_json::Value;

use crate::support::build::Bundle;
use crate::support::scripted::{Action, Answer, Request, Rule, ScriptedRegistry, Store};
use crate::support::{Push, Pushed, folder};

fn images() -> Bundle {
    Bundle::oci_layout()
        .image("images.example/a/one:1", &["base", "one"])
        .image("images.example/a/two:1", &["base", "two"])
        .image("images.example/b/three:1", &["base", "three"])
}

fn index() -> Bundle {
    Bundle::oci_layout().index("images.example/team/app:1", &["base", "one"], &["amd64", "arm64"])
}

/// How far each image was checked.
fn levels(pushed: &Pushed) -> Vec<&str> {
    let images = pushed.mirror(0)["images_verified"].as_array().unwrap();
    images.iter().map(|image| image["verified"].as_str().unwrap()).collect()
}

fn count(registry: &ScriptedRegistry, kind: &str) -> usize {
    registry.asked().iter().filter(|request| request.kind() == kind).count()
}

/// Says of every blob that it is there, with the length that a manifest states, and takes whatever manifest.
fn liar(sizes: Vec<(String, u64)>) -> ScriptedRegistry {
    let registry = ScriptedRegistry::start();
    let lie = move |request: &Request| {
        let size = sizes.iter().find(|(digest, _)| request.path.ends_with(digest.as_str()));
        let size = size.map_or(0, |(_, size)| *size);
        Answer::status(200).header("Content-Length", &size.to_string())
    };
    registry.on(Rule::on("HEAD", "/blobs/", Action::make(lie)));
    registry
}

#[test]
fn a_registry_whose_head_finds_everything_is_found_out_and_filled() {
    let folder = folder();
    for bundle in [images(), index()] {
        let path = bundle.write(&folder.path().join(bundle.shown().len().to_string()));
        let registry = liar(bundle.sizes());
        let pushed = Push::to(&registry).source(&path).flag("--recheck").run().complete();
        assert_eq!(registry.store(|store| (store.shown(), store.faults())), (bundle.shown(), vec![]));
        assert_eq!(levels(&pushed), vec!["sample"; bundle.shown().len()]);
    }
}

#[test]
fn without_verification_the_word_of_the_registry_counts() {
    let folder = folder();
    let path = images().write(folder.path());
    let registry = liar(images().sizes());
    let push = Push::to(&registry).source(&path).flags(&["--recheck", "--verify=none"]);
    let pushed = push.run().complete();
    assert_ne!(registry.store(|store| store.faults()), [""; 0]);
    assert_eq!(levels(&pushed), ["head"; 3]);
}

#[test]
fn children_that_were_collected_are_put_again_before_the_tag_moves() {
    let folder = folder();
    let path = index().write(folder.path());
    let registry = ScriptedRegistry::start();
    let push = Push::to(&registry).source(&path);
    push.run().complete();
    // A collection takes a child with all that is its own; the index is still there, and its tag is gone.
    registry.store(|store| {
        store.tags.clear();
        store.lose_manifest(1);
    });
    let pushed = push.run().complete();
    assert_eq!(registry.store(|store| (store.shown(), store.faults())), (index().shown(), vec![]));
    assert_eq!(levels(&pushed), ["sample"]);
}

#[test]
fn a_child_that_the_registry_does_not_keep_fails_its_image() {
    let folder = folder();
    let path = index().write(folder.path());
    let registry = ScriptedRegistry::start();
    // Every manifest is taken and lost.
    registry.on(Rule::on("HEAD", "/manifests/sha256:", Action::Answer(Answer::status(404))));
    let pushed = Push::to(&registry).source(&path).run();
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    let failed = &pushed.mirror(0)["images_failed"][0];
    assert_eq!((&failed["phase"], &failed["class"]), (&Value::from("verify"), &Value::from("integrity")));
    assert_eq!(registry.store(|store| store.shown()), [""; 0], "no tag shows it");
}

#[test]
fn an_image_that_is_unchanged_costs_one_request_and_one_that_is_new_a_byte_of_what_was_found() {
    let folder = folder();
    let path = images().write(folder.path());
    let registry = ScriptedRegistry::strict();
    let push = Push::to(&registry).source(&path).flag("--threads=1");
    assert_eq!(levels(&push.run().complete()), ["sample"; 3]);
    assert_eq!(count(&registry, "GET blob"), 0, "what was sent is not asked for");

    let unchanged = push.run().complete();
    assert_eq!(levels(&unchanged), ["head"; 3]);
    // Without a state the bundle is read, and a connection may be opened meanwhile.
    let requests = unchanged.mirror(0)["requests"].as_u64().unwrap();
    assert!((3..=4).contains(&requests), "{requests}");

    let newer = Bundle::oci_layout().image("images.example/a/one:2", &["base", "one", "more"]);
    let more = crate::support::folder();
    registry.asked();
    let pushed = Push::to(&registry).source(&newer.write(more.path())).flag("--threads=1").run().complete();
    assert_eq!(levels(&pushed), ["sample"]);
    assert_eq!(count(&registry, "GET blob"), 2);
}

#[test]
fn an_account_that_may_not_read_is_told_how_far_was_checked() {
    let folder = folder();
    let path = images().write(folder.path());
    let registry = ScriptedRegistry::strict();
    Push::to(&registry).source(&path).run().complete();
    registry.store(|store| store.tags.clear());
    let denied = Answer::error(403, "DENIED", "no reading here");
    registry.on(Rule::on("GET", "/blobs/sha256", Action::Answer(denied)));
    registry.asked();
    let pushed = Push::to(&registry).source(&path).flags(&["--recheck", "--threads=1"]).run().complete();
    assert!(levels(&pushed).iter().all(|level| *level == "head"), "{:?}", levels(&pushed));
    assert!(pushed.stderr.contains("not read to check them"), "{}", pushed.said());
    assert!(count(&registry, "GET blob") <= 4, "nothing is asked for once it is known");
}

#[test]
fn everything_is_read_back_where_that_is_asked_for_and_rot_is_mended() {
    let folder = folder();
    // One layer of the images is in three repositories.
    for (bundle, repeats) in [(images(), 2), (index(), 0)] {
        let path = bundle.write(&folder.path().join(repeats.to_string()));
        let registry = ScriptedRegistry::strict();
        let push = Push::to(&registry).source(&path);
        let pulls = push.clone().flag("--verify=pull");
        let all = vec!["pull"; bundle.shown().len()];
        assert_eq!(levels(&pulls.run().complete()), all);
        let reads = bundle.sizes().len() + repeats;
        let asked: Vec<String> =
            registry.asked().iter().filter(|it| it.kind() == "GET blob").map(Request::target).collect();
        assert_eq!(asked.len(), reads, "each is read once, and asked for a byte elsewhere: {asked:#?}");
        registry.store(Store::rot);
        push.run().complete();
        assert_ne!(registry.store(|store| store.faults()), [""; 0], "nobody reads it otherwise");
        let mended = pulls.run().complete();
        assert_eq!(levels(&mended), all);
        assert_eq!(mended.mirror(0)["images_unchanged"], 0, "what was sent again is not unchanged");
        assert_eq!(registry.store(|store| store.faults()), [""; 0]);
    }
}

/// Its layers have to be compressed once more for that, and need room as the first time.
#[test]
fn a_docker_archive_that_rots_is_made_and_sent_again() {
    let folder = folder();
    let bundle = Bundle::docker_archive()
        .image("images.example/a/one:1", &["base", "one"])
        .image("images.example/a/two:1", &["base", "two"])
        .layer_bytes(1 << 20);
    let path = bundle.write(folder.path());
    let registry = ScriptedRegistry::strict();
    let push = Push::to(&registry).source(&path).flags(&["--verify=pull", "--memory=32MiB"]);
    push.run().complete();
    registry.store(Store::rot);
    let mended = push.run().complete();
    assert_eq!((levels(&mended), mended.mirror(0)["images_unchanged"].as_u64()), (vec!["pull"; 2], Some(0)));
    assert_eq!(registry.store(|store| (store.shown(), store.faults())), (bundle.shown(), vec![]));
}

/// A registry that forgets untagged manifests while the run goes on, as garbage collectors do.
#[test]
fn what_is_collected_during_the_run_is_there_when_the_tag_moves() {
    let folder = folder();
    let path = index().write(folder.path());
    let registry = Arc::new(ScriptedRegistry::start());
    let weak = Arc::downgrade(&registry);
    // Once the index has come, the collector takes the children.
    let collect = move |_: &Request| {
        if let Some(registry) = weak.upgrade() {
            registry.store(|store| store.lose_manifest(1));
        }
    };
    registry.on(Rule::on("PUT", "/manifests/sha256:", Action::meanwhile(collect)).nth(3));
    Push::to(registry.as_ref()).source(&path).run().complete();
    assert_eq!(registry.store(|store| (store.shown(), store.faults())), (index().shown(), vec![]));
}

#[test]
fn a_registry_that_keeps_rotten_bytes_is_told_from_one_that_has_none() {
    let folder = folder();
    let path = images().write(folder.path());
    let registry = ScriptedRegistry::strict();
    let push = Push::to(&registry).source(&path);
    push.run().complete();
    registry.store(Store::rot);
    // It has such a blob already, it thinks, and keeps it.
    registry.on(Rule::on("PUT", "/blobs/uploads/", Action::Answer(Answer::status(201))));
    let pushed = push.flag("--verify=pull").run();
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    let failed = &pushed.mirror(0)["images_failed"][0];
    assert!(
        failed["message"].as_str().unwrap().contains("other bytes came back, with digest sha256:"),
        "{failed}"
    );
    let hint = failed["hint"].as_str().unwrap();
    assert!(hint.contains("delete that blob") && hint.contains("--verify=pull"), "{failed}");
}

/// Who does not know what a mount is may answer 201 as well, and a proxy with whatever it likes.
#[test]
fn a_mount_that_was_not_done_is_found_out_and_the_layer_is_sent() {
    let folder = folder();
    let path = images().write(folder.path());
    for status in [200, 201, 204, 206] {
        let registry = ScriptedRegistry::start();
        registry.on(Rule::on("POST", "mount=", Action::Answer(Answer::status(status))));
        let pushed = Push::to(&registry).source(&path).run().complete();
        let held = registry.store(|store| (store.shown(), store.faults()));
        assert_eq!(held, (images().shown(), vec![]), "{status}");
        assert_eq!(levels(&pushed), ["sample"; 3], "{status}");
    }
}

#[test]
fn a_commit_that_stored_nothing_is_no_success_whatever_2xx_answers() {
    let folder = folder();
    let path = images().write(folder.path());
    for status in [200, 202, 204, 206] {
        let registry = ScriptedRegistry::start();
        let login =
            Answer::status(status).body(if status == 204 { vec![] } else { b"<html>Log in".to_vec() });
        registry.on(Rule::on("PUT", "/blobs/uploads/", Action::Answer(login)));
        let pushed = Push::to(&registry).source(&path).run();
        assert_eq!((pushed.exit, registry.store(|store| store.shown())), (3, vec![]), "{status}");
        let failed = &pushed.mirror(0)["images_failed"][0];
        let told =
            format!("answered {status} to the commit of a blob, where 201 would say that it is stored");
        assert!(failed["message"].as_str().unwrap().contains(&told), "{failed}");
    }
}
