//! What goes where: catalog × naming rules → an ordered list of images for every mirror. Pure, no I/O.
//!
//! In: a [`Catalog`] and [`Rules`]. Out: a [`Plan`] that names a repository and tags for each image, or the one reason
//! why nothing may be sent: a name that is missing, not valid, or claimed by two different images.

pub mod graph;
pub mod naming;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use globset::GlobSet;

use crate::archive::{Catalog, Content, ContentKey, Image, ImageName};
use crate::error::{BundleError, Fault};
use crate::oci::{Digest, Repository, Tag};

pub use graph::Closure;
pub use naming::{Naming, Rewrite};

/// What the user decided about names and the choice of images.
#[derive(Debug, Default)]
pub struct Rules {
    /// How the bundle's names become names on a mirror.
    pub naming: Naming,
    /// Only images whose name matches; all when empty.
    pub include: GlobSet,
    /// Not these.
    pub exclude: GlobSet,
    /// Which of two different images wins a name.
    pub on_conflict: OnConflict,
}

/// Which of two different images wins a name.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Neither: nothing is sent.
    #[default]
    Refuse,
    /// The one that comes first in the bundle.
    First,
    /// The one that comes last.
    Last,
}

/// The images to push, in the order of the bundle. Repositories are without the namespace of a mirror.
#[derive(Debug, Default, Clone)]
pub struct Plan {
    /// The images.
    pub images: Vec<PlannedImage>,
    /// Names left out by `--include` and `--exclude`.
    pub left_out: usize,
    /// What people should know.
    pub notes: Vec<String>,
}

/// One image with its place on a mirror.
#[derive(Debug, Clone)]
pub struct PlannedImage {
    /// The name in the bundle, for people and reports.
    pub name: String,
    /// Where it goes, below the mirror's namespace.
    pub repository: Repository,
    /// The tags it gets; none for what is pushed by digest alone (referrers).
    pub tags: Vec<Tag>,
    /// What it is made of.
    pub content: Content,
}

impl PlannedImage {
    /// The name on a mirror with this namespace, as `ns/path:tag` for the first tag.
    pub fn place(&self, namespace: Option<&Repository>) -> String {
        let namespace = namespace.map(|ns| format!("{ns}/")).unwrap_or_default();
        let tag = self.tags.first().map(|tag| format!(":{tag}")).unwrap_or_default();
        format!("{namespace}{}{tag}", self.repository)
    }
}

impl Plan {
    /// Gives every image of the catalog its place.
    ///
    /// # Errors
    /// [`Fault::NoName`], [`Fault::BadReference`] or [`Fault::Conflict`]: nothing may be sent.
    pub fn new(catalog: &Catalog, rules: &Rules) -> Result<Self, BundleError> {
        let mut drafts = Vec::new();
        let mut plan = Self::default();
        let referrers = Referrers::of(catalog);
        rules.naming.check(catalog, &referrers.followers)?;
        for (index, image) in catalog.images.iter().enumerate() {
            if referrers.followers.contains(&index) {
                continue;
            }
            for place in rules.naming.places(image)? {
                if rules.chooses(&place.name) {
                    drafts.push(Draft { place, content: image.content.clone() });
                } else {
                    plan.left_out += 1;
                }
            }
        }
        plan.notes.extend(rules.naming.unused(catalog));
        let drafts = settle_conflicts(drafts, catalog, rules.on_conflict, &mut plan.notes)?;
        plan.images = join_tags(drafts);
        let followers = referrers.places(catalog, &plan.images);
        plan.images.extend(followers);
        Ok(plan)
    }
}

