//! What goes where: catalog × naming rules → an ordered list of images for every mirror. Pure, no I/O.
//!
//! In: a [`Catalog`] and [`Rules`]. Out: a [`Plan`] that names a repository and tags for each image, or the one reason
//! why nothing may be sent: a name that is missing, not valid, or claimed by two different images.

mod followers;
pub(crate) mod graph;
mod groups;
pub(crate) mod naming;
mod order;
mod patterns;
mod unmatched;

use std::collections::HashMap;

use crate::archive::{Catalog, Content, ContentKey, Image, LeftOut, LeftOutClass, PartialIndex, Unit};
use crate::bundle::Accept;
use crate::error::{BundleError, Fault};
use crate::oci::{Digest, Mended, Repository, Tag};
use crate::units::count;

use followers::Followers;
pub(crate) use graph::Closure;
pub(crate) use groups::{Groups, Plans};
pub(crate) use naming::{Naming, Rewrite};
pub(crate) use patterns::Patterns;

/// What the user decided about names and the choice of images.
#[derive(Debug, Default, PartialEq)]
pub struct Rules {
    /// How the bundle's names become names on a mirror.
    pub naming: Naming,
    /// Only images whose name matches; all when empty.
    pub include: Patterns,
    /// Not these.
    pub exclude: Patterns,
    /// Which of two different images wins a name.
    pub on_conflict: OnConflict,
}

/// Which of two different images gets a name that both claim.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnConflict {
    /// Neither: send nothing.
    #[default]
    Refuse,
    /// The first in the bundle.
    First,
    /// The last in the bundle.
    Last,
}

/// The images to push, in the order of the bundle. Repositories are without the namespace of a mirror.
#[derive(Debug, Default, Clone)]
pub struct Plan {
    /// The images.
    pub images: Vec<PlannedImage>,
    /// Names that `--include` and `--exclude` leave out.
    pub not_chosen: usize,
    /// Names of whole images that are not valid.
    pub left_out: Vec<LeftOut>,
    /// What people should know.
    pub notes: Vec<String>,
    /// Flags that change nothing, which are likely mistyped, with the names that may have been meant.
    pub(crate) unmatched: Vec<String>,
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
    /// Digests in its names. The image is complete only if it can be had under each of them.
    pub digests: Vec<Digest>,
    /// Why it cannot be complete, even when all that the bundle has of it is there.
    pub shortfall: Option<BundleError>,
    /// How many images must be brought one after the other before this one: it refers to the last of them. 0 if to none.
    pub after_subjects: usize,
    /// The archive that damage is confined to.
    pub unit: Unit,
}

impl PlannedImage {
    /// The name on a mirror with this namespace, as `ns/path:tag` for the first tag.
    pub(crate) fn place(&self, namespace: Option<&Repository>) -> String {
        self.tags
            .first()
            .map_or_else(|| self.repository.text_below(namespace), |tag| self.place_of(namespace, tag))
    }

    /// The same for this tag.
    pub(crate) fn place_of(&self, namespace: Option<&Repository>, tag: &Tag) -> String {
        format!("{}:{tag}", self.repository.text_below(namespace))
    }
}

impl Plan {
    /// Gives every image of the catalog its place.
    ///
    /// # Errors
    /// [`Fault::NoName`], [`Fault::BadReference`] or [`Fault::Conflict`]: nothing may be sent.
    pub fn new(catalog: &Catalog, rules: &Rules, accept: Accept) -> Result<Self, BundleError> {
        let mut drafts = Vec::new();
        let mut names = Vec::new();
        let mut plan = Self::default();
        let followers = Followers::of(catalog, &rules.naming);
        let nameless = rules.naming.nameless(catalog, &|image| followers.has(image))?;
        // Who chooses by names has chosen nothing that has none.
        if rules.include.is_empty() {
            plan.left_out.extend(nameless);
        } else {
            plan.not_chosen += nameless.len();
        }
        for (index, image) in catalog.images.iter().enumerate() {
            if followers.has(index) {
                continue;
            }
            let naming::Places { valid, invalid, mended } = rules.naming.places(image)?;
            let mended = mended.iter().filter(|(text, _)| rules.chooses(text));
            plan.notes.extend(mended.map(|(text, name)| format!("{text} becomes {name} (--fix-tags)")));
            names.extend(valid.iter().map(|place| place.name.clone()));
            names.extend(invalid.iter().map(|(text, _)| text.clone()));
            for place in valid {
                if rules.chooses(&place.name) {
                    drafts.extend(drafts_of(image, place, accept));
                } else {
                    plan.not_chosen += 1;
                }
            }
            for (text, why) in invalid {
                if rules.chooses(&text) {
                    plan.left_out.push(not_a_name(image, text, &why));
                } else {
                    plan.not_chosen += 1;
                }
            }
        }
        plan.unmatched.extend(rules.naming.unused(catalog));
        for (flag, patterns) in [("--include", &rules.include), ("--exclude", &rules.exclude)] {
            let idle = patterns.idle(names.iter().map(String::as_str));
            plan.unmatched.extend(idle.iter().map(|pattern| unmatched::glob(flag, pattern, &names)));
        }
        let settled = settle_conflicts(drafts, catalog, rules.on_conflict, &mut plan.notes);
        // What would have kept two images apart may be what is mistyped.
        let mut drafts = settled.map_err(|error| match plan.unmatched.first() {
            Some(unmatched) => {
                let next = error.hint_text().map(|hint| format!("; {hint}")).unwrap_or_default();
                error.hint(format!("{unmatched}{next}"))
            }
            None => error,
        })?;
        let (following, homeless) = followers.places(&drafts);
        if homeless > 0 {
            plan.notes.push(format!(
                "{} (signatures and the like) not pushed, because what they are about is not",
                count(homeless, "attachment")
            ));
        }
        drafts.extend(following);
        let drafts = settle_conflicts(drafts, catalog, rules.on_conflict, &mut plan.notes)?;
        plan.images = join_tags(drafts);
        for image in &mut plan.images {
            image.find_lost_digests(catalog, accept, &mut plan.notes);
        }
        order::subjects_first(&mut plan.images, catalog);
        Ok(plan)
    }
}

