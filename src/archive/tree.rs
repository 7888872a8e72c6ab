//! One view on the members of a tar and the files of a directory: path → where the bytes lie.
//!
//! Paths are normalised names inside the bundle and nothing else; none ever becomes a path on the disk. Links are
//! followed inside the bundle only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::archive::OpenFile;
use crate::archive::blob_table::{BlobTable, TABLE_NAME, blob_path};
use crate::archive::catalog::Catalog;
use crate::archive::limits::{Allowance, Limits, check_length};
use crate::archive::sniff::{self, DetectedFormat};
use crate::archive::tar::{Member, MemberKind, TarEnd, Walker};
use crate::error::{BundleError, Fault};
use crate::source::{ByteSpace, Extent, read_exact};

/// How many links may stand between a name and its bytes.
const MAX_LINKS: usize = 8;

/// Longer documents are read when they are wanted.
const MAX_KEPT_BYTES: u64 = 4 << 20;

/// How many notes of one tree a person would read.
const MAX_NOTES: usize = 20;

/// No file has this name: names of files are without slashes at their ends.
const NOWHERE: &str = "/";

/// The members of a tar, or the files of a directory.
pub(super) struct Tree<'a> {
    entries: BTreeMap<String, TreeEntry>,
    home: TreeSource<'a>,
    /// Whether another tar follows this one, and where.
    pub(super) another_tar: Option<u64>,
    pub(super) notes: Vec<String>,
    /// Documents about images that come twice and say two things.
    pub(super) contradictions: BTreeSet<String>,
    /// Other files that a later member of the same name has replaced.
    pub(super) replaced: BTreeSet<String>,
    /// What was found in archives that were looked into as they passed, by their position.
    pub(super) passed: BTreeMap<u64, Catalog>,
    /// Small documents by their position, read as they passed: which of them are wanted is known at the end of the tar, where
    /// the parts that they lie in would have to be decoded once more.
    kept: BTreeMap<u64, Bytes>,
}

enum TreeSource<'a> {
    Tar(Arc<dyn ByteSpace>),
    Directory(&'a OpenFile<'a>),
}

#[derive(Debug)]
struct TreeEntry {
    position: u64,
    kind: EntryKind,
}

#[derive(Debug)]
enum EntryKind {
    Member {
        offset: u64,
        len: u64,
        /// What it begins like, seen while its first bytes were at hand.
        format: Option<DetectedFormat>,
    },
    OnDisk {
        path: PathBuf,
        len: u64,
    },
    /// A link: its target as it is written, and where that is in the bundle; `None` where it leads out.
    Link {
        target: String,
        to: Option<String>,
    },
    Odd(&'static str),
}

/// A file of a tree, links followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct TreeFile<'t> {
    pub(super) path: &'t str,
    pub(super) len: u64,
    /// Its place in the order of this tree.
    pub(super) position: u64,
}

