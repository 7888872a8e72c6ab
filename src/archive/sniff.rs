//! What bytes and trees seem to be: to look into archives, and to tell a person what they gave us instead of a bundle.

use crate::archive::tar;
use crate::archive::tree::{Tree, base_name};
use crate::error::BundleError;
use crate::source::ByteSpace;

/// What bytes begin like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Tar,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
    Other,
}

/// The first block of a space; shorter where the space is.
pub(super) fn first_bytes(space: &dyn ByteSpace) -> Result<Vec<u8>, BundleError> {
    tar::read_up_to(space, 0, 512)
}

/// What bytes begin like.
pub(super) fn format(first: &[u8]) -> Format {
    match first {
        [0x1f, 0x8b, 8, ..] => Format::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Format::Bzip2,
        _ if tar::begins_like_tar(first) => Format::Tar,
        _ => Format::Other,
    }
}

/// What a file that is no tar seems to be.
pub(super) fn file_seems(first: &[u8]) -> &'static str {
    let text = first.trim_ascii_start();
    let begins = |with: &[u8]| text.len() >= with.len() && text[..with.len()].eq_ignore_ascii_case(with);
    match format(first) {
        Format::Gzip | Format::Xz | Format::Zstd => return "compressed data inside compressed data",
        Format::Bzip2 => return "bzip2-compressed data, which is not read",
        Format::Tar | Format::Other => {}
    }
    match first {
        [] => "an empty file",
        [b'P', b'K', 3 | 5, ..] => "a zip file",
        [0x7f, b'E', b'L', b'F', ..] => "a program",
        [b'h', b's', b'q', b's', ..] => "a squashfs file system",
        _ if begins(b"<!doctype") || begins(b"<html") => "an HTML page, perhaps the error page of a download",
        _ if begins(b"<?xml") => "an XML document, perhaps the error page of a download",
        _ if begins(b"{") || begins(b"[") => "a JSON document",
        _ if first.iter().all(|&c| c == 0) => "nothing but zeros",
        _ if first.iter().all(|&c| c >= b' ' || c.is_ascii_whitespace()) => "a text file",
        _ => "neither a tar nor compressed in a known way",
    }
}

/// What a tree without images seems to be, and what could be done about it.
pub(super) fn tree_seems(tree: &Tree<'_>, manifest_json: Option<&[u8]>) -> (String, Option<&'static str>) {
    let has_base = |name: &str| tree.paths().any(|path| base_name(path) == name);
    let has_folder = |name: &str| tree.below(&format!("{name}/")).next().is_some();
    if tree.len() == 0 {
        return ("nothing: it has no files".into(), None);
    }
    if let Some(text) = manifest_json {
        let object = text.trim_ascii_start().starts_with(b"{");
        if object || tree.contains("version") {
            let hint = "copy it into an archive first, as with `skopeo copy dir:PATH oci-archive:FILE:NAME`";
            return ("a folder of the containers-image `dir:` transport".into(), Some(hint));
        }
        return ("an archive whose manifest.json lists no image".into(), None);
    }
    if has_base("layer.tar") && has_base("json") {
        let hint = "load it into a Docker of 1.10 or later and save it again";
        return ("an image saved by Docker before 1.10, without manifest.json".into(), Some(hint));
    }
    if has_base("oci-layout") && !has_base("index.json") {
        return ("an OCI layout without its index.json".into(), None);
    }
    if has_base("oci-layout") {
        return ("an OCI layout whose index.json lists no image".into(), None);
    }
    if tree.contains("index.json") {
        return ("an index.json without blobs beside it".into(), None);
    }
    let roots = ["etc", "usr", "bin", "lib", "var", "proc", "run", "root", "home", "opt", "sbin"];
    if roots.iter().filter(|name| has_folder(name)).count() >= 2
        || tree.paths().any(|p| base_name(p).starts_with(".wh."))
    {
        let hint = "a layer alone is no image: save the whole image";
        return ("a file system, such as the content of one layer".into(), Some(hint));
    }
    let some: Vec<_> = tree.paths().take(3).collect();
    (format!("{} files that are no images, such as {}", tree.len(), some.join(", ")), None)
}
