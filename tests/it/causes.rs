//! What went wrong is told once, with the exit code that says what kind of thing it is.

use crate::support::build::Bundle;
use crate::support::scripted::{Action, Answer, Rule, ScriptedRegistry};
use crate::support::{Push, folder};

fn twelve_images() -> Bundle {
    let names = (0..12).map(|number| format!("images.example/team/app{number}:1"));
    names.fold(Bundle::oci_layout(), |bundle, name| bundle.image(&name, &["base"]))
}

#[test]
fn one_cause_of_twelve_images_is_told_once() {
    let folder = folder();
    let path = twelve_images().write(folder.path());
    let registry = ScriptedRegistry::start();
    let full = Action::make(|request| {
        Answer::error(507, "DENIED", &format!("nothing more fits into {}", request.path))
    });
    registry.on(Rule::on("POST", "/blobs/uploads/", full));
    let push = Push::to(&registry).source(&path);
    let pushed = push.run();
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    // Once when it happened, and once at the end.
    assert_eq!(pushed.stderr.matches("nothing more fits").count(), 2, "{}", pushed.stderr);
    let closing = "12 images are not complete: no room on the registry";
    assert_eq!(pushed.stderr.matches(closing).count(), 1, "{}", pushed.stderr);
    assert!(!pushed.stdout.contains("no room"), "{}", pushed.stdout);
    let failed = pushed.mirror(0)["images_failed"].as_array().unwrap();
    assert_eq!(failed.len(), 12, "the report has each");

    let quiet = push.flag("--quiet").run();
    assert_eq!(quiet.stderr.matches("error: ").count(), 1, "{}", quiet.stderr);
}

#[test]
fn images_that_fail_in_different_ways_are_told_each() {
    let folder = folder();
    let path = Bundle::oci_layout()
        .image("images.example/a:1", &["one"])
        .image("images.example/b:1", &["two"])
        .write(folder.path());
    let registry = ScriptedRegistry::start();
    for (part, status) in [("/v2/a/blobs/uploads/", 403), ("/v2/b/blobs/uploads/", 405)] {
        registry.on(Rule::on("POST", part, Action::Answer(Answer::error(status, "DENIED", "no"))));
    }
    let pushed = Push::to(&registry).source(&path).run();
    for status in ["403 forbidden", "405 method not allowed"] {
        assert_eq!(pushed.stderr.matches(status).count(), 2, "{}", pushed.stderr);
    }
    assert!(!pushed.said().contains("2 images:"), "{}", pushed.said());
}

#[test]
fn a_mirror_that_is_no_registry_is_one_that_was_not_reached() {
    let folder = folder();
    let path = twelve_images().write(folder.path());
    for (status, exit) in [(404, 6), (403, 4), (401, 4)] {
        let registry = ScriptedRegistry::start();
        registry.on(Rule::any(Action::Answer(Answer::status(status).body(b"<html>Sign in</html>".to_vec()))));
        let pushed = Push::to(&registry).source(&path).run();
        assert_eq!(pushed.exit, exit, "{status}: {}", pushed.said());
    }
    // One of two mirrors is there: the run is incomplete.
    let (good, bad) = (ScriptedRegistry::start(), ScriptedRegistry::start());
    bad.on(Rule::any(Action::Answer(Answer::status(404))));
    assert_eq!(Push::to(&good).and_to(&bad).source(&path).run().exit, 3);
}

#[test]
fn a_registry_that_takes_nothing_is_called_read_only() {
    let folder = folder();
    let path = twelve_images().write(folder.path());
    let registry = ScriptedRegistry::start();
    registry.on(Rule::on("POST", "/blobs/uploads/", Action::Answer(Answer::error(405, "UNSUPPORTED", "no"))));
    let pushed = Push::to(&registry).source(&path).run();
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    assert!(pushed.said().contains("a read-only registry or a pull-through cache"), "{}", pushed.said());
}

/// Six images with a layer and a configuration each: as many sessions are to be opened at once.
#[test]
fn a_registry_that_says_not_now_for_ever_is_asked_by_one_at_a_time() {
    let folder = folder();
    let names = (0..6).map(|number| (format!("images.example/team/app{number}:1"), format!("layer{number}")));
    let bundle = names.fold(Bundle::oci_layout(), |bundle, (name, layer)| bundle.image(&name, &[&layer]));
    let path = bundle.write(folder.path());
    for (status, method, part, most) in [
        // A connection opened early, the names, the blobs of the first four images, and a session for each blob.
        (429, "POST", "/blobs/uploads/", 1 + 6 + 8 + 12 + 20),
        (503, "HEAD", "/manifests/", 1 + 6 + 20),
        (429, "GET", "", 40),
    ] {
        let registry = ScriptedRegistry::start();
        registry.on(Rule::on(method, part, Action::Answer(Answer::status(status))));
        if method == "GET" {
            registry.on(Rule::any(Action::Answer(Answer::status(status))));
        }
        let pushed = Push::to(&registry).source(&path).flag("--patience=4").run();
        assert_ne!(pushed.exit, 0, "{}", pushed.said());
        let asked = registry.asked();
        assert!(asked.len() <= most, "{status} to {method} {part}: {}: {}", asked.len(), pushed.said());
    }
}

#[test]
fn twelve_images_do_not_each_try_again_at_a_registry_that_fails_at_every_write() {
    let folder = folder();
    let path = twelve_images().write(folder.path());
    let registry = ScriptedRegistry::start();
    registry.on(Rule::on("POST", "/blobs/uploads/", Action::Answer(Answer::status(500))));
    let pushed = Push::to(&registry).source(&path).flag("--patience=2").run();
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    let posts = registry.asked().iter().filter(|request| request.method == "POST").count();
    // A first try of what is under way at once, and one after the other for two seconds. Each for itself: 96.
    assert!(posts <= 36, "{posts}: {}", pushed.said());
    assert!(
        pushed.said().contains("12 images are not complete: 500 internal server error"),
        "{}",
        pushed.said()
    );
    assert!(pushed.said().contains("look at its log"), "{}", pushed.said());
}
