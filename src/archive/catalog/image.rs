//! One image of a bundle: its names and its content.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Platform, Reference, Repository, Tag};
use crate::source::Extent;

/// One image as the bundle holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Image {
    /// What the bundle calls it; empty where the bundle gives no name.
    pub names: Vec<ImageName>,
    /// What it is made of.
    pub content: Content,
    /// Which archive of the bundle it lies in, for messages; empty for the bundle itself.
    pub origin: String,
    /// The annotations of its entry in an `index.json`, where tools hide names under keys of their own.
    pub annotations: BTreeMap<String, String>,
    /// The index it stands for, where the bundle holds only a part of that.
    #[serde(with = "crate::archive::shared::option")]
    pub partial: Option<Arc<PartialIndex>>,
    /// What it is of another image, whose places are its own.
    pub attachment: Option<Attachment>,
    /// The archive that is whole or damaged by itself: one of a folder, or of several bundles.
    #[serde(with = "crate::archive::shared::option")]
    pub unit: Unit,
}

/// The archive that damage is confined to; none where the whole bundle is one.
pub(crate) type Unit = Option<Arc<str>>;

/// An index whose bundle has only some of its platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialIndex {
    /// The digest of the index, which the bundle cannot give.
    pub index: Digest,
    /// What is whole, at least one: its digest and its platform, in words.
    pub present: Vec<(Digest, String)>,
    /// The platforms that are missing, in words.
    pub missing: Vec<String>,
}

/// That something is about another image, and goes where that one goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The digest of the image that it is about.
    pub subject: Digest,
    /// What it is.
    pub kind: AttachmentKind,
}

/// What is attached to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachmentKind {
    /// Signatures of cosign.
    Signatures,
    /// Attestations of cosign.
    Attestations,
    /// A bill of materials as cosign attaches it.
    Sbom,
    /// A manifest that is found by its `subject`.
    Referrer,
}

impl AttachmentKind {
    /// The stable word for reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Signatures => "signatures",
            Self::Attestations => "attestations",
            Self::Sbom => "sbom",
            Self::Referrer => "referrer",
        }
    }
}

impl Attachment {
    /// The tag under which it is looked for; none for what is found by its subject.
    pub(crate) fn tag(&self) -> Option<Tag> {
        let suffix = match self.kind {
            AttachmentKind::Signatures => "sig",
            AttachmentKind::Attestations => "att",
            AttachmentKind::Sbom => "sbom",
            AttachmentKind::Referrer => return None,
        };
        format!("{}-{}.{suffix}", self.subject.algorithm().name(), self.subject.hex()).parse().ok()
    }
}

/// What a bundle calls an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImageName {
    /// Host, repository, and tag or digest.
    Full(Reference),
    /// A repository and a tag, but no host (registry storage trees).
    Hostless(Repository, Tag),
    /// A repository without its host, and no tag: known by digest alone.
    HostlessDigest(Repository, Digest),
    /// Only a tag: the repository must come from the user.
    TagOnly(Tag),
    /// Text in place of a name that is not a valid name. It is never corrected.
    Invalid {
        /// The text, printable.
        text: String,
        /// Why it is invalid.
        why: String,
    },
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(reference) => reference.fmt(f),
            Self::Hostless(repository, tag) => write!(f, "{repository}:{tag}"),
            Self::HostlessDigest(repository, digest) => write!(f, "{repository}@{digest}"),
            Self::TagOnly(tag) => tag.fmt(f),
            Self::Invalid { text, .. } => f.write_str(text),
        }
    }
}

/// What an image is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Content {
    /// A manifest or index of [`Catalog::manifests`](super::Catalog::manifests), with everything below it in the catalog.
    Manifest(Digest),
    /// A docker-archive's image, which has no registry manifest yet.
    Unpacked(#[serde(with = "crate::archive::shared")] Arc<Unpacked>),
}

/// What makes two images of a bundle one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ContentKey {
    /// The digest of the manifest.
    Manifest(Digest),
    /// The digest of the configuration, where there is no manifest yet.
    Config(Digest),
}

impl ContentKey {
    /// The digest, of whichever it is.
    pub(crate) const fn digest(self) -> Digest {
        match self {
            Self::Manifest(digest) | Self::Config(digest) => digest,
        }
    }
}

impl Content {
    /// The digest of its manifest, where it has one already.
    pub(crate) fn manifest_digest(&self) -> Option<Digest> {
        match self {
            Self::Manifest(digest) => Some(*digest),
            Self::Unpacked(_) => None,
        }
    }

    /// Equal for equal images.
    pub(crate) fn key(&self) -> ContentKey {
        match self {
            Self::Manifest(digest) => ContentKey::Manifest(*digest),
            Self::Unpacked(image) => ContentKey::Config(image.config_digest),
        }
    }
}

/// An image of a docker-archive: a configuration and layers, from which a manifest is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unpacked {
    /// The configuration, byte for byte.
    #[serde(with = "crate::oci::raw")]
    pub config: Bytes,
    /// Its digest.
    pub config_digest: Digest,
    /// The machine it is for.
    pub platform: Platform,
    /// The layers, lowest first; as many as the configuration has diff_ids.
    pub layers: Vec<UnpackedLayer>,
}

/// A layer of a docker-archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnpackedLayer {
    /// The digest of the layer's plain tar, as the configuration states it. Not verified yet.
    pub diff_id: Digest,
    /// The member that holds it, for messages.
    pub member: String,
    /// Its bytes as stored. Written down beside the catalog: see `state::catalog_codec`.
    #[serde(skip)]
    pub extent: Extent,
    /// How many they are.
    pub size: u64,
    /// How they are stored.
    pub stored: Stored,
    /// Its place in the order of the bundle.
    pub order: u64,
}

/// How a layer is stored in a bundle, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stored {
    /// A tar as it is.
    Plain,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
}

impl Image {
    /// The archive it lies in, as people find it: from the path that they gave, where that is known. Empty for a bundle
    /// that is one archive.
    pub(crate) fn archive(&self) -> String {
        match self.unit.as_deref() {
            Some(unit) if self.origin.is_empty() || unit.ends_with(&self.origin) => unit.to_owned(),
            // The unit is a file of a folder, and the origin goes on inside it.
            Some(unit) => match self.origin.split_once('/') {
                Some((file, inner)) if unit.ends_with(file) => format!("{unit}/{inner}"),
                _ => format!("{unit}/{}", self.origin),
            },
            None => self.origin.clone(),
        }
    }

    /// The layers of an image that has no manifest yet; none otherwise.
    pub(crate) fn unpacked_layers(&self) -> &[UnpackedLayer] {
        match &self.content {
            Content::Unpacked(unpacked) => &unpacked.layers,
            Content::Manifest(_) => &[],
        }
    }
}
