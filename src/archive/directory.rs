//! The files of a directory, as a tree: names and lengths, in sorted order. Opens nothing. Links that
//! cannot be followed and folders that cannot be listed are left out with the reason.

use std::path::Path;

use crate::archive::file_name::{self, NameSays};
use crate::archive::leftovers::LeftOut;
use crate::archive::limits::check_length;
use crate::archive::tree::Tree;
use crate::archive::{CatalogReader, OpenFile};
use crate::error::BundleError;
use crate::source::{FolderEntry, FolderEntryKind, scan_folder};

/// The tree of the directory at `root`, and what of it cannot be reached.
pub(super) fn scan<'a>(
    reader: &CatalogReader<'_>,
    root: &Path,
    open_file: &'a OpenFile<'a>,
) -> Result<(Tree<'a>, Vec<LeftOut>), BundleError> {
    let mut tree = Tree::of_directory(open_file);
    let mut left_out = Vec::new();
    for FolderEntry { name, path, kind } in scan_folder(root, reader.limits.entries)? {
        reader.allowance.take_entry()?;
        check_length("a file's name", name.len() as u64, reader.limits.name_bytes)?;
        match kind {
            FolderEntryKind::File(facts) => tree.add_file(&name, path, facts.len),
            FolderEntryKind::Alias(of) => tree.add_alias(&name, &of),
            FolderEntryKind::Unreachable { what, why, target } => {
                if let Some(target) = target {
                    tree.add_dangling(&name, target);
                }
                left_out.push(LeftOut::unreadable(name, what, why));
            }
            FolderEntryKind::Odd(what) if file_name::says(&name) == Some(NameSays::Archive) => {
                let why = "its name says that it is an archive; next: put the file itself there";
                left_out.push(LeftOut::unreadable(name, what, why));
            }
            FolderEntryKind::NotFollowed(what) | FolderEntryKind::Odd(what) => {
                left_out.push(LeftOut::no_image(name, what));
            }
        }
    }
    Ok((tree, left_out))
}

/// The tree of files with these names and lengths.
pub(super) fn of_files<'a>(
    reader: &CatalogReader<'_>,
    files: impl IntoIterator<Item = (String, u64)>,
    open_file: &'a OpenFile<'a>,
) -> Result<Tree<'a>, BundleError> {
    let mut tree = Tree::of_directory(open_file);
    for (name, len) in files {
        reader.allowance.take_entry()?;
        check_length("a file's name", name.len() as u64, reader.limits.name_bytes)?;
        tree.add_file(&name, name.clone().into(), len);
    }
    Ok(tree)
}
