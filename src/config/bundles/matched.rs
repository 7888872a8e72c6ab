//! One file that matches a bundle: whether it can be one, has arrived, and which sum it must have.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use jiff::Timestamp;

use super::Candidate;
use super::sums::sum_of;
use crate::config::newest::VersionInName;
use crate::error::system_words;
use crate::small_file;

/// A file that changed later than this may still be on its way here.
pub(crate) const SETTLED_AFTER_SECONDS: i64 = 60;
/// The clock of a file server may be this far ahead of ours.
const CLOCK_SKEW_SECONDS: i64 = 300;
/// `sha256sum` of a folder of bundles is short.
const MAX_SUMS_BYTES: u64 = 1 << 20;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassedOver {
    /// It can be no bundle: a pipe, or a link that leads nowhere.
    #[error("{_0}")]
    NoBundle(String),
    /// It is no bundle yet, or what is beside it is no sum.
    #[error("{_0}")]
    Unusable(String),
    /// The system does not give us it, or what is beside it.
    #[error("{}: {}", path.display(), system_words(error))]
    Unreadable { path: PathBuf, error: io::Error },
}

/// A file or folder that is there.
pub(super) struct MatchedFile {
    pub(super) path: PathBuf,
    pub(super) version: VersionInName,
    pub(super) facts: Metadata,
}

impl MatchedFile {
    /// When its content changed, and when anything about it did: a copy may get the times of its original.
    fn times(&self) -> [i64; 2] {
        [self.facts.mtime(), self.facts.ctime()]
    }

    /// The later of the two.
    pub(super) fn changed(&self) -> i64 {
        self.facts.mtime().max(self.facts.ctime())
    }

    /// Whether it can be a bundle at all.
    pub(super) fn usable(&self) -> Result<(), PassedOver> {
        if self.facts.is_file() || self.facts.is_dir() {
            return Ok(());
        }
        Err(PassedOver::NoBundle(format!("{} is neither a file nor a folder", self.path.display())))
    }

    pub(super) fn settled(&self, now: Timestamp) -> Result<(), PassedOver> {
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

    pub(super) fn candidate(&self) -> Result<Candidate, PassedOver> {
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
