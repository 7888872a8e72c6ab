//! The content of one tree by digest: manifests, each read and verified once, and where every blob lies.
//!
//! In: descriptors. Out: whether everything below them is there, and if not, what is wrong first. Indexes are walked
//! with a stack of our own and each manifest once, so that neither depth nor breadth of a hostile graph costs anything.
//! Layers are never read; their length must fit.

mod members;
mod visit;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::archive::CatalogReader;
use crate::archive::base::{Base, LeftToBase};
use crate::archive::catalog::{Blob, Catalog};
use crate::archive::content_path::digest_of_path;
use crate::archive::limits::check_length;
use crate::archive::tree::Tree;
use crate::error::{BundleError, Fault};
use crate::oci::manifest::Kind;
use crate::oci::{Descriptor, Digest, Manifest, media_type};
use crate::source::Extent;
pub(super) use members::Unknown;
use visit::Visit;

/// Documents that might be manifests nobody lists are looked for among blobs up to this length.
const MAX_UNLISTED_BYTES: u64 = 64 << 10;

/// Manifests and blobs of a tree.
#[derive(Debug)]
pub(super) struct Pool<'t> {
    reader: &'t CatalogReader<'t>,
    tree: &'t Tree<'t>,
    places: HashMap<Digest, Vec<BlobPlace<'t>>>,
    manifests: HashMap<Digest, Arc<Manifest>>,
    visits: HashMap<(Digest, u64), Visit>,
    configs: HashMap<Digest, Option<BundleError>>,
    /// Members of indexes that were looked at, and whether they are blobs.
    members: HashMap<Digest, bool>,
    unknown: HashMap<(Digest, u64), Unknown>,
    /// Whole images by the digest of their configuration, in the order they were visited.
    by_config: HashMap<Digest, Vec<Digest>>,
}

/// Where content lies.
#[derive(Debug, Clone)]
enum BlobPlace<'t> {
    Named(&'t str),
    /// Embedded in a document of the bundle.
    Inline(Bytes, u64),
    /// In the base of a delta.
    LeftToBase(u64, Arc<str>),
}

impl<'t> Pool<'t> {
    pub(super) fn new(reader: &'t CatalogReader<'t>, tree: &'t Tree<'t>) -> Self {
        let mut places: HashMap<Digest, Vec<BlobPlace<'t>>> = HashMap::new();
        for path in tree.paths() {
            if let Some(digest) = digest_of_path(path) {
                places.entry(digest).or_default().push(BlobPlace::Named(path));
            }
        }
        Self {
            reader,
            tree,
            places,
            manifests: HashMap::new(),
            visits: HashMap::new(),
            configs: HashMap::new(),
            members: HashMap::new(),
            unknown: HashMap::new(),
            by_config: HashMap::new(),
        }
    }

    /// Adds content that a document embeds at `position`. Its digest is checked when it is used.
    pub(super) fn add_inline(&mut self, digest: Digest, bytes: Bytes, position: u64) {
        self.places.entry(digest).or_default().push(BlobPlace::Inline(bytes, position));
    }

    /// Adds the blobs that a delta leaves to its base.
    pub(super) fn add_base(&mut self, base: &Base) {
        let name: Arc<str> = base.shown().into();
        for (digest, size) in &base.blobs {
            if !self.has_content(digest) {
                let places = self.places.entry(*digest).or_default();
                places.push(BlobPlace::LeftToBase(*size, Arc::clone(&name)));
            }
        }
    }

    /// Adds a document that has been read and verified in another way (an `index.json` that is an image itself).
    pub(super) fn add_manifest(&mut self, manifest: Manifest) -> Descriptor {
        let descriptor = describe(&manifest);
        self.keep(manifest);
        descriptor
    }

    /// Keeps a manifest, and the content that its descriptors embed, which need not lie among the blobs
    /// ([image-spec, embedded content](https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#embedded-content)).
    fn keep(&mut self, mut manifest: Manifest) -> Arc<Manifest> {
        for (digest, data) in manifest.take_embedded() {
            if let Ok(data) = STANDARD.decode(data)
                && !self.has_content(&digest)
                && digest.matches(&data)
            {
                self.add_inline(digest, data.into(), 0);
            }
        }
        let manifest = Arc::new(manifest);
        self.manifests.insert(manifest.digest, Arc::clone(&manifest));
        manifest
    }

