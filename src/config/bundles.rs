//! Which files a bundle of the sites file stands for.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;

use super::newest::VersionInName;
use crate::error::system_words;
use crate::oci::Digest;
use crate::small_file;

/// A file that changed later than this may still be on its way here.
pub(crate) const SETTLED_AFTER_SECONDS: i64 = 60;
/// The clock of a file server may be so far ahead of ours.
const CLOCK_SKEW_SECONDS: i64 = 300;
/// `sha256sum` of a folder of bundles is short.
const MAX_SUMS_BYTES: u64 = 1 << 20;
const WILDCARDS: [char; 4] = ['*', '?', '[', '{'];

/// What stands behind `path`, and whether the newest is meant.
#[derive(Debug, Clone)]
pub(crate) struct BundlePath {
    path: PathBuf,
    newest: bool,
    pattern: Option<Pattern>,
}

/// A pattern for the names of files.
#[derive(Debug, Clone)]
struct Pattern {
    matcher: GlobMatcher,
    /// What stands before the first wildcard, and behind the last.
    around: (String, String),
}

/// The files of a bundle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BundleFiles {
    /// Those that are taken.
    pub taken: Vec<Candidate>,
    /// Those that are taken one after the other if the sum of the one that was taken proves wrong.
    pub instead: Vec<Candidate>,
    /// Why others were passed over.
    pub warnings: Vec<String>,
}

/// A file that may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// The sum that a file beside it says it has.
    pub sum: Option<Digest>,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoBundle {
    /// Nothing of that name.
    #[error("there is no {}", path.display())]
    Nothing {
        /// The path or pattern.
        path: PathBuf,
    },
    /// The folder cannot be read.
    #[error("{}: {}", path.display(), system_words(error))]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Files are there, and none of them can be taken: one of them may still be on its way.
    #[error("{}: no file can be taken yet: {}", path.display(), why.join("; "))]
    Arriving {
        /// The path or pattern.
        path: PathBuf,
        /// What is the matter with each.
        why: Vec<String>,
    },
    /// Files are there, and none of them can be taken.
    #[error("{}: none of the files can be taken: {}", path.display(), why.join("; "))]
    NoneUsable {
        /// The path or pattern.
        path: PathBuf,
        /// What is the matter with each.
        why: Vec<String>,
    },
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
enum PassedOver {
    /// It is no bundle, or not yet, or what is beside it is no sum.
    #[error("{_0}")]
    Unusable(String),
    /// The system does not give us it, or what is beside it.
    #[error("{}: {}", path.display(), system_words(error))]
    Unreadable { path: PathBuf, error: io::Error },
}

impl BundlePath {
    /// What a path of the file stands for.
    ///
    /// # Errors
    /// What is wrong with it, and the correction.
    pub(super) fn new(path: PathBuf, newest: bool) -> Result<Self, (String, String)> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = path.parent().map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default();
        if folder.contains(['*', '?', '{']) {
            let what = "path: only the name of a file may be a pattern, and not a folder above it".to_owned();
            return Err((
                what,
                "path: /FOLDER/bmpackages_*.tar.xz, an entry of its own for each folder".to_owned(),
            ));
        }
        let pattern = match (name.find(WILDCARDS), name.rfind(['*', '?', ']', '}'])) {
            (Some(first), Some(last)) if first <= last => {
                let glob = GlobBuilder::new(&name).literal_separator(true).build();
                let wrong = |error: globset::Error| {
                    (format!("path: {error}"), "path: /FOLDER/bmpackages_*.tar.xz".to_owned())
                };
                let around = (name[..first].to_owned(), name[last + 1..].to_owned());
                Some(Pattern { matcher: glob.map_err(wrong)?.compile_matcher(), around })
            }
            _ => None,
        };
        Ok(Self { path, newest, pattern })
    }

    /// The path or pattern.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_newest(&self) -> bool {
        self.newest
    }

    /// The files that it stands for now.
    ///
    /// # Errors
    /// There are none, or none that can be taken.
    pub(crate) fn files(&self, now: Timestamp) -> Result<BundleFiles, NoBundle> {
        let (found, mut warnings) = self.found()?;
        if !self.newest {
            let taken = found.into_iter().map(|found| found.candidate());
            let taken = taken.collect::<Result<Vec<Candidate>, PassedOver>>();
            let taken = taken.map_err(|why| self.none_usable(vec![why]))?;
            let warnings = warnings.iter().map(ToString::to_string).collect();
            return Ok(BundleFiles { taken, instead: Vec::new(), warnings });
        }
        let mut usable = Vec::new();
        let is_arriving = found.iter().any(|found| found.settled(now).is_err());
        for found in found.into_iter().rev() {
            // What is behind one that can be taken needs no word unless its turn comes.
            match found.usable().and_then(|()| found.settled(now)).and_then(|()| found.candidate()) {
                Ok(candidate) => usable.push(candidate),
                Err(why) if usable.is_empty() => warnings.push(why),
                Err(_) => {}
            }
        }
        let mut usable = usable.into_iter();
        match usable.next() {
            Some(best) => {
                let passed = |why| format!("{why}; {} is taken instead", best.path.display());
                let warnings = warnings.iter().map(passed).collect();
                Ok(BundleFiles { taken: vec![best.clone()], instead: usable.collect(), warnings })
            }
            None if is_arriving => {
                let why = warnings.iter().map(ToString::to_string).collect();
                Err(NoBundle::Arriving { path: self.path.clone(), why })
            }
            None => Err(self.none_usable(warnings)),
        }
    }

    /// Why nothing can be taken of what is there: the system, where it refused something.
    fn none_usable(&self, why: Vec<PassedOver>) -> NoBundle {
        let all = why.iter().map(ToString::to_string).collect();
        let refused = why.into_iter().find_map(|why| match why {
            PassedOver::Unreadable { path, error } => Some(NoBundle::Unreadable { path, error }),
            PassedOver::Unusable(_) => None,
        });
        refused.unwrap_or_else(|| NoBundle::NoneUsable { path: self.path.clone(), why: all })
    }

    /// All that is there, the oldest version first, and what is passed over. Of two files of one version the one that changed
    /// last comes last.
    fn found(&self) -> Result<(Vec<MatchedFile>, Vec<PassedOver>), NoBundle> {
        let nothing = || NoBundle::Nothing { path: self.path.clone() };
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| match error.kind() {
                io::ErrorKind::NotFound => NoBundle::Nothing { path },
                _ => NoBundle::Unreadable { path, error },
            }
        };
        let Some(pattern) = &self.pattern else {
            let facts = fs::metadata(&self.path).map_err(unreadable(&self.path))?;
            return Ok((
                vec![MatchedFile { path: self.path.clone(), version: VersionInName::of(""), facts }],
                Vec::new(),
            ));
        };
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (mut found, mut passed_over) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
            let entry = entry.map_err(unreadable(folder))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Sums lie beside what they are of, and a pattern may match them too.
            let is_sum = Path::new(&*name).extension().is_some_and(|ending| ending == "sha256");
            if is_sum || !pattern.matcher.is_match(&*name) {
                continue;
            }
            let path = entry.path();
            match fs::metadata(&path) {
                Ok(facts) => found.push(MatchedFile { path, version: pattern.version(&name), facts }),
                // It was renamed while the folder was read, or is a link.
                Err(error) if leads_nowhere(&error) => {
                    let what = format!("{}: it is gone, or a link that leads to nothing", path.display());
                    passed_over.push(PassedOver::Unusable(what));
                }
                // Of all that are there none may be left out; the newest that can be read is good enough.
                Err(error) if self.newest => passed_over.push(PassedOver::Unreadable { path, error }),
                Err(error) => return Err(unreadable(&path)(error)),
            }
        }
        found.sort_by(|a, b| (&a.version, a.changed(), &a.path).cmp(&(&b.version, b.changed(), &b.path)));
        match (found.is_empty(), passed_over.is_empty()) {
            (true, true) => Err(nothing()),
            (true, false) => Err(self.none_usable(passed_over)),
            (false, _) => Ok((found, passed_over)),
        }
    }
}

