//! From the name of an image to everything a node would fetch for it, many images at once.

use std::collections::{BTreeMap, HashSet};

use futures_util::{StreamExt as _, stream};

use super::asker::Asker;
use super::decision::{CheckedImage, Other, PullDecision, Seen, verdict};
use super::failover::{ContentAddress, Miss, Question, ServedContent, Settled, is_manifest};
use super::{CheckOptions, Expected, ImageToCheck};
use crate::oci::manifest::Kind;
use crate::oci::{Descriptor, Digest, Manifest, Reference, Repository};

/// Names checked at once, and blobs of one of them.
const NAMES_AT_ONCE: usize = 8;
const BLOBS_AT_ONCE: usize = 4;

/// Checks every image, by tag and by digest. The verdicts come in the order of the images.
///
/// Images of an upstream that `settings` does not have are an error of the caller and get the verdict that they fail.
pub(crate) async fn run(images: &[ImageToCheck], settings: &CheckOptions) -> Vec<CheckedImage> {
    let mut askers: BTreeMap<&str, Result<Asker<'_>, String>> = BTreeMap::new();
    for image in images {
        if let Some(upstream) = settings.upstreams.get(&image.name.host) {
            askers.entry(&image.name.host).or_insert_with(|| Asker::new(upstream, settings));
        }
    }
    let ways = images.iter().flat_map(ways);
    let checks = ways.map(|way| {
        let asker = askers.get(way.host.as_str());
        async move {
            let verdict = match asker {
                Some(Ok(asker)) => Walk { asker, settings, way: &way, seen: Vec::new() }.verdict().await,
                Some(Err(why)) => PullDecision::Fail {
                    because: vec![format!("{why}: containerd ends the pull before it asks any host")],
                },
                None => PullDecision::Fail { because: vec![format!("nothing is known of {}", way.host)] },
            };
            CheckedImage { image: way.to_string(), verdict }
        }
    });
    stream::iter(checks).buffered(NAMES_AT_ONCE).collect().await
}

/// One way to ask for an image.
#[derive(Debug)]
struct PullRoute {
    host: String,
    repository: Repository,
    /// A tag or a digest.
    reference: String,
    by: By,
    expected: Expected,
}

#[derive(Debug, Clone, Copy)]
enum By {
    Tag,
    Digest(Digest),
}

impl std::fmt::Display for PullRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if matches!(self.by, By::Tag) { ':' } else { '@' };
        write!(f, "{}/{}{sign}{}", self.host, self.repository, self.reference)
    }
}

fn ways(image: &ImageToCheck) -> Vec<PullRoute> {
    let Reference { host, repository, tag, digest } = &image.name;
    let way = |reference: String, by: By| PullRoute {
        host: host.clone(),
        repository: repository.clone(),
        reference,
        by,
        expected: image.expected.clone(),
    };
    // With both, containerd asks by the digest alone.
    let digest = digest.or(match image.expected {
        Expected::Manifest(digest) => Some(digest),
        _ => None,
    });
    let by_tag = tag.as_ref().filter(|_| image.name.digest.is_none());
    let default = (tag.is_none() && digest.is_none()).then(|| "latest".to_owned());
    by_tag
        .map(ToString::to_string)
        .or(default)
        .map(|tag| way(tag, By::Tag))
        .into_iter()
        .chain(digest.map(|digest| way(digest.to_string(), By::Digest(digest))))
        .collect()
}

/// One name on its way.
struct Walk<'a> {
    asker: &'a Asker<'a>,
    settings: &'a CheckOptions,
    way: &'a PullRoute,
    seen: Vec<Seen>,
}

