//! Opening: source → volume → catalog, for any number of inputs.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{Bundle, Input, OpenObserver, OpenedSource, Opener, PulledBundle};
use crate::archive::{self, Catalog, LeftOut};
use crate::clock::Instant;
use crate::decode::{Decoder, Structure};
use crate::error::{BundleError, Fault};
use crate::report::{Event, Listeners};
use crate::source::{self, ByteSpace, JoinedSpaces, LateFile, LazySpace, ListedPiece, Traced, WatchedSpace};
use crate::state::{BundleIdentity, Home, OpenVolume, WrittenCatalog};

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

impl Input {
    /// Where it is; what it is called, if it is in memory or was pulled.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Memory(name, _) => Path::new(name),
            Self::Pulled(pulled) => Path::new(&pulled.name),
        }
    }
}

impl Bundle {
    /// See [`Opener::open`].
    pub(super) fn open(
        inputs: &[Input],
        opener: &Opener,
        listeners: &Listeners,
        observer: &dyn OpenObserver,
    ) -> Result<Self, BundleError> {
        let started = Instant::now();
        let mut bundle = Self::default();
        let mut whole = Catalog::default();
        for input in inputs {
            let path = input.path();
            let shown = path.display().to_string();
            let several = inputs.len() > 1;
            let observer = Placed { observer, source: &shown, is_one_of_several: several };
            let read = match input {
                Input::Path(path) => bundle.read(path, opener, listeners, &observer),
                Input::Memory(_, bytes) => {
                    bundle.read_space(path, Arc::new(bytes.clone()), opener, listeners, &observer)
                }
                Input::Pulled(pulled) => bundle.read_pulled(pulled, opener, listeners, &observer),
            };
            match read {
                Ok(mut catalog) => {
                    catalog.lie_in(&shown, several);
                    whole = whole.merge(catalog);
                }
                // Of several bundles each stands for itself, as the archives of a folder do.
                Err(error) if several && is_its_own(path, &error) => {
                    let error = what_to_compare(error, path);
                    whole.left_out.push(LeftOut::failed(shown.clone(), "a bundle", &error));
                }
                Err(error) => return Err(what_to_compare(error, path).at(&shown)),
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

    /// A bundle that is not remembered: in memory, or in pieces.
    fn read_space(
        &mut self,
        path: &Path,
        stored: Arc<dyn ByteSpace>,
        opener: &Opener,
        listeners: &Listeners,
        observer: &dyn OpenObserver,
    ) -> Result<Catalog, BundleError> {
        observer.reads();
        let decoder = &opener.decoder;
        let stored_bytes = stored.len()?;
        let volume = decoder.open(stored)?;
        self.opened(path, Some(stored_bytes), Some(volume.structure), listeners);
        let open = |stored: Arc<dyn ByteSpace>| decoder.open(stored).map(|volume| volume.space);
        let found = |part: &Catalog| observer.found(part);
        let catalog = archive::read(&volume.space, &open, &opener.limits(), &found);
        let catalog = catalog.map_err(|error| damage_first(error, &*volume.space))?;
        self.measured(&volume.space)?;
        Ok(catalog)
    }

    /// What was pulled. Its documents are at hand, so there is nothing to remember of it.
    fn read_pulled(
        &mut self,
        pulled: &PulledBundle,
        opener: &Opener,
        listeners: &Listeners,
        observer: &dyn OpenObserver,
    ) -> Result<Catalog, BundleError> {
        observer.reads();
        let path = Path::new(&pulled.name);
        self.opened(path, None, None, listeners);
        let open = |stored: Arc<dyn ByteSpace>| opener.decoder.open(stored).map(|volume| volume.space);
        let catalog = pulled.catalog(&open, &opener.limits())?;
        if catalog.has_images() {
            let identity = BundleIdentity::of_index(&pulled.index);
            opener.enter_stage(Some(&identity), path, &catalog, || None);
            self.identities.push(identity);
        }
        Ok(catalog)
    }

    /// The pieces of a bundle as one space, once each of them is what it must be.
    fn join(&mut self, pieces: &[ListedPiece], opener: &Opener) -> Result<Arc<dyn ByteSpace>, BundleError> {
        let mut spaces = Vec::with_capacity(pieces.len());
        for ListedPiece { path, sum } in pieces {
            let file = opener.file(path)?;
            let found = opener.sum(&file)?;
            if found.hex() != *sum {
                let what = format!("its SHA-256 is {}, and the sums beside it say {sum}", found.hex());
                let error = BundleError::new(Fault::DigestMismatch, what).at(path.display());
                return Err(error.hint("copy this piece again; it may be another one under its name"));
            }
            spaces.push(file.space());
            self.files.push(file);
        }
        Ok(Arc::new(JoinedSpaces::new(spaces)?))
    }

    fn read(
        &mut self,
        path: &Path,
        opener: &Opener,
        listeners: &Listeners,
        observer: &dyn OpenObserver,
    ) -> Result<Catalog, BundleError> {
        let Opener { decoder, state, .. } = opener;
        let limits = opener.limits();
        let found = |part: &Catalog| observer.found(part);
        if path == Path::new("-") {
            observer.reads();
            let volume = decoder.open_reader(source::stdin()?)?;
            let space = watched(volume.space, None, listeners);
            self.opened(path, None, Some(volume.structure), listeners);
            let open = |stored: Arc<dyn ByteSpace>| decoder.open(stored).map(|volume| volume.space);
            let catalog = archive::read(&space, &open, &limits, &found);
            let catalog = catalog.map_err(|error| damage_first(error, &*space))?;
            self.measured(&space)?;
            opener.enter_stage(None, path, &catalog, || None);
            return Ok(catalog);
        }
        let late = late_opener(decoder);
        let open = |stored: Arc<dyn ByteSpace>| {
            let space = decoder.open(Arc::clone(&stored))?.space;
            Ok(Traced::decoded(stored, space))
        };
        let kind = fs::metadata(path).map_err(|error| BundleError::io("cannot be opened", &error))?;
        if kind.is_dir() {
            self.opened(path, None, None, listeners);
            let identity = BundleIdentity::of_folder(path).filter(|_| opener.remembers());
            let home = Home::Folder(path.to_owned());
            if let Some((identity, known)) =
                identity.as_ref().and_then(|it| Some((it, opener.known_catalog(it, &home, &late)?)))
            {
                opener.enter_stage(Some(identity), path, &known, || state.written_catalog(identity));
                self.identities.push(identity.clone());
                return Ok(known);
            }
            observer.reads();
            let open_file = |file: &Path| {
                let space: Arc<dyn ByteSpace> = Arc::new(LateFile::new(file)?);
                Ok(Traced::file(file, space))
            };
            let catalog = archive::read_directory(path, &open_file, &open, &limits)?;
            if !catalog.has_images() {
                return Ok(catalog);
            }
            if let Some(identity) = identity.filter(|it| BundleIdentity::of_folder(path).as_ref() == Some(it))
            {
                state.save_catalog(&identity, &catalog, &home);
                let written = || WrittenCatalog::of(&catalog, &home);
                opener.enter_stage(Some(&identity), path, &catalog, written);
                self.identities.push(identity);
            } else {
                opener.enter_stage(None, path, &catalog, || None);
            }
            return Ok(catalog);
        }
        if let Some(pieces) = source::pieces_of(path)? {
            let stored = self.join(&pieces, opener)?;
            let catalog = self.read_space(path, stored, opener, listeners, observer)?;
            opener.enter_stage(None, path, &catalog, || None);
            return Ok(catalog);
        }
        let file = opener.file(path)?;
        let identity = if opener.remembers() { BundleIdentity::of_file(&file)? } else { None };
        let stored_bytes = file.identity().size_bytes;
        // A stream would be decoded from the moment it is opened; what is known of it may make that needless.
        let (stored, open_late) = (file.space(), Arc::clone(&late));
        let unopened: Arc<dyn ByteSpace> = Arc::new(LazySpace::new(move || open_late(Arc::clone(&stored))));
        let home = Home::Volume(unopened);
        if let Some((identity, known)) =
            identity.as_ref().and_then(|it| Some((it, opener.known_catalog(it, &home, &late)?)))
        {
            self.recalled(path, stored_bytes, listeners);
            opener.enter_stage(Some(identity), path, &known, || state.written_catalog(identity));
            self.identities.push(identity.clone());
            self.files.push(file);
            return Ok(known);
        }
        observer.reads();
        let volume = decoder.open(file.space())?;
        let space = Traced::bundle(watched(volume.space, volume.structure.decoded_bytes, listeners));
        self.opened(path, Some(stored_bytes), Some(volume.structure), listeners);
        let catalog = archive::read(&space, &open, &limits, &found);
        let catalog = catalog.map_err(|error| damage_first(error, &*space))?;
        self.measured(&space)?;
        if let Some(identity) = identity.filter(|_| catalog.has_images()) {
            file.check_unchanged()?;
            let home = Home::Volume(space);
            state.save_catalog(&identity, &catalog, &home);
            opener.enter_stage(Some(&identity), path, &catalog, || WrittenCatalog::of(&catalog, &home));
            self.identities.push(identity);
        } else {
            opener.enter_stage(None, path, &catalog, || None);
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
}

/// Says of what was found early in which source it lies, as all of the bundle will.
struct Placed<'a> {
    observer: &'a dyn OpenObserver,
    source: &'a str,
    is_one_of_several: bool,
}

impl OpenObserver for Placed<'_> {
    fn reads(&self) {
        self.observer.reads();
    }

    fn found(&self, part: &Catalog) {
        let mut part = part.clone();
        part.lie_in(self.source, self.is_one_of_several);
        self.observer.found(&part);
    }
}

/// A volume, of which `listeners` hear how far it has been read.
fn watched(space: Arc<dyn ByteSpace>, of: Option<u64>, listeners: &Listeners) -> Arc<dyn ByteSpace> {
    let listeners = listeners.clone();
    WatchedSpace::over(space, move |bytes| listeners.emit(&Event::BundleRead { bytes, of }))
}

/// Many formats give out bytes before their checksum has been seen. Where what came out makes no sense, the decoder is
/// asked first whether it was whole.
fn damage_first(error: BundleError, space: &dyn ByteSpace) -> BundleError {
    match error.fault() {
        Fault::NotABundle | Fault::CorruptTar | Fault::BadJson => space.len().err().unwrap_or(error),
        _ => error,
    }
}

/// A file that did not arrive as it was sent: how that shows without this program.
fn what_to_compare(error: BundleError, path: &Path) -> BundleError {
    if !matches!(error.fault(), Fault::CorruptCompression | Fault::Truncated) {
        return error;
    }
    let size = match fs::metadata(path) {
        Ok(facts) if facts.is_file() => format!("its {} bytes", facts.len()),
        _ => "its size".to_owned(),
    };
    let cause = error.hint_text().map(|cause| format!("{cause}; ")).unwrap_or_default();
    error.hint(format!(
        "{cause}compare {size} and its sha256sum with those of the original, and fetch it again"
    ))
}

/// Whether an error says something of this bundle alone, and not of the machine or the run.
fn is_its_own(path: &Path, error: &BundleError) -> bool {
    match error.fault() {
        Fault::Cancelled | Fault::Changed | Fault::NoSpace => false,
        Fault::Io => fs::File::open(path).and_then(|file| file.metadata()).is_err(),
        _ => true,
    }
}

fn late_opener(decoder: &Decoder) -> Arc<OpenVolume> {
    let decoder = decoder.clone();
    Arc::new(move |stored| decoder.open(stored).map(|volume| volume.space))
}
