//! Which bundle it is: the key under which its catalog is remembered.
//!
//! A file is the same bundle if it has the same size, time of modification and samples of its bytes, and
//! * is the very same file (device, inode) and nothing about it changed since (ctime, which no program can set back), or
//! * is another file whose time of modification has a part below the second: it was taken from a real clock and carried
//!   over by a copy (`cp -p`, `rsync -t`). Times that build tools set for all files alike are whole seconds.
//!
//! The catalog of another bundle could never publish wrong content, because every blob is hashed on its way and every manifest
//! carries its digest. But it could make a run report a mirror as complete that has only the *last* release. Two releases in
//! plain tars can have the same length to the byte, so size and samples alone are not enough.
//!
//! Never reads more of a bundle than about 1.2 MiB, and never decodes.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::BundleError;
use crate::oci::{Algorithm, Digest, Hasher};
use crate::source::{
    ByteSpace, FileFacts as SeenFile, FolderEntry, FolderEntryKind, Source, read_exact, scan_folder,
};

/// The first bytes: headers of tar and of compression.
const HEAD_BYTES: u64 = 64 << 10;
/// The last bytes: of an xz file the check of its last block and the Index, which changes with the sizes of blocks; of
/// gzip the checksum and the length.
const TAIL_BYTES: u64 = 1 << 20;
/// Between them, evenly spread. Each may cost a seek.
const SAMPLES: u64 = 16;
const SAMPLE_BYTES: u64 = 4 << 10;

/// Within this time two changes can carry the same time stamp: the kernel's tick, at its slowest.
const TICK: Duration = Duration::from_millis(10);
/// The same on file systems that count whole seconds (two of them on FAT).
const COARSE_TICK: Duration = Duration::from_secs(2);
const SECOND_NS: i64 = 1_000_000_000;

/// A folder with more entries is not remembered; the reader of archives takes no more either.
const MAX_ENTRIES: usize = 1_000_000;

/// The identity of a bundle, and whether a copy may have the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BundleIdentity {
    /// Of size, time of modification and content, as far as it was looked at.
    pub(super) key: Digest,
    /// The very file; all zero for a folder, whose key has it all.
    pub(super) file: FileIdentity,
    /// Whether a copy elsewhere is the same bundle.
    pub(super) copies_count: bool,
}

/// The facts that distinguish a file from its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct FileIdentity {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) ctime_ns: i64,
}

impl fmt::Display for BundleIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key.hex()[..16])
    }
}

impl BundleIdentity {
    /// The identity of a file that is open. To be asked for *before* anything is made of its content; may wait for a
    /// hundredth of a second where the file was changed this very moment, so that a later change shows. `None` where a
    /// later change might not show.
    ///
    /// # Errors
    /// The file cannot be read, or changed meanwhile.
    pub(crate) fn of_file(source: &Source) -> Result<Option<Self>, BundleError> {
        let (facts, ctime_ns) = (source.identity(), source.ctime_ns());
        if !settled(ctime_ns.max(facts.mtime_ns), ctime_ns % SECOND_NS == 0) {
            return Ok(None);
        }
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(b"file 1\n");
        hasher.update(&facts.size_bytes.to_le_bytes());
        hasher.update(&facts.mtime_ns.to_le_bytes());
        sample(source.space().as_ref(), facts.size_bytes, &mut hasher)?;
        source.check_unchanged()?;
        let file = FileIdentity { device: facts.device, inode: facts.inode, ctime_ns };
        let copies_count = facts.mtime_ns % SECOND_NS != 0;
        Ok(Some(Self { key: hasher.finish(), file, copies_count }))
    }

