//! The stage: what was decoded and compressed once is there for sites, windows and runs that come later.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::build::Bundle;
use crate::support::registry::Registry;
use crate::support::scripted::{Action, Rule, ScriptedRegistry};
use crate::support::{Push, Pushed, eventually, folder};
use crate::sync::SitesFile;

/// Bundles whose images share a layer, and that must be decoded to be read.
pub(crate) fn docker_archive() -> Bundle {
    let bundle = Bundle::docker_archive().image("gcr.io/team/app:1", &["base", "one"]);
    bundle.image("quay.io/lib:2", &["base", "two"]).layer_bytes(100_000).xz()
}

pub(crate) fn oci_layout() -> Bundle {
    let bundle = Bundle::oci_layout().image("gcr.io/team/app:1", &["base", "one"]);
    bundle.index("quay.io/lib:2", &["base", "two"], &["amd64", "arm64"]).layer_bytes(100_000).xz()
}

fn archives() -> Bundle {
    let bundle = Bundle::archives().image("gcr.io/team/app:1", &["base", "one"]);
    bundle.image("quay.io/lib:2", &["base", "two"]).layer_bytes(100_000).zstd()
}

const SHOWN: [&str; 2] = ["lib:2", "team/app:1"];

/// A bundle, a stage, and a sites file for both.
pub(crate) struct Room {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) bundle: PathBuf,
}

impl Room {
    pub(crate) fn of(bundle: &Bundle) -> Self {
        let folder = folder();
        let bundle = bundle.write(&folder.path().join("bundles"));
        Self { folder, bundle }
    }

    pub(crate) fn stage(&self) -> PathBuf {
        self.folder.path().join("stage")
    }

    pub(crate) fn file(&self) -> SitesFile {
        SitesFile::new(self.folder.path(), &self.bundle).line("stage: {dir: stage}")
    }

    /// Fills a site, and the stage with it.
    pub(crate) fn fill(&self) -> Pushed {
        let first = ScriptedRegistry::strict();
        let run = self.file().site("first", &first.host(), "").sync(&[]).complete();
        assert_eq!(run.report["stage"]["images"], 2, "{}", run.report["stage"]);
        run
    }

    /// Forgets all but the stage.
    pub(crate) fn forget(&self) {
        fs::remove_dir_all(self.folder.path().join("state")).unwrap();
    }

    /// Fills a site that is new.
    pub(crate) fn fill_another(&self) -> Pushed {
        let another = ScriptedRegistry::strict();
        let run = self.file().site("another", &another.host(), "").sync(&[]).complete();
        is_whole(&another);
        run
    }

