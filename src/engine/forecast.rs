//! What a push would do on a mirror. Asks the same questions as a push, and sends nothing.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::MirrorSettings;
use super::failure;
use super::mirror::probe;
use super::reading::{self, Met};
use crate::archive::{Content, Unpacked};
use crate::bundle::{Accept, Bundle, Input, Opener};
use crate::error::BundleError;
use crate::oci::manifest::{Kind, MAX_MANIFEST_BYTES};
use crate::oci::{Digest, Manifest, Repository, Tag};
use crate::plan::{Closure, Groups, Plan, PlannedImage};
use crate::registry::{Registry, RegistryError};
use crate::report::document::{Action, Forecast, ImageForecast, Replacement};
use crate::report::{Failure, Listeners};

/// Questions in flight.
const AT_ONCE: usize = 16;

/// Opens the bundles, makes the plans, and asks every mirror about each image of its plan.
///
/// # Errors
/// The bundles cannot be read, or no mirror would get anything of them.
pub(crate) async fn forecast(
    inputs: Vec<Input>,
    opener: Opener,
    mirrors: Vec<MirrorSettings>,
    accept: Accept,
) -> Result<(Vec<Forecast>, Met), BundleError> {
    let groups = Groups::by_rules(mirrors.iter().map(|mirror| &mirror.rules));
    let (read, met) =
        reading::read_for_questions(inputs, opener, groups, accept, Listeners::default()).await?;
    let asked = mirrors.into_iter().zip(read.plans.by_mirror());
    let asked = asked.map(|(settings, plan)| mirror(&read.bundle, plan, settings));
    Ok((join_all(asked).await, met))
}

/// The repositories that each mirror would get images in, with its namespace, each once; and the bundle. No mirror is asked.
///
/// # Errors
/// The bundles cannot be read, or no mirror would get anything of them.
pub(crate) async fn repositories(
    inputs: Vec<Input>,
    opener: Opener,
    mirrors: &[MirrorSettings],
    accept: Accept,
) -> Result<(Vec<Vec<Repository>>, Arc<Bundle>), BundleError> {
    let groups = Groups::by_rules(mirrors.iter().map(|mirror| &mirror.rules));
    let (read, _) = reading::read_for_questions(inputs, opener, groups, accept, Listeners::default()).await?;
    let of_mirror = |(settings, plan): (&MirrorSettings, &Result<Arc<Plan>, BundleError>)| {
        let images = plan.as_ref().map_or(&[][..], |plan| &plan.images);
        let namespace = settings.target.namespace.as_ref();
        let below = images.iter().filter_map(|image| image.repository.below(namespace).ok());
        let all: BTreeSet<String> = below.map(|repository| repository.to_string()).collect();
        all.iter().filter_map(|repository| repository.parse().ok()).collect()
    };
    Ok((mirrors.iter().zip(read.plans.by_mirror()).map(of_mirror).collect(), read.bundle))
}

async fn mirror(
    bundle: &Bundle,
    plan: &Result<Arc<Plan>, BundleError>,
    settings: MirrorSettings,
) -> Forecast {
    let name = settings.name.clone();
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return Forecast::failed(name, Failure::from(error)),
    };
    match ask(bundle, plan, settings).await {
        Err(failure) => Forecast::failed(name, failure),
        Ok(asked) => sum(name, asked),
    }
}

/// An image with the blobs that would be sent for it.
struct ImageCost {
    image: ImageForecast,
    missing: Vec<(Digest, u64)>,
}

fn sum(name: String, asked: Vec<ImageCost>) -> Forecast {
    let mut sent = HashSet::new();
    let missing = asked.iter().flat_map(|asked| &asked.missing);
    let bytes_to_send = missing.filter(|blob| sent.insert(blob.0)).map(|blob| blob.1).sum();
    let bytes_are_exact = asked.iter().all(|asked| asked.image.action != Action::Compress);
    Forecast {
        name,
        error: None,
        images: asked.into_iter().map(|asked| asked.image).collect(),
        bytes_to_send,
        bytes_are_exact,
    }
}

