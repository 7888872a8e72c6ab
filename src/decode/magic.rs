//! What stored bytes are, by their first few. Names are never looked at.
//!
//! One table for the whole program: what is decoded, and what is recognised but cannot be read (other compressions,
//! archives of other systems, encryption). The reader of archives asks it too, so that a file inside a folder gets the
//! same answer as the same file given alone.

use super::{Format, truncated};
use crate::error::{BundleError, Fault};

/// How many bytes [`recognise`] looks at.
pub(crate) const HEAD_BYTES: usize = 48;

const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
/// The magic number of a skippable frame, after a first byte of 0x50 to 0x5f.
const SKIPPABLE_TAIL: [u8; 3] = [0x2a, 0x4d, 0x18];
/// The magic numbers of a bzip2 block and of the end of a bzip2 stream without blocks, after `BZh` and the level.
const BZIP2_BLOCK: &[u8] = b"1AY&SY";
const BZIP2_END: &[u8] = b"\x17rE8P\x90";

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Magic {
    /// A compression that is decoded. [`Format::Bgzf`] is not told from gzip here.
    Compressed(Format),
    /// Something that may hold images and cannot be read.
    Unreadable(Container),
    /// None of these.
    Plain,
}

/// A container, compression or encryption that is recognised and not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Container {
    /// What it is, as in "this is …".
    pub(crate) what: &'static str,
    /// What the operator can do.
    pub(crate) advice: &'static str,
}

const RECOMPRESS: &str = "decompress it, or compress it again with xz, zstd, gzip or bzip2";
const UNPACK: &str = "unpack it and give the folder, or pack it again as a tar";
const JOIN: &str = "join its pieces and unpack them first";
const DECRYPT: &str = "decrypt it first";
const CONVERT: &str = "save the image again as an OCI layout or a docker-archive";
const REFETCH: &str = "download it again";
const MOUNT: &str = "mount or unpack it, and give the folder";

