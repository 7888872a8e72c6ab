//! Files of a tree that nobody can read: those that are listed as left out, and those that are too small to matter.

use std::collections::HashSet;

use crate::archive::catalog::Catalog;
use crate::archive::leftovers::{LeftOut, LeftOutClass};
use crate::archive::tar::{DEVICE, PIPE, SPARSE};
use crate::archive::tree::{Tree, parent};
use crate::archive::{file_name, nested};
use crate::error::printable;
use crate::units::count;

/// Folders of sources that have samples for tests in them, some of them damaged on purpose.
const SAMPLES: &[&str] = &["testdata", "test", "tests", "fixtures"];

/// Members of a tar that nobody can read as they are: links that lead to nothing, and sparse files.
pub(super) fn members_not_read(
    tree: &Tree<'_>,
    has_images: bool,
    belongs: &dyn Fn(&str) -> bool,
) -> Vec<LeftOut> {
    let other = |path: &str| !belongs(path) && !nested::is_called_as_content(path);
    let mut found = Vec::new();
    let why = |target| {
        format!(
            "it leads to {target:?}, which is not in the bundle; next: pack the files themselves, as with \
             `tar --dereference`"
        )
    };
    // A tar of sources has links of all kinds; one that is called as an archive stands for one anywhere.
    let counts = |path: &str| has_images || stands_for_an_archive(path);
    let links = tree.dangling().filter(|(path, _)| !tree.is_directory() && other(path) && counts(path));
    found.extend(links.map(|(path, target)| LeftOut::unreadable(path, "a link", why(target))));
    for (path, what) in tree.odd().filter(|(path, what)| *what == SPARSE && other(path)) {
        let why = "it cannot be read as it is packed; next: pack it without --sparse";
        found.push(LeftOut::unreadable(path, what, why));
    }
    for (path, what) in tree.odd().filter(|(path, what)| [DEVICE, PIPE].contains(what) && other(path)) {
        if stands_for_an_archive(path) {
            let why = "its name says that it is an archive; next: pack the file itself";
            found.push(LeftOut::unreadable(path, what, why));
        }
    }
    found
}

/// An archive without images, such as a tar of sources, may have files in it that cannot be read: zip files that hold none, or
/// samples for tests. They count if all of them together are most of it, and each one that is called as an archive. The
/// others are noted.
pub(super) fn pass_over_what_weighs_little(catalog: &mut Catalog, tree: &Tree<'_>) {
    let unreadable = catalog.left_out.iter().filter(|it| it.class == LeftOutClass::Unreadable);
    let unreadable = unreadable.map(|it| it.path.as_str());
    let broken = catalog.broken.iter().map(|broken| broken.name.as_str());
    let unread: HashSet<&str> = unreadable.chain(broken).collect();
    let files = tree.files();
    let all: u64 = files.iter().map(|file| file.len).sum();
    let weight: u64 = files.iter().filter(|file| unread.contains(file.path)).map(|file| file.len).sum();
    if weight >= all.div_ceil(2) {
        return;
    }
    let passed_over: Vec<&str> = files
        .iter()
        .map(|file| file.path)
        .filter(|path| unread.contains(path) && !stands_for_an_archive(path))
        .collect();
    if passed_over.is_empty() {
        return;
    }
    let note = format!(
        "{} of it cannot be read, and a small part of an archive without images: {}",
        count(passed_over.len(), "file"),
        passed_over.iter().map(|path| printable(path)).collect::<Vec<_>>().join(", ")
    );
    let passed_over: HashSet<&str> = passed_over.into_iter().collect();
    catalog.left_out.retain(|it| !passed_over.contains(it.path.as_str()));
    catalog.broken.retain(|broken| !passed_over.contains(broken.name.as_str()));
    catalog.notes.push(note);
}

/// Whether the name of a file is that of an archive or of compressed data, and the file is no test sample of a source tree.
fn stands_for_an_archive(path: &str) -> bool {
    let is_sample = parent(path).split('/').any(|folder| SAMPLES.contains(&folder));
    file_name::says(path).is_some() && !is_sample
}
