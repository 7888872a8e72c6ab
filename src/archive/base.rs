//! The base of a delta: a bundle of `bundle diff` has the documents of all its images, and only those blobs that its base lacks.
//!
//! Annotations of its `index.json` have the digest and the name of the base, and the blobs that the base must have. Such a blob
//! stands in the catalog with its size, and reading it fails with [`Fault::BaseMissing`].

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use crate::error::{BundleError, Fault};
use crate::oci::Digest;
use crate::oci::json::parse_json;
use crate::source::ByteSpace;
use crate::units::{ByteCount, count};

const BASE_DIGEST: &str = "io.layercast.base.digest";
const BASE_NAME: &str = "io.layercast.base.name";
const BASE_BLOBS: &str = "io.layercast.base.blobs";

/// The bundle that a delta is of, and what it has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// Of the digests of its images, sorted: the same however it is packed.
    pub(crate) digest: Digest,
    /// Its name when the delta was made.
    pub(crate) name: String,
    /// The blobs that are needed and are not in the delta, with their sizes.
    pub(crate) blobs: Vec<(Digest, u64)>,
}

#[derive(Deserialize)]
#[serde(expecting = "an index")]
struct Annotated {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Base {
    /// The annotations of an `index.json`.
    pub(crate) fn annotations(&self) -> BTreeMap<&'static str, String> {
        // Digests and numbers cannot fail to be written.
        let blobs = serde_json::to_string(&self.blobs).unwrap_or_default();
        BTreeMap::from([
            (BASE_DIGEST, self.digest.to_string()),
            (BASE_NAME, self.name.clone()),
            (BASE_BLOBS, blobs),
        ])
    }

    /// The base that an `index.json` names, if it names one.
    ///
    /// # Errors
    /// It says that there is a base, and does not identify it.
    pub(super) fn of_index(index: &[u8]) -> Result<Option<Self>, BundleError> {
        let Annotated { annotations } = parse_json(index)?;
        let annotations = annotations.unwrap_or_default();
        let Some(digest) = annotations.get(BASE_DIGEST) else { return Ok(None) };
        let blobs = annotations.get(BASE_BLOBS).map_or("", String::as_str);
        let name = annotations.get(BASE_NAME).cloned().unwrap_or_default();
        let blobs = parse_json(blobs.as_bytes()).map_err(|error| error.at(BASE_BLOBS))?;
        Ok(Some(Self { digest: digest.parse()?, name, blobs }))
    }

    /// Its name in messages.
    pub(super) fn shown(&self) -> String {
        let Self { digest, name, .. } = self;
        if name.is_empty() { digest.to_string() } else { format!("{name} ({digest})") }
    }

    /// A note on the bundle, for people.
    pub(crate) fn note(&self) -> String {
        let bytes: u64 = self.blobs.iter().map(|(_, size)| size).sum();
        format!(
            "it is a delta: {} of {} are left to its base, {}",
            count(self.blobs.len(), "blob"),
            ByteCount(bytes),
            self.shown()
        )
    }
}

/// A blob that only the base has.
#[derive(Debug)]
pub(super) struct LeftToBase {
    pub(super) size: u64,
    pub(super) base: String,
}

impl ByteSpace for LeftToBase {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.size)
    }

    fn chunk_at(&self, _offset: u64, _max: usize) -> Result<Bytes, BundleError> {
        let what = format!("the bundle is a delta, and leaves it to its base, {}", self.base);
        Err(BundleError::new(Fault::BaseMissing, what).hint("give the base as well, before the delta"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_index_says_what_it_leaves_to_its_base() {
        let digest = Digest::of(b"base");
        let base =
            Base { digest, name: "r41.tar".to_owned(), blobs: vec![(Digest::of(b"a"), 1), (digest, 4)] };
        let index =
            json!({"schemaVersion": 2, "manifests": [], "annotations": base.annotations()}).to_string();
        assert_eq!(Base::of_index(index.as_bytes()).unwrap(), Some(base.clone()));
        assert!(
            base.note().contains("2 blobs of 5 B") && base.note().contains("r41.tar (sha256:"),
            "{}",
            base.note()
        );
        assert_eq!(Base::of_index(br#"{"manifests": []}"#).unwrap(), None);
        let broken = json!({"annotations": {BASE_DIGEST: digest.to_string()}}).to_string();
        assert!(Base::of_index(broken.as_bytes()).is_err());
    }
}