/// The images of a part of the bundle with the places they will have unless the whole bundle says otherwise: it may give
/// a name twice, or name an image once more. Nothing may be made public by this. An image whose place is not certain
/// by itself is left for the plan.
pub(crate) fn early(part: &Catalog, rules: &Rules, accept: Accept) -> Vec<PlannedImage> {
    // What refers to another image may need a tag of its own, and tags wait.
    let refers = |image: &Image| match &image.content {
        Content::Manifest(root) => {
            let manifests = Closure::of(part, root).manifests;
            manifests.iter().any(|digest| part.manifests.get(digest).is_some_and(|it| it.subject.is_some()))
        }
        Content::Unpacked(_) => false,
    };
    let is_plain = |image: &&Image| {
        !image.names.is_empty() && image.partial.is_none() && image.attachment.is_none() && !refers(image)
    };
    let drafts = part.images.iter().filter(is_plain).flat_map(|image| {
        let places = rules.naming.places(image).unwrap_or_default().valid.into_iter();
        let chosen = places.filter(|place| rules.chooses(&place.name));
        chosen.flat_map(|place| drafts_of(image, place, accept))
    });
    join_tags(drafts.collect())
}

impl Plan {
    /// Whether anything is left to do.
    ///
    /// # Errors
    /// A run over nothing would end as if all were well. [`Fault::BadReference`] where images are there and no name of
    /// them is valid, else [`Fault::NoName`].
    pub(crate) fn check_not_empty(&self) -> Result<(), BundleError> {
        if !self.images.is_empty() {
            return Ok(());
        }
        if let Some(LeftOut { path, why, .. }) = self.left_out.first() {
            let more = match self.left_out.len() {
                1 => String::new(),
                count => format!(", and {} more", count - 1),
            };
            return Err(BundleError::new(
                Fault::BadReference,
                format!("no image can be pushed: {path}: {why}{more}"),
            ));
        }
        let told = format!("no image is left: --include and --exclude leave out all {}", self.not_chosen);
        Err(BundleError::new(Fault::NoName, told).hint(
            "the pattern must match the whole name, host and tag included: '*nautilus*', 'gcr.io/anthos-*'",
        ))
    }
}

impl PlannedImage {
    /// Finds digests in the names that neither the image nor anything below it has. Of an image that has no manifest yet
    /// that is known when it has one.
    fn find_lost_digests(&mut self, catalog: &Catalog, accept: Accept, notes: &mut Vec<String>) {
        let Content::Manifest(root) = &self.content else { return };
        if self.digests.is_empty() {
            return;
        }
        let held = Closure::of(catalog, root).manifests;
        let lost = self.lost(&held);
        match lost {
            Some(error) if accept.digest_lost => notes.push(format!("{error} (accepted)")),
            Some(error) => drop(self.shortfall.get_or_insert(error)),
            None => {}
        }
        self.digests.retain(|digest| held.contains(digest));
    }

    /// What is lost if these are all the manifests that come with the image, the last of them its own.
    pub(crate) fn lost(&self, held: &[Digest]) -> Option<BundleError> {
        let lost: Vec<String> =
            self.digests.iter().filter(|it| !held.contains(it)).map(ToString::to_string).collect();
        if lost.is_empty() {
            return None;
        }
        let has = held.last().map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let lost = lost.join(" and ");
        let what =
            format!("{}: the bundle cannot give the digest {lost}, it has {has} under this name", self.name);
        Some(BundleError::new(Fault::DigestLost, what).hint(
            "save the image with all its platforms, or pull it by the digest that is there; --accept digest-lost if \
             nobody asks for the lost one",
        ))
    }
}

