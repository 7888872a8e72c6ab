//! A volume becomes a [`Catalog`]: which images are in the bundle, and where their bytes lie.
//!
//! The flavour of a bundle is detected from the content, never from the file name: an OCI layout, a docker-archive, both in one,
//! imgpkg's tar, a registry's storage, skopeo's `dir:`, the trees of `oc`, archives inside archives, and directories of
//! any of these. Nothing is ever unpacked to a path, and layers are not read: what is read are tar headers, indexes,
//! manifests, configurations and the first block of files that may be archives.
//!
//! An image that is damaged costs the others nothing: it goes into [`Catalog::broken`]. Damage to the container itself
//! (tar, compression, `index.json`) is an error for the whole file. What is neither goes into [`Catalog::left_out`] with
//! its reason: nothing is passed over in silence.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::archive::limits::Allowance;
use crate::archive::tree::Tree;
use crate::error::BundleError;
use crate::oci::Digest;
use crate::source::ByteSpace;

mod attachments;
pub(crate) mod base;
pub(crate) mod blob_table;
#[cfg(test)]
mod build;
pub(crate) mod catalog;
mod content_path;
mod dir_transport;
mod directory;
mod docker_archive;
mod file_name;
mod flavours;
mod imgpkg;
mod incomplete;
mod leftovers;
mod limits;
mod manifest_json;
pub(crate) mod names;
mod nested;
mod oc_tree;
mod oci_layout;
mod partial;
mod pool;
mod registry_tree;
mod shared;
mod sniff;
mod tar;
#[cfg(test)]
mod tests;
mod tree;
mod views;

pub(crate) use catalog::{Attachment, ContentKey, PartialIndex, Stored, Unit, Unpacked, UnpackedLayer};
pub use catalog::{Blob, Catalog, Content, Image, ImageName};
pub(crate) use leftovers::{LeftOut, LeftOutClass};
pub use limits::Limits;

/// Gives the decoded space of stored bytes; the same space where they are plain.
pub(crate) type Open<'a> = dyn Fn(Arc<dyn ByteSpace>) -> Result<Arc<dyn ByteSpace>, BundleError> + 'a;

/// Opens a file of a directory: its bytes as stored.
pub(crate) type OpenFile<'a> = dyn Fn(&Path) -> Result<Arc<dyn ByteSpace>, BundleError> + 'a;

/// Hears of an archive of the bundle as soon as it has been walked, long before the bundle's end. What it is told is a
/// part of the catalog that [`read`] will give, unless the rest of the bundle turns out to be damaged.
pub(crate) type Early<'a> = dyn Fn(&Catalog) + 'a;

/// What is in a file, given its decoded volume. The volume is checked to its end.
///
/// Where no image is in it, [`Catalog::nothing_in_it`] says what it is instead.
///
/// # Errors
/// Damage to the container itself, or that it is no archive at all. Damage to single images is in the catalog.
pub fn read(
    space: &Arc<dyn ByteSpace>,
    open: &Open<'_>,
    limits: &Limits,
    early: &Early<'_>,
) -> Result<Catalog, BundleError> {
    let (format, first) = sniff::format_of(space.as_ref())?;
    if let sniff::DetectedFormat::Unreadable(container) = format {
        return Err(container.refusal());
    }
    // An all-zero block is how an empty tar begins.
    let zero_block = first.len() == 512 && first.iter().all(|&c| c == 0);
    if !zero_block && format != sniff::DetectedFormat::Tar {
        if first.len() < 512 {
            space.len()?; // a stream cut this early is cut, whatever its first bytes look like
        }
        return Err(match sniff::look_closer(space.as_ref(), &first)? {
            sniff::Closer::Other(what) => LeftOut::no_image("", what),
            sniff::Closer::Damaged(what) => LeftOut::unreadable("", what, sniff::MEND),
        }
        .nothing_else());
    }
    let reader = CatalogReader::new(open, limits);
    let mut tree = Tree::of_tar(space, limits, &reader.allowance, |tree, file| {
        let catalog = nested::look_early(&reader, tree, file)?;
        early(&catalog);
        Some(catalog)
    })?;
    if zero_block && tree.len() == 0 && tree.another_tar.is_none() {
        return Err(LeftOut::no_image("", sniff::file_seems(&first)).nothing_else());
    }
    reader.read_tree(&mut tree, "", 0).map(finish)
}

