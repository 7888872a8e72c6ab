//! Detects the format of content by its first bytes: to read archives inside archives, and to name what was given in place of a bundle.

use bytes::Bytes;

use crate::archive::tar;
use crate::decode::magic::{self, Container, Magic};
use crate::error::BundleError;
use crate::source::{ByteSpace, read_up_to};

/// What bytes begin like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DetectedFormat {
    Tar,
    /// Compressed in a way that is decoded.
    Compressed(crate::decode::Format),
    /// May hold images, and cannot be read.
    Unreadable(Container),
    Other,
}

/// Where the volume descriptor of an optical disk's file system begins, and its magic number (ECMA-119, 8.1).
const ISO_9660: (u64, &[u8]) = (0x8000, b"\x01CD001");

/// The first block of a space; shorter where the space is.
pub(super) fn first_bytes(space: &dyn ByteSpace) -> Result<Bytes, BundleError> {
    read_up_to(space, 0, 512)
}

/// The first block of a member of `len` bytes. None where it cannot be read: the reader that needs it gets the error.
pub(super) fn first_of_member(space: &dyn ByteSpace, offset: u64, len: u64) -> Option<Bytes> {
    let first = read_up_to(space, offset, usize::try_from(len.min(512)).unwrap_or(512)).ok()?;
    (first.len() as u64 == len.min(512)).then_some(first)
}