impl Walk<'_> {
    async fn verdict(mut self) -> PullDecision {
        let root = self.resolve().await;
        let mut other = None;
        if let Some((root, media_type)) = root {
            other = self.follow(root, &media_type).await;
        }
        let upstream = self.asker.upstream;
        verdict(&upstream.name, &upstream.hosts, &self.seen, other.as_ref())
    }

    /// What the name stands for.
    async fn resolve(&mut self) -> Option<(ContentAddress, String)> {
        let (question, what) = match self.way.by {
            By::Tag => (Question::Tag, format!("tag {}", self.way.reference)),
            By::Digest(digest) => (Question::Digest(digest), format!("digest {digest}")),
        };
        let settled = self.asker.settle(&self.way.repository, question, &self.way.reference).await;
        let served = match &settled {
            Settled::Served { by, found, .. } => Some((*by, found.clone())),
            Settled::Ended { .. } => None,
        };
        self.seen.push(Seen { what, settled });
        let (by, found) = served?;
        if !is_manifest(&found.media_type) {
            let why = format!(
                "{}: the manifest of {} is served as {:?}, which containerd does not take for one",
                self.asker.upstream.hosts[by].node.authority, self.way, found.media_type
            );
            self.lost(by, why);
            return None;
        }
        let digest = match (self.way.by, found.digest.as_deref().and_then(|text| text.parse().ok())) {
            (By::Digest(digest), _) => Some(digest),
            (By::Tag, Some(digest)) if found.size.is_some() => Some(digest),
            // Told too little, containerd fetches the manifest from the same host and takes its digest.
            (By::Tag, _) => self.digest_of_tag(by).await,
        };
        Some((ContentAddress { digest: digest?, size: found.size }, found.media_type))
    }

    async fn digest_of_tag(&mut self, by: usize) -> Option<Digest> {
        match self.asker.digest_of_tag(by, &self.way.repository, &self.way.reference).await {
            Ok(digest) => Some(digest),
            Err(why) => {
                self.lost(by, why);
                None
            }
        }
    }

    fn lost(&mut self, host: usize, why: String) {
        let settled = Settled::Ended { misses: vec![Miss { host, why }] };
        self.seen.push(Seen { what: self.way.to_string(), settled });
    }

    /// Everything below the root. Tells if the root is not the expected one.
    async fn follow(&mut self, root: ContentAddress, media_type: &str) -> Option<Other> {
        let mut other = match &self.way.expected {
            Expected::Manifest(wanted) if *wanted != root.digest => {
                Some(Other { found: root.digest, wanted: *wanted })
            }
            _ => None,
        };
        let mut known = HashSet::new();
        let mut waiting = vec![(root, media_type.to_owned())];
        while let Some((content, media_type)) = waiting.pop() {
            if !known.insert(content.digest) {
                continue;
            }
            let Some((by, found)) = self.fetch(content).await else { continue };
            let bytes = found.body.unwrap_or_default();
            let manifest = match Manifest::parse(bytes, &media_type) {
                Ok(manifest) => manifest,
                Err(error) => {
                    self.lost(by, format!("{}: {error}", content.digest));
                    continue;
                }
            };
            if let (Expected::Image { config, layers }, true) = (&self.way.expected, content == root) {
                other = is_other(&manifest, config, *layers);
            }
            let children =
                manifest.children().iter().filter(|child| is_pulled(child, &self.settings.platforms));
            waiting.extend(children.map(|child| (content_of(child), child.media_type.clone())));
            self.blobs(&manifest).await;
        }
        other
    }

    async fn fetch(&mut self, content: ContentAddress) -> Option<(usize, ServedContent)> {
        let (reference, what) = (content.digest.to_string(), format!("manifest {}", content.digest));
        let settled = self.asker.settle(&self.way.repository, Question::Manifest(content), &reference).await;
        let served = match &settled {
            Settled::Served { by, found, .. } => Some((*by, found.clone())),
            Settled::Ended { .. } => None,
        };
        self.seen.push(Seen { what, settled });
        served
    }

    async fn blobs(&mut self, manifest: &Manifest) {
        let questions = manifest.blobs().map(|blob| {
            let (asker, repository, content) = (self.asker, &self.way.repository, content_of(blob));
            async move {
                let reference = content.digest.to_string();
                let settled = asker.settle(repository, Question::Blob(content), &reference).await;
                Seen { what: format!("blob {reference}"), settled }
            }
        });
        let seen: Vec<Seen> = stream::iter(questions).buffered(BLOBS_AT_ONCE).collect().await;
        self.seen.extend(seen);
    }
}

/// Whether a node of one of the platforms (of any, if none is named) would pull this child of an index.
pub(super) fn is_pulled(child: &Descriptor, wanted: &[String]) -> bool {
    let Some(platform) = child.platform.as_ref().filter(|_| !wanted.is_empty()) else { return true };
    let (short, long) = (format!("{}/{}", platform.os, platform.architecture), platform.to_string());
    wanted.iter().any(|name| *name == short || *name == long)
}

fn content_of(descriptor: &Descriptor) -> ContentAddress {
    ContentAddress { digest: descriptor.digest, size: Some(descriptor.size) }
}

/// An image of a docker-archive is known by its configuration and how many layers it has.
fn is_other(manifest: &Manifest, wanted: &Digest, wanted_layers: usize) -> Option<Other> {
    match &manifest.kind {
        Kind::Image { config, layers } if config.digest == *wanted && layers.len() == wanted_layers => None,
        Kind::Image { config, .. } => Some(Other { found: config.digest, wanted: *wanted }),
        Kind::Index { .. } | Kind::Artifact { .. } => Some(Other { found: manifest.digest, wanted: *wanted }),
    }
}
