//! A view on the bytes of a manifest or an index: what it points at, and nothing more.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{BundleError, Fault};
use crate::oci::json::parse_json;
use crate::oci::{Digest, media_type};

/// What points at content: its type, digest and size
/// ([image-spec, descriptors](https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Where else the content can be had; such a layer is not pushed.
    pub urls: Vec<String>,
    /// Free text; names of images stand here in an `index.json`.
    pub annotations: BTreeMap<String, String>,
    /// For which machines, in an index.
    pub platform: Option<Platform>,
    /// The content itself in Base64, where the descriptor holds it; not verified yet. It is kept as the blob that it is.
    #[serde(skip)]
    pub data: Option<String>,
}

impl Descriptor {
    /// A digest and a size, and nothing else.
    pub(crate) fn plain(digest: Digest, size: u64) -> Self {
        let (urls, annotations) = (Vec::new(), BTreeMap::new());
        Self { media_type: String::new(), digest, size, urls, annotations, platform: None, data: None }
    }

    /// Whether the content is fetched from elsewhere, and so neither needed in a bundle nor pushed.
    pub(crate) fn is_foreign(&self) -> bool {
        !self.urls.is_empty() || media_type::is_foreign_layer(&self.media_type)
    }
}

/// The machines an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(expecting = "a platform")]
pub struct Platform {
    /// `linux`, `windows`, …
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `v7` and the like.
    #[serde(default)]
    pub variant: Option<String>,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// The bytes of a manifest or index with a view on them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// The bytes, exactly as they are stored and sent.
    #[serde(with = "crate::oci::raw")]
    pub bytes: Bytes,
    /// Their digest.
    pub digest: Digest,
    /// The media type to send them as.
    pub media_type: String,
    /// What they point at.
    pub kind: Kind,
    /// The manifest that this one is about (a signature, an SBOM).
    pub subject: Option<Descriptor>,
}

/// What a manifest points at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Kind {
    /// One image: a configuration and layers, or an artefact of the same shape.
    Image {
        /// The configuration.
        config: Box<Descriptor>,
        /// The layers, lowest first.
        layers: Vec<Descriptor>,
    },
    /// Other manifests, and sometimes blobs (a build cache).
    Index {
        /// What it lists, in the index's order.
        children: Vec<Descriptor>,
    },
    /// Blobs alone: an OCI artifact manifest, or a manifest of a type that is not known here.
    Artifact {
        /// The blobs that can be made out.
        blobs: Vec<Descriptor>,
    },
}

/// Registries must take 4 MiB and need take no more
/// ([distribution-spec, pushing manifests](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests)).
pub(crate) const MAX_MANIFEST_BYTES: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a manifest or an index")]
struct RawManifest {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    blobs: Option<Vec<RawDescriptor>>,
    subject: Option<RawDescriptor>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a descriptor")]
struct RawDescriptor {
    media_type: Option<String>,
    digest: String,
    size: i64,
    #[serde(default)]
    urls: Option<Vec<String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, Option<String>>>,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    data: Option<String>,
}

impl RawDescriptor {
    fn check(self) -> Result<Descriptor, BundleError> {
        let digest: Digest = self.digest.parse()?;
        let size = u64::try_from(self.size).map_err(|_| {
            BundleError::new(Fault::BadJson, format!("{digest}: size {} is negative", self.size))
        })?;
        let annotations = self.annotations.unwrap_or_default().into_iter();
        Ok(Descriptor {
            media_type: self.media_type.unwrap_or_default(),
            digest,
            size,
            urls: self.urls.unwrap_or_default(),
            annotations: annotations.map(|(key, value)| (key, value.unwrap_or_default())).collect(),
            platform: self.platform,
            data: self.data,
        })
    }
}

impl Kind {
    /// Whether a known media type of manifests is one of this kind.
    pub(crate) fn fits(&self, media_type: &str) -> bool {
        match self {
            Self::Index { .. } => media_type::is_index(media_type),
            Self::Artifact { .. } => media_type::is_artifact(media_type),
            Self::Image { .. } => !media_type::is_index(media_type) && !media_type::is_artifact(media_type),
        }
    }
}

impl Manifest {
    /// Looks at the bytes of a manifest. `stated` is the media type its descriptor gives, used where the bytes say none.
    ///
    /// # Errors
    /// [`Fault::BadJson`], [`Fault::BadDigest`], or [`Fault::Unsupported`] for Docker's schema 1.
    pub fn parse(bytes: Bytes, stated: &str) -> Result<Self, BundleError> {
        let digest = Digest::of(&bytes);
        Self::view(bytes, digest, stated)
    }

