//! The content that a file's name promises.
//!
//! Formats are detected from the content alone. A name only says which content should have been an archive: an empty `x.tar.xz`, or an
//! error page under that name, stands for images that did not arrive.

use crate::archive::tree::base_name;

/// The content that a name promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameSays {
    /// An archive, compressed or not; it may be called as an unfinished download.
    Archive,
    /// Compressed data of any kind.
    Compressed,
    /// A piece of one of these.
    Piece,
    /// The same, or a text beside an archive: two letters may be a counter of `split` or an extension.
    PerhapsPiece,
}

/// Extensions of archives.
const ARCHIVES: &[&str] = &[
    "tar", "tgz", "taz", "tbz", "tbz2", "tb2", "txz", "tlz", "tzst", "tzs", "oci", "zip", "7z", "rar", "cpio",
];
/// Extensions of compressed data; after `.tar` they are those of archives.
const COMPRESSIONS: &[&str] =
    &["xz", "zst", "zstd", "gz", "bz2", "bz", "lz4", "lzma", "lz", "lzo", "z", "sz"];
/// Suffixes of files that are still being written.
const UNFINISHED: &[&str] =
    &["part", "partial", "crdownload", "download", "opdownload", "filepart", "incomplete", "tmp", "temp"];
/// Prefixes of the number of a piece.
const PIECES: &[&str] = &["part", "piece", "chunk", "split", "vol", "seg"];
const SEPARATORS: &[char] = &['.', '-', '_'];

/// The content that the name of a file promises, if that is an archive or compressed data.
pub(super) fn says(path: &str) -> Option<NameSays> {
    let name = base_name(path).to_ascii_lowercase();
    // What macOS keeps beside a file where it cannot keep it inside.
    if name.starts_with("._") {
        return None;
    }
    let whole = without_unfinished(&name);
    of_whole(whole).or_else(|| of_piece(whole))
}

/// The series that a file belongs to by its name, if it may be one piece of several: what all its pieces begin with, and
/// how they are counted.
pub(super) fn series(path: &str) -> Option<Series<'_>> {
    let (stem, counter) = split_counter(path)?;
    let by_letters = counter.starts_with(|c: char| c.is_ascii_lowercase());
    let first = counter.bytes().rev().skip(usize::from(!by_letters)).all(|c| matches!(c, b'a' | b'0'))
        && matches!(counter.as_bytes().last(), Some(b'a' | b'0' | b'1'));
    Some(Series { stem, by_letters, first })
}

/// A place in a series of pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Series<'n> {
    pub(super) stem: &'n str,
    pub(super) by_letters: bool,
    /// Whether it is the first of them.
    pub(super) first: bool,
}

fn of_whole(name: &str) -> Option<NameSays> {
    let (stem, extension) = name.rsplit_once('.')?;
    if ARCHIVES.contains(&extension) {
        return Some(NameSays::Archive);
    }
    let is_compressed = COMPRESSIONS.contains(&extension);
    let is_tar = stem.rsplit_once('.').is_some_and(|(_, inner)| ARCHIVES.contains(&inner));
    match (is_compressed, is_tar) {
        (true, true) => Some(NameSays::Archive),
        (true, false) => Some(NameSays::Compressed),
        (false, _) => None,
    }
}

fn of_piece(name: &str) -> Option<NameSays> {
    let (stem, extension) = name.rsplit_once('.')?;
    // Split zip and rar files, whose pieces lose the extension.
    let is_number = |digits: &str| digits.len() == 2 && digits.bytes().all(|c| c.is_ascii_digit());
    if extension.strip_prefix(['z', 'r']).is_some_and(is_number) && !stem.is_empty() {
        return Some(NameSays::PerhapsPiece);
    }
    let (stem, counter) = split_counter(name)?;
    let stem = stem.trim_end_matches(SEPARATORS);
    let stem = PIECES.iter().find_map(|word| stem.strip_suffix(word)).unwrap_or(stem);
    let stem = stem.trim_end_matches(SEPARATORS);
    of_whole(stem)?;
    let by_number = counter.starts_with(|c: char| c.is_ascii_digit());
    Some(if by_number { NameSays::Piece } else { NameSays::PerhapsPiece })
}

