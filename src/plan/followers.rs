//! Images that need no name of their own, because they belong to another one: signatures, attestations and SBOMs of
//! cosign, manifests about another one (`subject`), and what is listed beside the index that holds it.
//!
//! In: the catalog, and the places of the images that have names. Out: the places of the others.

use std::collections::{HashMap, HashSet};

use super::naming::{Destination, Naming};
use super::{Closure, Draft};
use crate::archive::{Catalog, Content, Image};
use crate::oci::{Digest, Repository, Tag};

/// The images of a catalog that go where others go.
pub(super) struct Followers<'c> {
    catalog: &'c Catalog,
    /// In the order of the bundle.
    all: Vec<SubjectFollower>,
    /// Those that have no other place, by their positions in the catalog.
    unnamed: HashSet<usize>,
}

/// An image that goes wherever its subject goes.
struct SubjectFollower {
    image: usize,
    digest: Digest,
    subject: Digest,
    /// The tag that it gets there.
    tag: Option<Tag>,
}

impl<'c> Followers<'c> {
    /// Finds them. One that is given a name is no follower.
    pub(super) fn of(catalog: &'c Catalog, naming: &Naming) -> Self {
        let mut found = Self { catalog, all: Vec::new(), unnamed: HashSet::new() };
        let parts = parts(catalog, naming);
        for (image, it) in catalog.images.iter().enumerate() {
            let Content::Manifest(digest) = it.content else { continue };
            let is_unnamed = it.names.is_empty() && !naming.names_exactly(it);
            if let Some(attachment) = &it.attachment {
                let tag = attachment.tag();
                found.all.push(SubjectFollower { image, digest, subject: attachment.subject, tag });
                found.unnamed.extend(is_unnamed.then_some(image));
            } else if is_unnamed && let Some(subject) = subject_here(catalog, &digest) {
                found.all.push(SubjectFollower { image, digest, subject, tag: None });
                found.unnamed.insert(image);
            } else if is_unnamed && parts.contains(&digest) {
                found.unnamed.insert(image);
            }
        }
        found
    }

    /// Whether an image has no place but that of another one.
    pub(super) fn has(&self, image: usize) -> bool {
        self.unnamed.contains(&image)
    }

    /// Their places, given those of the images with names, and how many have none. Followers may have followers, so places
    /// are handed on until none is new.
    pub(super) fn places(&self, named: &[Draft]) -> (Vec<Draft>, usize) {
        let mut homes: HashMap<Digest, Vec<Repository>> = HashMap::new();
        for draft in named {
            let Content::Manifest(root) = &draft.content else { continue };
            let held = Closure::of(self.catalog, root).manifests.into_iter().chain(draft.stands_for);
            for digest in held {
                homes.entry(digest).or_default().push(draft.place.repository.clone());
            }
        }
        let mut drafts = Vec::new();
        let mut waiting: Vec<&SubjectFollower> = self.all.iter().collect();
        loop {
            let before = waiting.len();
            waiting.retain(|follower| {
                let Some(repositories) = homes.get(&follower.subject).cloned() else { return true };
                let mut seen = HashSet::new();
                for repository in repositories.iter().filter(|it| seen.insert(*it)) {
                    drafts.push(self.draft(follower, repository));
                }
                homes.entry(follower.digest).or_default().extend(repositories);
                false
            });
            if waiting.len() == before {
                return (drafts, waiting.len());
            }
        }
    }

    fn draft(&self, follower: &SubjectFollower, repository: &Repository) -> Draft {
        let name = match &follower.tag {
            Some(tag) => format!("{repository}:{tag}"),
            None => format!("{repository}@{}", follower.digest),
        };
        Draft {
            place: Destination {
                name,
                repository: repository.clone(),
                tag: follower.tag.clone(),
                digest: None,
            },
            content: Content::Manifest(follower.digest),
            digests: Vec::new(),
            shortfall: None,
            stands_for: None,
            unit: self.catalog.images[follower.image].unit.clone(),
            archive: self.catalog.images[follower.image].archive(),
        }
    }
}

/// The subject of a manifest, where the bundle has it.
fn subject_here(catalog: &Catalog, digest: &Digest) -> Option<Digest> {
    let subject = catalog.manifests.get(digest)?.subject.as_ref()?.digest;
    catalog.manifests.contains_key(&subject).then_some(subject)
}

/// The manifests that images with names consist of: layouts of oras list the platforms of an index beside it.
fn parts(catalog: &Catalog, naming: &Naming) -> HashSet<Digest> {
    let is_named = |image: &&Image| !image.names.is_empty() || naming.names_exactly(image);
    if catalog.images.iter().all(|image| is_named(&image)) {
        return HashSet::new();
    }
    let named = catalog.images.iter().filter(is_named);
    let roots = named.filter_map(|image| match &image.content {
        Content::Manifest(root) => Some(root),
        Content::Unpacked(_) => None,
    });
    roots.flat_map(|root| Closure::of(catalog, root).manifests).collect()
}
