//! What stored bytes are, by their first few. Names are never looked at.

use super::{Format, truncated};
use crate::error::{BundleError, Fault};

/// How many bytes tell.
pub(super) const HEAD_BYTES: usize = 18;

const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
/// The magic number of a skippable frame, after a first byte of 0x50 to 0x5f.
const SKIPPABLE_TAIL: [u8; 3] = [0x2a, 0x4d, 0x18];

/// Formats that bundles come in by mistake.
const UNSUPPORTED: [(&[u8], &str); 8] = [
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"LZIP\x01", "lzip"),
    (b"\x1f\x9d", "compress"),
];

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sniffed {
    /// No compression that is known.
    Plain,
    /// One that is handled. [`Format::Bgzf`] is not told from gzip here.
    Known(Format),
}

/// Tells the format by up to [`HEAD_BYTES`] first bytes, which are fewer only if there are no more.
pub(super) fn sniff(head: &[u8]) -> Result<Sniffed, BundleError> {
    if head.starts_with(XZ) {
        return Ok(Sniffed::Known(Format::Xz));
    }
    if head.starts_with(ZSTD) || is_skippable(head) {
        return Ok(Sniffed::Known(Format::Zstd));
    }
    if head.starts_with(b"\x1f\x8b") {
        return Ok(Sniffed::Known(Format::Gzip));
    }
    let bzip2 =
        head.starts_with(b"BZh") && head.get(4..10).is_some_and(|b| b == b"1AY&SY" || b == b"\x17rE8P\x90");
    let known = UNSUPPORTED.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| *name);
    if let Some(name) = known.or(bzip2.then_some("bzip2")) {
        let error = BundleError::new(Fault::Unsupported, format!("{name} compression is not handled"));
        return Err(error.hint("decompress it, or compress it again with xz, zstd or gzip"));
    }
    // A file this short can only be the rest of something.
    if head.len() >= 2 && XZ.starts_with(head) {
        return Err(truncated("xz", head.len() as u64));
    }
    if (2..4).contains(&head.len()) && may_be_zstd(head) {
        return Err(truncated("zstd", head.len() as u64));
    }
    Ok(Sniffed::Plain)
}

/// Whether a frame of any kind begins here, as far as there are bytes to tell.
pub(super) fn may_be_zstd(head: &[u8]) -> bool {
    let agrees = |a: &[u8], b: &[u8]| a.iter().zip(b).all(|(a, b)| a == b);
    match head.split_first() {
        Some((first, rest)) if first & 0xf0 == 0x50 => agrees(rest, &SKIPPABLE_TAIL),
        _ => agrees(head, ZSTD),
    }
}

/// Whether a zstd frame that carries no content begins here.
pub(super) fn is_skippable(head: &[u8]) -> bool {
    head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == SKIPPABLE_TAIL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_tells_the_format() {
        let cases: [(&[u8], Result<Sniffed, Fault>); 15] = [
            (b"", Ok(Sniffed::Plain)),
            (b"\xfd7zXZ\0\0\x04", Ok(Sniffed::Known(Format::Xz))),
            (b"\xfd7zXZ", Err(Fault::Truncated)),
            (b"\x28\xb5\x2f\xfd\x04", Ok(Sniffed::Known(Format::Zstd))),
            (b"\x5e\x2a\x4d\x18\0\0\0\0", Ok(Sniffed::Known(Format::Zstd))),
            (b"\x28\xb5", Err(Fault::Truncated)),
            (b"\x5e\x2a\x4d", Err(Fault::Truncated)),
            (b"\x1f\x8b", Ok(Sniffed::Known(Format::Gzip))),
            (b"BZh91AY&SY", Err(Fault::Unsupported)),
            (b"BZhang/notes.txt\0", Ok(Sniffed::Plain)),
            (b"PK\x03\x04", Err(Fault::Unsupported)),
            (b"7z\xbc\xaf\x27\x1c\0\x04", Err(Fault::Unsupported)),
            (b"Rar!\x1a\x07\x01\0", Err(Fault::Unsupported)),
            (b"LZIP\x01", Err(Fault::Unsupported)),
            (b"manifest.json\0\0\0\0\0", Ok(Sniffed::Plain)),
        ];
        for (head, expected) in cases {
            assert_eq!(sniff(head).map_err(|e| e.fault()), expected, "{head:?}");
        }
    }
}