impl Rules {
    /// Whether an image of this name is among those asked for.
    pub(crate) fn chooses(&self, name: &str) -> bool {
        (self.include.is_empty() || self.include.is_match(name)) && !self.exclude.is_match(name)
    }
}

/// One name of one image.
struct Draft {
    place: naming::Destination,
    content: Content,
    digests: Vec<Digest>,
    shortfall: Option<BundleError>,
    /// The index that it is a part of, which the bundle does not have whole.
    stands_for: Option<Digest>,
    unit: Unit,
    /// The archive it lies in, for messages; empty where there is only one.
    archive: String,
}

/// The images to push for one name: the image itself, or each present platform of a partial index by its digest. A tag
/// never names an index with a missing child.
fn drafts_of(image: &Image, place: naming::Destination, accept: Accept) -> Vec<Draft> {
    let digests = Vec::from_iter(place.digest);
    let draft = |place, content, digests, shortfall| Draft {
        place,
        content,
        digests,
        shortfall,
        stands_for: image.partial.as_ref().map(|partial| partial.index),
        unit: image.unit.clone(),
        archive: image.archive(),
    };
    let partial = image.partial.as_deref().filter(|it| it.present.len() > 1 && !accept.partial_index);
    let Some(partial) = partial else {
        return vec![draft(place, image.content.clone(), digests, None)];
    };
    let mut shortfall = Some(partial_index(partial, &place));
    let mut digests = Some(digests);
    let of = |(digest, platform): &(Digest, String)| {
        let shortfall = shortfall.take();
        let name =
            if shortfall.is_some() { place.name.clone() } else { format!("{} ({platform})", place.name) };
        let place =
            naming::Destination { name, tag: None, digest: None, repository: place.repository.clone() };
        draft(place, Content::Manifest(*digest), digests.take().unwrap_or_default(), shortfall)
    };
    partial.present.iter().map(of).collect()
}

fn partial_index(partial: &PartialIndex, place: &naming::Destination) -> BundleError {
    let tag = place.tag.as_ref().map(|tag| format!(", and the tag {tag} is not moved")).unwrap_or_default();
    let what = format!("{}; each is pushed by its digest{tag}", partial.in_words());
    BundleError::new(Fault::PartialIndex, what).hint(
        "save all platforms, or --accept partial-index: the tag then names an index of those that are there",
    )
}

/// A whole image with a name that is none.
fn not_a_name(image: &Image, text: String, why: &str) -> LeftOut {
    let fix = Mended::of(&text).map(|_| "--fix-tags, which writes `_` for `+` as Helm does, ");
    let next =
        format!("{}--name {}=REPOSITORY:TAG, or --exclude", fix.unwrap_or_default(), naming::digest(image));
    let why = format!("{why}; next: {next}");
    LeftOut {
        path: text,
        what: "an image whose name is not valid".into(),
        why,
        class: LeftOutClass::BadReference,
        may_pass: false,
    }
}

/// What makes two images the same: the manifest, or where one has none yet, the configuration.
fn identity(content: &Content, catalog: &Catalog) -> (Digest, Option<Digest>) {
    match content {
        Content::Manifest(digest) => {
            let config = catalog.manifests.get(digest).and_then(|manifest| match &manifest.kind {
                crate::oci::manifest::Kind::Image { config, .. } => Some(config.digest),
                crate::oci::manifest::Kind::Index { .. } | crate::oci::manifest::Kind::Artifact { .. } => {
                    None
                }
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
            settled[holder].digests.extend(draft.digests);
            settled[holder].shortfall = settled[holder].shortfall.take().or(draft.shortfall);
            continue;
        }
        let digests = [&settled[holder].content, &draft.content]
            .map(|content| identity(content, catalog).0.to_string());
        let [first, second] = [&settled[holder], &draft].map(|draft| {
            let archive = Some(&draft.archive).filter(|archive| !archive.is_empty());
            let inside = archive.map(|archive| format!(" in {archive}")).unwrap_or_default();
            format!("{}{inside}", draft.place.name)
        });
        let told = format!(
            "{first} and {second} are different images ({} and {}) and both would become {}",
            digests[0], digests[1], draft.place
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
    for Draft { place, content, digests, shortfall, unit, .. } in drafts {
        let at = *places.entry((place.repository.clone(), content.key())).or_insert(images.len());
        if at == images.len() {
            images.push(PlannedImage {
                name: place.name,
                repository: place.repository,
                tags: Vec::new(),
                content,
                digests: Vec::new(),
                shortfall: None,
                after_subjects: 0,
                unit,
            });
        }
        let image = &mut images[at];
        image.tags.extend(place.tag.filter(|tag| !image.tags.contains(tag)));
        image
            .digests
            .extend(digests.into_iter().filter(|it| !image.digests.contains(it)).collect::<Vec<_>>());
        image.shortfall = image.shortfall.take().or(shortfall);
    }
    images
}

#[cfg(test)]
mod tests;