/// A name in two: its beginning, and the number or the two or three letters that it ends with.
fn split_counter(name: &str) -> Option<(&str, &str)> {
    let ending = |is: fn(&char) -> bool, most: usize| {
        let len = name.chars().rev().take_while(is).count();
        let at = name.len() - len.min(most);
        (len > 0 && at > 0).then(|| name.split_at(at))
    };
    if let Some(numbered) = ending(char::is_ascii_digit, 4) {
        return Some(numbered);
    }
    // `x.tar.xzaa` has its letters right behind the name.
    let is_three = |counter: &str| counter.starts_with("aa") || counter.starts_with("ab");
    let three = ending(char::is_ascii_lowercase, 3).filter(|(stem, it)| {
        it.len() == 3 && is_three(it) && stem.ends_with(|c: char| !c.is_ascii_lowercase())
    });
    three.or_else(|| ending(char::is_ascii_lowercase, 2).filter(|(_, it)| it.len() == 2))
}

/// A name without what an unfinished transfer has put around it.
fn without_unfinished(name: &str) -> &str {
    let Some((stem, extension)) = name.rsplit_once('.') else { return name };
    if UNFINISHED.contains(&extension) {
        return stem;
    }
    // The temporary files of rsync: a dot, the name, a dot and six random letters or digits.
    let is_random = extension.len() == 6 && extension.bytes().all(|c| c.is_ascii_alphanumeric());
    match stem.strip_prefix('.') {
        Some(inner) if is_random => inner,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_archives_of_their_pieces_and_of_others() {
        use NameSays::{Archive, Compressed, PerhapsPiece, Piece};
        for (name, expected) in [
            ("bmpackages_1.8.0.tar.xz", Some(Archive)),
            ("in/a/Folder.d/X.TGZ", Some(Archive)),
            ("x.tar.zst.part", Some(Archive)),
            ("x.tar.gz.crdownload", Some(Archive)),
            (".x.tar.xz.a1B2c3", Some(Archive)),
            ("x.oci", Some(Archive)),
            ("image.xz", Some(Compressed)),
            ("x.tar.xz.001", Some(Piece)),
            ("x.tar.xz.part-02", Some(Piece)),
            ("x.part1.rar", Some(Archive)),
            ("x.z01", Some(PerhapsPiece)),
            ("x.tar.xz.1", Some(Piece)),
            ("x.tar.xz.ab", Some(PerhapsPiece)),
            ("x.tar.xz.aab", Some(PerhapsPiece)),
            ("x.tar.partaa", Some(PerhapsPiece)),
            ("x.tar.xzab", Some(PerhapsPiece)),
            ("x.tar.xz.sha256", None),
            ("x.tar.xz.sha1", None),
            ("x.tar.xz.md5", None),
            ("x.tar.xz.sig", None),
            ("x.tar.xz.asc", None),
            ("x.tar.xz.sbom.json", None),
            ("._x.tar.xz", None),
            ("notes.txt", None),
            ("star", None),
            ("tar", None),
            ("v1.10", None),
            ("", None),
        ] {
            assert_eq!(says(name), expected, "{name}");
        }
    }

    #[test]
    fn pieces_of_one_file_have_one_beginning() {
        let series = |name| series(name).map(|it| (it.stem, it.by_letters, it.first));
        assert_eq!(series("xaa"), Some(("x", true, true)));
        assert_eq!(series("xab"), Some(("x", true, false)));
        assert_eq!(series("d/bundle.part-00"), Some(("d/bundle.part-", false, true)));
        assert_eq!(series("bundle.001"), Some(("bundle.", false, true)));
        assert_eq!(series("bundle.002"), Some(("bundle.", false, false)));
        assert_eq!(series("README"), None);
    }
}