impl Pattern {
    /// The version in a name: what the wildcards stand for, and what lies between them.
    fn version(&self, name: &str) -> VersionInName {
        let (before, behind) = &self.around;
        let inner = name.strip_prefix(before.as_str()).unwrap_or(name);
        VersionInName::of(inner.strip_suffix(behind.as_str()).unwrap_or(inner))
    }
}

impl fmt::Display for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.path.display(), if self.newest { " (the newest)" } else { "" })
    }
}

/// A file or folder that is there.
struct MatchedFile {
    path: PathBuf,
    version: VersionInName,
    facts: Metadata,
}

impl MatchedFile {
    /// When its content changed, and when anything about it did: a copy may get the times of its original.
    fn times(&self) -> [i64; 2] {
        [self.facts.mtime(), self.facts.ctime()]
    }

    /// The later of the two.
    fn changed(&self) -> i64 {
        self.facts.mtime().max(self.facts.ctime())
    }

    /// Whether it can be a bundle at all.
    fn usable(&self) -> Result<(), PassedOver> {
        if self.facts.is_file() || self.facts.is_dir() {
            return Ok(());
        }
        Err(PassedOver::Unusable(format!("{} is neither a file nor a folder", self.path.display())))
    }

    fn settled(&self, now: Timestamp) -> Result<(), PassedOver> {
        let ages = self.times().map(|time| now.as_second().saturating_sub(time));
        // A time far ahead, as after a clock was put back, says nothing of the file; the other one may.
        let is_fresh = |age: &i64| (-CLOCK_SKEW_SECONDS..SETTLED_AFTER_SECONDS).contains(age);
        if let Some(age) = ages.into_iter().filter(is_fresh).min() {
            let (shown, age) = (self.path.display(), age.max(0));
            let what = format!("{shown} changed {age} s ago and may still be on its way");
            return Err(PassedOver::Unusable(what));
        }
        Ok(())
    }

