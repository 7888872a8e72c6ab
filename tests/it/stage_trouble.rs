//! A stage that is slow, unreadable, or of a bundle that is damaged: it costs time, and never a word less in the report.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::stage::{NONE, Room, listed, oci_layout, work};
use crate::support::build::{Bundle, docker_archive};
use crate::support::scripted::{Action, Rule, ScriptedRegistry};
use crate::support::{eventually, folder};
use crate::sync::SitesFile;

/// What of a bundle is left out, as the report says it.
fn left_out(report: &Value) -> String {
    report["left_out"].to_string()
}

#[test]
fn a_bundle_with_damaged_parts_is_read_once_and_its_damage_is_told_in_each_run() {
    let folder = folder();
    let bundle = Bundle::folder().image("gcr.io/team/app:1", &["base", "one"]).layer_bytes(100_000).gzip();
    let bundle = bundle.write(&folder.path().join("bundles"));
    let cut = crate::support::build::gzip(&docker_archive("lost", "gcr.io/team/lost:1"));
    fs::write(bundle.join("cut.tar.gz"), &cut[..300]).unwrap();
    let fill = |name: &str| {
        let registry = ScriptedRegistry::strict();
        let file = SitesFile::new(folder.path(), &bundle).line("stage: {dir: stage}");
        let run = file.site(name, &registry.host(), "").sync(&[]);
        assert_eq!(run.exit, 3, "{}", run.said());
        assert_eq!(
            registry.store(|store| (store.shown(), store.faults())),
            (vec!["team/app:1".to_owned()], vec![])
        );
        assert!(left_out(&run.report).contains("cut.tar.gz"), "{}", run.said());
        run
    };
    let first = fill("first");
    assert_ne!(work(&first), NONE);
    // From the state, and from the stage alone.
    let second = fill("second");
    fs::remove_dir_all(folder.path().join("state")).unwrap();
    let third = fill("third");
    for later in [second, third] {
        assert_eq!(work(&later), NONE, "{}", later.said());
        assert_eq!(left_out(&later.report), left_out(&first.report));
    }
}

/// A run whose mirror is done while another run does not let it change the stage.
#[test]
fn a_run_that_waits_for_its_stage_says_so_and_can_be_told_to_stop() {
    for interrupted in [false, true] {
        let room = Room::of(&oci_layout().layer_bytes(1 << 20));
        let registry = ScriptedRegistry::strict();
        let (holder, held) = mpsc::channel();
        let path = room.stage().join("change.lock");
        let hold = Action::meanwhile(move |_| {
            let file = File::open(&path).unwrap();
            #[allow(clippy::disallowed_methods)] // the run has it for a moment at a time
            file.lock().unwrap();
            holder.send(file).unwrap();
        });
        registry.on(Rule::on("HEAD", "/manifests/", hold).times(1));
        let said = room.folder.path().join("said");
        let report = room.folder.path().join("report.json");
        let mut command = room.file().site("one", &registry.host(), "").command(&[]);
        command.arg("--report").arg(&report).stdout(Stdio::null()).stderr(File::create(&said).unwrap());
        let mut running = command.spawn().unwrap();
        let has_said = |text: &str| fs::read_to_string(&said).unwrap().contains(text);
        eventually("it says what it waits for", || has_said("filling the stage: "));
        crate::stage::is_whole(&registry);
        if interrupted {
            let id = running.id().to_string();
            assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
            eventually("it has heard that", || has_said("stopping"));
        }
        drop(held.recv().unwrap());
        let exit = running.wait().unwrap().code();
        let document: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        if interrupted {
            assert!(has_said("are in it, because the run was interrupted"), "{exit:?} {document}");
        } else {
            assert_eq!((exit, &document["notes"]), (Some(0), &Value::Array(Vec::new())));
            assert_eq!(listed(Path::new(&room.stage())).len(), 2);
        }
    }
}
