//! How a name in the bundle becomes a name on the mirror: the host is dropped, path and tag stay.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use regex::Regex;

use super::unmatched;
use crate::archive::{Catalog, Content, Image, ImageName, LeftOut, LeftOutClass};
use crate::error::{BundleError, Fault};
use crate::oci::{Digest, Mended, Reference, Repository, Tag};
use crate::units::count;

/// What the user says about names.
#[derive(Debug, Default, PartialEq)]
pub struct Naming {
    /// The first rule that matches decides; none leaves the path as it is.
    pub rewrites: Vec<Rewrite>,
    /// The host of a name becomes the first part of its path, where no rule matches.
    pub keep_host: bool,
    /// The repository of images that have only a tag, or no name at all.
    pub repository: Option<Reference>,
    /// Names for images that have none.
    pub names: Vec<GivenName>,
    /// The annotation of `index.json` entries that holds the name, where a tool has its own.
    pub annotation: Option<String>,
    /// A `_` stands for each `+` in a tag, as Helm writes it.
    pub fix_tags: bool,
}

/// `PATTERN=REPLACEMENT` on `host/path`, without the tag. The pattern must match it whole.
#[derive(Debug, Clone)]
pub struct Rewrite {
    text: String,
    pattern: Regex,
    replacement: String,
}

/// Rules of one text are one rule.
impl PartialEq for Rewrite {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for Rewrite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, replacement) =
            text.split_once('=').ok_or("a rule is PATTERN=REPLACEMENT, as 'quay.io/(.*)=quay/$1'")?;
        // First as it was written, so that what is wrong is shown so.
        let wrong = |error: regex::Error| format!("the pattern is no regular expression: {error}");
        let pattern =
            Regex::new(pattern).and_then(|_| Regex::new(&format!("^(?:{pattern})$"))).map_err(wrong)?;
        Ok(Self { text: text.to_owned(), pattern, replacement: replacement.to_owned() })
    }
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `NAME`, or `DIGEST=NAME` where several images lack one.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenName {
    digest: Option<Digest>,
    name: Reference,
}

impl FromStr for GivenName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digest, name) = match text.split_once('=') {
            Some((digest, name)) => (Some(digest.parse().map_err(|e: BundleError| e.to_string())?), name),
            None => (None, text),
        };
        let name: Reference = name.parse().map_err(|e: BundleError| e.to_string())?;
        if name.tag.is_none() {
            return Err(format!("{name} has no tag"));
        }
        Ok(Self { digest, name })
    }
}

impl fmt::Display for GivenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest.iter().try_for_each(|digest| write!(f, "{digest}="))?;
        self.name.fmt(f)
    }
}

/// One place on a mirror, below its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The name in the bundle.
    pub name: String,
    /// The repository.
    pub repository: Repository,
    /// The tag; none for what is known by its digest alone.
    pub tag: Option<Tag>,
    /// The digest in the name, which must be had under that name.
    pub digest: Option<Digest>,
}

/// The places of an image, and which of its names are none.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) valid: Vec<Destination>,
    /// Text, and why it is no name.
    pub(super) invalid: Vec<(String, String)>,
    /// Text, and the name that was made of it.
    pub(super) mended: Vec<(String, String)>,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
    }
}