async fn ask(bundle: &Bundle, plan: &Plan, settings: MirrorSettings) -> Result<Vec<ImageCost>, Failure> {
    let namespace = settings.target.namespace.as_ref();
    // Of what is unpacked the manifest is asked for, and not whether it is there.
    let first = plan.images.first().filter(|planned| planned.content.manifest_digest().is_some());
    let question = first.and_then(|planned| probe::first_question(planned, namespace));
    let registry = Registry::connect_asking(&settings.target.endpoint, settings.client, question).await;
    let registry = registry.map_err(|error| failure::of_connection(&error))?;
    let asked = plan.images.iter().map(|planned| image(&registry, bundle, planned, namespace));
    let asked: Result<Vec<ImageCost>, RegistryError> =
        stream::iter(asked).buffered(AT_ONCE).try_collect().await;
    asked.map_err(Failure::from)
}

async fn image(
    registry: &Registry,
    bundle: &Bundle,
    planned: &PlannedImage,
    namespace: Option<&Repository>,
) -> Result<ImageCost, RegistryError> {
    let place = planned.place(namespace);
    let repository = planned.repository.below(namespace)?;
    let mut replaces = Vec::new();
    let (action, missing) = match &planned.content {
        Content::Unpacked(unpacked) => match others(registry, &repository, &planned.tags, unpacked).await? {
            Some(others) => {
                replaces.extend(others.into_iter().map(|(tag, from)| (tag, from.to_string())));
                let layers = unpacked.layers.iter().map(|layer| (layer.diff_id, layer.size));
                (Action::Compress, layers.collect())
            }
            None => (Action::Unchanged, Vec::new()),
        },
        Content::Manifest(root) => {
            let presence = probe::image(registry, &repository, &planned.tags, root).await?;
            let moves = presence.tags_to_move.iter();
            replaces.extend(moves.filter_map(|moved| Some((moved.tag.clone(), moved.replaced()?))));
            match (presence.whole, presence.tags_to_move.is_empty()) {
                (true, true) => (Action::Unchanged, Vec::new()),
                (true, false) => (Action::Tag, Vec::new()),
                (false, _) => {
                    (Action::Push, missing(registry, &repository, &Closure::of(&bundle.catalog, root)).await?)
                }
            }
        }
    };
    let missing_bytes = missing.iter().map(|blob: &(Digest, u64)| blob.1).sum();
    let (name, missing_blobs) = (planned.name.clone(), missing.len());
    let to = match planned.content {
        Content::Manifest(root) => Some(root),
        Content::Unpacked(_) => None,
    };
    let moved = |(tag, from)| Replacement { place: planned.place_of(namespace, &tag), from, to };
    let replaces = replaces.into_iter().map(moved).collect();
    let shortfall = planned.shortfall.as_ref().map(Failure::from);
    let image = ImageForecast { name, place, action, replaces, shortfall, missing_blobs, missing_bytes };
    Ok(ImageCost { image, missing })
}

/// None if every tag names an image of this configuration with as many layers, which is what a docker-archive's digest
/// follows from; else the tags that name another image.
async fn others(
    registry: &Registry,
    repository: &Repository,
    tags: &[Tag],
    image: &Unpacked,
) -> Result<Option<Vec<(Tag, Digest)>>, RegistryError> {
    let (mut others, mut all_there) = (Vec::new(), !tags.is_empty());
    for tag in tags {
        let Some(stored) = registry.get_manifest(repository, tag.as_str(), MAX_MANIFEST_BYTES).await? else {
            all_there = false;
            continue;
        };
        let digest = Digest::of(&stored.bytes);
        let same =
            Manifest::parse(stored.bytes, &stored.media_type).is_ok_and(|manifest| match &manifest.kind {
                Kind::Image { config, layers } => {
                    config.digest == image.config_digest && layers.len() == image.layers.len()
                }
                Kind::Index { .. } | Kind::Artifact { .. } => false,
            });
        if !same {
            others.push((tag.clone(), digest));
        }
    }
    Ok((!all_there || !others.is_empty()).then_some(others))
}

async fn missing(
    registry: &Registry,
    repository: &Repository,
    closure: &Closure,
) -> Result<Vec<(Digest, u64)>, RegistryError> {
    let asked = closure.blobs.iter().map(|blob| async move {
        let there = registry.head_blob(repository, &blob.digest).await? == Some(blob.size);
        Ok::<_, RegistryError>((!there).then_some((blob.digest, blob.size)))
    });
    let answers: Vec<Option<(Digest, u64)>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}