/// Magic numbers at the beginning. Those that are plain text end with bytes that no name of a tar member has.
const UNREADABLE: &[(&[u8], &str, &str)] = &[
    (b"\x04\x22\x4d\x18", "lz4-compressed data", RECOMPRESS),
    (b"\x02\x21\x4c\x18", "lz4-compressed data", RECOMPRESS),
    (b"LZIP\x01", "lzip-compressed data", RECOMPRESS),
    (b"LRZI\0", "lrzip-compressed data", RECOMPRESS),
    (b"\x89LZO\0\r\n\x1a\n", "lzop-compressed data", RECOMPRESS),
    (b"\x1f\x9d", "data compressed by compress", RECOMPRESS),
    (b"\x1f\x1e", "data compressed by pack", RECOMPRESS),
    (b"\xff\x06\0\0sNaPpY", "snappy-compressed data", RECOMPRESS),
    (b"PK\x07\x08PK", "a part of a split zip file", JOIN),
    (b"PK00PK", "a part of a split zip file", JOIN),
    (b"PK\x03\x04", "a zip file", UNPACK),
    (b"PK\x05\x06", "an empty zip file", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a rar archive", UNPACK),
    (b"xar!\0", "a xar archive", UNPACK),
    (b"MSCF\0\0\0\0", "a cabinet archive", UNPACK),
    (b"hsqs", "a squashfs file system", MOUNT),
    (b"HTTP/1.1 200 ", "the answer of a web server, saved with its head", REFETCH),
    (b"HTTP/1.0 200 ", "the answer of a web server, saved with its head", REFETCH),
    (b"Salted__", "data encrypted by openssl", DECRYPT),
    (b"age-encryption.org/v1\n", "data encrypted by age", DECRYPT),
    (b"-----BEGIN AGE ENCRYPTED FILE-----", "data encrypted by age", DECRYPT),
    (b"-----BEGIN PGP MESSAGE-----", "data encrypted by OpenPGP", DECRYPT),
    (b"-----BEGIN CMS-----", "data encrypted by CMS", DECRYPT),
    (b"LUKS\xba\xbe", "an encrypted disk (LUKS)", DECRYPT),
];

/// What up to [`HEAD_BYTES`] first bytes are; they are fewer only if there are no more.
pub(crate) fn recognise(head: &[u8]) -> Magic {
    if head.starts_with(XZ) {
        return Magic::Compressed(Format::Xz);
    }
    if head.starts_with(ZSTD) || is_skippable(head) {
        return Magic::Compressed(Format::Zstd);
    }
    if head.starts_with(b"\x1f\x8b") {
        return Magic::Compressed(Format::Gzip);
    }
    if is_bzip2(head) {
        return Magic::Compressed(Format::Bzip2);
    }
    let listed = UNREADABLE.iter().find(|(magic, ..)| head.starts_with(magic) && !is_package(head));
    // A member of a tar may be called so; a salt is eight random bytes.
    let listed = listed.filter(|(magic, ..)| {
        !matches!(*magic, b"Salted__" | b"hsqs") || head[magic.len()..].iter().take(8).any(|c| !is_name(*c))
    });
    if let Some(&(_, what, advice)) = listed {
        return Magic::Unreadable(Container { what, advice });
    }
    if is_openpgp(head) {
        return Magic::Unreadable(Container { what: "data encrypted by OpenPGP", advice: DECRYPT });
    }
    if is_lzma(head) {
        return Magic::Unreadable(Container { what: "lzma-compressed data", advice: RECOMPRESS });
    }
    if head.get(32..42) == Some(b"SIF_MAGIC\0") {
        return Magic::Unreadable(Container { what: "a Singularity image", advice: CONVERT });
    }
    Magic::Plain
}

/// The compression of stored bytes by up to [`HEAD_BYTES`] first ones; [`Format::Plain`] where none is known.
///
/// # Errors
/// [`Fault::Unsupported`] for what is recognised and not read, [`Fault::Truncated`] for the first bytes of a magic number.
pub(super) fn compression(head: &[u8]) -> Result<Format, BundleError> {
    match recognise(head) {
        Magic::Compressed(format) => Ok(format),
        Magic::Unreadable(container) => Err(container.refusal()),
        // A file this short can only be the rest of something.
        Magic::Plain if head.len() >= 2 && XZ.starts_with(head) => Err(truncated("xz", head.len() as u64)),
        Magic::Plain if (2..4).contains(&head.len()) && may_be_zstd(head) => {
            Err(truncated("zstd", head.len() as u64))
        }
        Magic::Plain => Ok(Format::Plain),
    }
}

impl Container {
    /// Why it is not read.
    pub(crate) fn refusal(self) -> BundleError {
        BundleError::new(Fault::Unsupported, format!("it is {}, which cannot be read", self.what))
            .hint(self.advice)
    }
}

/// A zip file that is a program or a document, by its first member: JAR, EPUB and ODF, Office Open XML.
fn is_package(head: &[u8]) -> bool {
    let first = head.get(30..).unwrap_or_default();
    let marks = [b"META-INF/".as_slice(), b"mimetype", b"[Content_Types]"];
    head.starts_with(b"PK\x03\x04") && marks.iter().any(|mark| first.starts_with(mark))
}

fn is_bzip2(head: &[u8]) -> bool {
    matches!(head, [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..]
        if rest.starts_with(BZIP2_BLOCK) || rest.starts_with(BZIP2_END))
}

/// The first packet of a binary message: an encrypted session key, version and all
/// ([RFC 9580](https://www.rfc-editor.org/rfc/rfc9580), sections 4.2, 5.1 and 5.3).
fn is_openpgp(head: &[u8]) -> bool {
    match head {
        // A public-key encrypted session key, in the old packet format with one or two octets of length, and in the new.
        [0x84, _, version, ..] | [0x85, 0..=4, _, version, ..] => *version == 3,
        [0xc1, 0xc0..=0xdf, _, version, ..] | [0xc1, 0x20..=0xbf, version, ..] => matches!(version, 3 | 6),
        // One encrypted with a passphrase: version and cipher.
        [0x8c | 0xc3, 0x04..=0x7f, 4..=6, cipher, ..] => (7..=10).contains(cipher),
        _ => false,
    }
}

/// The header of lzma's first format: properties, a dictionary size that is a round number, the decoded size.
fn is_lzma(head: &[u8]) -> bool {
    let [0x5d, 0, 0, low, high, size @ ..] = head else { return false };
    let Some(size) = size.first_chunk::<8>().map(|size| u64::from_le_bytes(*size)) else { return false };
    let dictionary = u16::from_le_bytes([*low, *high]);
    dictionary.is_power_of_two() && (size == u64::MAX || (1..1 << 40).contains(&size))
}

const fn is_name(c: u8) -> bool {
    c == 0 || c.is_ascii_graphic()
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
        let cases: [(&[u8], Result<Format, Fault>); 14] = [
            (b"", Ok(Format::Plain)),
            (b"\xfd7zXZ\0\0\x04", Ok(Format::Xz)),
            (b"\xfd7zXZ", Err(Fault::Truncated)),
            (b"\x28\xb5\x2f\xfd\x04", Ok(Format::Zstd)),
            (b"\x5e\x2a\x4d\x18\0\0\0\0", Ok(Format::Zstd)),
            (b"\x28\xb5", Err(Fault::Truncated)),
            (b"\x5e\x2a\x4d", Err(Fault::Truncated)),
            (b"\x1f\x8b", Ok(Format::Gzip)),
            (b"BZh91AY&SY", Ok(Format::Bzip2)),
            (b"BZhang/notes.txt\0", Ok(Format::Plain)),
            (b"Salted__/manifest.json\0", Ok(Format::Plain)),
            (b"hsqs/\0\0\0\0\0\0\0\0", Ok(Format::Plain)),
            (b"]\0\0\0\0\0\0\0\0\0\0\0\0\0", Ok(Format::Plain)),
            (b"manifest.json\0\0\0\0\0", Ok(Format::Plain)),
        ];
        for (head, expected) in cases {
            assert_eq!(compression(head).map_err(|e| e.fault()), expected, "{head:?}");
        }
    }

    #[test]
    fn what_is_not_read_is_recognised_and_named() {
        let mut sif = b"#!/usr/bin/env run-singularity\n\0".to_vec();
        sif.extend(b"SIF_MAGIC\0");
        let cases: [(&[u8], &str); 12] = [
            (b"\x04\x22\x4d\x18\x64", "lz4"),
            (b"PK\x03\x04\x14", "zip"),
            (b"PK\x07\x08PK\x03\x04", "split zip"),
            (b"7z\xbc\xaf\x27\x1c\0\x04", "7z"),
            (b"Rar!\x1a\x07\x01\0", "rar"),
            (b"Salted__\xa8\x12\xf0\x91\x07\x33\xe2\x50", "openssl"),
            (b"\x8c\x0d\x04\x09\x03\x08", "OpenPGP"),
            (b"\x85\x01\x0c\x03\x2a", "OpenPGP"),
            (b"-----BEGIN PGP MESSAGE-----\n", "OpenPGP"),
            (b"age-encryption.org/v1\n-> X25519", "age"),
            (b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0", "lzma"),
            (&sif, "Singularity"),
        ];
        for (head, name) in cases {
            let Magic::Unreadable(container) = recognise(head) else { panic!("{head:?}") };
            assert!(container.what.contains(name), "{head:?}: {container:?}");
            assert_eq!(compression(head).unwrap_err().fault(), Fault::Unsupported);
        }
    }
}
