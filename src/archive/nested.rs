//! Archives among the files of a tree: one file per image, as in most vendors' bundles.
//!
//! A plain tar is a range of what it lies in; a compressed one is opened as a space of its own. A damaged archive is
//! named and costs the others nothing. What is no archive, and what has no image in it, is left out with its reason.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::archive::CatalogReader;
use crate::archive::catalog::{BrokenImage, Catalog};
use crate::archive::content_path::digest_of_path;
use crate::archive::file_name::{self, NameSays};
use crate::archive::leftovers::{LeftOut, LeftOutClass};
use crate::archive::sniff::{self, DetectedFormat};
use crate::archive::tree::{Tree, TreeFile, base_name};
use crate::error::{BundleError, Fault, printable};
use crate::source::ByteSpace;

/// An archive with an image is longer than this, compressed or not.
const MIN_ARCHIVE_BYTES: u64 = 64;

const COMPRESSED: &str = "a compressed file that is no archive";
const TOO_SHORT: &str = "a file too short to be an archive";
const PIECE: &str = "a piece of a split archive";
const JOIN: &str = "it cannot be read alone; next: join the pieces: cat PIECES | layercast … --source -";

/// The files of one tree, to be looked into.
pub(super) struct Nested<'r> {
    pub(super) reader: &'r CatalogReader<'r>,
    pub(super) tree: &'r Tree<'r>,
    pub(super) origin: &'r str,
    pub(super) depth: usize,
    /// Whether files that are no archives are named as well.
    pub(super) others_count: bool,
}

/// The kind of a file.
enum FileContent {
    /// A tar, compressed or not.
    Tar(Arc<dyn ByteSpace>),
    /// An archive that was read as it passed.
    Read(Catalog),
    /// A file that cannot hold images.
    Other(&'static str),
    /// A file that may hold images and is not read.
    Unreadable(LeftOut),
}

impl Nested<'_> {
    /// The catalogs of all archives among the files that do not belong to something else, each with its position.
    pub(super) fn read(
        &self,
        mut passed: BTreeMap<u64, Catalog>,
        belongs: &dyn Fn(&str) -> bool,
        catalog: &mut Catalog,
    ) -> Result<Vec<(u64, Catalog)>, BundleError> {
        let mut found = Vec::new();
        let mut others = Vec::new();
        for file in self.tree.files() {
            if belongs(file.path) {
                continue;
            }
            let opened = passed
                .remove(&file.position)
                .map_or_else(|| self.open_as_called(file), |known| Ok(FileContent::Read(known)));
            let inner = match opened {
                Ok(FileContent::Read(known)) => Ok(known),
                Ok(FileContent::Tar(space)) => self.look_into(&space, file.path),
                Ok(FileContent::Other(what)) => {
                    others.push((file.path, what));
                    continue;
                }
                Ok(FileContent::Unreadable(left_out)) => {
                    catalog.left_out.push(left_out);
                    continue;
                }
                Err(error) => Err(error),
            };
            match inner {
                Ok(inner) => found.push((file.position, self.told_by_path(inner, file.path))),
                Err(error) => self.fail(file, error, catalog)?,
            }
        }
        self.name_others(others, catalog);
        Ok(found)
    }

