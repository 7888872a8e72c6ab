//! A bundle that came from a registry: its documents are in memory, and its blobs lie in a folder by their digests.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::archive::blob_table::{OCI_LAYOUT, blob_path};
use crate::archive::{self, Catalog, LeftOut, Limits, Open};
use crate::error::BundleError;
use crate::oci::Digest;
use crate::source::{ByteSpace, LateFile, LazySpace};

/// The OCI layout of what was pulled.
#[derive(Debug, Clone)]
pub(crate) struct PulledBundle {
    /// What it is called: `registry:HOST/NAMESPACE`.
    pub(crate) name: String,
    /// Its `index.json`.
    pub(crate) index: Bytes,
    /// Manifests, and what else was read.
    pub(crate) documents: BTreeMap<Digest, Bytes>,
    /// All other blobs with their sizes. One that was not fetched cannot be read.
    pub(crate) blobs: BTreeMap<Digest, u64>,
    /// The folder in which `blobs` lie, as in any layout.
    pub(crate) folder: PathBuf,
    /// What did not come.
    pub(crate) left_out: Vec<LeftOut>,
}

impl PulledBundle {
    /// What is in it. Reads no blob.
    ///
    /// # Errors
    /// As [`archive::read_files`].
    pub(super) fn catalog(&self, open: &Open<'_>, limits: &Limits) -> Result<Catalog, BundleError> {
        let layout = Bytes::from_static(OCI_LAYOUT);
        let own = [("oci-layout".to_owned(), layout), ("index.json".to_owned(), self.index.clone())];
        let documents = self.documents.iter().map(|(digest, bytes)| (blob_path(digest), bytes.clone()));
        let documents: HashMap<String, Bytes> = own.into_iter().chain(documents).collect();
        let sizes = documents.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64));
        let blobs = self.blobs.iter().filter(|(digest, _)| !self.documents.contains_key(digest));
        let blobs = blobs.map(|(digest, size)| (blob_path(digest), *size));
        let files: BTreeMap<String, u64> = sizes.chain(blobs).collect();
        let open_file = |name: &Path| -> Result<Arc<dyn ByteSpace>, BundleError> {
            if let Some(bytes) = name.to_str().and_then(|name| documents.get(name)) {
                return Ok(Arc::new(bytes.clone()));
            }
            let path = self.folder.join(name);
            Ok(Arc::new(LazySpace::new(move || Ok(Arc::new(LateFile::new(&path)?)))))
        };
        let mut catalog = archive::read_files(files, &open_file, open, limits)?;
        catalog.left_out.extend_from_slice(&self.left_out);
        Ok(catalog)
    }
}
