//! Opened bundles: what the user gave, what is in it, which bundles they are, and what the state recalls of them.
//!
//! In: an [`Input`] for each path. Out: a [`Bundle`] with one catalog of all images. An [`Opener`] holds what opening
//! takes: the pool of threads, the decoder, the state. Mirrors come after it.

mod accept;
mod context;
mod open;
mod pulled;
mod recall;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::archive::{Catalog, LeftOutClass};
use crate::decode::Structure;
use crate::error::BundleError;
use crate::source::Source;
use crate::stage::Stage;
use crate::state::{BundleIdentity, State};
use crate::units;

pub use accept::Accept;
pub(crate) use accept::Acceptable;
pub(crate) use context::{Opener, Resources, free_bytes};
pub(crate) use pulled::PulledBundle;
pub(crate) use recall::{KnownLayers, LayerKey, LayerRecall};

/// Something to open.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// A file or a folder; `-` for standard input.
    Path(PathBuf),
    /// A bundle that is in memory, and what it is called.
    Memory(&'static str, Bytes),
    /// A bundle that was pulled from a registry.
    Pulled(Arc<PulledBundle>),
}

/// Hears how the opening of bundles goes. Called on the thread that opens; the bundles are not read further meanwhile.
pub(crate) trait OpenObserver {
    /// What is in a bundle is not known from an earlier run: it is read now.
    fn reads(&self) {}
    /// An archive of the bundle was walked, long before the bundle's end. `part` is a part of the catalog that there will be,
    /// unless the rest of the bundle turns out to be damaged.
    fn found(&self, _part: &Catalog) {}
}

/// Hears nothing.
impl OpenObserver for () {}

/// Bundles that are open, and what is in them.
#[derive(Debug, Default)]
pub(crate) struct Bundle {
    /// All images of all of them.
    pub catalog: Arc<Catalog>,
    /// What each of them is.
    pub parts: Vec<OpenedSource>,
    identities: Vec<BundleIdentity>,
    files: Vec<Source>,
}

/// One input that was opened.
#[derive(Debug)]
pub(crate) struct OpenedSource {
    /// The path, `-` for standard input.
    pub path: PathBuf,
    /// Its size on disk; none for a pipe or a folder.
    pub stored_bytes: Option<u64>,
    /// How it is compressed and cut; none for a folder, and where an earlier run knew what is in it.
    pub structure: Option<Structure>,
}

impl Bundle {
    /// Which bundles they are; none unless that can be told of all.
    pub(crate) fn identities(&self) -> &[BundleIdentity] {
        if self.identities.len() == self.parts.len() { &self.identities } else { &[] }
    }

    /// Whether every file is still what it was when it was opened.
    ///
    /// # Errors
    /// [`Fault::Changed`], naming the file.
    pub(crate) fn check_unchanged(&self) -> Result<(), BundleError> {
        self.files
            .iter()
            .try_for_each(|file| file.check_unchanged().map_err(|error| error.at(file.path().display())))
    }

    /// The files whose paths have other files now, or none, where nothing else became of any: what was read is right.
    pub(crate) fn replaced(&self) -> Option<Vec<&Path>> {
        let changed = || self.files.iter().filter(|file| file.check_unchanged().is_err());
        changed().all(Source::is_replaced).then(|| changed().map(Source::path).collect())
    }

    /// Leaves out what is damaged, and what the user does not accept. Gives what people should know of it.
    ///
    /// # Errors
    /// A bundle with a damaged image is refused as a whole, because half a release on a mirror is worse than none: unless
    /// damaged images are allowed, or the damage is confined to one archive of several, which is left out. A bundle of
    /// which nothing is whole is refused in any case, as is one without images.
    pub(crate) fn settle(&mut self, accept: Accept, allow_damaged: bool) -> Result<Vec<String>, BundleError> {
        self.check_has_images()?;
        let catalog = Arc::make_mut(&mut self.catalog);
        let mut notes = Vec::new();
        if accept.partial_index {
            let parts = catalog.broken.iter().filter_map(|broken| broken.part.as_ref());
            let words = parts.filter_map(|image| Some(image.partial.as_ref()?.in_words()));
            notes.extend(words.map(|words| format!("{words} (accepted)")));
            catalog.accept_parts();
        }
        let Some(first) = catalog.broken.first().map(|first| first.error.clone()) else { return Ok(notes) };
        let count = catalog.broken.len();
        let all = catalog.broken.clone();
        let error = |whole: usize| {
            let error = match count {
                1 => first.clone(),
                _ => first.clone().at(format!("{count} images are damaged; the first")),
            };
            let helps = whole > 0 && first.hint_text().is_none();
            let hint = format!(
                "nothing was sent; fetch the bundle again, or push the rest ({}) with --allow-damaged",
                units::count(whole, "whole image")
            );
            if helps { error.hint(hint) } else { error }
        };
        if !allow_damaged {
            if all.iter().any(|broken| broken.unit.is_none()) {
                return Err(error(catalog.images.len()));
            }
            catalog.leave_out_damaged();
        }
        if catalog.images.is_empty() {
            return Err(error(0));
        }
        Ok(notes)
    }

    /// Replaces indexes that lack platforms by the platforms that the bundle has.
    pub(crate) fn accept_parts(&mut self) {
        Arc::make_mut(&mut self.catalog).accept_parts();
    }

    /// Whether there is any image, whole or damaged.
    ///
    /// # Errors
    /// [`Fault::NotABundle`], with what is there instead.
    pub(crate) fn check_has_images(&self) -> Result<(), BundleError> {
        if self.catalog.has_images() {
            return Ok(());
        }
        let error = self.catalog.nothing_in_it();
        Err(match self.parts.as_slice() {
            [only] => error.at(only.path.display()),
            _ => error,
        })
    }

    /// Its bytes are not what was remembered, or they are damaged: the next run looks again.
    pub(crate) fn forget(&self, state: &State, stage: Option<&Stage>) {
        for bundle in self.identities() {
            state.forget_catalog(bundle);
            if let Some(stage) = stage {
                stage.forget_catalog(bundle);
            }
        }
    }

    /// Whether an image of it is damaged, and not one archive of several alone.
    pub(crate) fn has_damage(&self) -> bool {
        self.catalog.broken.iter().any(|broken| broken.unit.is_none())
    }

    /// Whether something that holds or may hold images could not be read.
    pub(crate) fn lacks_something(&self) -> bool {
        self.catalog.left_out.iter().any(|it| it.class == LeftOutClass::Unreadable)
    }
}
