//! What was remembered of a registry saves questions, and is never believed against its word: no tag shows an image whose blobs
//! are gone.

use std::path::Path;

use crate::support::build::Bundle;
use crate::support::scripted::{ScriptedRegistry, Store};
use crate::support::{Push, Pushed, folder};

/// A release that shares five of its six layers with the others.
fn release(number: usize) -> Bundle {
    let last = format!("only in {number}");
    Bundle::oci_layout().image(&format!("images.example/app:{number}"), &["a", "b", "c", "d", "e", &last])
}

fn push(registry: &ScriptedRegistry, folder: &Path, number: usize, flags: &[&str]) -> Pushed {
    let path = release(number).write(&folder.join(number.to_string()));
    let push = Push::to(registry).source(&path).state(&folder.join("state")).flag("--threads=1");
    push.flags(flags).run().complete()
}

/// Questions for blobs and for manifests since this was last asked.
fn questions(registry: &ScriptedRegistry) -> (usize, usize) {
    let asked = registry.asked();
    let count = |kind: &str| asked.iter().filter(|request| request.kind() == kind).count();
    (count("HEAD blob"), count("HEAD manifest"))
}

#[track_caller]
fn is_whole(registry: &ScriptedRegistry) {
    registry.store(|store| assert_eq!(store.faults(), [""; 0]));
}

/// Whatever a registry looks at when it takes a manifest, and whatever is verified besides.
#[test]
fn blobs_that_a_registry_has_lost_although_it_has_their_manifest_are_sent_again() {
    for (registry, flags) in [
        (ScriptedRegistry::start(), &[][..]),
        (ScriptedRegistry::strict(), &[]),
        (ScriptedRegistry::strict(), &["--verify=none"]),
    ] {
        let folder = folder();
        push(&registry, folder.path(), 1, &[]);
        // The old release is not shown any more, and has lost all blobs but its manifest.
        registry.store(|store| {
            store.tags.clear();
            store.lose_blobs();
        });
        push(&registry, folder.path(), 2, flags);
        is_whole(&registry);
        assert_eq!(registry.store(|store| store.shown()), ["app:2"]);
        questions(&registry);
        // It is asked for each blob of the next one: nothing is remembered that proved wrong.
        push(&registry, folder.path(), 3, flags);
        is_whole(&registry);
        assert!(questions(&registry).0 >= 6, "{flags:?}");
    }
}

#[test]
fn a_release_that_was_removed_answers_for_nothing_and_is_not_asked_for_again() {
    let (folder, registry) = (folder(), ScriptedRegistry::strict());
    push(&registry, folder.path(), 1, &[]);
    registry.store(|store: &mut Store| {
        store.tags.clear();
        store.lose_manifest(0);
    });
    questions(&registry);
    push(&registry, folder.path(), 2, &[]);
    // The tag, the digest, and the old one.
    assert_eq!(questions(&registry), (7, 3));
    is_whole(&registry);
    registry.store(|store| store.tags.clear());
    // By the second, which is there without its tag, and not by the first.
    push(&registry, folder.path(), 3, &[]);
    assert_eq!(questions(&registry), (2, 3));
    is_whole(&registry);
}