    /// Adds a file that is called by its digest in a way that only its format knows.
    pub(super) fn add_path(&mut self, digest: Digest, path: &'t str) {
        let places = self.places.entry(digest).or_default();
        if !places.iter().any(|place| matches!(place, BlobPlace::Named(known) if *known == path)) {
            places.push(BlobPlace::Named(path));
        }
    }

    /// A manifest that was read.
    pub(super) fn manifest(&self, digest: &Digest) -> Option<Arc<Manifest>> {
        self.manifests.get(digest).cloned()
    }

    /// The files that hold what manifests name, under the names that they have themselves.
    pub(super) fn referenced_files(&self) -> HashSet<String> {
        let manifests = self.manifests.values();
        let named = manifests.flat_map(|manifest| {
            let below = manifest.blobs().chain(manifest.children()).map(|descriptor| descriptor.digest);
            below.chain([manifest.digest]).collect::<Vec<_>>()
        });
        let places = named.filter_map(|digest| self.places.get(&digest)).flatten();
        let paths = places.filter_map(|place| match place {
            BlobPlace::Named(path) => Some(*path),
            BlobPlace::Inline(..) | BlobPlace::LeftToBase(..) => None,
        });
        let real = |path: &'t str| self.tree.file(path).ok().flatten().map(|file| file.path.to_owned());
        paths.filter_map(real).collect()
    }

    /// Whether there is content under a digest, be it right or not.
    pub(super) fn has_content(&self, digest: &Digest) -> bool {
        matches!(self.stored_bytes(digest), Ok(Some(_)))
    }

    /// How the visit of a manifest went, where it was visited.
    pub(super) fn visited(&self, descriptor: &Descriptor) -> Option<Result<(), Fault>> {
        match self.visits.get(&(descriptor.digest, descriptor.size))? {
            Visit::Open => None,
            Visit::Done(outcome) => Some(outcome.fault.as_ref().map_or(Ok(()), |fault| Err(fault.fault()))),
        }
    }

    /// How long the content is that is stored under a digest, where there is any.
    pub(super) fn stored_bytes(&self, digest: &Digest) -> Result<Option<u64>, BundleError> {
        let first = self.places.get(digest).and_then(|places| places.first());
        first.map_or(Ok(None), |place| self.length(place))
    }

    /// Whether a digest is that of an index that could be read.
    pub(super) fn is_index(&self, digest: &Digest) -> bool {
        self.manifests.get(digest).is_some_and(|manifest| matches!(manifest.kind, Kind::Index { .. }))
    }

    /// Whole images whose configuration has this digest.
    pub(super) fn images_of_config(&self, config: &Digest) -> &[Digest] {
        self.by_config.get(config).map_or(&[], Vec::as_slice)
    }

    /// Reads and verifies a manifest.
    fn load(&mut self, descriptor: &Descriptor) -> Result<Arc<Manifest>, BundleError> {
        let digest = descriptor.digest;
        if let Some(manifest) = self.manifests.get(&digest)
            && manifest.bytes.len() as u64 == descriptor.size
        {
            return agrees(descriptor, manifest).map(|()| Arc::clone(manifest));
        }
        let what = format!("manifest {digest}");
        check_length(&what, descriptor.size, self.reader.limits.manifest_bytes)?;
        let bytes = self.read_verified(descriptor).map_err(|e| e.at(&what))?;
        let manifest = Manifest::parse(bytes, &descriptor.media_type).map_err(|e| e.at(&what))?;
        // `parse` hashes with SHA-256; the name a manifest goes by may be of another algorithm.
        let manifest = self.keep(Manifest { digest, ..manifest });
        agrees(descriptor, &manifest).map_err(|e| e.at(&what))?;
        Ok(manifest)
    }

    /// The bytes of a descriptor whose size has been checked against a limit. Of several copies, one that is right.
    fn read_verified(&self, descriptor: &Descriptor) -> Result<Bytes, BundleError> {
        let mut wrong = None;
        for place in self.fitting(descriptor)? {
            let bytes = match place {
                BlobPlace::Inline(bytes, _) => bytes.clone(),
                BlobPlace::LeftToBase(..) => continue,
                BlobPlace::Named(path) => match self.tree.file(path)? {
                    Some(file) => self.tree.read(file)?,
                    None => continue,
                },
            };
            if descriptor.digest.matches(&bytes) {
                return Ok(bytes);
            }
            let mut hasher = descriptor.digest.hasher();
            hasher.update(&bytes);
            wrong.get_or_insert_with(|| hasher.finish());
        }
        let found = wrong.map_or_else(String::new, |digest| format!(", but has {digest}"));
        let what = format!("should have the digest {}{found}", descriptor.digest);
        Err(BundleError::new(Fault::DigestMismatch, what))
    }

