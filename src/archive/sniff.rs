//! What bytes seem to be: to look into archives, and to tell a person what they gave us instead of a bundle.

use crate::archive::tar;
use crate::decode::magic::{self, Container, Magic};
use crate::error::BundleError;
use crate::source::ByteSpace;

/// What bytes begin like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
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
pub(super) fn first_bytes(space: &dyn ByteSpace) -> Result<Vec<u8>, BundleError> {
    tar::read_up_to(space, 0, 512)
}

/// What bytes begin like.
pub(super) fn format(first: &[u8]) -> Format {
    if tar::begins_like_tar(first) {
        return Format::Tar;
    }
    match magic::recognise(&first[..first.len().min(magic::HEAD_BYTES)]) {
        Magic::Compressed(format) => Format::Compressed(format),
        Magic::Unreadable(container) => Format::Unreadable(container),
        Magic::Plain => Format::Other,
    }
}

/// What a file is, whose magic number need not stand at its beginning.
pub(super) fn format_of(space: &dyn ByteSpace) -> Result<(Format, Vec<u8>), BundleError> {
    let first = first_bytes(space)?;
    let format = match format(&first) {
        Format::Other if first.len() == 512 => {
            let (at, mark) = ISO_9660;
            let is_disk = tar::read_up_to(space, at, mark.len())? == mark;
            let what = "a disk image (ISO 9660)";
            let advice = "mount or unpack it, and give the folder";
            if is_disk { Format::Unreadable(Container { what, advice }) } else { Format::Other }
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
        Format::Compressed(_) => return "compressed data inside compressed data",
        Format::Unreadable(container) => return container.what,
        Format::Tar | Format::Other => {}
    }
    match first {
        [] => "an empty file",
        [0x7f, b'E', b'L', b'F', ..] => "a program",
        [0xed, 0xab, 0xee, 0xdb, ..] => "an RPM package",
        _ if first.starts_with(b"!<arch>\ndebian") => "a Debian package",
        _ if first.starts_with(b"!<arch>\n") => "a library",
        _ if begins(b"<!doctype") || begins(b"<html") => "an HTML page, perhaps the error page of a download",
        _ if begins(b"<?xml") => "an XML document, perhaps the error page of a download",
        _ if begins(b"{") || begins(b"[") => "a JSON document",
        _ if first.iter().all(|&c| c == 0) => "nothing but zeros",
        _ if is_text(first) => "a text file",
        _ => "neither a tar nor compressed in a known way",
    }
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