/// Whether bytes may begin a document about images: an index, a manifest, a configuration.
pub(super) fn may_be_document(first: &[u8]) -> bool {
    matches!(first.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// What bytes begin like.
pub(super) fn format(first: &[u8]) -> DetectedFormat {
    if tar::begins_like_tar(first) {
        return DetectedFormat::Tar;
    }
    match magic::recognise(&first[..first.len().min(magic::HEAD_BYTES)]) {
        Magic::Compressed(format) => DetectedFormat::Compressed(format),
        Magic::Unreadable(container) => DetectedFormat::Unreadable(container),
        Magic::Plain => DetectedFormat::Other,
    }
}

/// What a file is, whose magic number need not stand at its beginning.
pub(super) fn format_of(space: &dyn ByteSpace) -> Result<(DetectedFormat, Bytes), BundleError> {
    let first = first_bytes(space)?;
    let format = match format(&first) {
        DetectedFormat::Other if first.len() == 512 => {
            let (at, mark) = ISO_9660;
            let is_disk = read_up_to(space, at, mark.len())? == mark;
            let what = "a disk image (ISO 9660)";
            let advice = "mount or unpack it, and give the folder";
            if is_disk {
                DetectedFormat::Unreadable(Container { what, advice })
            } else {
                DetectedFormat::Other
            }
        }
        format => format,
    };
    Ok((format, first))
}

/// What a file that is no archive seems to be.
pub(super) fn file_seems(first: &[u8]) -> &'static str {
    let text = first.trim_ascii_start();
    let begins = |with: &[u8]| text.len() >= with.len() && text[..with.len()].eq_ignore_ascii_case(with);
    match format(first) {
        DetectedFormat::Compressed(_) => return "compressed data inside compressed data",
        DetectedFormat::Unreadable(container) => return container.what,
        DetectedFormat::Tar | DetectedFormat::Other => {}
    }
    match first {
        [] => "an empty file",
        _ if first.starts_with(b"!<arch>\ndebian") => "a Debian package",
        _ if first.starts_with(b"!<arch>\n") => "a library",
        _ if first.starts_with(b"PACK\0\0\0") => "a pack of git",
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => "a zlib stream, such as an object of git",
        _ if begins(b"<!doctype") || begins(b"<html") => "an HTML page, perhaps the error page of a download",
        _ if begins(b"<?xml") => "an XML document, perhaps the error page of a download",
        _ if begins(b"{") || begins(b"[") => "a JSON document",
        _ if first.iter().all(|&c| c == 0) => "nothing but zeros",
        _ if first.starts_with(b"version https://git-lfs.github.com/spec/") => {
            "a pointer of Git LFS, without the file that it stands for"
        }
        _ if is_text(first) => TEXT,
        _ => infer::get(first).map_or(UNKNOWN, |kind| kind.mime_type()),
    }
}

pub(super) const TEXT: &str = "a text file";
const UNKNOWN: &str = "neither a tar nor compressed in a known way";

/// What a file is that begins like nothing known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closer {
    /// Nothing that images lie in.
    Other(&'static str),
    /// What may be an archive, or a part of one.
    Damaged(&'static str),
}

/// Why such a file cannot be read, and what to do.
pub(super) const MEND: &str = "it cannot be read; next: copy it again; join the pieces of a split archive, decrypt what is \
                               encrypted";

/// How far headers of a tar are looked for behind a damaged beginning.
const LOOKED_AT: usize = 64 << 10;
/// Bits for each byte by which data that looks compressed or encrypted may fall short of random bytes. Of 64 KiB, programs
/// fall short by 2, indexes of git by 0.2, keyrings by 0.1.
const SHORT_OF_RANDOM: f64 = 0.027;
/// Of fewer bytes nobody can tell keys and signatures from a piece of an archive.
const FEWEST_LOOKED_AT: usize = 1 << 10;

/// Looks into a file that begins like nothing known: a damaged, split or encrypted archive begins so, too.
pub(super) fn look_closer(space: &dyn ByteSpace, first: &[u8]) -> Result<Closer, BundleError> {
    let at_start = look_at_start(space, first)?;
    let Closer::Other(seems) = at_start else { return Ok(at_start) };
    let is_zeros = !first.is_empty() && first.iter().all(|&c| c == 0);
    if seems != UNKNOWN && !is_zeros {
        return Ok(at_start);
    }
    let len = space.len()?;
    if read_up_to(space, len.saturating_sub(2), 2)?[..] == b"YZ"[..] {
        return Ok(Closer::Damaged("xz-compressed data whose beginning is damaged"));
    }
    if is_zeros {
        let rest = (1..=64).map(|part| len / 65 * part);
        for at in rest {
            if read_up_to(space, at, 512)?.iter().any(|&c| c != 0) {
                return Ok(Closer::Damaged("data that begins with zeros"));
            }
        }
    }
    Ok(at_start)
}

/// The same by the first bytes alone, so that of a compressed file no more is decoded than these.
pub(super) fn look_at_start(space: &dyn ByteSpace, first: &[u8]) -> Result<Closer, BundleError> {
    let seems = file_seems(first);
    // What is known by its magic number is what it says.
    if infer::get(first).is_some() {
        return Ok(Closer::Other(seems));
    }
    let bytes = read_up_to(space, 0, LOOKED_AT)?;
    if tar::holds_header(&bytes) {
        return Ok(Closer::Damaged("a tar whose beginning is damaged"));
    }
    let looks_compressed = seems == UNKNOWN && looks_random(&bytes) && !is_der(&bytes);
    Ok(if looks_compressed {
        Closer::Damaged("data that looks compressed or encrypted, in no known way")
    } else {
        Closer::Other(seems)
    })
}

/// Whether bytes are as evenly distributed as random bytes. A short sample of random bytes has a lower entropy than a long one.
fn looks_random(bytes: &[u8]) -> bool {
    let of_random = 8.0 - 255.0 / (2.0 * std::f64::consts::LN_2 * bytes.len() as f64);
    bytes.len() >= FEWEST_LOOKED_AT && bits_of_a_byte(bytes) >= of_random - SHORT_OF_RANDOM
}

/// A certificate or key in DER: one sequence, as long as the file.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x82, high, low, ..]
        if usize::from(u16::from_be_bytes([*high, *low])) + 4 == bytes.len())
}

/// The information in each byte: eight bits where every value is as frequent as every other.
fn bits_of_a_byte(bytes: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
    let all = bytes.len() as f64;
    let bits = |count: &u32| {
        let share = f64::from(*count) / all;
        if *count == 0 { 0.0 } else { -share * share.log2() }
    };
    counts.iter().map(bits).sum()
}

/// Text in UTF-8, whose last character may be cut.
fn is_text(first: &[u8]) -> bool {
    let text = match std::str::from_utf8(first) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&first[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    text.chars().all(|c| !c.is_control() || c.is_whitespace() || c == '\u{1b}')
}
