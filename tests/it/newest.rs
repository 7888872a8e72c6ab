//! `newest: true`: which of several files `sync` takes.
//!
//! A file that was just written may still be on its way, and its time of change cannot be set back. Files that are settled are
//! those of the repository, under names of links.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use crate::support::scripted::ScriptedRegistry;
use crate::support::{Pushed, folder, layercast, root, within};
use crate::sync::SitesFile;

/// Archives of one image each, and the tag that shows which one was taken.
const OLDER: (&str, &str) = ("scalibr-basic/basic.tar", "library/basic");
const NEWER: (&str, &str) = ("orasgo-hello/hello-world.tar", "hello-world");

struct Bundles {
    folder: tempfile::TempDir,
    registry: ScriptedRegistry,
}

impl Bundles {
    fn new() -> Self {
        Self { folder: folder(), registry: ScriptedRegistry::strict() }
    }

    fn path(&self, version: &str) -> PathBuf {
        self.folder.path().join(format!("bm_{version}.tar"))
    }

    /// A file that has not changed for long.
    fn settled(&self, version: &str, archive: (&str, &str)) -> &Self {
        symlink(root().join("tests/fixtures").join(archive.0), self.path(version)).unwrap();
        self
    }

    /// A copy that was just made.
    fn arriving(&self, version: &str, archive: (&str, &str)) -> &Self {
        std::fs::copy(root().join("tests/fixtures").join(archive.0), self.path(version)).unwrap();
        self
    }

    /// Of no file that there is.
    fn wrong_sum(&self, version: &str) -> &Self {
        let beside = self.folder.path().join(format!("bm_{version}.tar.sha256"));
        std::fs::write(beside, format!("{}  bm_{version}.tar\n", "0".repeat(64))).unwrap();
        self
    }

    fn file(&self) -> SitesFile {
        let pattern = self.folder.path().join("bm_*.tar");
        let bundle = format!("{{path: '{}', newest: true}}", pattern.display());
        SitesFile::of(self.folder.path(), &bundle).site("one", &self.registry.host(), "")
    }

    fn sync(&self) -> Pushed {
        self.file().sync(&[])
    }

    /// The same, as cron calls it.
    fn sync_quietly(&self) -> Pushed {
        self.file().sync(&["--quiet"])
    }

    /// A command that goes by what the runs remember.
    fn layercast(&self, words: &[&str]) -> (i32, String) {
        let mut command = layercast();
        command.env_remove("LAYERCAST_NO_STATE").args(words).arg("-c").arg(self.file().write());
        command.arg("--state-dir").arg(self.folder.path().join("state"));
        let Output { status, stdout, stderr } = within(Duration::from_secs(60), command);
        let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (status.code().unwrap(), said)
    }

    /// The name of the one image that is shown.
    #[track_caller]
    fn shows(&self, archive: (&str, &str)) {
        let (shown, faults) = self.registry.store(|store| (store.shown(), store.faults()));
        assert!(matches!(&shown[..], [one] if one.contains(archive.1)) && faults.is_empty(), "{shown:?}");
    }
}

