//! What lies in a folder that the user gave, symbolic links followed.
//!
//! People link to archives instead of copying 20 GB (`ln -s`, Nix, git-annex), so links are followed wherever they lead:
//! it is their folder and their link. Inside archives, which come from strangers, no link ever leads out. Nothing is
//! opened here.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{BundleError, Fault};

/// Folders inside each other, links followed. Deeper trees are a mistake, or made to tire.
const MAX_DEPTH: usize = 64;

/// Something in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FolderEntry {
    /// Its name below the folder, with `/`. Bytes that are not UTF-8 stand as `\xNN`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: FolderEntryKind,
}

/// What something in a folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FolderEntryKind {
    /// A regular file, itself or behind links.
    File(FileFacts),
    /// A link to a file that has another name in the same folder, which is this one.
    Alias(String),
    /// Cannot be followed or listed; it may stand for an archive that is missing.
    Unreachable {
        /// What it is.
        what: &'static str,
        /// Why it cannot be reached.
        why: String,
        /// Where it leads, if it is a link to nothing.
        target: Option<String>,
    },
    /// A link to a folder whose content is listed under another name, or must not be.
    NotFollowed(&'static str),
    /// No file: a pipe, a socket, a device.
    Odd(&'static str),
}

/// What the file system says of a file: whether it is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileFacts {
    /// Length in bytes.
    pub len: u64,
    /// Device and inode.
    pub id: (u64, u64),
    /// When anything about it last changed, in nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// A folder to be listed.
struct Pending {
    name: String,
    path: PathBuf,
    /// Device and inode of this folder and of those above it.
    above: Vec<(u64, u64)>,
    linked: bool,
}

/// Everything below the folder at `root`, sorted by name.
///
/// # Errors
/// [`Fault::Io`] if the folder itself cannot be listed, [`Fault::LimitExceeded`] for more than `limit` entries. What cannot
/// be listed below it is an entry.
pub(crate) fn scan_folder(root: &Path, limit: usize) -> Result<Vec<FolderEntry>, BundleError> {
    let refused = |error: &io::Error| BundleError::io("reading the folder", error).at(root.display());
    let facts = fs::metadata(root).map_err(|error| refused(&error))?;
    fs::read_dir(root).map_err(|error| refused(&error))?;
    let mut scan = Scan {
        entries: Vec::new(),
        links: Vec::new(),
        names: HashMap::new(),
        listed: HashSet::new(),
        limit,
        taken: 0,
    };
    let above = vec![id(&facts)];
    scan.walk(Pending { name: String::new(), path: root.to_owned(), above, linked: false })?;
    // What has a name of its own comes first, so that a link to it is a second name.
    let mut next = 0;
    while let Some(link) = scan.links.get_mut(next).map(std::mem::take) {
        next += 1;
        scan.follow(link)?;
    }
    let mut entries = scan.entries;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

#[derive(Default)]
struct FollowedLink {
    name: String,
    path: PathBuf,
    above: Vec<(u64, u64)>,
    /// It lies in a folder that was reached by a link.
    linked: bool,
}

struct Scan {
    entries: Vec<FolderEntry>,
    links: Vec<FollowedLink>,
    /// The first name of each file.
    names: HashMap<(u64, u64), String>,
    /// Folders that were listed, by any name.
    listed: HashSet<(u64, u64)>,
    limit: usize,
    taken: usize,
}

impl Scan {
    fn walk(&mut self, folder: Pending) -> Result<(), BundleError> {
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            let listed = fs::read_dir(&folder.path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let listed = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    let kind = unreachable("a folder", format!("it cannot be listed: {error}"));
                    self.add(folder.name, folder.path, kind);
                    continue;
                }
            };
            for entry in listed {
                self.take()?;
                let text = readable(entry.file_name().as_bytes());
                let name = if folder.name.is_empty() { text } else { format!("{}/{text}", folder.name) };
                let path = entry.path();
                let facts = match fs::symlink_metadata(&path) {
                    Ok(facts) => facts,
                    Err(error) => {
                        self.add(name, path, unreachable("a file", error.to_string()));
                        continue;
                    }
                };
                if facts.is_symlink() {
                    let (above, linked) = (folder.above.clone(), folder.linked);
                    self.links.push(FollowedLink { name, path, above, linked });
                } else if facts.is_dir() {
                    let linked = folder.linked;
                    folders.extend(self.below(name, path, &folder.above, &facts, linked));
                } else {
                    self.file(name, path, &facts, folder.linked);
                }
            }
        }
        Ok(())
    }

    /// What a link leads to: a file, or a folder whose content comes under the link's name too.
    fn follow(&mut self, link: FollowedLink) -> Result<(), BundleError> {
        let FollowedLink { name, path, above, linked } = link;
        match fs::metadata(&path) {
            Err(error) => {
                let target = fs::read_link(&path).map(|to| to.display().to_string()).unwrap_or_default();
                let why = match error.kind() {
                    io::ErrorKind::NotFound => format!("it leads to {target}, which does not exist"),
                    _ => format!("it leads to {target} and cannot be followed: {error}"),
                };
                let target = (error.kind() == io::ErrorKind::NotFound).then_some(target);
                self.add(name, path, FolderEntryKind::Unreachable { what: "a symbolic link", why, target });
                Ok(())
            }
            // Packages of one workspace link to each other: without this there would be a name for each way through them.
            Ok(facts) if facts.is_dir() && linked && self.listed.contains(&id(&facts)) => {
                self.add(
                    name,
                    path,
                    FolderEntryKind::NotFollowed("a symbolic link to a folder that was listed already"),
                );
                Ok(())
            }
            Ok(facts) if facts.is_dir() && is_of_the_kernel(&path) => {
                self.add(
                    name,
                    path,
                    FolderEntryKind::NotFollowed("a symbolic link to a file system of the kernel"),
                );
                Ok(())
            }
            Ok(facts) if facts.is_dir() => match self.below(name, path, &above, &facts, true) {
                Some(folder) => self.walk(folder),
                None => Ok(()),
            },
            Ok(facts) => {
                self.file(name, path, &facts, true);
                Ok(())
            }
        }
    }

    /// A folder to be listed, unless it is one of those above it.
    fn below(
        &mut self,
        name: String,
        path: PathBuf,
        above: &[(u64, u64)],
        facts: &Metadata,
        linked: bool,
    ) -> Option<Pending> {
        let id = id(facts);
        if above.contains(&id) {
            self.add(name, path, FolderEntryKind::NotFollowed("a symbolic link to a folder that it lies in"));
            return None;
        }
        if above.len() > MAX_DEPTH {
            let why = format!("folders lie more than {MAX_DEPTH} deep inside each other");
            self.add(name, path, unreachable("a folder", why));
            return None;
        }
        self.listed.insert(id);
        let above = above.iter().copied().chain([id]).collect();
        Some(Pending { name, path, above, linked })
    }

    fn file(&mut self, name: String, path: PathBuf, facts: &Metadata, linked: bool) {
        let kind = facts.file_type();
        let kind = if kind.is_file() {
            let id = id(facts);
            if let Some(first) = self.names.get(&id).filter(|_| linked) {
                FolderEntryKind::Alias(first.clone())
            } else {
                self.names.entry(id).or_insert_with(|| name.clone());
                FolderEntryKind::File(FileFacts { len: facts.len(), id, ctime_ns: ctime_ns(facts) })
            }
        } else if kind.is_fifo() {
            FolderEntryKind::Odd("a named pipe")
        } else if kind.is_socket() {
            FolderEntryKind::Odd("a socket")
        } else {
            FolderEntryKind::Odd("a device")
        };
        self.add(name, path, kind);
    }

    fn add(&mut self, name: String, path: PathBuf, kind: FolderEntryKind) {
        self.entries.push(FolderEntry { name, path, kind });
    }

    fn take(&mut self) -> Result<(), BundleError> {
        self.taken += 1;
        if self.taken <= self.limit {
            return Ok(());
        }
        let what = format!("the folder has more than {} entries, which is the limit", self.limit);
        Err(BundleError::new(Fault::LimitExceeded, what))
    }
}

