//! A bundle that changes while it is read: the run says so, and shows nothing that is not whole.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::support::build::Bundle;
use crate::support::scripted::{Action, Rule, ScriptedRegistry};
use crate::support::{Push, folder};

/// Large enough that most of it is unread when the first upload begins.
fn bundle() -> Bundle {
    Bundle::oci_layout().image("images.example/a/one:1", &["one", "two", "three"]).layer_bytes(3 << 20)
}

/// Changes the bundle when the first upload is opened, and gives the registry.
fn changed_by(io: &str, change: fn(&Path)) -> ScriptedRegistry {
    let (folder, registry) = (folder(), ScriptedRegistry::start());
    let path = bundle().write(folder.path());
    let changed = path.clone();
    let change = Action::meanwhile(move |_| change(&changed));
    registry.on(Rule::on("POST", "/blobs/uploads/", change).times(1));
    let pushed = Push::to(&registry).source(&path).flags(&["--io", io, "--threads=1"]).run();
    assert_eq!(pushed.exit, 5, "by {io}: {}", pushed.said());
    assert!(pushed.stderr.contains("changed while it was read"), "by {io}: {}", pushed.said());
    assert_eq!(registry.store(|store| store.faults()), [""; 0], "by {io}");
    registry
}

/// What was opened stays whole, so it may be shown; but it is not what lies there now.
#[test]
fn another_file_takes_its_name() {
    for io in ["map", "pread"] {
        changed_by(io, |path| {
            let other = path.with_extension("other");
            fs::write(&other, bundle().image("images.example/b/two:1", &["four"]).bytes()).unwrap();
            fs::rename(other, path).unwrap();
        });
    }
}

/// What every mirror has by then is what was asked for: the next bundle may take the name.
#[test]
fn another_file_takes_its_name_when_all_of_it_is_pushed() {
    let (folder, registry) = (folder(), ScriptedRegistry::start());
    let path = bundle().write(folder.path());
    let changed = path.clone();
    let replace = Action::meanwhile(move |_| {
        let next = changed.with_extension("next");
        fs::write(&next, bundle().image("images.example/b/two:1", &["four"]).bytes()).unwrap();
        fs::rename(next, &changed).unwrap();
    });
    registry.on(Rule::on("PUT", "/manifests/1", replace));
    let pushed = Push::to(&registry).source(&path).run().complete();
    assert!(
        pushed.stderr.contains("another file took its name after all of it was pushed"),
        "{}",
        pushed.said()
    );
    assert!(
        pushed.report["notes"][0].as_str().unwrap().contains("took its name"),
        "{}",
        pushed.report["notes"]
    );
    assert_eq!(registry.store(|store| (store.shown(), store.faults())), (bundle().shown(), vec![]));
}

/// What was opened stays whole until the end, and there is no other bundle to run again for.
#[test]
fn it_is_removed() {
    let (folder, registry) = (folder(), ScriptedRegistry::start());
    let path = bundle().write(folder.path());
    let removed = path.clone();
    let remove = Action::meanwhile(move |_| fs::remove_file(&removed).unwrap());
    registry.on(Rule::on("POST", "/blobs/uploads/", remove).times(1));
    let pushed = Push::to(&registry).source(&path).flags(&["--threads=1"]).run().complete();
    assert!(pushed.stderr.contains("removed after it was opened"), "{}", pushed.said());
    assert_eq!(registry.store(|store| (store.shown(), store.faults())), (bundle().shown(), vec![]));
}

#[test]
fn it_is_truncated() {
    for io in ["map", "pread"] {
        let truncate =
            |path: &Path| fs::File::options().write(true).open(path).unwrap().set_len(1 << 20).unwrap();
        assert_eq!(changed_by(io, truncate).store(|store| store.shown()), [""; 0], "by {io}");
    }
}

#[test]
fn something_is_appended() {
    for io in ["map", "pread"] {
        let append = |path: &Path| {
            let mut file = fs::File::options().append(true).open(path).unwrap();
            file.write_all(&[0; 10_240]).unwrap();
        };
        assert_eq!(changed_by(io, append).store(|store| store.shown()), [""; 0], "by {io}");
    }
}
