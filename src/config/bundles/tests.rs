use super::sums::sum_of;
use super::*;

const HOUR: i64 = 3600;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn files(&self, pattern: &str, newest: bool, now: Timestamp) -> Result<BundleFiles, NoBundle> {
        BundlePath::new(self.0.path().join(pattern), newest).unwrap().files(now)
    }
}

fn names(files: &[Candidate]) -> Vec<String> {
    files.iter().map(|file| file.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// Files cannot be made older than they are, as to their time of change; the clock can be put forward.
fn in_an_hour() -> Timestamp {
    crate::clock::timestamp() + jiff::Span::new().seconds(HOUR)
}

#[test]
fn the_newest_is_that_of_the_highest_version() {
    let folder = Folder::new();
    for version in ["1.8.0", "1.10.0", "1.9.5", "1.11.0-rc.1"] {
        folder.write(&format!("bm_{version}.tar.xz"), "x");
    }
    folder.write("other_9.tar.xz", "x");
    let files = folder.files("bm_*.tar.xz", true, in_an_hour()).unwrap();
    assert_eq!(names(&files.taken), ["bm_1.11.0-rc.1.tar.xz"]);
    assert_eq!(names(&files.instead), ["bm_1.10.0.tar.xz", "bm_1.9.5.tar.xz", "bm_1.8.0.tar.xz"]);
    assert!(files.warnings.is_empty());
    let all = folder.files("bm_*.tar.xz", false, in_an_hour()).unwrap();
    assert_eq!(
        names(&all.taken),
        ["bm_1.8.0.tar.xz", "bm_1.9.5.tar.xz", "bm_1.10.0.tar.xz", "bm_1.11.0-rc.1.tar.xz"]
    );
}

#[test]
fn of_one_version_in_two_files_the_later_counts() {
    let folder = Folder::new();
    let older = folder.write("bm_1.8.tar.xz", "x");
    folder.write("bm_1.8.0.tar.xz", "x");
    let file = fs::File::options().write(true).open(older).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(600)).unwrap();
    let files = folder.files("bm_*.tar.xz", true, in_an_hour()).unwrap();
    assert_eq!(names(&files.taken), ["bm_1.8.tar.xz"]);
}

#[test]
fn a_file_that_has_just_changed_is_left_for_later() {
    let folder = Folder::new();
    folder.write("bm_1.8.0.tar.xz", "x");
    let now = crate::clock::timestamp();
    let error = folder.files("bm_*.tar.xz", true, now).unwrap_err();
    assert!(matches!(error, NoBundle::Arriving { .. }), "it passes by itself, and is no damage: {error}");
    assert!(error.to_string().contains("bm_1.8.0.tar.xz changed"), "{error}");
    assert_eq!(names(&folder.files("bm_*.tar.xz", false, now).unwrap().taken), ["bm_1.8.0.tar.xz"]);
}

#[test]
fn a_time_ahead_hides_no_fresh_change() {
    let folder = Folder::new();
    let path = folder.write("bm_1.8.0.tar.xz", "x");
    let file = fs::File::options().write(true).open(path).unwrap();
    let now = crate::clock::timestamp();
    for ahead in [5_000, 100] {
        file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(ahead)).unwrap();
        assert!(folder.files("bm_*.tar.xz", true, now).is_err(), "it has just changed: {ahead}");
    }
    let later = now + jiff::Span::new().seconds(1_000);
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(5_000)).unwrap();
    assert!(folder.files("bm_*.tar.xz", true, later).is_ok(), "a clock that was put back says nothing");
}

#[test]
fn what_is_no_file_and_links_that_lead_nowhere_are_passed_over() {
    let folder = Folder::new();
    folder.write("bm_1.8.0.tar.xz", "x");
    let at = |name: &str| folder.0.path().join(name);
    let pipe = |path: PathBuf| {
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
    };
    folder.write("bm_1.9.0.tar.xz", "x");
    pipe(at("bm_1.9.0.tar.xz.sha256"));
    pipe(at("bm_1.10.0.tar.xz"));
    std::os::unix::fs::symlink("nowhere", at("bm_1.11.0.tar.xz")).unwrap();
    let files = folder.files("bm_*.tar.xz", true, in_an_hour()).unwrap();
    assert_eq!(names(&files.taken), ["bm_1.8.0.tar.xz"]);
    let ([link, pipe], [sum]) = (&files.warnings[..], &files.passed_over[..]) else { panic!("{files:?}") };
    assert!(link.contains("leads to nothing") && pipe.contains("neither a file") && sum.contains("no file"));
}

#[test]
fn a_sum_that_cannot_be_read_passes_a_file_over_with_a_warning() {
    let folder = Folder::new();
    folder.write("bm_1.8.0.tar.xz", "x");
    folder.write("bm_1.9.0.tar.xz", "x");
    folder.write("bm_1.9.0.tar.xz.sha256", "nonsense\n");
    let files = folder.files("bm_*", true, in_an_hour()).unwrap();
    assert_eq!(names(&files.taken), ["bm_1.8.0.tar.xz"]);
    let [warning] = &files.passed_over[..] else { panic!("{files:?}") };
    assert!(
        warning.contains("no sum of bm_1.9.0") && warning.contains("1.8.0.tar.xz is taken instead"),
        "{warning}"
    );
}