    fn candidate(&self) -> Result<Candidate, PassedOver> {
        // A folder has no sum of its own: a file beside it is of an archive that was unpacked into it.
        if self.facts.is_dir() {
            return Ok(Candidate { path: self.path.clone(), sum: None });
        }
        let mut beside = self.path.clone().into_os_string();
        beside.push(".sha256");
        let beside = PathBuf::from(beside);
        if fs::metadata(&beside).is_ok_and(|facts| !facts.is_file()) {
            // A pipe might never end.
            return Err(PassedOver::Unusable(format!("{}: it is no file", beside.display())));
        }
        let sum = match small_file::read_text(&beside, MAX_SUMS_BYTES) {
            Ok(text) => {
                let wrong = |why| PassedOver::Unusable(format!("{}: {why}", beside.display()));
                Some(sum_of(&self.path, &text).map_err(wrong)?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // It can be read, and is no sum.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge) =>
            {
                return Err(PassedOver::Unusable(format!("{}: {error}", beside.display())));
            }
            Err(error) => return Err(PassedOver::Unreadable { path: beside, error }),
        };
        Ok(Candidate { path: self.path.clone(), sum })
    }
}

/// Whether nothing can ever be behind a name: what a link leads to is not there, or is the link itself.
fn leads_nowhere(error: &io::Error) -> bool {
    let is_loop = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    error.kind() == io::ErrorKind::NotFound || is_loop
}

/// The sum of a file in what `sha256sum` (with or without `--tag`) wrote.
fn sum_of(path: &Path, text: &str) -> Result<Digest, String> {
    let lines: Vec<(&str, &str)> = text.lines().filter_map(sum_line).collect();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_named = |named: &str| named.is_empty() || named.rsplit('/').next() == Some(name.as_str());
    let found = lines.iter().find(|(_, named)| is_named(named));
    let (hex, _) = found.ok_or_else(|| format!("it has no sum of {name}"))?;
    format!("sha256:{}", hex.to_ascii_lowercase())
        .parse()
        .map_err(|error: crate::error::BundleError| error.to_string())
}

/// `HEX  NAME`, `HEX *NAME`, `SHA256 (NAME) = HEX`, `HEX`: the sum and the name.
fn sum_line(line: &str) -> Option<(&str, &str)> {
    // A backslash in front says that some are in the name.
    let line = line.trim_end().trim_start_matches('\\');
    if let Some(rest) = line.strip_prefix("SHA256 (") {
        let (name, hex) = rest.rsplit_once(") = ")?;
        return is_sum(hex).then_some((hex, name));
    }
    let (hex, name) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    is_sum(hex).then(|| (hex, name.trim_start_matches([' ', '*'])))
}

fn is_sum(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
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
        let [link, pipe, sum] = &files.warnings[..] else { panic!("{files:?}") };
        assert!(
            link.contains("leads to nothing") && pipe.contains("neither a file") && sum.contains("no file")
        );
    }

    #[test]
    fn a_sum_that_cannot_be_read_passes_a_file_over_with_a_warning() {
        let folder = Folder::new();
        folder.write("bm_1.8.0.tar.xz", "x");
        folder.write("bm_1.9.0.tar.xz", "x");
        folder.write("bm_1.9.0.tar.xz.sha256", "nonsense\n");
        let files = folder.files("bm_*", true, in_an_hour()).unwrap();
        assert_eq!(names(&files.taken), ["bm_1.8.0.tar.xz"]);
        let [warning] = &files.warnings[..] else { panic!("{files:?}") };
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
        let files = folder.files("bm_*.tar.xz", true, in_an_hour()).unwrap();
        assert_eq!((names(&files.taken), files.warnings.len()), (vec!["bm_1.8.0.tar.xz".to_owned()], 2));
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
        assert_eq!((names(&files.taken), files.warnings.len()), (vec!["bm_1.8.0.tar.xz".to_owned()], 1));
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
        for (pattern, newest) in
            [("bm_*.tar", true), ("bm_*.tar", false), ("bm.tar", false), ("no/bm_*", true)]
        {
            let error = folder.files(pattern, newest, in_an_hour()).unwrap_err();
            assert!(matches!(error, NoBundle::Nothing { .. }), "{error}");
        }
        assert!(BundlePath::new("/srv/*/bm.tar".into(), true).is_err());
    }
}
