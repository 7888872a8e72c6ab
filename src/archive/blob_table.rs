//! The table of blobs with which a bundle of `bundle repack` begins: where each blob lies, so that nobody decodes the whole
//! bundle to find the headers between them.
//!
//! The members after the table, as many as it says (`oci-layout`, `index.json`, manifests, configurations), are walked over as
//! in any tar. The blobs that it lists follow them to the end of the tar. It must account for every byte up to there, so
//! that no member hides between blobs; a table that does not is ignored, and the tar is walked. Each blob is
//! hashed when it is read, as everywhere.

use serde::{Deserialize, Serialize};

use crate::error::BundleError;
use crate::oci::Digest;
use crate::oci::json::parse_json;

/// The first member of the tar.
pub(crate) const TABLE_NAME: &str = "layercast-blobs.json";

/// The file `oci-layout`.
pub(crate) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

const VERSION: u32 = 1;
const BLOCK: u64 = 512;
/// A header, and before it at most another one with a long name.
const HEADER_BYTES: [u64; 2] = [BLOCK, 3 * BLOCK];
/// The two zero blocks.
const ENDING_BYTES: u64 = 2 * BLOCK;

/// Where blobs lie in a tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobTable {
    version: u32,
    /// How many members follow the table before the blobs.
    pub(crate) head_members: usize,
    /// The digest of each blob, the offset of its first byte from the end of the head, and its size.
    pub(crate) blobs: Vec<(Digest, u64, u64)>,
}

/// The path of a blob in an OCI layout.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// The length of content with its padding.
pub(crate) const fn padded(len: u64) -> u64 {
    len.next_multiple_of(BLOCK)
}

impl BlobTable {
    /// The table of blobs that follow this number of members.
    pub(crate) const fn new(head_members: usize, blobs: Vec<(Digest, u64, u64)>) -> Self {
        Self { version: VERSION, head_members, blobs }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is no table.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        parse_json(bytes)
    }

    /// Whether it accounts for all bytes from the end of the head to the end of a tar of this length.
    pub(super) fn fits(&self, head_end: u64, tar_bytes: u64) -> bool {
        let mut at = 0_u64;
        let is_next = |(_, offset, size): &(Digest, u64, u64)| {
            let follows = HEADER_BYTES.iter().any(|header| at.checked_add(*header) == Some(*offset));
            at = offset
                .checked_add(*size)
                .and_then(|end| end.checked_next_multiple_of(BLOCK))
                .unwrap_or(u64::MAX);
            follows
        };
        let all_follow = self.version == VERSION && self.blobs.iter().all(is_next);
        all_follow
            && head_end.checked_add(at).and_then(|end| end.checked_add(ENDING_BYTES)) == Some(tar_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_leaves_a_byte_out_does_not_fit() {
        let digest = Digest::of(b"");
        let table = |blobs| BlobTable::new(3, blobs);
        let two = vec![(digest, 512, 700), (digest, 512 + 1024 + 1536, 1)];
        let end = 4096 + 512 + 1024 + 1536 + 512 + 1024;
        assert!(table(two.clone()).fits(4096, end));
        assert!(!table(two.clone()).fits(4096, end + 512), "something follows");
        assert!(!table(two[..1].to_vec()).fits(4096, end));
        assert!(!table(vec![(digest, 1024, 700)]).fits(0, 1024 + 1024 + 1024), "no header is that long");
        assert!(!table(vec![(digest, 512, u64::MAX)]).fits(0, 1536));
        let json = serde_json::to_vec(&table(two.clone())).unwrap();
        assert_eq!(BlobTable::parse(&json).unwrap(), table(two.clone()));
        assert!(!BlobTable { version: 2, ..table(two) }.fits(4096, end), "another version");
    }
}
