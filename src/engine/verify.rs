//! Checks that every image of the plan is complete on a mirror. Asks the mirror alone; sends nothing.
//!
//! An image that has a manifest in the bundle must be there with that digest. One of a docker-archive must be there with
//! its configuration and as many layers: those are what its digest follows from. `deep` reads every blob back and hashes it.

use crate::locks::Mutex;
use std::collections::HashSet;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

use super::reading::{self, Met, Read};
use super::{MirrorSettings, failure, read_back, start_event};
use crate::archive::Content;
use crate::bundle::{Accept, Bundle, Input, Opener};
use crate::clock::Instant;
use crate::error::{BundleError, Fault};
use crate::oci::manifest::{Kind, MAX_MANIFEST_BYTES};
use crate::oci::{Descriptor, Digest, Manifest, Repository};
use crate::plan::{Groups, Plan, PlannedImage};
use crate::registry::Registry;
use crate::report::outcome::{ImageFailure, Outcome, Phase, Verified, VerifiedImage};
use crate::report::{Class, Event, Failure, Listeners};

/// What helps where a tag stands for another image.
const OTHER_IMAGE: &str = "push again to move the tag to the image of the bundle; or another bundle was pushed since: verify that one";

/// Images asked about at once; blobs of one image are asked about one after the other.
const AT_ONCE: usize = 16;

/// The result of verifying.
#[derive(Debug)]
pub(crate) struct VerifyResult {
    /// What is on each mirror.
    pub outcomes: Vec<Outcome>,
    /// The bundles and their plans.
    pub read: Read,
    /// What was met in the bundles.
    pub met: Met,
}

/// Opens bundles, plans, and checks every image of each mirror's plan there.
///
/// # Errors
/// The bundles cannot be read, or no mirror would get anything of them.
pub(crate) async fn verify(
    inputs: Vec<Input>,
    opener: Opener,
    mirrors: Vec<MirrorSettings>,
    accept: Accept,
    deep: bool,
    listeners: &Listeners,
) -> Result<VerifyResult, BundleError> {
    let groups = Groups::by_rules(mirrors.iter().map(|mirror| &mirror.rules));
    listeners.emit(&start_event(&mirrors));
    let (read, met) = reading::read_for_questions(inputs, opener, groups, accept, listeners.clone()).await?;
    let images = read.plans.by_mirror().map(|plan| plan.as_ref().map_or(0, |plan| plan.images.len()));
    let images: Vec<usize> = images.collect();
    listeners.emit(&Event::Planned { bytes: vec![0; images.len()], images });
    let outcomes = mirrors_of(&read, mirrors, accept, deep, listeners).await;
    Ok(VerifyResult { outcomes, read, met })
}

/// The same for bundles that are open.
pub(crate) async fn mirrors_of(
    read: &Read,
    mirrors: Vec<MirrorSettings>,
    accept: Accept,
    deep: bool,
    listeners: &Listeners,
) -> Vec<Outcome> {
    let checks = mirrors.into_iter().zip(read.plans.by_mirror()).enumerate();
    join_all(checks.map(|(number, (settings, plan))| async move {
        match plan {
            Ok(plan) => {
                let events = MirrorEvents { number, listeners };
                mirror(&read.bundle, plan, accept, settings, deep, events).await.settled()
            }
            Err(error) => Outcome { error: Some(Failure::from(error)), ..Outcome::new(settings.name) },
        }
    }))
    .await
}

async fn mirror(
    bundle: &Bundle,
    plan: &Plan,
    accept: Accept,
    settings: MirrorSettings,
    deep: bool,
    events: MirrorEvents<'_>,
) -> Outcome {
    let started = Instant::now();
    events.begun();
    let mut outcome = Outcome::new(settings.name.clone());
    outcome.images = plan.images.len();
    match Registry::connect(&settings.target.endpoint, settings.client).await {
        Err(error) => outcome.error = Some(failure::of_connection(&error)),
        Ok(registry) => {
            events.connected();
            let check = MirrorCheck { registry, bundle, accept, deep, seen: Mutex::default() };
            let namespace = settings.target.namespace;
            let checks = plan.images.iter().map(|planned| async {
                let checked = check.image(planned, namespace.as_ref()).await;
                events.checked(planned, &checked);
                checked
            });
            let results: Vec<_> = stream::iter(checks).buffered(AT_ONCE).collect().await;
            for (planned, result) in plan.images.iter().zip(results) {
                match result {
                    Ok(digest) => {
                        outcome.images_complete += 1;
                        outcome.images_verified.push(VerifiedImage {
                            image: planned.name.clone(),
                            place: planned.place(namespace.as_ref()),
                            digest,
                            verified: if deep { Verified::Pull } else { Verified::Head },
                        });
                    }
                    Err(failure) => outcome.images_failed.push(ImageFailure {
                        image: planned.name.clone(),
                        place: planned.place(namespace.as_ref()),
                        digest: planned.content.manifest_digest(),
                        phase: Phase::Verify,
                        failure,
                    }),
                }
            }
            outcome.blobs_skipped = check.seen.into_inner().len() as u64;
        }
    }
    outcome.images_unchanged = outcome.images_complete;
    outcome.elapsed_seconds = started.elapsed().as_secs_f64();
    events.finished(&outcome, started);
    outcome
}