fn taken(run: &Pushed) -> String {
    let path = run.report["bundles"][0]["path"].as_str().unwrap();
    Path::new(path).file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn the_version_counts_by_its_numbers() {
    let bundles = Bundles::new();
    let run = bundles.settled("1.9.0", OLDER).settled("1.10.0", NEWER).sync().complete();
    assert_eq!(taken(&run), "bm_1.10.0.tar");
    bundles.shows(NEWER);
}

/// A run that took something else than what was meant, and says so.
#[track_caller]
fn passed_over(run: Pushed) -> Pushed {
    let passed_over = run.report["passed_over"].as_array().map_or(0, Vec::len);
    assert_eq!((run.exit, passed_over), (3, 1), "{}", run.said());
    run
}

#[test]
fn a_file_that_is_still_arriving_is_passed_over_and_the_run_is_not_complete() {
    let bundles = Bundles::new();
    let run = passed_over(bundles.settled("1.9.0", OLDER).arriving("1.10.0", NEWER).sync_quietly());
    assert_eq!(
        (taken(&run).as_str(), run.report["mirrors"][0]["state"].as_str()),
        ("bm_1.9.0.tar", Some("complete"))
    );
    let said = run.said();
    assert!(
        said.contains("may still be on its way") && said.contains("bm_1.9.0.tar is taken instead"),
        "{said}"
    );
    bundles.shows(OLDER);
}

#[test]
fn in_the_place_of_a_file_whose_sum_is_wrong_the_next_one_is_taken_before_any_tag() {
    let bundles = Bundles::new();
    bundles.settled("1.9.0", OLDER).settled("1.10.0", NEWER).wrong_sum("1.10.0");
    let run = passed_over(bundles.sync_quietly());
    assert_eq!(taken(&run), "bm_1.9.0.tar");
    let said = run.said();
    assert!(said.contains("its sum is not what the file beside it says"), "{said}");
    // No tag ever stood for an image of the other one.
    bundles.shows(OLDER);
    let tags = bundles.registry.asked().iter().filter(|it| it.kind() == "PUT manifest").count();
    assert!(tags > 0, "{said}");
}

#[test]
fn of_two_files_of_one_version_one_is_taken_and_the_other_is_not_mixed_in() {
    let bundles = Bundles::new();
    let run = bundles.settled("1.10", OLDER).settled("1.10.0", OLDER).sync().complete();
    assert!(taken(&run).starts_with("bm_1.10"), "{}", run.said());
    assert_eq!(run.report["bundles"].as_array().unwrap().len(), 1);
    bundles.shows(OLDER);
}

#[test]
fn where_no_sum_is_right_no_tag_moves() {
    let bundles = Bundles::new();
    let run = bundles.settled("1.10.0", NEWER).wrong_sum("1.10.0").sync();
    assert_eq!(run.exit, 5, "{}", run.said());
    assert_eq!(bundles.registry.store(|store| store.shown()), [""; 0]);
}

#[test]
fn a_site_never_goes_back_to_an_older_file_because_the_newer_one_cannot_be_taken() {
    let bundles = Bundles::new();
    bundles.settled("1.9.0", OLDER).settled("1.10.0", NEWER).sync().complete();
    bundles.shows(NEWER);
    let stays = |run: Pushed| {
        let run = passed_over(run);
        let error = &run.report["mirrors"][0]["error"];
        assert_eq!(error["class"], "passed-over", "{}", run.said());
        assert!(run.said().contains("bm_1.9.0.tar is older: nothing was moved back"), "{}", run.said());
        bundles.shows(NEWER);
    };
    // The sum proves wrong while the file is read, then is no sum at all.
    stays(bundles.wrong_sum("1.10.0").sync_quietly());
    let beside = bundles.folder.path().join("bm_1.10.0.tar.sha256");
    std::fs::write(&beside, "nonsense").unwrap();
    stays(bundles.sync_quietly());
    // What the sites file still needs is not known.
    let (exit, said) = bundles.layercast(&["prune", "--keep-bundles", "1"]);
    assert!(exit == 3 && said.contains("nothing goes"), "{said}");
    let (exit, said) = bundles.layercast(&["history"]);
    assert!(exit == 0 && said.contains("[passed-over]"), "{said}");
    std::fs::remove_file(beside).unwrap();
    bundles.sync().complete();
}

#[test]
fn a_site_is_not_checked_as_good_where_a_sum_is_wrong() {
    let bundles = Bundles::new();
    bundles.settled("1.10.0", NEWER).wrong_sum("1.10.0");
    let (exit, said) = bundles.layercast(&["sites", "check"]);
    assert!(exit != 0 && said.contains("the file beside it says"), "{said}");
}
