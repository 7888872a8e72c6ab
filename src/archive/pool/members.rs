//! What something is that an index or a layout lists under a type that is not one of manifests: a blob, or a manifest after all.

use super::{Pool, ends_the_bundle};
use crate::error::BundleError;
use crate::oci::{Descriptor, Manifest, media_type};

/// What an entry of a layout is whose type is not known here.
#[derive(Debug, Clone)]
pub(in crate::archive) enum Unknown {
    /// A manifest of a known kind, or a JSON document that is passed on as it is.
    Manifest(Box<Descriptor>),
    /// It is missing or damaged, or JSON that is no right manifest: a visit says what is wrong.
    Wrong,
    /// Nothing that a registry takes as a manifest.
    Other,
}

impl Pool<'_> {
    /// Whether a member of an index is a blob. Clients go by its type: what is called by none of the types of manifests is
    /// fetched as a blob. But tools write manifests under types of their own (`application/vnd.oci.descriptor.v1+json`).
    pub(in crate::archive) fn is_blob(&self, child: &Descriptor) -> Result<bool, BundleError> {
        let media_type = &child.media_type;
        if media_type::may_be_manifest(media_type) {
            return Ok(false);
        }
        if is_called_as_blob(media_type) || child.size > self.reader.limits.manifest_bytes {
            return Ok(true);
        }
        if let Some(is_blob) = self.members.get(&child.digest) {
            return Ok(*is_blob);
        }
        if self.manifests.contains_key(&child.digest) {
            return Ok(false);
        }
        match self.read_verified(child) {
            Ok(bytes) => Ok(Manifest::parse(bytes, media_type).is_err()),
            Err(fault) if ends_the_bundle(fault.fault()) => Err(fault),
            // Whatever it should be, it is not there.
            Err(_) => Ok(true),
        }
    }

    /// What an entry of a layout is whose type is not known here. Looked at once, however often it is listed.
    pub(in crate::archive) fn unknown(&mut self, entry: &Descriptor) -> Result<Unknown, BundleError> {
        let key = (entry.digest, entry.size);
        if let Some(known) = self.unknown.get(&key) {
            return Ok(known.clone());
        }
        let unknown = self.look_at_unknown(entry)?;
        self.unknown.insert(key, unknown.clone());
        Ok(unknown)
    }

    fn look_at_unknown(&mut self, entry: &Descriptor) -> Result<Unknown, BundleError> {
        let media_type = &entry.media_type;
        if is_called_as_blob(media_type) || entry.size > self.reader.limits.manifest_bytes {
            return Ok(if self.find(entry).is_ok() { Unknown::Other } else { Unknown::Wrong });
        }
        let bytes = match self.read_verified(entry) {
            Ok(bytes) => bytes,
            Err(fault) if ends_the_bundle(fault.fault()) => return Err(fault),
            Err(_) => return Ok(Unknown::Wrong),
        };
        let known = Manifest::parse(bytes.clone(), media_type).ok();
        if let Some(manifest) = known.or_else(|| Manifest::of_unknown_type(&bytes, media_type)) {
            let document = self.add_manifest(Manifest { digest: entry.digest, ..manifest });
            return Ok(Unknown::Manifest(Box::new(document)));
        }
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok();
        Ok(if is_json { Unknown::Wrong } else { Unknown::Other })
    }
}

/// A media type that is surely that of a blob.
fn is_called_as_blob(media_type: &str) -> bool {
    !media_type::is_manifest(media_type)
        && [".layer.", ".config.", ".diff."].iter().any(|part| media_type.contains(part))
}