    /// The identity of a folder: of all names below it, links followed, and what the file system says of each. `None`
    /// where it cannot be told. To be asked for before its content is read and once more before that is remembered: only
    /// if both are equal was it read as it is.
    pub(crate) fn of_folder(root: &Path) -> Option<Self> {
        let entries = scan_folder(root, MAX_ENTRIES).ok().filter(|entries| !entries.is_empty())?;
        let files = entries.iter().filter_map(|entry| match &entry.kind {
            FolderEntryKind::File(facts) => Some(facts.ctime_ns),
            _ => None,
        });
        let newest = files.max().unwrap_or(0);
        if !settled(newest, newest % SECOND_NS == 0) {
            return None;
        }
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(b"folder 2\n");
        let mut text = |kind: u8, text: &str| {
            hasher.update(&[kind]);
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for FolderEntry { name, kind, .. } in &entries {
            text(b'n', name);
            match kind {
                FolderEntryKind::File(SeenFile { len, id, ctime_ns }) => {
                    text(b'f', &format!("{len} {} {} {ctime_ns}", id.0, id.1));
                }
                FolderEntryKind::Alias(of) => text(b'a', of),
                FolderEntryKind::Unreachable { why, .. } => text(b'u', why),
                FolderEntryKind::NotFollowed(what) | FolderEntryKind::Odd(what) => text(b'o', what),
            }
        }
        Some(Self { key: hasher.finish(), file: FileIdentity::default(), copies_count: false })
    }

    /// The identity of what was pulled from a registry: of its `index.json`, which has the digests of all that is in it.
    pub(crate) fn of_index(index: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(b"index 1\n");
        hasher.update(index);
        Self { key: hasher.finish(), file: FileIdentity::default(), copies_count: false }
    }

    /// A name for what is remembered of this very file: the same whatever becomes of its content's times, another one for a copy.
    pub(crate) fn file_stem(&self) -> String {
        let FileIdentity { device, inode, .. } = self.file;
        Digest::of(format!("{} {device} {inode}", self.key).as_bytes()).hex()[..32].to_owned()
    }

    /// Of what is remembered of bundles, what is of this one. What is remembered of this very file decides, even where that is
    /// that it was another then.
    pub(crate) fn known_among<'r, T>(
        &self,
        remembered: impl IntoIterator<Item = (&'r Self, T)>,
    ) -> Option<T> {
        let alike = remembered.into_iter().filter(|(it, _)| it.key == self.key);
        self.known_among_files(alike.map(|(it, found)| (it.file, found)))
    }

    /// The same of what is remembered of files whose content has the key of this bundle, the best first.
    pub(super) fn known_among_files<T>(
        &self,
        remembered: impl IntoIterator<Item = (FileIdentity, T)>,
    ) -> Option<T> {
        let mut copy = None;
        for (file, found) in remembered {
            if (file.device, file.inode) == (self.file.device, self.file.inode) {
                return (file.ctime_ns == self.file.ctime_ns).then_some(found);
            }
            copy = copy.or(Some(found));
        }
        copy.filter(|_| self.copies_count)
    }
}

/// Whether a change from now on will carry another time than `changed_ns`; waits for that if it is a matter of a tick.
fn settled(changed_ns: i64, whole_seconds: bool) -> bool {
    let tick = if whole_seconds { COARSE_TICK } else { TICK };
    let changed = Duration::from_nanos(u64::try_from(changed_ns).unwrap_or(0));
    let Ok(now) = clock::wall().duration_since(SystemTime::UNIX_EPOCH) else { return false };
    let wait = (changed + tick).saturating_sub(now);
    if wait > TICK {
        return false; // whole seconds, or a file server whose clock is ahead
    }
    std::thread::sleep(wait);
    true
}

/// Hashes the beginning, the end and some places between.
fn sample(space: &dyn ByteSpace, len: u64, hasher: &mut Hasher) -> Result<(), BundleError> {
    let mut take = |offset: u64, len: u64| {
        let bytes = read_exact(space, offset, usize::try_from(len).unwrap_or(usize::MAX))?;
        hasher.update(&bytes);
        Ok::<(), BundleError>(())
    };
    if len <= HEAD_BYTES + TAIL_BYTES {
        return if len == 0 { Ok(()) } else { take(0, len) };
    }
    take(0, HEAD_BYTES)?;
    let between = len - HEAD_BYTES - TAIL_BYTES;
    for number in 0..SAMPLES {
        let offset = u128::from(between) * u128::from(number) / u128::from(SAMPLES);
        let offset = HEAD_BYTES + u64::try_from(offset).unwrap_or(0);
        take(offset, SAMPLE_BYTES)?; // runs into the tail at worst, never past the end
    }
    take(len - TAIL_BYTES, TAIL_BYTES)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{Seek, SeekFrom, Write};

    use super::*;
    use crate::source::{SourceOptions, open};

    fn identity(path: &Path) -> BundleIdentity {
        BundleIdentity::of_file(&open(path, SourceOptions::default()).unwrap()).unwrap().unwrap()
    }

    fn write(path: &Path, content: &[u8]) {
        fs::write(path, content).unwrap();
    }

    fn set_mtime(path: &Path, time: SystemTime) {
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn the_same_file_is_known_again_until_anything_about_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle");
        write(&path, &vec![7; 3 << 20]);
        let was = identity(&path);
        assert!(identity(&path) == was && was.known_among([(&was, ())]).is_some());
        // Other bytes between the samples, and the old time of modification put back.
        let mtime = fs::metadata(&path).unwrap().modified().unwrap();
        let mut file = File::options().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(HEAD_BYTES + SAMPLE_BYTES + 1)).unwrap();
        file.write_all(b"other").unwrap();
        drop(file);
        set_mtime(&path, mtime);
        let now = identity(&path);
        assert_eq!(now.key, was.key, "the samples cannot see it");
        assert_eq!(now.known_among([(&was, ())]), None, "ctime does");
    }