#[test]
fn one_stray_link_keeps_no_newest_file_from_being_taken() {
    let folder = Folder::new();
    folder.write("bm_1.8.0.tar.xz", "x");
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, folder.0.path().join(name)).unwrap();
    link("bm_1.9.0.tar.xz", "bm_1.9.0.tar.xz");
    for newest in [true, false] {
        let files = folder.files("bm_*.tar.xz", newest, in_an_hour()).unwrap();
        assert_eq!((names(&files.taken), files.warnings.len()), (vec!["bm_1.8.0.tar.xz".to_owned()], 1));
    }
    // What may hold images is not left out in silence where all are meant.
    link(&"n".repeat(300), "bm_1.10.0.tar.xz");
    // Nor is it missed where it is older than what is taken.
    link(&"n".repeat(300), "bm_1.7.0.tar.xz");
    let files = folder.files("bm_*.tar.xz", true, in_an_hour()).unwrap();
    assert_eq!(names(&files.taken), ["bm_1.8.0.tar.xz"]);
    assert_eq!((files.warnings.len(), files.passed_over.len()), (2, 1), "{files:?}");
    assert!(files.passed_over[0].contains("bm_1.10.0.tar.xz"), "{files:?}");
    let error = folder.files("bm_*.tar.xz", false, in_an_hour()).unwrap_err();
    assert!(matches!(error, NoBundle::Unreadable { .. }), "{error}");
}

#[test]
fn what_the_system_refuses_beside_a_bundle_is_no_damage_of_it() {
    let folder = Folder::new();
    folder.write("bm_1.9.0.tar.xz", "x");
    let beside = folder.0.path().join("bm_1.9.0.tar.xz.sha256");
    std::os::unix::fs::symlink("bm_1.9.0.tar.xz.sha256", &beside).unwrap();
    for (pattern, newest) in [("bm_*.tar.xz", true), ("bm_*.tar.xz", false), ("bm_1.9.0.tar.xz", false)] {
        let error = folder.files(pattern, newest, in_an_hour()).unwrap_err();
        assert!(matches!(&error, NoBundle::Unreadable { path, .. } if *path == beside), "{error}");
    }
    folder.write("bm_1.8.0.tar.xz", "x");
    let files = folder.files("bm_*.tar.xz", true, in_an_hour()).unwrap();
    assert_eq!((names(&files.taken), files.passed_over.len()), (vec!["bm_1.8.0.tar.xz".to_owned()], 1));
}

#[test]
fn what_is_gone_by_now_is_passed_over_with_a_warning() {
    let folder = Folder::new();
    folder.write("bm_1.8.0.tar.xz", "x");
    std::os::unix::fs::symlink("nowhere", folder.0.path().join("bm_1.9.0.tar.xz")).unwrap();
    for newest in [true, false] {
        let files = folder.files("bm_*", newest, in_an_hour()).unwrap();
        assert_eq!(names(&files.taken), ["bm_1.8.0.tar.xz"]);
        assert!(files.warnings[0].contains("bm_1.9.0.tar.xz: it is gone"), "{files:?}");
    }
    fs::remove_file(folder.0.path().join("bm_1.8.0.tar.xz")).unwrap();
    let error = folder.files("bm_*", true, in_an_hour()).unwrap_err().to_string();
    assert!(error.contains("it is gone"), "{error}");
}

#[test]
fn a_folder_has_no_sum_whatever_lies_beside_it() {
    let folder = Folder::new();
    fs::create_dir(folder.0.path().join("bm_1.8.0")).unwrap();
    folder.write("bm_1.8.0.sha256", &format!("{}  bm_1.8.0.tar.xz\n", Digest::of(b"x").hex()));
    for pattern in ["bm_1.8.0", "bm_*"] {
        let files = folder.files(pattern, false, in_an_hour()).unwrap();
        assert_eq!((files.taken.len(), files.taken[0].sum), (1, None), "{pattern}");
    }
}

#[test]
fn sums_are_read_as_sha256sum_writes_them() {
    let hex = Digest::of(b"x").hex();
    let path = Path::new("/srv/bm.tar");
    for text in [
        format!("{hex}  bm.tar\n"),
        format!("{hex} *bm.tar\n"),
        format!("{hex}  ./sub/bm.tar\n"),
        format!("SHA256 (bm.tar) = {hex}\n"),
        format!("{}\n", hex.to_uppercase()),
        format!("\\{hex}  bm.tar\n"),
        format!("{}  other.tar\n{hex}  bm.tar\n", Digest::of(b"y").hex()),
    ] {
        assert_eq!(sum_of(path, &text).unwrap(), Digest::of(b"x"), "{text}");
    }
    for text in [String::new(), format!("{hex}  other.tar\n"), format!("{}  bm.tar", &hex[..63])] {
        assert!(sum_of(path, &text).is_err(), "{text}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let folder = Folder::new();
    for (pattern, newest) in [("bm_*.tar", true), ("bm_*.tar", false), ("bm.tar", false), ("no/bm_*", true)] {
        let error = folder.files(pattern, newest, in_an_hour()).unwrap_err();
        assert!(matches!(error, NoBundle::Nothing { .. }), "{error}");
    }
    assert!(BundlePath::new("/srv/*/bm.tar".into(), true).is_err());
}