/// The images of a part of the bundle with the places they will have unless the whole bundle says otherwise: it may give
/// a name twice, or name an image once more. Nothing may be made public by this. An image whose place is not certain
/// by itself is left for the plan.
pub fn early(part: &Catalog, rules: &Rules) -> Vec<PlannedImage> {
    // What refers to another image may need a tag of its own, and tags wait.
    let refers = |image: &Image| match &image.content {
        Content::Manifest(root) => {
            let manifests = Closure::of(part, root).manifests;
            manifests.iter().any(|digest| part.manifests.get(digest).is_some_and(|it| it.subject.is_some()))
        }
        Content::Unpacked(_) => false,
    };
    let named = part.images.iter().filter(|image| !image.names.is_empty() && !refers(image));
    let drafts = named.flat_map(|image| {
        let places = rules.naming.places(image).unwrap_or_default().into_iter();
        let chosen = places.filter(|place| rules.chooses(&place.name));
        chosen.map(|place| Draft { place, content: image.content.clone() })
    });
    join_tags(drafts.collect())
}

impl Plan {
    /// Whether anything is left to do.
    ///
    /// # Errors
    /// [`Fault::NoName`]: a run over nothing would end as if all were well.
    pub fn check_not_empty(&self) -> Result<(), BundleError> {
        if self.images.is_empty() {
            let told = format!("no image is left: --include and --exclude leave out all {}", self.left_out);
            return Err(BundleError::new(Fault::NoName, told)
                .hint("the pattern must match the whole name, host and tag included: '*nautilus*', 'gcr.io/anthos-*'"));
        }
        Ok(())
    }
}

impl Rules {
    /// Whether an image of this name is among those asked for.
    pub fn chooses(&self, name: &str) -> bool {
        (self.include.is_empty() || self.include.is_match(name)) && !self.exclude.is_match(name)
    }
}

/// One name of one image.
struct Draft {
    place: naming::Place,
    content: Content,
}

/// What makes two images the same: the manifest, or where one has none yet, the configuration.
fn identity(content: &Content, catalog: &Catalog) -> (Digest, Option<Digest>) {
    match content {
        Content::Manifest(digest) => {
            let config = catalog.manifests.get(digest).and_then(|manifest| match &manifest.kind {
                crate::oci::manifest::Kind::Image { config, .. } => Some(config.digest),
                crate::oci::manifest::Kind::Index { .. } => None,
            });
            (*digest, config)
        }
        Content::Unpacked(image) => (image.config_digest, Some(image.config_digest)),
    }
}

fn same(a: &Content, b: &Content, catalog: &Catalog) -> bool {
    let ((digest_a, config_a), (digest_b, config_b)) = (identity(a, catalog), identity(b, catalog));
    let one_is_unpacked = matches!(a, Content::Unpacked(_)) || matches!(b, Content::Unpacked(_));
    digest_a == digest_b || (one_is_unpacked && config_a.is_some() && config_a == config_b)
}

/// One name, one image. A name that comes twice for the same image is one name.
fn settle_conflicts(
    drafts: Vec<Draft>,
    catalog: &Catalog,
    on_conflict: OnConflict,
    notes: &mut Vec<String>,
) -> Result<Vec<Draft>, BundleError> {
    let mut taken: HashMap<(Repository, Option<Tag>, Option<Digest>), usize> = HashMap::new();
    let mut settled: Vec<Draft> = Vec::new();
    for draft in drafts {
        // Without a tag the digest is the name, and two of those never clash.
        let by_digest = draft.place.tag.is_none().then(|| identity(&draft.content, catalog).0);
        let key = (draft.place.repository.clone(), draft.place.tag.clone(), by_digest);
        let Some(&holder) = taken.get(&key) else {
            taken.insert(key, settled.len());
            settled.push(draft);
            continue;
        };
        if same(&settled[holder].content, &draft.content, catalog) {
            // The form that holds a registry manifest keeps its digest.
            if matches!(draft.content, Content::Manifest(_)) {
                settled[holder].content = draft.content;
            }
            continue;
        }
        let digests = [&settled[holder].content, &draft.content]
            .map(|content| identity(content, catalog).0.to_string());
        let told = format!(
            "{} and {} are different images ({} and {}) and both would become {}",
            settled[holder].place.name, draft.place.name, digests[0], digests[1], draft.place
        );
        match on_conflict {
            OnConflict::Refuse => {
                return Err(BundleError::new(Fault::Conflict, told).hint(
                    "give one of them another place with --rewrite, leave one out with --exclude, or say which wins \
                     with --on-conflict first|last",
                ));
            }
            OnConflict::First => notes.push(format!("{told}: the first wins")),
            OnConflict::Last => {
                notes.push(format!("{told}: the last wins"));
                settled[holder] = draft;
            }
        }
    }
    Ok(settled)
}