    /// Names what is no archive. Where the first piece of a split archive was met, what follows it is the rest of it.
    fn name_others(&self, others: Vec<(&str, &'static str)>, catalog: &mut Catalog) {
        let damaged = catalog.left_out.iter().filter(|it| it.class == LeftOutClass::Unreadable);
        let damaged =
            damaged.map(|it| it.path.as_str()).chain(catalog.broken.iter().map(|it| it.name.as_str()));
        let cut: HashSet<(String, bool)> = damaged
            .filter_map(|path| file_name::series(path).filter(|it| it.first))
            .map(|it| (it.stem.to_owned(), it.by_letters))
            .collect();
        for (path, what) in others {
            let series = file_name::series(path).map(|it| (it.stem.to_owned(), it.by_letters));
            if series.is_some_and(|series| cut.contains(&series)) {
                catalog.left_out.push(LeftOut::unreadable(path, PIECE, JOIN));
            } else if self.others_count {
                catalog.left_out.push(LeftOut::no_archive(path, what));
            }
        }
    }

    /// The kind of a file. A file with the name of an archive that is none did not arrive whole.
    fn open_as_called(&self, file: TreeFile<'_>) -> Result<FileContent, BundleError> {
        let content = self.open(file)?;
        let (FileContent::Other(what), Some(says)) = (&content, file_name::says(file.path)) else {
            return Ok(content);
        };
        let why = match says {
            NameSays::Archive => "its name says that it is an archive; next: fetch it again, or remove it",
            NameSays::Compressed if *what != COMPRESSED => {
                "its name says that it is compressed data; next: fetch it again, or remove it"
            }
            NameSays::Piece => JOIN,
            NameSays::PerhapsPiece if ![sniff::TEXT, TOO_SHORT].contains(what) => JOIN,
            NameSays::Compressed | NameSays::PerhapsPiece => return Ok(content),
        };
        let what = if why == JOIN { PIECE } else { what };
        Ok(FileContent::Unreadable(LeftOut::unreadable(file.path, what, why)))
    }

    /// The catalog of an archive. Messages name its path.
    fn told_by_path(&self, mut inner: Catalog, path: &str) -> Catalog {
        for broken in &mut inner.broken {
            broken.error = broken.error.clone().at(path);
        }
        for note in &mut inner.notes {
            *note = format!("{path}: {note}");
        }
        if !inner.has_images() {
            // One word for all that is in it, unless something in it cannot be read.
            let is_unreadable = |it: &LeftOut| it.class == LeftOutClass::Unreadable;
            let any = inner.left_out.iter().any(is_unreadable);
            inner.left_out.retain(|it| if any { is_unreadable(it) } else { it.path.is_empty() });
        }
        inner.left_out = inner.left_out.into_iter().map(|it| it.below(path)).collect();
        if self.is_a_bundle_of_its_own() {
            inner.confine(path);
        }
        inner
    }

    /// An archive that could not be read. In a folder that is one of many, elsewhere a damaged part of the one bundle.
    fn fail(&self, file: TreeFile<'_>, error: BundleError, catalog: &mut Catalog) -> Result<(), BundleError> {
        let path = file.path;
        match error.fault() {
            // A file that the system does not give us; a full disk of ours is another matter.
            Fault::Io if self.is_a_bundle_of_its_own() && !self.can_be_read(file) => {
                catalog.left_out.push(LeftOut::failed(path, "a file that cannot be read", &error));
            }
            Fault::Io | Fault::NoSpace | Fault::Cancelled | Fault::Changed => return Err(error.at(path)),
            Fault::Unsupported => catalog.left_out.push(LeftOut::failed(path, "an archive", &error)),
            _ if self.is_a_bundle_of_its_own() => {
                let error = join_hint(error);
                catalog.left_out.push(LeftOut::failed(path, "a damaged archive", &error));
            }
            _ => catalog.broken.push(BrokenImage::new(printable(path), error.at(path))),
        }
        Ok(())
    }

    fn is_a_bundle_of_its_own(&self) -> bool {
        self.tree.is_directory() && self.depth == 0
    }

    fn can_be_read(&self, file: TreeFile<'_>) -> bool {
        self.tree.extent(file).and_then(|extent| extent.chunk_at(0, 1)).is_ok()
    }

    fn open(&self, file: TreeFile<'_>) -> Result<FileContent, BundleError> {
        if file.len == 0 {
            return Ok(FileContent::Other("an empty file"));
        }
        // Not worth going back for inside an archive; in a folder it may be what is left of a download.
        if file.len < MIN_ARCHIVE_BYTES && !self.tree.is_directory() {
            let is_compressed = matches!(self.tree.format(file)?, DetectedFormat::Compressed(_));
            return Ok(FileContent::Other(if is_compressed { COMPRESSED } else { TOO_SHORT }));
        }
        let stored = self.tree.extent(file)?;
        let (format, first) = sniff::format_of(&stored)?;
        Ok(match format {
            DetectedFormat::Tar => FileContent::Tar(Arc::new(stored)),
            DetectedFormat::Unreadable(container) => {
                let why = format!("it cannot be read; next: {}", container.advice);
                FileContent::Unreadable(LeftOut::unreadable(file.path, container.what, why))
            }
            DetectedFormat::Compressed(_) => {
                let space = (self.reader.open)(Arc::new(stored))?;
                let first = sniff::first_bytes(space.as_ref())?;
                match sniff::format(&first) {
                    DetectedFormat::Tar => FileContent::Tar(space),
                    DetectedFormat::Unreadable(container) => {
                        let what = format!("compressed, and in it {}", container.what);
                        let why = format!("it cannot be read; next: {}", container.advice);
                        FileContent::Unreadable(LeftOut::unreadable(file.path, what, why))
                    }
                    DetectedFormat::Compressed(_) => {
                        let (what, why) = (
                            "compressed data inside compressed data",
                            "it is not read; next: decompress it once",
                        );
                        FileContent::Unreadable(LeftOut::unreadable(file.path, what, why))
                    }
                    DetectedFormat::Other => match sniff::look_at_start(space.as_ref(), &first)? {
                        sniff::Closer::Other(_) => FileContent::Other(COMPRESSED),
                        sniff::Closer::Damaged(what) => {
                            let what = format!("compressed, and in it {what}");
                            FileContent::Unreadable(LeftOut::unreadable(file.path, what, sniff::MEND))
                        }
                    },
                }
            }
            DetectedFormat::Other => match sniff::look_closer(&stored, &first)? {
                sniff::Closer::Other(what) => FileContent::Other(what),
                sniff::Closer::Damaged(what) => {
                    FileContent::Unreadable(LeftOut::unreadable(file.path, what, sniff::MEND))
                }
            },
        })
    }

    fn look_into(&self, space: &Arc<dyn ByteSpace>, path: &str) -> Result<Catalog, BundleError> {
        let origin = if self.origin.is_empty() { path.into() } else { format!("{}/{path}", self.origin) };
        read_archive(self.reader, space, &origin, self.depth + 1)
    }
}

/// A plain tar that passes in the walk over the outermost one, and has images in it. Its bytes are at hand now and may
/// be far away later. An error in it is reported when its turn comes and it is read again.
///
/// Not for what an outer image may be made of: by then it is not known yet which files are layers, so files that are
/// called as layers are, and all that comes after the description of an image, wait for their turn.
pub(super) fn look_early(reader: &CatalogReader<'_>, tree: &Tree<'_>, file: TreeFile<'_>) -> Option<Catalog> {
    let seems_inside_an_image = tree.contains("index.json") || tree.contains("manifest.json");
    if file.len < MIN_ARCHIVE_BYTES || seems_inside_an_image || is_called_as_content(file.path) {
        return None;
    }
    let stored = tree.extent(file).ok()?;
    if sniff::format(&sniff::first_bytes(&stored).ok()?) != DetectedFormat::Tar {
        return None;
    }
    let mark = reader.allowance.mark();
    let space: Arc<dyn ByteSpace> = Arc::new(stored);
    let catalog = read_archive(reader, &space, file.path, 1).ok().filter(Catalog::has_images);
    if catalog.is_none() {
        reader.allowance.return_to(mark);
    }
    catalog
}

/// Whether a file's name says that it is a layer or another blob of an image.
pub(super) fn is_called_as_content(path: &str) -> bool {
    base_name(path) == "layer.tar" || digest_of_path(path).is_some()
}

/// A file that ends too early may be the first piece of several.
fn join_hint(error: BundleError) -> BundleError {
    if error.fault() != Fault::Truncated {
        return error;
    }
    error.hint("copy it again; if it is the first piece of a split archive, join the pieces: cat PIECES | layercast … --source -")
}

fn read_archive(
    reader: &CatalogReader<'_>,
    space: &Arc<dyn ByteSpace>,
    origin: &str,
    depth: usize,
) -> Result<Catalog, BundleError> {
    let limit = reader.limits.archive_depth;
    if depth > limit {
        let what = format!("archives lie more than {limit} deep inside each other");
        return Err(BundleError::new(Fault::LimitExceeded, what));
    }
    let mut tree = Tree::of_tar(space, reader.limits, &reader.allowance, |_, _| None)?;
    reader.read_tree(&mut tree, origin, depth)
}
