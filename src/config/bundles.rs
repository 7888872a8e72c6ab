//! Which files a bundle of the sites file stands for.

mod matched;
mod sums;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;

pub(crate) use self::matched::SETTLED_AFTER_SECONDS;
use self::matched::{MatchedFile, PassedOver};
use super::newest::VersionInName;
use crate::error::system_words;
use crate::oci::Digest;

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
    /// Why others were passed over that could never have been taken, or are older.
    pub warnings: Vec<String>,
    /// Why others were passed over that may be newer: what is taken is not what was meant.
    pub passed_over: Vec<String>,
}

/// A file that may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// The sum that a file beside it says it has.
    pub sum: Option<Digest>,
}

/// What is passed over, each with the version in its name.
type PassedOverFiles = Vec<(VersionInName, PassedOver)>;

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
        let (found, gone) = self.found()?;
        if !self.newest {
            let taken = found.into_iter().map(|found| found.candidate());
            let taken = taken.collect::<Result<Vec<Candidate>, PassedOver>>();
            let taken = taken.map_err(|why| self.none_usable(vec![why]))?;
            let warnings = gone.iter().map(|(_, why)| why.to_string()).collect();
            return Ok(BundleFiles { taken, instead: Vec::new(), warnings, passed_over: Vec::new() });
        }
        let mut usable = Vec::new();
        let mut passed = PassedOverFiles::new();
        let is_arriving = found.iter().any(|found| found.settled(now).is_err());
        for found in found.into_iter().rev() {
            // What is behind one that can be taken needs no word unless its turn comes.
            match found.usable().and_then(|()| found.settled(now)).and_then(|()| found.candidate()) {
                Ok(candidate) => usable.push((found.version, candidate)),
                Err(why) if usable.is_empty() => passed.push((found.version, why)),
                Err(_) => {}
            }
        }
        let mut usable = usable.into_iter();
        let Some((version, best)) = usable.next() else {
            let all: Vec<PassedOver> = gone.into_iter().chain(passed).map(|(_, why)| why).collect();
            if is_arriving {
                let why = all.iter().map(ToString::to_string).collect();
                return Err(NoBundle::Arriving { path: self.path.clone(), why });
            }
            return Err(self.none_usable(all));
        };
        let text = |why: &PassedOver| format!("{why}; {} is taken instead", best.path.display());
        let (mut warnings, mut passed_over) = (Vec::new(), Vec::new());
        for (of, why) in gone.iter().chain(&passed) {
            // What may be newer than what is taken is missed; what never can be a bundle is not.
            let is_missed = !matches!(why, PassedOver::NoBundle(_)) && *of >= version;
            if is_missed { &mut passed_over } else { &mut warnings }.push(text(why));
        }
        let instead = usable.map(|(_, candidate)| candidate).collect();
        Ok(BundleFiles { taken: vec![best], instead, warnings, passed_over })
    }

    /// Whether the newest of files is meant, and this is a path that one of them may have had.
    pub(crate) fn has_stood_for(&self, path: &Path) -> bool {
        let name = path.file_name().map(|name| name.to_string_lossy());
        let is_match = |pattern: &Pattern| name.is_some_and(|name| pattern.matcher.is_match(&*name));
        self.newest && path.parent() == self.path.parent() && self.pattern.as_ref().is_some_and(is_match)
    }

    /// Whether a file is of an earlier version than another; both are such as the pattern matches.
    pub(crate) fn is_below(&self, path: &Path, other: &Path) -> bool {
        let Some(pattern) = &self.pattern else { return false };
        let version = |path: &Path| {
            pattern.version(&path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default())
        };
        version(path) < version(other)
    }

    /// Why nothing can be taken of what is there: the system, where it refused something.
    fn none_usable(&self, why: Vec<PassedOver>) -> NoBundle {
        let all = why.iter().map(ToString::to_string).collect();
        let refused = why.into_iter().find_map(|why| match why {
            PassedOver::Unreadable { path, error } => Some(NoBundle::Unreadable { path, error }),
            PassedOver::NoBundle(_) | PassedOver::Unusable(_) => None,
        });
        refused.unwrap_or_else(|| NoBundle::NoneUsable { path: self.path.clone(), why: all })
    }

    /// All that is there, the oldest version first, and what is passed over. Of two files of one version the one that changed
    /// last comes last.
    fn found(&self) -> Result<(Vec<MatchedFile>, PassedOverFiles), NoBundle> {
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
                    passed_over.push((pattern.version(&name), PassedOver::NoBundle(what)));
                }
                // Of all that are there none may be left out; the newest that can be read is good enough.
                Err(error) if self.newest => {
                    passed_over.push((pattern.version(&name), PassedOver::Unreadable { path, error }));
                }
                Err(error) => return Err(unreadable(&path)(error)),
            }
        }
        found.sort_by(|a, b| (&a.version, a.changed(), &a.path).cmp(&(&b.version, b.changed(), &b.path)));
        match (found.is_empty(), passed_over.is_empty()) {
            (true, true) => Err(nothing()),
            (true, false) => Err(self.none_usable(passed_over.into_iter().map(|(_, why)| why).collect())),
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

/// Whether nothing can ever be behind a name: what a link leads to is not there, or is the link itself.
fn leads_nowhere(error: &io::Error) -> bool {
    let is_loop = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    error.kind() == io::ErrorKind::NotFound || is_loop
}

#[cfg(test)]
mod tests;