/// Names of one image in one repository become its tags.
fn join_tags(drafts: Vec<Draft>) -> Vec<PlannedImage> {
    let mut places: HashMap<(Repository, ContentKey), usize> = HashMap::new();
    let mut images: Vec<PlannedImage> = Vec::new();
    for Draft { place, content } in drafts {
        match places.entry((place.repository.clone(), content.key())) {
            Entry::Occupied(at) => images[*at.get()].tags.extend(place.tag),
            Entry::Vacant(slot) => {
                slot.insert(images.len());
                let tags = place.tag.into_iter().collect();
                images.push(PlannedImage { name: place.name, repository: place.repository, tags, content });
            }
        }
    }
    images
}

/// Unnamed manifests about another one (signatures, SBOMs): they go where their subject goes.
struct Referrers {
    followers: HashSet<usize>,
}

impl Referrers {
    fn of(catalog: &Catalog) -> Self {
        let subject_is_here = |image: &Image| {
            let Content::Manifest(digest) = &image.content else { return false };
            let subject = catalog.manifests.get(digest).and_then(|manifest| manifest.subject.as_ref());
            subject.is_some_and(|subject| catalog.manifests.contains_key(&subject.digest))
        };
        let unnamed = |image: &Image| image.names.is_empty();
        let followers = (0..catalog.images.len())
            .filter(|&index| unnamed(&catalog.images[index]) && subject_is_here(&catalog.images[index]))
            .collect();
        Self { followers }
    }

    /// Referrers may have referrers, so places are handed on until none is new.
    fn places(&self, catalog: &Catalog, planned: &[PlannedImage]) -> Vec<PlannedImage> {
        let mut homes: HashMap<Digest, Vec<Repository>> = HashMap::new();
        for image in planned {
            if let Content::Manifest(root) = &image.content {
                for digest in Closure::of(catalog, root).manifests {
                    homes.entry(digest).or_default().push(image.repository.clone());
                }
            }
        }
        let mut waiting: Vec<usize> = self.followers.iter().copied().collect();
        waiting.sort_unstable();
        let mut out = Vec::new();
        loop {
            let before = waiting.len();
            waiting.retain(|&index| {
                let Content::Manifest(digest) = &catalog.images[index].content else { return false };
                let Some(manifest) = catalog.manifests.get(digest) else { return false };
                let subject = manifest.subject.as_ref().map(|subject| subject.digest);
                let Some(repositories) = subject.and_then(|subject| homes.get(&subject).cloned()) else {
                    return true;
                };
                for repository in &repositories {
                    if homes.get(digest).is_some_and(|known| known.contains(repository)) {
                        continue;
                    }
                    out.push(PlannedImage {
                        name: format!("{repository}@{digest}"),
                        repository: repository.clone(),
                        tags: Vec::new(),
                        content: Content::Manifest(*digest),
                    });
                }
                homes.entry(*digest).or_default().extend(repositories);
                false
            });
            if waiting.len() == before {
                return out;
            }
        }
    }
}

/// The first name of an image, or something that stands for it.
pub fn label(image: &Image) -> String {
    let identity = || match &image.content {
        Content::Manifest(digest) => digest.to_string(),
        Content::Unpacked(unpacked) => format!("config {}", unpacked.config_digest),
    };
    image.names.first().map_or_else(identity, ImageName::to_string)
}

#[cfg(test)]
mod tests;
