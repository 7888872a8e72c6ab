//! A bundle in pieces: `NAME.part.001`, `NAME.part.002`, … and their sums in `NAME.sha256`.
//!
//! In: the path of the first piece. Out: the paths of all of them with their sums, or what is missing. The sums say how many there
//! are; whoever reads the pieces checks them against their sums.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{BundleError, Fault};
use crate::small_file;

/// What the name of the first piece ends with.
const FIRST: &str = ".part.001";
/// A piece may not be smaller than this, so that there are not more of them than people can handle.
const MAX_PIECES: usize = 999;
/// A line for each piece.
const MAX_SUMS_BYTES: u64 = 1 << 20;

/// The path of the piece with this number, counted from 1, of the bundle at `path`.
pub(crate) fn piece_path(path: &Path, number: usize) -> PathBuf {
    with_suffix(path, &format!(".part.{number:03}"))
}

/// The path of the sums of the pieces of the bundle at `path`.
pub(crate) fn sums_path(path: &Path) -> PathBuf {
    with_suffix(path, ".sha256")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// A piece, and the SHA-256 sum that it must have, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedPiece {
    pub(crate) path: PathBuf,
    pub(crate) sum: String,
}

/// The pieces of the bundle whose first piece is at `path`, in their order; none where it is no first piece.
///
/// # Errors
/// A piece or the sums are missing, or the sums are none.
pub(crate) fn pieces_of(path: &Path) -> Result<Option<Vec<ListedPiece>>, BundleError> {
    let Some(whole) = path.to_str().and_then(|text| text.strip_suffix(FIRST)).map(Path::new) else {
        return Ok(None);
    };
    let sums = sums_path(whole);
    let refused = |error: &io::Error| {
        let error = BundleError::io("the sums of the pieces cannot be read", error).at(sums.display());
        error.hint("copy it from where the pieces come from: it says how many there are")
    };
    let text = small_file::read_text(&sums, MAX_SUMS_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => {
            BundleError::new(Fault::LimitExceeded, "too long for sums of pieces").at(sums.display())
        }
        _ => refused(&error),
    })?;
    let mut pieces = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let path = piece_path(whole, number + 1);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_sum = |sum: &&str| sum.len() == 64 && sum.bytes().all(|digit| digit.is_ascii_hexdigit());
        let sum =
            line.split_once("  ").filter(|(_, named)| *named == name).map(|(sum, _)| sum).filter(is_sum);
        let Some(sum) = sum.filter(|_| number < MAX_PIECES) else {
            let what = format!("line {} is not the sum of {name}", number + 1);
            return Err(BundleError::new(Fault::Contradiction, what).at(sums.display()));
        };
        pieces.push(ListedPiece { sum: sum.to_ascii_lowercase(), path });
    }
    if pieces.is_empty() {
        return Err(BundleError::new(Fault::Contradiction, "lists no piece").at(sums.display()));
    }
    let missing: Vec<_> = pieces.iter().filter(|piece| !piece.path.exists()).collect();
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|piece| piece.path.display().to_string()).collect();
        let what = format!("of {} pieces these are missing: {}", pieces.len(), names.join(", "));
        let error = BundleError::new(Fault::Truncated, what);
        return Err(error.hint("copy them beside the others"));
    }
    Ok(Some(pieces))
}
