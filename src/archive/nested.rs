//! Archives among the files of a tree: one file per image, as in most vendors' bundles.
//!
//! A plain tar is a range of what it lies in; a compressed one is opened as a space of its own. A damaged archive is
//! named and costs the others nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::archive::catalog::{BrokenImage, Catalog};
use crate::archive::pool::digest_of_path;
use crate::archive::sniff::{self, Format};
use crate::archive::tree::{File, Tree, base_name};
use crate::archive::{Reader, sections};
use crate::error::{BundleError, Fault, printable};
use crate::source::ByteSpace;

/// What holds an image is longer than this, compressed or not.
const MIN_ARCHIVE_BYTES: u64 = 64;

/// The catalogs of all archives among the files that do not belong to something else, each with its position.
pub(super) fn read(
    reader: &Reader<'_>,
    tree: &Tree<'_>,
    origin: &str,
    depth: usize,
    mut passed: BTreeMap<u64, Catalog>,
    belongs: &dyn Fn(&str) -> bool,
    catalog: &mut Catalog,
) -> Result<Vec<(u64, Catalog)>, BundleError> {
    let mut found = Vec::new();
    for file in tree.files() {
        if file.len < MIN_ARCHIVE_BYTES || belongs(file.path) {
            continue;
        }
        let inner = match passed
            .remove(&file.position)
            .map_or_else(|| open(reader, tree, file), |known| Ok(Opened::Read(known)))
        {
            Ok(Opened::Read(known)) => Ok(known),
            Ok(Opened::Tar(space)) => {
                let origin =
                    if origin.is_empty() { file.path.into() } else { format!("{origin}/{}", file.path) };
                read_archive(reader, &space, &origin, depth + 1)
            }
            Ok(Opened::Other) => continue,
            // Not known to be an archive at all: a dictionary-compressed file, say.
            Err(error) if error.fault() == Fault::Unsupported => {
                catalog.notes.push(format!("not looked into {}: {error}", file.path));
                continue;
            }
            Err(error) => Err(error),
        };
        match inner {
            Ok(mut inner) => {
                for broken in &mut inner.broken {
                    broken.error = broken.error.clone().at(file.path);
                }
                for note in &mut inner.notes {
                    *note = format!("{}: {note}", file.path);
                }
                found.push((file.position, inner));
            }
            Err(error) if error.fault() == Fault::NotABundle => {}
            Err(error) if matches!(error.fault(), Fault::Io | Fault::Cancelled | Fault::Changed) => {
                return Err(error.at(file.path));
            }
            Err(error) => {
                let (name, error) = (printable(file.path), error.at(file.path));
                catalog.broken.push(BrokenImage { name, error });
            }
        }
    }
    Ok(found)
}

/// A plain tar that passes in the walk over the outermost one, and has images in it. Its bytes are at hand now and may
/// be far away later. Whatever is wrong with it is told when it is looked into again, at its turn.
///
/// Not for what an outer image may be made of: by then it is not known yet which files are layers, so files that are
/// called as layers are, and all that comes after the description of an image, wait for their turn.
pub(super) fn look_early(reader: &Reader<'_>, tree: &Tree<'_>, file: File<'_>) -> Option<Catalog> {
    let seems_inside_an_image = tree.contains("index.json") || tree.contains("manifest.json");
    if file.len < MIN_ARCHIVE_BYTES || seems_inside_an_image || is_called_as_content(file.path) {
        return None;
    }
    let stored = tree.extent(file).ok()?;
    if sniff::format(&sniff::first_bytes(&stored).ok()?) != Format::Tar {
        return None;
    }
    let mark = reader.allowance.mark();
    let space: Arc<dyn ByteSpace> = Arc::new(stored);
    let catalog = read_archive(reader, &space, file.path, 1).ok();
    if catalog.is_none() {
        reader.allowance.return_to(mark);
    }
    catalog
}

/// Whether a file's name says that it is a layer or another blob of an image.
pub(super) fn is_called_as_content(path: &str) -> bool {
    base_name(path) == "layer.tar" || digest_of_path(path).is_some()
}

/// What a file is.
enum Opened {
    /// A tar, compressed or not.
    Tar(Arc<dyn ByteSpace>),
    /// An archive that was read as it passed.
    Read(Catalog),
    /// Nothing that images lie in.
    Other,
}

fn open(reader: &Reader<'_>, tree: &Tree<'_>, file: File<'_>) -> Result<Opened, BundleError> {
    let stored = tree.extent(file)?;
    match sniff::format(&sniff::first_bytes(&stored)?) {
        Format::Tar => Ok(Opened::Tar(Arc::new(stored))),
        Format::Gzip | Format::Xz | Format::Zstd => {
            let space = (reader.open)(Arc::new(stored))?;
            let is_tar = sniff::format(&sniff::first_bytes(space.as_ref())?) == Format::Tar;
            Ok(if is_tar { Opened::Tar(space) } else { Opened::Other })
        }
        Format::Bzip2 | Format::Other => Ok(Opened::Other),
    }
}

fn read_archive(
    reader: &Reader<'_>,
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
    sections::read(reader, &mut tree, origin, depth)
}