impl fmt::Debug for Tree<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl<'a> Tree<'a> {
    /// The members of a tar. The space is checked to its end, so that a cut or damaged file is found before anything
    /// is made public of its content. `passing` may look into a file while its bytes are at hand.
    pub(super) fn of_tar(
        space: &Arc<dyn ByteSpace>,
        limits: &Limits,
        allowance: &Allowance,
        passing: impl Fn(&Self, TreeFile<'_>) -> Option<Catalog>,
    ) -> Result<Self, BundleError> {
        let mut tree = Self::new(TreeSource::Tar(Arc::clone(space)));
        let mut walker = Walker::new(space.as_ref(), limits, allowance);
        let mut table: Option<BlobTable> = None;
        let mut members = 0;
        loop {
            // Everything that the table does not list has been walked over.
            if let Some(table) = table.take_if(|table| members == table.head_members + 1)
                && table.fits(walker.position(), space.len()?)
            {
                tree.take_table(&table, walker.position(), allowance)?;
                return Ok(tree);
            }
            let Some(member) = walker.next()? else { break };
            if members == 0 && member.name == TABLE_NAME && member.len <= limits.index_bytes {
                let len = usize::try_from(member.len).unwrap_or(usize::MAX);
                table = BlobTable::parse(&read_exact(space.as_ref(), member.offset, len)?).ok();
            }
            members += 1;
            // At once, and not when it is read: what follows it may be far away in a bomb.
            let root_name = member.name.trim_start_matches("./");
            if matches!(root_name, "index.json" | "manifest.json") {
                check_length(root_name, member.len, limits.index_bytes)?;
            }
            tree.compare_with_earlier(&member, limits)?;
            let first = (member.kind == MemberKind::File)
                .then(|| sniff::first_of_member(space.as_ref(), member.offset, member.len))
                .flatten();
            if first.as_deref().is_some_and(sniff::may_be_document)
                && member.len <= MAX_KEPT_BYTES
                && allowance.keep(member.len)
            {
                let len = usize::try_from(member.len).unwrap_or(usize::MAX);
                // Whoever needs it gets the error.
                let read = read_exact(space.as_ref(), member.offset, len).ok();
                tree.kept.extend(read.map(|bytes| (member.offset, bytes)));
            }
            tree.insert(&member.name, member.offset, |path| match member.kind {
                MemberKind::Directory => None,
                MemberKind::File => {
                    let format = first.as_deref().map(sniff::format);
                    Some(EntryKind::Member { offset: member.offset, len: member.len, format })
                }
                MemberKind::Symlink(target) => {
                    let to = normalise(parent(path), &target);
                    Some(EntryKind::Link { target, to })
                }
                MemberKind::Hardlink(target) => {
                    let to = Some(member_path(&target));
                    Some(EntryKind::Link { target, to })
                }
                MemberKind::Odd(what) => Some(EntryKind::Odd(what)),
            });
            let looked = tree.file_at(&member.name, member.offset).and_then(|file| passing(&tree, file));
            tree.passed.extend(looked.map(|catalog| (member.offset, catalog)));
        }
        match walker.ending() {
            Some(TarEnd::Unmarked) => tree.note("the tar has no end-of-archive blocks".into()),
            Some(TarEnd::AnotherTar(at)) => tree.another_tar = Some(at),
            Some(TarEnd::Marked) | None => {}
        }
        space.len()?;
        Ok(tree)
    }

    /// Takes the blobs of a table whose places begin at `head_end`.
    fn take_table(
        &mut self,
        table: &BlobTable,
        head_end: u64,
        allowance: &Allowance,
    ) -> Result<(), BundleError> {
        for (digest, offset, len) in &table.blobs {
            allowance.take_entry()?;
            let (offset, len) = (head_end + offset, *len);
            self.insert(&blob_path(digest), offset, |_| {
                Some(EntryKind::Member { offset, len, format: None })
            });
        }
        Ok(())
    }

    /// A directory whose files are added by [`Tree::add_file`] and [`Tree::add_alias`] in their order.
    pub(super) fn of_directory(open_file: &'a OpenFile<'a>) -> Self {
        Self::new(TreeSource::Directory(open_file))
    }

    fn new(home: TreeSource<'a>) -> Self {
        Self {
            entries: BTreeMap::new(),
            home,
            another_tar: None,
            notes: Vec::new(),
            contradictions: BTreeSet::new(),
            replaced: BTreeSet::new(),
            passed: BTreeMap::new(),
            kept: BTreeMap::new(),
        }
    }

    pub(super) fn add_file(&mut self, name: &str, path: PathBuf, len: u64) {
        let position = self.entries.len() as u64;
        self.insert(name, position, |_| Some(EntryKind::OnDisk { path, len }));
    }

    /// A second name of a file of this tree.
    pub(super) fn add_alias(&mut self, name: &str, of: &str) {
        let position = self.entries.len() as u64;
        self.insert(name, position, |_| {
            Some(EntryKind::Link { target: of.to_owned(), to: normalise("", of) })
        });
    }

    /// A document about images that comes once more says the same, or there is no telling which of them is meant: one
    /// reader takes the first, another the last.
    fn compare_with_earlier(&mut self, member: &Member, limits: &Limits) -> Result<(), BundleError> {
        let path = member_path(&member.name);
        let Some(earlier) = self.entries.get(&path) else { return Ok(()) };
        if !matches!(base_name(&path), "index.json" | "manifest.json") {
            if matches!(earlier.kind, EntryKind::Member { len, .. } if len > 0) {
                self.replaced.insert(path);
            }
            return Ok(());
        }
        let fits = member.len <= limits.index_bytes && member.kind == MemberKind::File;
        let earlier = self.file(&path).ok().flatten().filter(|earlier| fits && earlier.len == member.len);
        let same = match (earlier, &self.home) {
            (Some(earlier), TreeSource::Tar(space)) => {
                let len = usize::try_from(member.len).unwrap_or(usize::MAX);
                self.read(earlier)? == read_exact(space.as_ref(), member.offset, len)?
            }
            _ => false,
        };
        if !same {
            self.contradictions.insert(path);
        }
        Ok(())
    }

    /// A name that comes again replaces what it named, as when a tar is unpacked.
    fn insert(&mut self, name: &str, position: u64, kind: impl FnOnce(&str) -> Option<EntryKind>) {
        let path = member_path(name);
        if let Some(kind) = kind(&path).filter(|_| !path.is_empty()) {
            self.entries.insert(path, TreeEntry { position, kind });
        }
    }

    /// The file that this very member is.
    fn file_at(&self, name: &str, position: u64) -> Option<TreeFile<'_>> {
        let (path, entry) = self.entries.get_key_value(&member_path(name))?;
        entry.file(path).filter(|file| file.position == position)
    }