/// procfs and sysfs, which have no end.
fn is_of_the_kernel(path: &Path) -> bool {
    const PROC: u64 = 0x9fa0;
    const SYSFS: u64 = 0x6265_6572;
    rustix::fs::statfs(path).is_ok_and(|found| [PROC, SYSFS].contains(&found.f_type.cast_unsigned()))
}

fn id(facts: &Metadata) -> (u64, u64) {
    (facts.dev(), facts.ino())
}

fn unreachable(what: &'static str, why: String) -> FolderEntryKind {
    FolderEntryKind::Unreachable { what, why, target: None }
}

fn ctime_ns(facts: &Metadata) -> i64 {
    facts.ctime().saturating_mul(1_000_000_000).saturating_add(facts.ctime_nsec())
}

/// A file's name as text.
fn readable(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;

    use super::*;

    fn kinds(root: &Path) -> Vec<(String, &'static str)> {
        let entries = scan_folder(root, 100).unwrap().into_iter();
        let kind = |entry: FolderEntry| match entry.kind {
            FolderEntryKind::File(_) => (entry.name, "file"),
            FolderEntryKind::Alias(of) => (format!("{} = {of}", entry.name), "alias"),
            FolderEntryKind::Unreachable { .. } => (entry.name, "unreachable"),
            FolderEntryKind::NotFollowed(what) | FolderEntryKind::Odd(what) => (entry.name, what),
        };
        entries.map(kind).collect()
    }

    fn named(list: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
        list.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()
    }

    #[test]
    fn links_are_followed_and_what_has_two_names_is_one_file() {
        let (root, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| root.path().join(name);
        fs::write(store.path().join("one.tar"), "1").unwrap();
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/two.tar"), "2").unwrap();
        symlink("sub/two.tar", at("a-latest.tar")).unwrap();
        symlink(store.path().join("one.tar"), at("one.tar")).unwrap();
        symlink(store.path(), at("farm")).unwrap();
        let found = kinds(root.path());
        // Of the two ways out to one.tar, the first that was met is the file.
        assert_eq!(found[0], ("a-latest.tar = sub/two.tar".to_owned(), "alias"));
        assert_eq!(found.iter().filter(|(_, kind)| *kind == "file").count(), 2, "{found:?}");
        assert_eq!(found.iter().filter(|(_, kind)| *kind == "alias").count(), 2, "{found:?}");
    }

    #[test]
    fn loops_dangling_links_and_odd_files_are_entries() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        symlink("..", at("sub/up")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("round", at("round")).unwrap();
        fs::write(root.path().join(OsStr::from_bytes(b"caf\xe9.tar")), "1").unwrap();
        let found = kinds(root.path());
        for expected in named(&[
            ("caf\\xe9.tar", "file"),
            ("dangling", "unreachable"),
            ("round", "unreachable"),
            ("sub/up", "a symbolic link to a folder that it lies in"),
        ]) {
            assert!(found.contains(&expected), "{expected:?} in {found:?}");
        }
    }

    #[test]
    fn folders_that_link_to_each_other_end_at_the_limit() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d", "e", "f"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        for (from, to) in ["ab", "ac", "ad", "ae", "bc", "bd", "be", "cd", "ce", "de", "ba", "ca", "da", "ea"]
            .map(|pair| pair.split_at(1))
        {
            symlink(format!("../{to}"), root.path().join(from).join(to)).unwrap();
        }
        assert_eq!(scan_folder(root.path(), 50).unwrap_err().fault(), Fault::LimitExceeded);
    }
}