    #[test]
    fn bytes_that_are_sampled_change_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle");
        let content = vec![7; 3 << 20];
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let mut keys = std::collections::HashSet::new();
        for at in [None, Some(0), Some(content.len() / 2), Some(content.len() - 1)] {
            let mut content = content.clone();
            if let Some(at) = at {
                content[at - at % 4096..=at].fill(8);
                content[at.saturating_sub(200_000)..=at].fill(8);
            }
            write(&path, &content);
            set_mtime(&path, time);
            keys.insert(identity(&path).key);
        }
        assert_eq!(keys.len(), 4);
    }

    #[test]
    fn a_copy_counts_if_its_time_is_of_a_clock() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        for (millis, counts) in [(1_700_000_000_123, true), (1_700_000_000_000, false)] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            for path in [&one, &two] {
                write(path, b"the same");
                set_mtime(path, time);
            }
            let (one, two) = (identity(&one), identity(&two));
            assert_eq!(one.key, two.key);
            assert_eq!(two.known_among([(&one, 1)]), counts.then_some(1), "{millis}");
            assert_eq!(two.known_among([(&one, 1), (&two, 2)]), Some(2), "the very file decides");
            assert_ne!(one.file_stem(), two.file_stem());
        }
    }

    #[test]
    fn small_and_empty_files_have_identities() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle");
        let more_than_both_ends = usize::try_from(HEAD_BYTES + TAIL_BYTES + 1).unwrap();
        for len in [0, 1, more_than_both_ends] {
            write(&path, &vec![1; len]);
            assert_eq!(identity(&path), identity(&path));
        }
    }

    #[test]
    fn a_file_from_the_future_has_none() {
        assert!(settled(0, true));
        assert!(!settled(i64::MAX, false));
    }

    #[test]
    fn a_folder_is_all_that_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(BundleIdentity::of_folder(root), None, "nothing in it");
        fs::create_dir(root.join("blobs")).unwrap();
        write(&root.join("blobs/one"), b"1");
        write(&root.join("index.json"), b"{}");
        let was = BundleIdentity::of_folder(root).unwrap();
        assert_eq!(BundleIdentity::of_folder(root).unwrap(), was);
        let mtime = fs::metadata(root.join("blobs/one")).unwrap().modified().unwrap();
        write(&root.join("blobs/one"), b"2");
        set_mtime(&root.join("blobs/one"), mtime);
        let changed = BundleIdentity::of_folder(root).unwrap();
        assert_ne!(changed, was);
        fs::rename(root.join("index.json"), root.join("other.json")).unwrap();
        assert_ne!(BundleIdentity::of_folder(root).unwrap(), changed);
        assert_eq!(BundleIdentity::of_folder(&root.join("missing")), None);
    }
}