/// Says what happens on one mirror.
#[derive(Clone, Copy)]
struct MirrorEvents<'a> {
    number: usize,
    listeners: &'a Listeners,
}

impl MirrorEvents<'_> {
    fn begun(self) {
        self.listeners.emit(&Event::Begun { mirror: self.number });
    }

    fn connected(self) {
        self.listeners.emit(&Event::Connected { mirror: self.number });
    }

    fn checked(self, planned: &PlannedImage, checked: &Result<Option<Digest>, Failure>) {
        let (mirror, image) = (self.number, planned.name.clone());
        self.listeners.emit(&match checked {
            Ok(_) => Event::ImageWhole { mirror, image, already: true },
            Err(failure) => Event::ImageFailed {
                mirror,
                image,
                class: failure.class,
                why: failure.message.clone(),
                cause: failure.cause.clone().unwrap_or_else(|| failure.class.to_string()),
            },
        });
    }

    fn finished(self, outcome: &Outcome, started: Instant) {
        self.listeners.emit(&Event::Finished {
            mirror: self.number,
            complete: outcome.images_complete,
            failed: outcome.images_failed.len(),
            failure: outcome.error.clone(),
            took: started.elapsed(),
        });
    }
}

struct MirrorCheck<'a> {
    registry: Registry,
    bundle: &'a Bundle,
    accept: Accept,
    deep: bool,
    /// Blobs found whole, by repository: images share them.
    seen: Mutex<HashSet<(Repository, Digest)>>,
}