    fn view(bytes: Bytes, digest: Digest, stated: &str) -> Result<Self, BundleError> {
        let raw: RawManifest = parse_json(&bytes)?;
        let said = raw.media_type.as_deref().unwrap_or(stated);
        // Docker's kinds must say so themselves; what does not is OCI's, whatever points at it.
        let speaks_for_itself =
            raw.media_type.is_some() || matches!(stated, media_type::OCI_INDEX | media_type::OCI_MANIFEST);
        if raw.schema_version == Some(1)
            || raw.fs_layers.is_some()
            || media_type::DOCKER_SCHEMA1.contains(&said)
        {
            return Err(BundleError::new(Fault::Unsupported, "a Docker schema 1 manifest").hint(
                "registries no longer take schema 1: pull and save the image again with a current tool",
            ));
        }
        let said = said.to_owned();
        let subject = raw.subject.map(RawDescriptor::check).transpose()?;
        let (kind, usual) = match (raw.config, raw.layers, raw.manifests) {
            (None, None, None) if media_type::is_artifact(&said) => (
                Kind::Artifact { blobs: check_all(raw.blobs.unwrap_or_default())? },
                media_type::OCI_ARTIFACT,
            ),
            (_, None, Some(children)) => {
                (Kind::Index { children: check_all(children)? }, media_type::OCI_INDEX)
            }
            (Some(config), layers, None) => {
                let layers = check_all(layers.unwrap_or_default())?;
                (Kind::Image { config: Box::new(config.check()?), layers }, media_type::OCI_MANIFEST)
            }
            // Both kinds in one document: which one a reader takes is a known attack (CVE-2021-41190).
            (_, Some(_), Some(_)) => {
                return Err(BundleError::new(Fault::BadJson, "has both \"layers\" and \"manifests\""));
            }
            (None, _, None) if media_type::is_index(&said) => {
                (Kind::Index { children: Vec::new() }, media_type::OCI_INDEX)
            }
            _ => return Err(BundleError::new(Fault::BadJson, "has neither \"config\" nor \"manifests\"")),
        };
        if media_type::is_manifest(&said) && !kind.fits(&said) {
            let what = format!("is not what its media type {said} says");
            return Err(BundleError::new(Fault::Contradiction, what));
        }
        // A type of its own that a manifest states is part of what it is; one that only its descriptor states is not.
        let states_its_own = raw.media_type.is_some_and(|own| !own.is_empty());
        let is_meant = if media_type::is_manifest(&said) && !media_type::is_artifact(&said) {
            speaks_for_itself
        } else {
            states_its_own || media_type::is_artifact(&said)
        };
        let media_type = if is_meant { said } else { usual.to_owned() };
        Ok(Self { bytes, digest, media_type, kind, subject })
    }

    /// A JSON document of a type that is not known here, as a manifest that is passed on as it is. None where the bytes are
    /// no such document, or one of a known shape that [`Manifest::parse`] has something against. `stated` is the media type
    /// its descriptor gives.
    pub(crate) fn of_unknown_type(bytes: &Bytes, stated: &str) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let fields = json.as_object()?;
        let own = fields.get("mediaType").and_then(serde_json::Value::as_str);
        let media_type = own.filter(|own| !own.is_empty()).unwrap_or(stated).to_owned();
        let is_known = media_type::may_be_manifest(&media_type);
        if is_known || ["manifests", "fsLayers"].iter().any(|key| fields.contains_key(*key)) {
            return None;
        }
        let descriptor = |value: &serde_json::Value| {
            RawDescriptor::deserialize(value).ok().and_then(|raw| raw.check().ok())
        };
        let listed = ["layers", "blobs"].iter().filter_map(|key| fields.get(*key)?.as_array()).flatten();
        let blobs = fields.get("config").into_iter().chain(listed).filter_map(descriptor).collect();
        let subject = fields.get("subject").and_then(descriptor);
        let digest = Digest::of(bytes);
        Some(Self { bytes: bytes.clone(), digest, media_type, kind: Kind::Artifact { blobs }, subject })
    }

    /// Takes out the content that descriptors embed, with its digests: in Base64 still, and not verified.
    pub(crate) fn take_embedded(&mut self) -> Vec<(Digest, String)> {
        let descriptors: Vec<&mut Descriptor> = match &mut self.kind {
            Kind::Image { config, layers } => std::iter::once(config.as_mut()).chain(layers).collect(),
            Kind::Index { children } => children.iter_mut().collect(),
            Kind::Artifact { blobs } => blobs.iter_mut().collect(),
        };
        let all = descriptors.into_iter().chain(&mut self.subject);
        all.filter_map(|descriptor| Some((descriptor.digest, descriptor.data.take()?))).collect()
    }

    /// What an index lists; nothing for anything else. Some of it may be blobs.
    pub(crate) fn children(&self) -> &[Descriptor] {
        match &self.kind {
            Kind::Index { children } => children,
            Kind::Image { .. } | Kind::Artifact { .. } => &[],
        }
    }