    pub(crate) fn blobs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.stage().join("blobs/sha256")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[track_caller]
pub(crate) fn is_whole(registry: &ScriptedRegistry) {
    registry.store(|store| {
        assert_eq!(store.faults(), [""; 0]);
        assert_eq!(store.shown(), SHOWN);
    });
}

/// What of the bundle was decoded, in bytes and in parts, and whether anything was compressed.
pub(crate) fn work(run: &Pushed) -> (u64, u64, bool) {
    let decode = &run.report["decode"];
    let is_idle = run.report["compress"]["cpu_seconds"].as_f64().unwrap() == 0.0;
    (decode["bytes"].as_u64().unwrap(), decode["parts"].as_u64().unwrap(), !is_idle)
}

pub(crate) const NONE: (u64, u64, bool) = (0, 0, false);

#[test]
fn a_new_site_is_filled_from_the_stage_alone_when_the_state_is_gone() {
    for bundle in [docker_archive(), oci_layout(), archives()] {
        let room = Room::of(&bundle);
        assert_ne!(work(&room.fill()), NONE);
        room.forget();
        let run = room.fill_another();
        assert_eq!(work(&run), NONE, "{}", run.said());
        assert_eq!(run.report["stage"]["blobs_written"], 0);
        assert!(run.report["stage"]["blobs_read"].as_u64().unwrap() >= 3, "{}", run.report["stage"]);
    }
}

#[test]
fn sites_that_come_later_in_a_run_decode_nothing() {
    // More than memory holds, in parts that can be decoded one by one.
    let bundle = Bundle::oci_layout().image("gcr.io/team/app:1", &["a", "b"]);
    let bundle = bundle.image("quay.io/lib:2", &["c", "d"]);
    let bundle = bundle.layer_bytes(6 << 20).zstd_frames();
    let room = Room::of(&bundle);
    let registries: Vec<ScriptedRegistry> = (0..3).map(|_| ScriptedRegistry::strict()).collect();
    let mut file = room.file().line("parallel_sites: 1\nmemory: 32MiB\nspool_limit: 0MiB");
    for (number, registry) in registries.iter().enumerate() {
        file = file.site(&format!("site-{number}"), &registry.host(), "");
    }
    let run = file.sync(&[]).complete();
    registries.iter().for_each(is_whole);
    let (bytes, whole) = (work(&run).0, 24 << 20);
    // Once to see what is in it, once for the first site, and what both of its readers wanted at different times.
    assert!((whole..3 * whole).contains(&bytes), "{bytes}");
    assert!(run.report["stage"]["blobs_read"].as_u64().unwrap() >= 2 * 4, "{}", run.report["stage"]);
}

#[test]
fn a_damaged_blob_is_read_from_the_bundle_in_the_same_run() {
    for bundle in [docker_archive(), oci_layout()] {
        let room = Room::of(&bundle);
        room.fill();
        room.forget();
        for path in room.blobs() {
            let mut bytes = fs::read(&path).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
        let run = room.fill_another();
        let stage = &run.report["stage"];
        assert!(stage["blobs_damaged"].as_u64().unwrap() >= 3, "{stage}");
        assert!(run.said().contains("was damaged in the stage"), "{}", run.said());
        // What was damaged comes back.
        room.fill_another();
        room.forget();
        assert_eq!(work(&room.fill_another()), NONE);
    }
}

/// The other blobs come from the stage, so nobody wants their parts.
#[test]
fn of_a_damaged_blob_its_own_parts_are_decoded() {
    let bundle = Bundle::oci_layout().image("gcr.io/team/app:1", &["base", "one"]);
    let bundle = bundle.image("quay.io/lib:2", &["base", "two"]).layer_bytes(5 << 20).zstd_frames();
    let room = Room::of(&bundle);
    room.fill();
    room.forget();
    let layers = room.blobs().into_iter().filter(|path| fs::metadata(path).unwrap().len() > 5 << 20);
    let damaged = layers.min().unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[1 << 20] ^= 1;
    fs::write(&damaged, &bytes).unwrap();
    let (_, parts, _) = work(&room.fill_another());
    let needed = bytes.len().div_ceil(1 << 20) as u64 + 1;
    assert!(
        (needed - 1..=needed).contains(&parts),
        "{parts} parts were decoded, where {needed} hold the blob"
    );
}

#[test]
fn a_stage_that_is_full_is_said_once_and_fails_nothing() {
    let room = Room::of(&docker_archive());
    let registry = ScriptedRegistry::strict();
    let run = room.file().site("one", &registry.host(), "").sync(&["--stage-limit", "1KiB"]).complete();
    is_whole(&registry);
    assert_eq!(run.said().matches("reached its limit of 1.0 KiB").count(), 1, "{}", run.said());
    assert_eq!(
        (&run.report["stage"]["images"], &run.report["stage"]["images_left_out"]),
        (&0.into(), &2.into())
    );
    let taken: u64 = room.blobs().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(taken <= 1024, "{taken}");
}

#[test]
fn the_day_before_it_is_looked_whether_the_stage_has_room() {
    let room = Room::of(&docker_archive());
    let registry = ScriptedRegistry::strict();
    let file = room.file().site("one", &registry.host(), "");
    let stage = || {
        let mut check = crate::support::layercast();
        check.args(["sites", "check", "--json", "-c"]).arg(file.write());
        let output = crate::support::within(Duration::from_secs(60), check);
        assert_eq!(output.status.code(), Some(0));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["machine"][1]["message"].as_str().unwrap().to_owned()
    };
    // The most that it may take: what compressing saves is not known before.
    let needed_kib = |message: &str| -> f64 {
        let (_, needed) = message.split_once("free, ").unwrap();
        needed.strip_suffix(" KiB needed").unwrap().parse().unwrap()
    };
    let before = stage();
    assert!(before.contains(&room.stage().display().to_string()) && needed_kib(&before) > 250.0, "{before}");
    assert!(!room.stage().exists());
    file.sync(&[]).complete();
    let after = stage();
    assert!(needed_kib(&after) < 25.0, "{after}");
}

#[test]
fn what_a_killed_run_has_staged_is_used_by_the_next() {
    for bundle in [docker_archive(), oci_layout()] {
        let room = Room::of(&bundle);
        let slow = ScriptedRegistry::strict();
        slow.on(Rule::on("POST", "/blobs/uploads/", Action::Hold));
        let mut running = room.file().site("slow", &slow.host(), "").start(&[]);
        eventually("both images are listed", || listed(&room.stage()).len() == 2);
        running.kill().unwrap();
        running.wait().unwrap();
        fs::write(room.stage().join("tmp/0123456789abcdef"), "left behind").unwrap();
        room.forget();
        assert_eq!(work(&room.fill_another()), NONE);
        assert_eq!(fs::read_dir(room.stage().join("tmp")).unwrap().count(), 0);
    }
}

/// The names in the index of a stage, with the digests that they stand for.
pub(crate) fn listed(stage: &Path) -> BTreeMap<String, String> {
    let Ok(bytes) = fs::read(stage.join("index.json")) else { return BTreeMap::new() };
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    let entry = |entry: &Value| {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
        (name.to_owned(), entry["digest"].as_str().unwrap().to_owned())
    };
    index["manifests"].as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn runs_share_a_stage() {
    let room = Room::of(&docker_archive());
    let registries = [ScriptedRegistry::strict(), ScriptedRegistry::strict()];
    std::thread::scope(|scope| {
        for (number, registry) in registries.iter().enumerate() {
            let room = &room;
            scope.spawn(move || {
                let own = room.folder.path().join(format!("run-{number}"));
                fs::create_dir(&own).unwrap();
                let stage = format!("stage: {{dir: {}}}", room.stage().display());
                let file = SitesFile::new(&own, &room.bundle).line(&stage);
                let run = file.site("one", &registry.host(), "").sync(&[]).complete();
                assert_eq!(run.report["stage"]["images"], 2);
                assert_eq!(run.report["notes"], Value::Array(Vec::new()));
            });
        }
    });
    registries.iter().for_each(is_whole);
    assert_eq!(listed(&room.stage()).keys().collect::<Vec<_>>(), ["gcr.io/team/app:1", "quay.io/lib:2"]);
    assert_eq!(work(&room.fill_another()), NONE);
}

#[test]
fn a_stage_is_a_bundle() {
    for bundle in [docker_archive(), oci_layout()] {
        let room = Room::of(&bundle);
        let first = ScriptedRegistry::strict();
        room.file().site("first", &first.host(), "").sync(&[]).complete();
        let second = ScriptedRegistry::strict();
        let run = Push::to(&second).source(&room.stage()).run().complete();
        is_whole(&second);
        let digests = |registry: &ScriptedRegistry| registry.store(|store| store.tags.clone());
        assert_eq!(digests(&first), digests(&second));
        assert_eq!(run.report["left_out"], Value::Array(Vec::new()));
        let both = Push::to(&second).source(&room.stage()).flag("--stage").flag(room.stage()).run();
        assert_eq!(both.exit, 2, "{}", both.said());
    }
}

#[test]
fn push_fills_a_stage_too_and_a_folder_of_others_is_refused() {
    let room = Room::of(&docker_archive());
    let registry = Registry::embedded(&room.folder.path().join("registry"));
    let push = Push::to(&registry).source(&room.bundle);
    push.clone().flag("--stage").flag(room.stage()).run().complete();
    assert_eq!(listed(&room.stage()).len(), 2);
    let photos = room.folder.path().join("photos");
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("cat.jpg"), "cat").unwrap();
    let run = push.clone().flag("--stage").flag(&photos).run();
    assert_eq!(run.exit, 2);
    assert!(run.said().contains("photos") && run.said().contains("cat.jpg"), "{}", run.said());
    assert_eq!(fs::read_dir(&photos).unwrap().count(), 1);
    // A folder that the system does not give us costs a warning.
    let run = push.clone().flag("--stage").flag(photos.join("cat.jpg")).run().complete();
    assert!(run.said().contains("goes on without its stage"), "{}", run.said());
    assert_eq!(push.flags(&["--stage-limit", "1GiB"]).run().exit, 2, "of which stage?");
}

#[test]
fn a_bundle_that_the_sites_file_does_not_name_any_more_leaves_the_stage() {
    let room = Room::of(&docker_archive());
    room.fill();
    let before = room.blobs().len();
    let next =
        Bundle::docker_archive().image("gcr.io/team/app:2", &["base", "three"]).layer_bytes(100_000).xz();
    let next = next.write(&room.folder.path().join("next"));
    let registry = ScriptedRegistry::strict();
    let file = SitesFile::new(room.folder.path(), &next).line("stage: {dir: stage}");
    let run = file.site("one", &registry.host(), "").sync(&[]).complete();
    assert_eq!(listed(&room.stage()).keys().collect::<Vec<_>>(), ["gcr.io/team/app:2"]);
    assert_eq!(
        (run.report["stage"]["bundles_removed"].as_u64(), room.blobs().len()),
        (Some(1), 4),
        "{before}"
    );
    // The layer that both have was there: it was neither compressed nor written again.
    assert_eq!(run.report["stage"]["blobs_written"], 3, "a layer, a configuration, a manifest");
}
