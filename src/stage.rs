//! The stage: what was decoded and compressed once, kept by digest for mirrors that come later.
//!
//! In: the blobs of images, on their way to mirrors. Out: the same, without the bundle being read. It is a plain OCI layout on
//! disk, so other tools read it and it is a bundle itself. For each bundle it has a [`Mark`]: what is in the bundle, which of
//! its images are whole in the stage, what layers became. A run whose bundle has one decodes nothing to know what is in it.
//!
//! Its blobs are not trusted: each is hashed once in a run, before its first byte is given out. A wrong blob is removed, and
//! the bundle is read instead. So whatever happens to the folder costs only time. Many runs may use
//! one at once: see `folder` for the locks.

mod blobs;
mod eviction;
mod folder;
mod layout;
mod mark;
mod marks;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

pub(crate) use blobs::{BlobWriter, StagedBlob};
pub(crate) use folder::StageError;
pub(crate) use mark::{StagedImage, StagedLayer, StagedRoot};
pub(crate) use marks::OpenedBundle;

use self::blobs::BlobFileStamp;
use self::folder::{StageFolder, Stamp};
use self::marks::Used;
use crate::locks::Mutex;
use crate::oci::Digest;
use crate::units::ByteCount;

/// The stage, open for a run. Everything but [`Stage::has`], [`Stage::is_checked`] and the figures may wait for a disk.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: StageFolder,
    limit: Option<u64>,
    /// The sites file of this run.
    owner: Option<String>,
    contents: Mutex<StageContents>,
    /// One check of a blob at a time, and the open file while somebody reads it.
    checks: Mutex<HashMap<Digest, OneCheck>>,
    used: Mutex<Vec<Used>>,
    /// Something went wrong with a bundle that this run uses: those in `used` may not be all.
    is_use_unknown: AtomicBool,
    /// What layers became, by their recipes and the digests of their plain tars; read once.
    layers: OnceLock<HashMap<(String, Digest), StagedLayer>>,
    notes: Mutex<Vec<String>>,
    figures: Figures,
}

type OneCheck = Arc<Mutex<Weak<StagedBlob>>>;

/// What is known of the folder without reading it.
#[derive(Debug, Default)]
struct StageContents {
    /// Blobs that are there, with the file that was found right, if it was looked at.
    blobs: HashMap<Digest, Option<BlobFileStamp>>,
    /// The blobs that must stay for this run, listed or not yet.
    relied_on: HashSet<Digest>,
    /// The size of the folder, and when it was measured.
    taken: Option<(u64, Stamp)>,
}

/// How a run used the stage.
#[derive(Debug, Default)]
struct Figures {
    images: AtomicU64,
    images_left_out: AtomicU64,
    blobs_written: AtomicU64,
    bytes_written: AtomicU64,
    blobs_read: AtomicU64,
    bytes_read: AtomicU64,
    wrong: AtomicU64,
    bundles_removed: AtomicU64,
}

/// The same, read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StageFigures {
    /// Images of the run that are whole in the stage.
    pub(crate) images: u64,
    /// Those that are not.
    pub(crate) images_left_out: u64,
    pub(crate) blobs_written: u64,
    pub(crate) bytes_written: u64,
    pub(crate) blobs_read: u64,
    pub(crate) bytes_read: u64,
    /// Blobs that were damaged.
    pub(crate) wrong: u64,
    pub(crate) bundles_removed: u64,
}

/// Why something is not in the stage.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStaged {
    /// It would take more than it may.
    #[error("the stage has reached its limit of {}", ByteCount(*.0))]
    Limit(u64),
    /// The disk has no room, or only what is left to others.
    #[error("the disk of {} is full", .0.display())]
    Full(PathBuf),
    /// The bytes were not the blob.
    #[error("what was read of {0} has another digest")]
    Wrong(Digest),
    /// The system refused.
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for NotStaged {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Stage {
    /// The stage in this folder, made where there is none. It may take no more than `limit`. `owner` is the sites file whose
    /// bundles it is for: those stay until that file does not name them any more.
    ///
    /// # Errors
    /// The folder is something else, or cannot be used.
    pub(crate) fn open(folder: &Path, limit: Option<u64>, owner: Option<String>) -> Result<Self, StageError> {
        let opened = StageFolder::open(folder)?;
        let unusable = |error| StageError::Unusable { folder: folder.to_owned(), error };
        opened.sweep().map_err(unusable)?;
        let blobs = opened.blobs().map_err(unusable)?.into_keys().map(|digest| (digest, None)).collect();
        let stage = Self {
            folder: opened,
            limit,
            owner,
            contents: Mutex::new(StageContents { blobs, ..StageContents::default() }),
            checks: Mutex::default(),
            used: Mutex::default(),
            is_use_unknown: AtomicBool::new(false),
            layers: OnceLock::new(),
            notes: Mutex::default(),
            figures: Figures::default(),
        };
        if let Some(owner) = stage.folder.foreign_owner() {
            stage.note(&format!(
                "it belongs to user {owner}, who can decide by that what mirrors get: name a folder of your own"
            ));
        }
        Ok(stage)
    }

    /// Whether this folder can be the stage, as far as that is seen without changing anything.
    ///
    /// # Errors
    /// The folder is something else, or cannot be read.
    pub(crate) fn probe(folder: &Path) -> Result<(), StageError> {
        folder::probe(folder)
    }

    /// The size of the blobs in this folder, if it is a stage. Changes nothing.
    pub(crate) fn bytes_in(folder: &Path) -> u64 {
        StageFolder::blobs_of(folder).map_or(0, |blobs| blobs.values().sum())
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.root()
    }

    /// Keeps a blob for this run: it does not leave to make room for another.
    pub(crate) fn rely_on(&self, digests: impl IntoIterator<Item = Digest>) {
        self.contents.lock().relied_on.extend(digests);
    }

    /// Bytes of a blob were given to a mirror.
    pub(crate) fn was_read(&self, bytes: u64) {
        self.figures.blobs_read.fetch_add(1, Relaxed);
        self.figures.bytes_read.fetch_add(bytes, Relaxed);
    }

    /// An image of the run is not, for this reason; the first is told.
    pub(crate) fn left_image_out(&self, image: &str, why: &dyn std::fmt::Display) {
        if self.figures.images_left_out.fetch_add(1, Relaxed) == 0 {
            self.note(&format!("{image} is not kept there: {why}"));
        }
    }

    /// How it was used so far.
    pub(crate) fn figures(&self) -> StageFigures {
        let Figures { images, images_left_out, blobs_written, .. } = &self.figures;
        let Figures { bytes_written, blobs_read, bytes_read, wrong, bundles_removed, .. } = &self.figures;
        StageFigures {
            images: images.load(Relaxed),
            images_left_out: images_left_out.load(Relaxed),
            blobs_written: blobs_written.load(Relaxed),
            bytes_written: bytes_written.load(Relaxed),
            blobs_read: blobs_read.load(Relaxed),
            bytes_read: bytes_read.load(Relaxed),
            wrong: wrong.load(Relaxed),
            bundles_removed: bundles_removed.load(Relaxed),
        }
    }

    /// The notes for people since the last call.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock())
    }

    /// Adds a note for people.
    pub(crate) fn note(&self, note: &str) {
        let mut notes = self.notes.lock();
        let note = format!("stage {}: {note}", self.folder.root().display());
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// A failure of the disk costs time and no more: it is noted.
    fn noted<T>(&self, what: &str, result: io::Result<T>) -> Option<T> {
        result.map_err(|error| self.note(&format!("{what}: {error}"))).ok()
    }
}