impl Naming {
    /// The images that no name and no flag gives a place, each with the flag that helps.
    ///
    /// # Errors
    /// [`Fault::NoName`] where no image has a place, or `--name` does not say which one it means.
    pub(super) fn nameless(
        &self,
        catalog: &Catalog,
        follows: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<LeftOut>, BundleError> {
        let images = catalog.images.iter().enumerate().filter(|(index, _)| !follows(*index));
        let images: Vec<&Image> = images.map(|(_, image)| image).collect();
        let nameless = images.iter().filter(|image| self.is_nameless(image) && !self.has_invalid_name(image));
        let nameless: Vec<&Image> = nameless.copied().collect();
        let single = self.names.iter().filter(|given| given.digest.is_none()).count();
        if single > 0 && (single > 1 || nameless.len() > 1) && self.repository.is_none() {
            let digests: Vec<_> =
                nameless.iter().map(|image| format!("--name {}=REPOSITORY:TAG", digest(image))).collect();
            let told = format!(
                "{} images have no name, and --name was given {single} times without a digest",
                nameless.len()
            );
            return Err(BundleError::new(Fault::NoName, told)
                .hint(format!("say which is which: {}", digests.join(" "))));
        }
        let placeless: Vec<&Image> = nameless
            .into_iter()
            .filter(|image| self.given(image).is_none() && !self.is_findable(image))
            .collect();
        match placeless.first() {
            Some(first) if placeless.len() == images.len() => Err(no_names(first, placeless.len())),
            _ => Ok(placeless.into_iter().map(no_name).collect()),
        }
    }

    /// By digest alone only a manifest can be found again, and an image of a docker-archive has none yet.
    fn is_findable(&self, image: &Image) -> bool {
        self.repository.is_some()
            && (!image.names.is_empty() || matches!(image.content, Content::Manifest(_)))
    }

    /// Flags that change nothing: likely a typo.
    pub(super) fn unused(&self, catalog: &Catalog) -> Vec<String> {
        let full = |name: &ImageName| match name {
            ImageName::Full(reference) => format!("{}/{}", reference.host, reference.repository),
            ImageName::Hostless(repository, _) | ImageName::HostlessDigest(repository, _) => {
                repository.to_string()
            }
            ImageName::TagOnly(_) | ImageName::Invalid { .. } => String::new(),
        };
        let names = catalog.images.iter().flat_map(|image| &image.names);
        let names: Vec<String> = names.map(|name| full(&self.mended(name))).collect();
        let given = self.names.iter().map(|given| format!("{}/{}", given.name.host, given.name.repository));
        let known: Vec<String> =
            names.into_iter().chain(given).chain(self.repository.iter().map(ToString::to_string)).collect();
        let idle = self.rewrites.iter().filter(|rule| !known.iter().any(|name| rule.pattern.is_match(name)));
        let mut notes: Vec<String> = idle
            .map(|rule| {
                let pattern = rule.text.split_once('=').map_or(rule.text.as_str(), |(pattern, _)| pattern);
                unmatched::rewrite(&rule.text, pattern, &known)
            })
            .collect();
        let wants_name = |image: &Image| self.is_nameless(image) || self.has_invalid_name(image);
        if !self.names.is_empty() && !catalog.images.iter().any(wants_name) {
            notes.push("--name changes nothing: every image of the bundle has a name".to_owned());
        }
        notes
    }

    fn is_nameless(&self, image: &Image) -> bool {
        let is_none = |name: &ImageName| matches!(name, ImageName::TagOnly(_) | ImageName::Invalid { .. });
        self.annotated(image).is_none() && image.names.iter().all(|name| is_none(&self.mended(name)))
    }

    fn annotated(&self, image: &Image) -> Option<Reference> {
        let text = image.annotations.get(self.annotation.as_ref()?)?;
        let mended = || match Mended::of(text).filter(|_| self.fix_tags)? {
            Mended::Name(name) => Some(name),
            Mended::Tag(_) => None,
        };
        text.parse().ok().or_else(mended)
    }

    /// A name as it is taken: with `_` for `+`, where that is wanted and makes it valid.
    fn mended<'n>(&self, name: &'n ImageName) -> Cow<'n, ImageName> {
        match name {
            ImageName::Invalid { text, .. } if self.fix_tags => match Mended::of(text) {
                Some(Mended::Name(name)) => Cow::Owned(ImageName::Full(name)),
                Some(Mended::Tag(tag)) => Cow::Owned(ImageName::TagOnly(tag)),
                None => Cow::Borrowed(name),
            },
            _ => Cow::Borrowed(name),
        }
    }

    /// Whether an image has a name that is none, even when it is mended.
    fn has_invalid_name(&self, image: &Image) -> bool {
        image.names.iter().any(|name| matches!(*self.mended(name), ImageName::Invalid { .. }))
    }

    fn given(&self, image: &Image) -> Option<&Reference> {
        let any = || self.names.iter().find(|given| given.digest.is_none()).map(|given| &given.name);
        self.given_exactly(image).or_else(any)
    }

    /// Whether the user names exactly this image, by its digest or by an annotation.
    pub(super) fn names_exactly(&self, image: &Image) -> bool {
        self.given_exactly(image).is_some() || self.annotated(image).is_some()
    }

    /// The name given for exactly this image.
    fn given_exactly(&self, image: &Image) -> Option<&Reference> {
        let wanted = digest(image);
        self.names.iter().find(|given| given.digest == Some(wanted)).map(|given| &given.name)
    }

    /// Every place of an image, one for each of its names.
    pub(super) fn places(&self, image: &Image) -> Result<Places, BundleError> {
        let only = |place| Places { valid: vec![place], ..Places::default() };
        if self.is_nameless(image)
            && let Some(name) = self.given(image)
        {
            return self.place_of(name).map(only);
        }
        if let Some(name) = self.annotated(image) {
            return self.place_of(&name).map(only);
        }
        let mut places = Places::default();
        for name in &image.names {
            let mended = self.mended(name);
            places.valid.push(match &*mended {
                ImageName::Full(reference) => self.place_of(reference)?,
                ImageName::Hostless(repository, tag) => Destination {
                    name: name.to_string(),
                    repository: self.rewrite(repository.as_str(), repository)?,
                    tag: Some(tag.clone()),
                    digest: None,
                },
                ImageName::HostlessDigest(repository, digest) => Destination {
                    name: name.to_string(),
                    repository: self.rewrite(repository.as_str(), repository)?,
                    tag: None,
                    digest: Some(*digest),
                },
                ImageName::TagOnly(tag) => {
                    let Some(repository) = &self.repository else { continue };
                    self.place_of(&Reference { tag: Some(tag.clone()), digest: None, ..repository.clone() })?
                }
                // A name given for this image stands for those that are none.
                ImageName::Invalid { text, why } => {
                    if let Some(name) = self.given_exactly(image) {
                        self.place_of(name)?
                    } else {
                        places.invalid.push((text.clone(), why.clone()));
                        continue;
                    }
                }
            });
            if let (Cow::Owned(mended), ImageName::Invalid { text, .. }) = (&mended, name)
                && let Some(place) = places.valid.last_mut()
            {
                // What the bundle calls it stays its name for people and patterns.
                if matches!(mended, ImageName::Full(_)) {
                    place.name.clone_from(text);
                }
                places.mended.push((text.clone(), mended.to_string()));
            }
        }
        if places.valid.is_empty()
            && places.invalid.is_empty()
            && let Some(repository) = &self.repository
        {
            let by_digest = Reference { tag: None, digest: Some(digest(image)), ..repository.clone() };
            places.valid.push(Destination { digest: None, ..self.place_of(&by_digest)? });
        }
        Ok(places)
    }

    fn place_of(&self, name: &Reference) -> Result<Destination, BundleError> {
        let full = format!("{}/{}", name.host, name.repository);
        let kept = self.keep_host.then(|| below_host(&full)).transpose()?;
        let repository = self.rewrite(&full, kept.as_ref().unwrap_or(&name.repository))?;
        // A name that says neither tag nor digest means `latest`, as everywhere.
        let tag = match (&name.tag, name.digest) {
            (None, None) => Some("latest".parse()?),
            (tag, _) => tag.clone(),
        };
        Ok(Destination { name: name.to_string(), repository, tag, digest: name.digest })
    }

    fn rewrite(&self, full: &str, otherwise: &Repository) -> Result<Repository, BundleError> {
        let Some(rule) = self.rewrites.iter().find(|rule| rule.pattern.is_match(full)) else {
            return Ok(otherwise.clone());
        };
        let to = rule.pattern.replace(full, rule.replacement.as_str());
        let why = |error: BundleError| {
            BundleError::new(Fault::NoName, format!("--rewrite makes {to:?} of {full}: {error}"))
        };
        to.parse().map_err(why)
    }
}