    pub(super) fn note(&mut self, note: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        }
    }

    /// Whether its files lie on a disk, each by itself.
    pub(super) fn is_directory(&self) -> bool {
        matches!(self.home, TreeSource::Directory(_))
    }

    /// Links that lead to nothing of this tree: out of it, round and round, or to what was not packed with them.
    pub(super) fn dangling(&self) -> impl Iterator<Item = (&str, &str)> {
        let links = self.entries.iter().filter_map(|(path, entry)| match &entry.kind {
            EntryKind::Link { target, to } => Some((path.as_str(), target.as_str(), to.as_deref())),
            _ => None,
        });
        let links = links.filter(|(path, _, to)| {
            let leads_to_a_folder = to.is_some_and(|to| self.below(&format!("{to}/")).next().is_some());
            !leads_to_a_folder && !matches!(self.file(path), Ok(Some(_)))
        });
        links.map(|(path, target, _)| (path, target))
    }

    /// What cannot be read as a file, and what it is.
    pub(super) fn odd(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.entries.iter().filter_map(|(path, entry)| match entry.kind {
            EntryKind::Odd(what) => Some((path.as_str(), what)),
            _ => None,
        })
    }

    /// All names, sorted.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The names below a folder, sorted.
    pub(super) fn below(&self, folder: &str) -> impl Iterator<Item = &str> {
        self.entries
            .range::<str, _>((std::ops::Bound::Included(folder), std::ops::Bound::Unbounded))
            .map(|(path, _)| path.as_str())
            .take_while(move |path| path.starts_with(folder))
    }

    /// Files that are no links, in the order of the bundle.
    pub(super) fn files(&self) -> Vec<TreeFile<'_>> {
        let mut files: Vec<_> = self.entries.iter().filter_map(|(path, entry)| entry.file(path)).collect();
        files.sort_by_key(|file| file.position);
        files
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The file that a name leads to, if it exists.
    ///
    /// # Errors
    /// [`Fault::UnsafePath`] where a link leaves the bundle, [`Fault::MissingBlob`] where links lead round and round,
    /// [`Fault::Unsupported`] where the name is something that cannot be read as a file.
    pub(super) fn file<'t>(&'t self, name: &str) -> Result<Option<TreeFile<'t>>, BundleError> {
        let Some(mut path) = normalise("", name) else {
            let why = format!("the name {name:?} leaves the bundle");
            return Err(BundleError::new(Fault::UnsafePath, why));
        };
        for _ in 0..=MAX_LINKS {
            let Some((path_here, entry)) = self.entries.get_key_value(&path) else { return Ok(None) };
            match &entry.kind {
                EntryKind::Member { .. } | EntryKind::OnDisk { .. } => return Ok(entry.file(path_here)),
                EntryKind::Link { to: Some(to), .. } => path.clone_from(to),
                // From an archive with absolute names, as `docker load` follows them: from the root of the archive.
                EntryKind::Link { target, to: None }
                    if target.starts_with('/') && self.entries.contains_key(&member_path(target)) =>
                {
                    path = member_path(target);
                }
                EntryKind::Link { target, to: None } => {
                    let why = format!("the link {path:?} leads to {target:?}, out of the bundle");
                    return Err(BundleError::new(Fault::UnsafePath, why));
                }
                EntryKind::Odd(what) => {
                    let why = format!("{path:?} is {what}, which cannot be read as a file");
                    return Err(BundleError::new(Fault::Unsupported, why));
                }
            }
        }
        let why = format!("the link {name:?} leads through more than {MAX_LINKS} links");
        Err(BundleError::new(Fault::MissingBlob, why))
    }

    /// Where a link leads, as it is written; none for what is no link.
    pub(super) fn link_target(&self, path: &str) -> Option<&str> {
        match &self.entries.get(path)?.kind {
            EntryKind::Link { target, .. } => Some(target),
            EntryKind::Member { .. } | EntryKind::OnDisk { .. } | EntryKind::Odd(_) => None,
        }
    }

    /// A link of a folder that leads to nothing.
    pub(super) fn add_dangling(&mut self, name: &str, target: String) {
        let position = self.entries.len() as u64;
        self.insert(name, position, |_| Some(EntryKind::Link { target, to: Some(NOWHERE.to_owned()) }));
    }

    /// Where the bytes of a file lie.
    pub(super) fn extent(&self, file: TreeFile<'_>) -> Result<Extent, BundleError> {
        match (&self.home, self.entries.get(file.path).map(|entry| &entry.kind)) {
            (TreeSource::Tar(space), Some(EntryKind::Member { offset, len, .. })) => {
                Ok(Extent::new(Arc::clone(space), *offset, *len))
            }
            (TreeSource::Directory(open), Some(EntryKind::OnDisk { path, len })) => {
                Ok(Extent::new(open(path)?, 0, *len))
            }
            _ => Err(BundleError::new(Fault::MissingBlob, format!("{:?} is not a file", file.path))),
        }
    }

    /// What a file begins like.
    pub(super) fn format(&self, file: TreeFile<'_>) -> Result<DetectedFormat, BundleError> {
        match self.entries.get(file.path).map(|entry| &entry.kind) {
            Some(EntryKind::Member { format: Some(format), .. }) => Ok(*format),
            _ => Ok(sniff::format(&sniff::first_bytes(&self.extent(file)?)?)),
        }
    }

    /// All of a small file. The caller has checked its length.
    pub(super) fn read(&self, file: TreeFile<'_>) -> Result<Bytes, BundleError> {
        if let Some(kept) = self.kept.get(&file.position) {
            return Ok(kept.clone());
        }
        let too_long = || BundleError::new(Fault::LimitExceeded, format!("{:?} is too long", file.path));
        let len = usize::try_from(file.len).map_err(|_| too_long())?;
        read_exact(&self.extent(file)?, 0, len).map_err(|e| e.at(file.path))
    }

    /// All of a file of at most `limit` bytes, if it exists.
    pub(super) fn read_small(&self, path: &str, limit: u64) -> Result<Option<Bytes>, BundleError> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        check_length(path, file.len, limit)?;
        self.read(file).map(Some)
    }
}

impl TreeEntry {
    fn file<'t>(&self, path: &'t str) -> Option<TreeFile<'t>> {
        match self.kind {
            EntryKind::Member { len, .. } | EntryKind::OnDisk { len, .. } => {
                Some(TreeFile { path, len, position: self.position })
            }
            EntryKind::Link { .. } | EntryKind::Odd(_) => None,
        }
    }
}

/// The folder of a path with its slash, empty at the root.
pub(super) fn parent(path: &str) -> &str {
    path.rfind('/').map_or("", |slash| &path[..=slash])
}

/// The last part of a path.
pub(super) fn base_name(path: &str) -> &str {
    &path[parent(path).len()..]
}

/// The path of a member of this name: without a leading slash and without anything up to the last `..`, as GNU tar takes
/// it when it unpacks. `tar -P` writes such names, and nothing of a bundle is ever written to a path.
fn member_path(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let from = parts.iter().rposition(|part| *part == "..").map_or(0, |at| at + 1);
    parts[from..].join("/")
}

/// A name as seen from a folder, without `.` and `..`; `None` where it is absolute or climbs out of the root.
pub(super) fn normalise(folder: &str, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