impl MirrorCheck<'_> {
    /// The digest that a complete image has there.
    async fn image(
        &self,
        planned: &PlannedImage,
        namespace: Option<&Repository>,
    ) -> Result<Option<Digest>, Failure> {
        let repository = planned.repository.below(namespace)?;
        let tags: Vec<String> = planned.tags.iter().map(ToString::to_string).collect();
        let by_digest = match &planned.content {
            Content::Manifest(root) if tags.is_empty() => vec![root.to_string()],
            _ => Vec::new(),
        };
        if tags.is_empty() && by_digest.is_empty() && planned.digests.is_empty() {
            let message = "it has neither a tag nor a manifest in the bundle, so there is nothing to ask the mirror for";
            return Err(Failure {
                hint: Some("name it: --name REPOSITORY:TAG".to_owned()),
                ..Failure::new(Class::Unverifiable, message)
            });
        }
        let mut found = planned.content.manifest_digest();
        for reference in tags.iter().chain(&by_digest) {
            let root = self.manifest(&repository, reference, &planned.content).await?;
            Self::is_the_bundles(planned, reference, &root)?;
            found = Some(root.digest);
            self.whole(&repository, root).await?;
        }
        if let Some(error) = &planned.shortfall {
            return Err(Failure::from(error));
        }
        // A name that carries a digest promises that it can be pulled by it.
        for digest in planned.digests.iter().filter(|_| !self.accept.digest_lost) {
            let asked = self.registry.head_manifest(&repository, &digest.to_string()).await;
            if asked.map_err(|error| Failure::from(&error))?.is_none() {
                let what = format!("{}: the mirror has no {repository}@{digest}", planned.name);
                return Err(Failure::from(&BundleError::new(Fault::DigestLost, what)));
            }
        }
        Ok(found)
    }

    fn is_the_bundles(planned: &PlannedImage, reference: &str, found: &Manifest) -> Result<(), Failure> {
        match (&planned.content, &found.kind) {
            (Content::Manifest(root), _) if found.digest == *root => Ok(()),
            (Content::Manifest(root), _) => Err(Failure::new(
                Class::Stale,
                format!("{reference} is {}, the bundle has {root}", found.digest),
            )
            .hint(OTHER_IMAGE)),
            (Content::Unpacked(image), Kind::Image { config, layers })
                if config.digest == image.config_digest && layers.len() == image.layers.len() =>
            {
                Ok(())
            }
            (Content::Unpacked(image), _) => Err(Failure::new(
                Class::Stale,
                format!(
                    "{reference} is another image than the bundle's (configuration {})",
                    image.config_digest
                ),
            )
            .hint(OTHER_IMAGE)),
        }
    }

    /// Everything below a manifest. The depth is bounded by what the registry takes and by the set of what was seen.
    async fn whole(&self, repository: &Repository, root: Manifest) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        let mut waiting = vec![root];
        while let Some(manifest) = waiting.pop() {
            if !seen.insert(manifest.digest) {
                continue;
            }
            for child in manifest.children() {
                if self.bundle.catalog.lists_as_blob(&child.digest) {
                    self.blob(repository, child).await?;
                    continue;
                }
                // What the bundle lacks by intent (a sparse index never is pushed) the mirror must not lack.
                let content = Content::Manifest(child.digest);
                waiting.push(self.manifest(repository, &child.digest.to_string(), &content).await?);
            }
            for blob in manifest.blobs() {
                self.blob(repository, blob).await?;
            }
        }
        Ok(())
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &str,
        expected: &Content,
    ) -> Result<Manifest, Failure> {
        if let Ok(digest) = reference.parse::<Digest>()
            && !self.deep
            && let Some(known) = self.bundle.catalog.manifests.get(&digest)
        {
            let head = self
                .registry
                .head_manifest(repository, reference)
                .await
                .map_err(|error| Failure::from(&error))?;
            return match head {
                Some(_) => Ok(Manifest::clone(known)),
                None => Err(missing(repository, reference)),
            };
        }
        let got = self.registry.get_manifest(repository, reference, MAX_MANIFEST_BYTES).await;
        let Some(got) = got.map_err(|error| Failure::from(&error))? else {
            return Err(missing(repository, reference));
        };
        // What is the bundle's, byte for byte, is what the bundle says, whatever digest the mirror calls it by.
        if let Content::Manifest(digest) = expected
            && let Some(known) = self.bundle.catalog.manifests.get(digest)
            && known.bytes == got.bytes
        {
            return Ok(Manifest::clone(known));
        }
        let manifest = Manifest::parse(got.bytes, &got.media_type);
        // What the mirror sends says nothing of the bundle.
        let manifest = manifest.map_err(|error| no_manifest(repository, reference, &error))?;
        match reference.parse::<Digest>() {
            Ok(digest) if !digest.matches(&manifest.bytes) => Err(Failure::new(
                Class::Integrity,
                format!("{repository}@{reference}: other bytes came back"),
            )),
            _ => Ok(manifest),
        }
    }

    async fn blob(&self, repository: &Repository, blob: &Descriptor) -> Result<(), Failure> {
        let key = (repository.clone(), blob.digest);
        if self.seen.lock().contains(&key) {
            return Ok(());
        }
        let found = if self.deep {
            read_back::blob(&self.registry, repository, &blob.digest, blob.size).await
        } else {
            self.registry.head_blob(repository, &blob.digest).await
        };
        match found.map_err(|error| Failure::from(&error))? {
            Some(size) if size == blob.size => {
                self.seen.lock().insert(key);
                Ok(())
            }
            Some(size) => Err(Failure::new(
                Class::Integrity,
                format!("{repository}@{}: has {size} bytes, the manifest says {}", blob.digest, blob.size),
            )),
            None => Err(missing(repository, &blob.digest.to_string())),
        }
    }
}

/// The mirror sent something else than a manifest: a login page, or what a proxy says.
fn no_manifest(repository: &Repository, reference: &str, error: &BundleError) -> Failure {
    let message = format!("{repository}:{reference}: what the registry sent is no manifest: {error}");
    Failure::new(Class::Registry, message)
        .hint("is it a registry, and not a web page or a proxy with a login before it? Ask it with curl")
}

fn missing(repository: &Repository, what: &str) -> Failure {
    Failure {
        hint: Some("push again with --recheck: what is missing is sent, and nothing else; or verify as it was pushed, if that was with another namespace, --keep-host, --rewrite or --repository".to_owned()),
        ..Failure::new(Class::Missing, format!("{repository} lacks {what}"))
    }
}