    /// Whether a document that was read is an image, an index or an artifact of a known shape, or about one.
    pub(super) fn is_about_images(&self, digest: &Digest) -> bool {
        self.manifests.get(digest).is_some_and(|manifest| {
            let is_known = !matches!(manifest.kind, Kind::Artifact { .. });
            is_known || media_type::is_artifact(&manifest.media_type) || manifest.subject.is_some()
        })
    }

    /// A blob of at most `limit` bytes; none where it is not there, not right, or longer.
    pub(super) fn small_blob(&self, descriptor: &Descriptor, limit: u64) -> Option<Bytes> {
        (descriptor.size <= limit).then(|| self.read_verified(descriptor).ok()).flatten()
    }

    /// Images that were read and are about one of `listed`, but are none of those.
    pub(super) fn referrers_of(&self, listed: &HashSet<Digest>) -> Vec<Digest> {
        let about = |manifest: &Manifest| manifest.subject.as_ref().map(|subject| subject.digest);
        let manifests = self.manifests.values().filter(|manifest| !listed.contains(&manifest.digest));
        let refer = manifests.filter(|manifest| about(manifest).is_some_and(|it| listed.contains(&it)));
        let mut digests: Vec<Digest> = refer.map(|manifest| manifest.digest).collect();
        digests.sort_unstable();
        digests
    }

