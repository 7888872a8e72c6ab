//! Removes what layercast itself put on a mirror and no kept bundle has.
//!
//! `choice` finds what no kept bundle has; pure. This file looks at each of those tags on the mirror. It removes a tag alone where
//! the registry can do that. A manifest removed by its digest takes all its tags along (distribution up to 2.8 knows nothing
//! else), so that is done only if no other tag, index or referrer in the repository names it; they are read again just before.
//! Everything else stays, with the reason.

mod choice;
mod names;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::reading;
use super::{MirrorSettings, failure};
use crate::archive::LeftOutClass;
use crate::bundle::{Accept, Input, Opener};
use crate::error::BundleError;
use crate::exit::Exit;
use crate::oci::{Repository, Tag};
use crate::plan::{Groups, Plan};
use crate::registry::{Deleted, Registry};
use crate::report::{Failure, Listeners};
use crate::state::PlacedTag;

pub(crate) use choice::{Choice, choose};
use names::RepositoryNames;

/// The judgement on a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TagFate {
    /// It goes; where the registry removes no tags alone, by its digest, which nothing else names.
    Goes,
    /// It goes where the registry removes tags alone. Its digest stays: this names it too.
    TagGoes(String),
    /// It went.
    Gone,
    /// It stays, for this reason.
    Stays(String),
    /// It was to go, and could not be removed, or not looked at.
    Failed(String),
}

/// A tag, and whether it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    pub tag: PlacedTag,
    pub fate: TagFate,
}

/// The names that configured bundles have on each of these mirrors.
///
/// # Errors
/// A bundle, or a part of one, cannot be read, or has no plan for a mirror: what it has is not known then.
pub(crate) async fn configured(
    inputs: Vec<Input>,
    opener: Opener,
    mirrors: &[MirrorSettings],
    accept: Accept,
) -> Result<Vec<HashSet<(Repository, Tag)>>, Failure> {
    let groups = Groups::by_rules(mirrors.iter().map(|mirror| &mirror.rules));
    let reading = reading::read_for_questions(inputs, opener, groups, accept, Listeners::default());
    let (read, met) = reading.await?;
    if let Some(it) = met.left_out.iter().find(|it| it.class == LeftOutClass::Unreadable) {
        let why = format!("{} cannot be read ({})", it.path, it.why);
        return Err(Failure::usage(why).exit(Exit::Incomplete));
    }
    let names = |(settings, plan): (&MirrorSettings, &Result<Arc<Plan>, BundleError>)| {
        let plan = plan.as_ref().map_err(BundleError::clone)?;
        let namespace = settings.target.namespace.as_ref();
        let mut names = HashSet::new();
        for image in &plan.images {
            let repository = image.repository.below(namespace)?;
            names.extend(image.tags.iter().map(|tag| (repository.clone(), tag.clone())));
        }
        Ok(names)
    };
    let names = mirrors.iter().zip(read.plans.by_mirror()).map(names);
    Ok(names.collect::<Result<_, BundleError>>()?)
}

/// Judges each tag, in the order of repositories, and with `act` removes those that go.
///
/// # Errors
/// The mirror cannot be talked to.
pub(crate) async fn prune(
    mirror: MirrorSettings,
    choice: &Choice,
    act: bool,
    cancel: &CancellationToken,
) -> Result<Vec<Judged>, Failure> {
    let connected = Registry::connect(&mirror.target.endpoint, mirror.client).await;
    let registry = connected.map_err(|error| failure::of_connection(&error))?;
    let mut by_repository: BTreeMap<&Repository, Vec<&PlacedTag>> = BTreeMap::new();
    for tag in &choice.unneeded {
        by_repository.entry(&tag.repository).or_default().push(tag);
    }
    let mut judged = Vec::new();
    for (repository, tags) in by_repository {
        let mut names = RepositoryNames::read(&registry, repository).await;
        for tag in tags {
            if cancel.is_cancelled() {
                return Ok(judged);
            }
            if act && !judged.is_empty() {
                // What went before has changed what there is, and others may be at it as well.
                names = RepositoryNames::read(&registry, repository).await;
            }
            let fate = match &names {
                Ok(names) => judge(names, tag, choice),
                Err(failure) => {
                    TagFate::Failed(format!("its repository could not be read: {}", failure.message))
                }
            };
            let fate = match (fate, &names) {
                (fate @ (TagFate::Goes | TagFate::TagGoes(_)), Ok(names)) if act => {
                    let removed = remove(&registry, names, tag, &fate).await;
                    removed.unwrap_or_else(|failure| TagFate::Failed(failure.message))
                }
                (fate, _) => fate,
            };
            judged.push(Judged { tag: tag.clone(), fate });
        }
    }
    Ok(judged)
}

/// Judges a tag by what is in its repository.
fn judge(names: &RepositoryNames, placed: &PlacedTag, choice: &Choice) -> TagFate {
    let Some(tag) = &placed.tag else { return TagFate::Stays("it has no tag".to_owned()) };
    match names.digest_of(tag) {
        None => TagFate::Gone,
        Some(now) if now != placed.digest => {
            TagFate::Stays(format!("it stands for another image now, {now}, which is not what was put there"))
        }
        Some(_) => {
            let kept = choice.kept_digests.contains(&(placed.repository.clone(), placed.digest));
            let named = names.other_name(tag, &placed.digest);
            match named.or_else(|| kept.then(|| "a bundle that is kept".to_owned())) {
                None => TagFate::Goes,
                Some(named) => TagFate::TagGoes(named),
            }
        }
    }
}

/// Removes a tag.
async fn remove(
    registry: &Registry,
    names: &RepositoryNames,
    placed: &PlacedTag,
    fate: &TagFate,
) -> Result<TagFate, Failure> {
    let Some(tag) = &placed.tag else { return Ok(TagFate::Stays("it has no tag".to_owned())) };
    let repository = &placed.repository;
    let deleted = registry.delete_tag(repository, tag).await?;
    let is_there = registry.head_manifest(repository, tag.as_str()).await?.is_some();
    match deleted {
        Deleted::Done | Deleted::Absent if !is_there => {
            return names.check_others(registry, tag, &placed.digest).await.map(|()| TagFate::Gone);
        }
        Deleted::Done => {
            return Ok(TagFate::Failed(
                "the registry says that it removed the tag, and shows it still".to_owned(),
            ));
        }
        // Some know no such request, and say that nothing is there.
        Deleted::Absent | Deleted::Unsupported => {}
    }
    if let TagFate::TagGoes(named) = fate {
        let why = format!("the registry removes no tag alone, and {named} names its digest too");
        return Ok(TagFate::Stays(why));
    }
    // What the tags show is known; what refers to it need not have one.
    if let Some(referrer) = registry.referrers(repository, &placed.digest).await?.first() {
        return Ok(TagFate::Stays(format!("{} refers to it", referrer.digest)));
    }
    // Just before: somebody may have given it another name meanwhile.
    let again = RepositoryNames::read(registry, repository).await?;
    if again.digest_of(tag) != Some(placed.digest) {
        return Ok(TagFate::Stays("it has just been moved".to_owned()));
    }
    if let Some(named) = again.other_name(tag, &placed.digest) {
        return Ok(TagFate::Stays(format!("{named} names its digest too")));
    }
    Ok(match registry.delete_manifest(repository, &placed.digest).await? {
        Deleted::Done | Deleted::Absent => TagFate::Gone,
        Deleted::Unsupported => TagFate::Failed(
            "the registry removes nothing; distribution does with storage.delete.enabled".to_owned(),
        ),
    })
}