/// What is in a directory: a layout, an unpacked archive, archives, or a mixture. `open_file` gives the bytes of a file
/// as stored; it is called for what must be read here and for each blob of the catalog, so it may well open late.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_directory(
    path: &Path,
    open_file: &OpenFile<'_>,
    open: &Open<'_>,
    limits: &Limits,
) -> Result<Catalog, BundleError> {
    let reader = CatalogReader::new(open, limits);
    let (mut tree, unreachable) = directory::scan(&reader, path, open_file)?;
    let mut catalog = reader.read_tree(&mut tree, "", 0)?;
    catalog.left_out.extend(unreachable);
    Ok(finish(catalog))
}

/// The same of a list of files: their names with their lengths. `open_file` is called with a name.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_files(
    files: impl IntoIterator<Item = (String, u64)>,
    open_file: &OpenFile<'_>,
    open: &Open<'_>,
    limits: &Limits,
) -> Result<Catalog, BundleError> {
    let reader = CatalogReader::new(open, limits);
    let mut tree = directory::of_files(&reader, files, open_file)?;
    reader.read_tree(&mut tree, "", 0).map(finish)
}

fn finish(mut catalog: Catalog) -> Catalog {
    catalog.keep_reachable();
    catalog
}

/// What all parts of one reading share.
struct CatalogReader<'a> {
    open: &'a Open<'a>,
    limits: &'a Limits,
    allowance: Allowance,
}

impl<'a> CatalogReader<'a> {
    fn new(open: &'a Open<'a>, limits: &'a Limits) -> Self {
        Self { open, limits, allowance: Allowance::new(limits) }
    }

    /// What is in a tree, and in the archives among its files: `sections` asks `nested` for those, which come back here.
    fn read_tree(&self, tree: &mut Tree<'_>, origin: &str, depth: usize) -> Result<Catalog, BundleError> {
        flavours::read(self, tree, origin, depth)
    }
}

impl std::fmt::Debug for CatalogReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("allowance", &self.allowance).finish_non_exhaustive()
    }
}

/// One bundle of a known kind: a folder of a tree.
#[derive(Debug)]
struct BundleFolder<'t> {
    tree: &'t Tree<'t>,
    /// With its slash, empty at the root.
    folder: &'t str,
    /// Which archive and folder that is, for messages.
    origin: String,
}

/// An image that a layout, registry or list names, visited.
#[derive(Debug)]
struct Listed {
    /// What messages call it.
    label: String,
    names: Vec<ImageName>,
    digest: Digest,
    annotations: BTreeMap<String, String>,
    /// What is wrong with it.
    fault: Option<BundleError>,
    /// The whole platforms of an index that the bundle holds in part.
    part: Option<partial::IndexSubstitute>,
    /// Who wrote the bundle saves indexes in part.
    saved_in_part: bool,
    /// Another image is taken in its place.
    replaced: bool,
    /// What it is of another image.
    attachment: Option<Attachment>,
}

impl Listed {
    fn new(label: String, names: Vec<ImageName>, digest: Digest) -> Self {
        let annotations = BTreeMap::new();
        Self {
            label,
            names,
            digest,
            annotations,
            fault: None,
            part: None,
            saved_in_part: false,
            replaced: false,
            attachment: None,
        }
    }

    /// Further names; one may come twice until [`distinct`] is called.
    fn add_names(&mut self, names: Vec<ImageName>) {
        self.names.extend(names);
    }
}

/// Names without repetitions, in their order.
fn distinct(names: Vec<ImageName>) -> Vec<ImageName> {
    let mut seen = HashSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}