/// A repository whose first part is the host. A colon has no place in it.
fn below_host(full: &str) -> Result<Repository, BundleError> {
    full.to_lowercase().replace(':', "_").parse()
}

/// Why nothing can be pushed of a bundle without a name.
fn no_names(first: &Image, images: usize) -> BundleError {
    let tags: Vec<String> = first.names.iter().map(ToString::to_string).collect();
    if !tags.is_empty() {
        let tags = tags.join(", ");
        let told = format!("{} without a repository (the first is tagged {tags})", count(images, "image"));
        return BundleError::new(Fault::NoName, told).hint("name their repository: --repository HOST/PATH");
    }
    let place = Some(&first.origin).filter(|origin| !origin.is_empty());
    let place = place.map(|origin| format!(" in {origin}")).unwrap_or_default();
    let told = format!("{} without a name (the first is {}{place})", count(images, "image"), digest(first));
    let hint = match full_name_annotation(first) {
        Some(key) => format!("their index entries name them under another key: --name-annotation {key}"),
        None if images == 1 => "name it: --name REPOSITORY:TAG".to_owned(),
        None => {
            "name each: --name DIGEST=REPOSITORY:TAG, or put all into one: --repository HOST/PATH".to_owned()
        }
    };
    BundleError::new(Fault::NoName, told).hint(hint)
}

/// One image without a name, among others that have one.
fn no_name(image: &Image) -> LeftOut {
    let (digest, tags) = (digest(image), image.names.iter().map(ToString::to_string).collect::<Vec<_>>());
    let (why, next) = match full_name_annotation(image) {
        _ if !tags.is_empty() => {
            (format!("it has the tag {} and no repository", tags.join(", ")), "--repository HOST/PATH".into())
        }
        Some(key) => (format!("{digest} is named under another key"), format!("--name-annotation {key}")),
        None => (format!("{digest} has no name"), format!("--name {digest}=REPOSITORY:TAG")),
    };
    LeftOut {
        path: if image.origin.is_empty() { digest.to_string() } else { image.origin.clone() },
        what: "an image without a name".to_owned(),
        why: format!("{why}; next: {next}"),
        class: LeftOutClass::NoName,
        may_pass: false,
    }
}

/// The digest that `--name DIGEST=NAME` calls an image by.
pub(super) fn digest(image: &Image) -> Digest {
    match &image.content {
        Content::Manifest(digest) => *digest,
        Content::Unpacked(unpacked) => unpacked.config_digest,
    }
}

/// An annotation that looks like a whole name (Zarf writes `org.opencontainers.image.base.name`).
fn full_name_annotation(image: &Image) -> Option<&str> {
    let (key, _) = image
        .annotations
        .iter()
        .find(|(_, value)| Reference::parse_full(value).is_some_and(|r| r.tag.is_some()))?;
    Some(key)
}
