//! The documents of an [OCI layout](https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md), and the headers of
//! the tar that it goes into. Pure: the same input gives the same bytes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::archive::base::Base;
use crate::archive::blob_table::padded;
use crate::oci::{Digest, media_type};

/// The two zero blocks at the end of a tar.
pub(super) const ENDING: [u8; 1024] = [0; 1024];

/// Names in the header of a tar have no more bytes.
const MAX_NAME_BYTES: usize = 100;

/// An entry of `index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexEntry {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: &'a [IndexEntry],
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<&'static str, String>>,
}

/// `index.json`; of a delta with what it leaves to its base.
pub(super) fn index(manifests: &[IndexEntry], base: Option<&Base>) -> Vec<u8> {
    let annotations = base.map(Base::annotations);
    let index = Index { schema_version: 2, media_type: media_type::OCI_INDEX, manifests, annotations };
    // Text, numbers and maps of text cannot fail to be written.
    serde_json::to_vec(&index).unwrap_or_default()
}

/// The header of a file in a tar, with all that may differ from one machine to the next left out.
pub(super) fn header(name: &str, size: u64) -> Vec<u8> {
    if name.len() <= MAX_NAME_BYTES {
        return block(name, size, tar::EntryType::Regular);
    }
    let mut header = block("././@LongLink", name.len() as u64 + 1, tar::EntryType::GNULongName);
    header.extend_from_slice(name.as_bytes());
    header.push(0);
    header.resize(header.len() + pad(name.len() as u64 + 1), 0);
    header.extend(block(&name[..MAX_NAME_BYTES], size, tar::EntryType::Regular));
    header
}

/// How many zeros follow content of this length.
pub(super) fn pad(len: u64) -> usize {
    usize::try_from(padded(len) - len).unwrap_or(0)
}

fn block(name: &str, size: u64, kind: tar::EntryType) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    // Digests and names of our own always fit.
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    }
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(kind);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn any_tar_reader_finds_the_names_and_the_content() {
        let long = format!("blobs/sha512/{}", "ab".repeat(64));
        let mut bytes = Vec::new();
        for (name, content) in [("index.json", &b"{}"[..]), (&long, &[7; 512]), ("empty", b"")] {
            bytes.extend(header(name, content.len() as u64));
            assert_eq!(bytes.len() % 512, 0);
            bytes.extend(content);
            bytes.extend(vec![0; pad(content.len() as u64)]);
        }
        bytes.extend(ENDING);
        let mut archive = tar::Archive::new(&bytes[..]);
        let read = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        let expected = [("index.json", vec![b'{', b'}']), (&long, vec![7; 512]), ("empty", vec![])];
        assert_eq!(read.collect::<Vec<_>>(), expected.map(|(name, content)| (name.to_owned(), content)));
    }
}
