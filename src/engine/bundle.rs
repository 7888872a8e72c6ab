//! Opening the user's bundles: source → volume → catalog, for any number of paths.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::archive::{self, Catalog};
use crate::decode::{Decoder, Structure};
use crate::error::{BundleError, Fault};
use crate::report::{Event, Listeners};
use crate::source::{self, ByteSpace, LateFile, LazySpace, Source, SourceOptions};
use crate::state::{BundleIdentity, Home, OpenVolume, Openings, State};

/// Bundles that are open, and what is in them.
#[derive(Debug, Default)]
pub struct Bundle {
    /// All images of all of them.
    pub catalog: Arc<Catalog>,
    /// What each of them is.
    pub parts: Vec<OpenedSource>,
    identities: Vec<BundleIdentity>,
    files: Vec<Source>,
}

/// How bundles are opened.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Opens what is compressed.
    pub decoder: Decoder,
    /// How files are read.
    pub source: SourceOptions,
    /// What earlier runs found in the same bundles.
    pub state: Arc<State>,
}

/// One path that was opened.
#[derive(Debug)]
pub struct OpenedSource {
    /// The path, `-` for standard input.
    pub path: PathBuf,
    /// Its size on disk; none for a pipe or a folder.
    pub stored_bytes: Option<u64>,
    /// How it is compressed and cut; none for a folder, and where an earlier run knew what is in it.
    pub structure: Option<Structure>,
}

impl Bundle {
    /// Opens every path and finds out what is in it. Blocks: for what must be decoded to know. `early` hears of archives
    /// as they are found.
    ///
    /// # Errors
    /// What is wrong with the first path that cannot be read, beginning with that path.
    pub fn open(
        paths: &[PathBuf],
        opening: &Opening,
        listeners: &Listeners,
        early: &archive::Early<'_>,
    ) -> Result<Self, BundleError> {
        let started = Instant::now();
        let mut bundle = Self::default();
        let mut whole = Catalog::default();
        for path in paths {
            let catalog = bundle.read(path, opening, listeners, early);
            whole = whole.merge(catalog.map_err(|error| error.at(path.display()))?);
        }
        bundle.catalog = Arc::new(whole);
        listeners.tell(&Event::Catalogued {
            images: bundle.catalog.images.len(),
            blobs: bundle.catalog.distinct_blobs(),
            took: started.elapsed(),
        });
        for note in &bundle.catalog.notes {
            listeners.note(note);
        }
        Ok(bundle)
    }

    /// A bundle that is in memory.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn in_memory(
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
        if let Some(identity) = identity {
            file.check_unchanged()?;
            state.save_catalog(&identity, &catalog, &Home::Volume(volume.space), &openings);
            self.identities.push(identity);
        }
        self.files.push(file);
        Ok(catalog)
    }

    /// A file that is what it was in an earlier run. Nobody looks how it is compressed before it must be read.
    fn recalled(&mut self, path: &Path, stored_bytes: u64, listeners: &Listeners) {
        listeners.tell(&Event::Opened {
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
        listeners.tell(&Event::Opened {
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
    pub fn identities(&self) -> &[BundleIdentity] {
        if self.identities.len() == self.parts.len() { &self.identities } else { &[] }
    }

    /// Whether every file is still what it was when it was opened.
    ///
    /// # Errors
    /// [`Fault::Changed`], naming the file.
    pub fn check_unchanged(&self) -> Result<(), BundleError> {
        self.files
            .iter()
            .try_for_each(|file| file.check_unchanged().map_err(|error| error.at(file.path().display())))
    }

    /// The first thing that is wrong with an image, unless nothing is.
    ///
    /// # Errors
    /// A bundle with a damaged image is refused as a whole: half a release on a mirror is worse than none.
    pub fn check_whole(&self) -> Result<(), BundleError> {
        let Some(first) = self.catalog.broken.first() else { return Ok(()) };
        let whole = self.catalog.images.len();
        let count = self.catalog.broken.len();
        let error = first.error.clone();
        let error =
            if count > 1 { error.at(format!("{count} images are damaged; the first")) } else { error };
        Err(match (whole, error.fault()) {
            (0, _) | (_, Fault::BadReference) => error,
            _ => error.hint(format!(
                "nothing was sent; fetch the bundle again, or push the {whole} whole image(s) with --allow-damaged"
            )),
        })
    }
}

fn late_opener(decoder: &Decoder) -> Arc<OpenVolume> {
    let decoder = decoder.clone();
    Arc::new(move |stored| decoder.open(stored).map(|volume| volume.space))
}