    /// Where bytes of the right length lie; at least one place.
    fn fitting(&self, descriptor: &Descriptor) -> Result<Vec<&BlobPlace<'t>>, BundleError> {
        let digest = descriptor.digest;
        let (mut fitting, mut problem) = (Vec::new(), None);
        for place in self.places.get(&digest).into_iter().flatten() {
            match self.length(place) {
                Ok(Some(len)) if len == descriptor.size => fitting.push(place),
                Ok(Some(len)) => {
                    let what = format!("{digest} has {len} bytes, its descriptor says {}", descriptor.size);
                    problem.get_or_insert(BundleError::new(Fault::SizeMismatch, what));
                }
                Ok(None) => {}
                Err(error) => drop(problem.get_or_insert(error)),
            }
        }
        if fitting.is_empty() {
            return Err(problem.unwrap_or_else(|| self.missing(&digest)));
        }
        Ok(fitting)
    }

    fn missing(&self, digest: &Digest) -> BundleError {
        let link = self.places.get(digest).into_iter().flatten().find_map(|place| match place {
            BlobPlace::Named(path) => self.tree.link_target(path).map(|target| (path, target)),
            BlobPlace::Inline(..) | BlobPlace::LeftToBase(..) => None,
        });
        let is = link.map(|(path, target)| format!(": {path:?} is a link to {target:?}, which is not in it"));
        BundleError::new(
            Fault::MissingBlob,
            format!("{digest} is not in the bundle{}", is.unwrap_or_default()),
        )
    }

    fn length(&self, place: &BlobPlace<'t>) -> Result<Option<u64>, BundleError> {
        match place {
            BlobPlace::Inline(bytes, _) => Ok(Some(bytes.len() as u64)),
            BlobPlace::LeftToBase(size, _) => Ok(Some(*size)),
            BlobPlace::Named(path) => Ok(self.tree.file(path)?.map(|file| file.len)),
        }
    }

    fn find(&self, descriptor: &Descriptor) -> Result<&BlobPlace<'t>, BundleError> {
        self.fitting(descriptor)?.into_iter().next().ok_or_else(|| self.missing(&descriptor.digest))
    }

    /// The digests of a manifest and of all manifests below it that could be read.
    pub(super) fn family(&self, top: &Digest) -> Vec<Digest> {
        let (mut family, mut seen) = (vec![*top], HashSet::from([*top]));
        let mut next = 0;
        while let Some(digest) = family.get(next).copied() {
            next += 1;
            let manifest = self.manifests.get(&digest);
            for child in manifest.into_iter().flat_map(|manifest| manifest.children()) {
                if self.manifests.contains_key(&child.digest) && seen.insert(child.digest) {
                    family.push(child.digest);
                }
            }
        }
        family
    }

    /// Takes a whole image into the catalog: its manifests, and where its blobs lie.
    pub(super) fn admit(&self, top: &Digest, catalog: &mut Catalog) -> Result<(), BundleError> {
        let mut rest = vec![*top];
        while let Some(digest) = rest.pop() {
            let Some(manifest) = self.manifests.get(&digest) else { continue };
            if catalog.manifests.insert(digest, Arc::clone(manifest)).is_some() {
                continue;
            }
            let manifests = manifest.children().iter().filter(|it| self.manifests.contains_key(&it.digest));
            rest.extend(manifests.map(|child| child.digest));
            let is_blob = |it: &&Descriptor| !self.manifests.contains_key(&it.digest) && !it.is_foreign();
            let blobs = manifest.children().iter().filter(is_blob);
            for descriptor in manifest.blobs().chain(blobs) {
                let known = catalog.blobs.get(&descriptor.digest).map(|blob| blob.size);
                if known.is_some_and(|size| size != descriptor.size) {
                    let what = format!("{} is in the bundle with two sizes", descriptor.digest);
                    return Err(BundleError::new(Fault::SizeMismatch, what));
                }
                if known.is_none() {
                    catalog.blobs.insert(descriptor.digest, self.blob(descriptor)?);
                    if let BlobPlace::LeftToBase(_, base) = self.find(descriptor)? {
                        catalog.left_to_base.insert(descriptor.digest, Arc::clone(base));
                    }
                }
            }
        }
        Ok(())
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob, BundleError> {
        let size = descriptor.size;
        let (extent, order) = match self.find(descriptor)? {
            BlobPlace::Inline(bytes, position) => (Extent::new(Arc::new(bytes.clone()), 0, size), *position),
            BlobPlace::LeftToBase(_, base) => {
                let space = LeftToBase { size, base: base.to_string() };
                (Extent::new(Arc::new(space), 0, size), 0)
            }
            BlobPlace::Named(path) => {
                let missing = || BundleError::new(Fault::MissingBlob, format!("{path:?} is not a file"));
                let file = self.tree.file(path)?.ok_or_else(missing)?;
                (self.tree.extent(file)?, file.position)
            }
        };
        Ok(Blob { size, extent, order })
    }

    /// Visits manifests below a folder that no index lists: `docker save` of an image without a name leaves its
    /// manifest among the blobs. Other documents, and manifests that are not whole, are skipped.
    pub(super) fn visit_unlisted(&mut self, folder: &str) -> Result<(), BundleError> {
        let prefix = format!("{folder}blobs/");
        for path in self.tree.below(&prefix) {
            let (Some(digest), Ok(Some(file))) = (digest_of_path(path), self.tree.file(path)) else {
                continue;
            };
            let read = self.manifests.contains_key(&digest) || self.configs.contains_key(&digest);
            if read || file.len > MAX_UNLISTED_BYTES {
                continue;
            }
            let bytes = self.tree.read(file)?;
            let is_image = || Manifest::parse(bytes.clone(), "").is_ok_and(|m| m.children().is_empty());
            if bytes.first() == Some(&b'{') && digest.matches(&bytes) && is_image() {
                let _ = self.visit(&Descriptor::plain(digest, file.len))?;
            }
        }
        Ok(())
    }
}

fn describe(manifest: &Manifest) -> Descriptor {
    let size = manifest.bytes.len() as u64;
    Descriptor { media_type: manifest.media_type.clone(), ..Descriptor::plain(manifest.digest, size) }
}

/// Whether a manifest is of the kind that its descriptor says. Some readers trust the manifest, others the descriptor.
fn agrees(descriptor: &Descriptor, manifest: &Manifest) -> Result<(), BundleError> {
    let stated = &descriptor.media_type;
    if !media_type::is_manifest(stated) || manifest.kind.fits(stated) {
        return Ok(());
    }
    let is = match manifest.kind {
        Kind::Index { .. } => "an index",
        Kind::Image { .. } => "an image",
        Kind::Artifact { .. } => "an artifact",
    };
    let what = format!("it is {is}, and what lists it says that it is of the type {stated}");
    Err(BundleError::new(Fault::Contradiction, what))
}

fn inside(fault: BundleError, manifest: &Manifest) -> BundleError {
    fault.at(format!("manifest {}", manifest.digest))
}

/// Faults of the bytes that a bundle is read from, as against those of one image.
pub(super) fn ends_the_bundle(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::Io
            | Fault::Cancelled
            | Fault::Changed
            | Fault::Truncated
            | Fault::CorruptCompression
            | Fault::CorruptTar
    )
}
