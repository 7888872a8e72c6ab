//! Opening the user's bundles: source → volume → catalog, for any number of paths.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::archive::{self, Catalog, LeftOut, LeftOutClass};
use crate::decode::{Decoder, Structure};
use crate::error::{BundleError, Fault};
use crate::plan::Accept;
use crate::report::{Event, Listeners};
use crate::source::{self, ByteSpace, LateFile, LazySpace, Source, SourceOptions};
use crate::state::{BundleIdentity, Home, OpenVolume, Openings, State};

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

/// How bundles are opened.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    /// Opens what is compressed.
    pub decoder: Decoder,
    /// How files are read.
    pub source: SourceOptions,
    /// What earlier runs found in the same bundles.
    pub state: Arc<State>,
}

/// One path that was opened.
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
    /// Opens every path and finds out what is in it, which may be nothing. Blocks: for what must be decoded to know. `early`
    /// hears of archives as they are found.
    ///
    /// # Errors
    /// What is wrong with a path that is the only one and cannot be read. One of several is left out.
    pub(crate) fn open(
        paths: &[PathBuf],
        opening: &Opening,
        listeners: &Listeners,
        early: &archive::Early<'_>,
    ) -> Result<Self, BundleError> {
        let started = Instant::now();
        let mut bundle = Self::default();
        let mut whole = Catalog::default();
        for path in paths {
            let shown = path.display().to_string();
            let several = paths.len() > 1;
            // What is found early says of itself where it lies, as all of the bundle will.
            let early = |part: &Catalog| {
                let mut part = part.clone();
                part.lie_in(&shown, several);
                early(&part);
            };
            match bundle.read(path, opening, listeners, &early) {
                Ok(mut catalog) => {
                    catalog.lie_in(&shown, several);
                    whole = whole.merge(catalog);
                }
                // Of several bundles each stands for itself, as the archives of a folder do.
                Err(error) if several && is_its_own(path, &error) => {
                    whole.left_out.push(LeftOut::failed(shown.clone(), "a bundle", &error));
                }
                Err(error) => return Err(error.at(&shown)),
            }
        }
        bundle.catalog = Arc::new(whole);
        if bundle.catalog.has_images() {
            listeners.emit(&Event::Catalogued {
                images: bundle.catalog.images.len(),
                blobs: bundle.catalog.distinct_blobs(),
                took: started.elapsed(),
            });
        }
        for note in &bundle.catalog.notes {
            listeners.note(note);
        }
        Ok(bundle)
    }

    /// A bundle that is in memory.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub(crate) fn in_memory(
        name: &str,
        bytes: Bytes,
        decoder: &Decoder,
        listeners: &Listeners,
    ) -> Result<Self, BundleError> {
        let mut bundle = Self::default();
        let stored_bytes = bytes.len() as u64;
        let volume = decoder.open(Arc::new(bytes)).map_err(|error| error.at(name))?;
        bundle.opened(Path::new(name), Some(stored_bytes), Some(volume.structure), listeners);
        let open = |stored: Arc<dyn ByteSpace>| decoder.open(stored).map(|volume| volume.space);
        let catalog = archive::read(&volume.space, &open, &archive::Limits::default(), &|_| {});
        bundle.catalog = Arc::new(catalog.map_err(|error| error.at(name))?);
        Ok(bundle)
    }

    fn read(
        &mut self,
        path: &Path,
        opening: &Opening,
        listeners: &Listeners,
        early: &archive::Early<'_>,
    ) -> Result<Catalog, BundleError> {
        let Opening { decoder, source, state } = opening;
        let limits = archive::Limits::default();
        if path == Path::new("-") {
            let volume = decoder.open_reader(source::stdin()?)?;
            self.opened(path, None, Some(volume.structure), listeners);
            let open = |stored: Arc<dyn ByteSpace>| decoder.open(stored).map(|volume| volume.space);
            let catalog = archive::read(&volume.space, &open, &limits, early)?;
            self.measured(&volume.space)?;
            return Ok(catalog);
        }
        let late = late_opener(decoder);
        let openings = Openings::default();
        let open = |stored: Arc<dyn ByteSpace>| {
            let space = decoder.open(Arc::clone(&stored))?.space;
            openings.volume(&stored, &space);
            Ok(space)
        };
        let kind = fs::metadata(path).map_err(|error| BundleError::io("cannot be opened", &error))?;
        if kind.is_dir() {
            self.opened(path, None, None, listeners);
            let identity = BundleIdentity::of_folder(path).filter(|_| state.is_kept());
            let home = Home::Folder(path.to_owned());
            if let Some(known) = identity.as_ref().and_then(|it| state.load_catalog(it, &home, &late)) {
                self.identities.extend(identity);
                return Ok(known);
            }
            let open_file = |file: &Path| {
                let space: Arc<dyn ByteSpace> = Arc::new(LateFile::new(file)?);
                openings.file(file, &space);
                Ok(space)
            };
            let catalog = archive::read_directory(path, &open_file, &open, &limits)?;
            if !catalog.has_images() {
                return Ok(catalog);
            }
            if let Some(identity) = identity.filter(|it| BundleIdentity::of_folder(path).as_ref() == Some(it))
            {
                state.save_catalog(&identity, &catalog, &home, &openings);
                self.identities.push(identity);
            }
            return Ok(catalog);
        }
        let file = source::open(path, *source)?;
        let identity = if state.is_kept() { BundleIdentity::of_file(&file)? } else { None };
        let stored_bytes = file.identity().size_bytes;
        // A stream would be decoded from the moment it is opened; what is known of it may make that needless.
        let (stored, opener) = (file.space(), Arc::clone(&late));
        let unopened: Arc<dyn ByteSpace> = Arc::new(LazySpace::new(move || opener(Arc::clone(&stored))));
        let known = identity.as_ref().and_then(|it| state.load_catalog(it, &Home::Volume(unopened), &late));
        if let Some(known) = known {
            self.recalled(path, stored_bytes, listeners);
            self.identities.extend(identity);
            self.files.push(file);
            return Ok(known);
        }
        let volume = decoder.open(file.space())?;
        self.opened(path, Some(stored_bytes), Some(volume.structure), listeners);
        let catalog = archive::read(&volume.space, &open, &limits, early)?;
        self.measured(&volume.space)?;
        if let Some(identity) = identity.filter(|_| catalog.has_images()) {
            file.check_unchanged()?;
            state.save_catalog(&identity, &catalog, &Home::Volume(volume.space), &openings);
            self.identities.push(identity);
        }
        self.files.push(file);
        Ok(catalog)
    }

    /// A file that is what it was in an earlier run. Nobody looks how it is compressed before it must be read.
    fn recalled(&mut self, path: &Path, stored_bytes: u64, listeners: &Listeners) {
        listeners.emit(&Event::Opened {
            path: path.display().to_string(),
            structure: "known from an earlier run".to_owned(),
            stored_bytes: Some(stored_bytes),
        });
        self.parts.push(OpenedSource {
            path: path.to_owned(),
            stored_bytes: Some(stored_bytes),
            structure: None,
        });
    }

    fn opened(
        &mut self,
        path: &Path,
        stored_bytes: Option<u64>,
        structure: Option<Structure>,
        listeners: &Listeners,
    ) {
        listeners.emit(&Event::Opened {
            path: path.display().to_string(),
            structure: structure.as_ref().map_or_else(|| "a folder".to_owned(), ToString::to_string),
            stored_bytes,
        });
        self.parts.push(OpenedSource { path: path.to_owned(), stored_bytes, structure });
    }

    /// What the source that was opened last decodes to, once all of it was walked over.
    fn measured(&mut self, space: &Arc<dyn ByteSpace>) -> Result<(), BundleError> {
        if let Some(structure) = self.parts.last_mut().and_then(|part| part.structure.as_mut()) {
            structure.decoded_bytes = Some(space.len()?);
        }
        Ok(())
    }

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
                "nothing was sent; fetch the bundle again, or push the {whole} whole image(s) with --allow-damaged"
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

    /// Whether something that holds or may hold images could not be read.
    pub(crate) fn lacks_something(&self) -> bool {
        self.catalog.left_out.iter().any(|it| it.class == LeftOutClass::Unreadable)
    }
}

/// Whether an error says something of this bundle alone, and not of the machine or the run.
fn is_its_own(path: &Path, error: &BundleError) -> bool {
    match error.fault() {
        Fault::Cancelled | Fault::Changed => false,
        Fault::Io => fs::File::open(path).and_then(|file| file.metadata()).is_err(),
        _ => true,
    }
}

fn late_opener(decoder: &Decoder) -> Arc<OpenVolume> {
    let decoder = decoder.clone();
    Arc::new(move |stored| decoder.open(stored).map(|volume| volume.space))
}
