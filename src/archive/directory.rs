//! The files of a directory, as a tree: names and lengths, in sorted order. Opens nothing; follows no link out of it.

use std::fs;
use std::path::Path;

use crate::archive::limits::check_length;
use crate::archive::tree::Tree;
use crate::archive::{OpenFile, Reader};
use crate::error::BundleError;

/// The tree of the directory at `root`.
pub(super) fn scan<'a>(
    reader: &Reader<'_>,
    root: &Path,
    open_file: &'a OpenFile<'a>,
) -> Result<Tree<'a>, BundleError> {
    let mut names = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let refused =
            |error: std::io::Error| BundleError::io("reading the directory", &error).at(path.display());
        for entry in fs::read_dir(&path).map_err(refused)? {
            let entry = entry.map_err(refused)?;
            reader.allowance.take_entry()?;
            let kind = entry.file_type().map_err(refused)?;
            let Some(name) = entry.file_name().to_str().map(|name| format!("{folder}{name}")) else {
                let shown = entry.path().to_string_lossy().into_owned();
                names.push((shown, None));
                continue;
            };
            check_length("a file's name", name.len() as u64, reader.limits.name_bytes)?;
            if kind.is_dir() {
                folders.push(format!("{name}/"));
            } else if kind.is_file() || kind.is_symlink() {
                names.push((name, Some(kind)));
            }
        }
    }
    names.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut tree = Tree::of_directory(open_file);
    for (name, kind) in names {
        let path = root.join(&name);
        let refused =
            |error: std::io::Error| BundleError::io("reading the directory", &error).at(path.display());
        match kind {
            None => tree.note(format!("ignored {name:?}: its name is not UTF-8")),
            Some(kind) if kind.is_symlink() => {
                let target = fs::read_link(&path).map_err(refused)?;
                tree.add_link(&name, &target.to_string_lossy());
            }
            Some(_) => {
                let len = fs::symlink_metadata(&path).map_err(refused)?.len();
                tree.add_file(&name, path, len);
            }
        }
    }
    Ok(tree)
}
