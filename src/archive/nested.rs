//! Archives among the files of a tree: one file per image, as in most vendors' bundles.
//!
//! A plain tar is a range of what it lies in; a compressed one is opened as a space of its own. A damaged archive is
//! named and costs the others nothing.

use std::sync::Arc;

use crate::archive::catalog::{BrokenImage, Catalog};
use crate::archive::sniff::{self, Format};
use crate::archive::tree::{File, Tree};
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
    belongs: &dyn Fn(&str) -> bool,
    catalog: &mut Catalog,
) -> Result<Vec<(u64, Catalog)>, BundleError> {
    let mut found = Vec::new();
    for file in tree.files() {
        if file.len < MIN_ARCHIVE_BYTES || belongs(file.path) {
            continue;
        }
        let inner = match open(reader, tree, file) {
            Ok(Some(space)) => {
                let origin =
                    if origin.is_empty() { file.path.into() } else { format!("{origin}/{}", file.path) };
                read_archive(reader, &space, &origin, depth + 1)
            }
            Ok(None) => continue,
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

/// The space of a file that is a tar, compressed or not.
fn open(
    reader: &Reader<'_>,
    tree: &Tree<'_>,
    file: File<'_>,
) -> Result<Option<Arc<dyn ByteSpace>>, BundleError> {
    let stored = tree.extent(file)?;
    match sniff::format(&sniff::first_bytes(&stored)?) {
        Format::Tar => Ok(Some(Arc::new(stored))),
        Format::Gzip | Format::Xz | Format::Zstd => {
            let space = (reader.open)(Arc::new(stored))?;
            let is_tar = sniff::format(&sniff::first_bytes(space.as_ref())?) == Format::Tar;
            Ok(is_tar.then_some(space))
        }
        Format::Bzip2 | Format::Other => Ok(None),
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
    let mut tree = Tree::of_tar(space, reader.limits, &reader.allowance)?;
    sections::read(reader, &mut tree, origin, depth)
}