    /// The blobs it needs: configuration first, then layers, foreign ones left out. Those that an index lists are children.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, layers) = match &self.kind {
            Kind::Image { config, layers } => (Some(config.as_ref()), layers.as_slice()),
            Kind::Artifact { blobs } => (None, blobs.as_slice()),
            Kind::Index { .. } => (None, &[][..]),
        };
        config.into_iter().chain(layers).filter(|descriptor| !descriptor.is_foreign())
    }
}

fn check_all(raw: Vec<RawDescriptor>) -> Result<Vec<Descriptor>, BundleError> {
    raw.into_iter().map(RawDescriptor::check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(json: &str) -> Result<Manifest, BundleError> {
        Manifest::parse(Bytes::copy_from_slice(json.as_bytes()), media_type::OCI_MANIFEST)
    }

    #[test]
    fn an_image_lists_what_it_needs() {
        let manifest = parse(&format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"a","digest":"{DIGEST}","size":2}},"layers":[
            {{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"{DIGEST}","size":9}}]}}"#
        ))
        .unwrap();
        assert_eq!(manifest.blobs().map(|blob| blob.size).collect::<Vec<_>>(), [2]);
        assert_eq!(manifest.media_type, media_type::OCI_MANIFEST);
    }

    #[test]
    fn null_lists_are_empty_in_an_index() {
        let json = br#"{"schemaVersion":2,"manifests":null}"#;
        let index = Manifest::parse(Bytes::from_static(json), media_type::OCI_INDEX).unwrap();
        assert!(index.children().is_empty());
    }

    #[test]
    fn an_artifact_manifest_lists_its_blobs() {
        let json = format!(
            r#"{{"mediaType":"{}","artifactType":"x/y","blobs":[{{"mediaType":"a","digest":"{DIGEST}","size":2}}],
            "subject":{{"digest":"{DIGEST}","size":3,"annotations":{{"empty":null}}}}}}"#,
            media_type::OCI_ARTIFACT
        );
        let artifact = parse(&json).unwrap();
        assert_eq!(artifact.blobs().map(|blob| blob.size).collect::<Vec<_>>(), [2]);
        assert_eq!(
            (artifact.media_type.as_str(), artifact.subject.unwrap().size),
            (media_type::OCI_ARTIFACT, 3)
        );
    }

    #[test]
    fn a_document_of_an_unknown_type_keeps_its_type() {
        let of =
            |json: &str, stated| Manifest::of_unknown_type(&Bytes::copy_from_slice(json.as_bytes()), stated);
        let blob = format!(r#"{{"digest":"{DIGEST}","size":7}}"#);
        let own = of(
            &format!(r#"{{"mediaType":"x/own","config":{blob},"blobs":[{blob},{{"digest":1}},3]}}"#),
            "x/y",
        );
        let own = own.unwrap();
        assert_eq!((own.media_type.as_str(), own.blobs().count()), ("x/own", 2));
        assert_eq!(of("{}", "x/y").unwrap().media_type, "x/y");
        let (known, old) = (media_type::OCI_MANIFEST, media_type::DOCKER_SCHEMA1[1]);
        for (json, stated) in [("<x/>", "x/y"), ("[]", "x/y"), ("{}", ""), ("{}", known), ("{}", old)] {
            assert!(of(json, stated).is_none(), "{json} {stated}");
        }
        // One that has the shape of an image is an image, and is sent as what it says it is.
        let image = parse(&format!(r#"{{"mediaType":"x/own","config":{blob},"layers":[]}}"#)).unwrap();
        assert_eq!((image.media_type.as_str(), image.blobs().count()), ("x/own", 1));
    }

    #[test]
    fn each_fault_has_its_class() {
        for (json, fault) in [
            ("{".to_owned(), Fault::BadJson),
            ("[".repeat(1_000_000), Fault::BadJson),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), Fault::Unsupported),
            (r#"{"config":{"digest":"sha256:xyz","size":1}}"#.to_owned(), Fault::BadDigest),
            (format!(r#"{{"config":{{"digest":"{DIGEST}","size":-1}}}}"#), Fault::BadJson),
            (
                format!(
                    r#"{{"mediaType":"{}","config":{{"digest":"{DIGEST}","size":1}},"layers":[]}}"#,
                    media_type::OCI_ARTIFACT
                ),
                Fault::Contradiction,
            ),
            (
                format!(r#"{{"config":{{"digest":"{DIGEST}","size":1}},"layers":[],"manifests":[]}}"#),
                Fault::BadJson,
            ),
        ] {
            assert_eq!(parse(&json).unwrap_err().fault(), fault);
        }
    }
}
