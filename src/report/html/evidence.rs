//! What was delivered: every image with its digest and its place.

use std::collections::BTreeMap;

use super::words::left_out;
use crate::report::outcome::{Verified, VerifiedImage};
use crate::report::{Document, Outcome};
use crate::units::count;

/// Mirrors up to this number have a row for each image; of more, each image has one row.
const MAX_EACH: usize = 3;
const MAX_ROWS: usize = 2000;

/// An image on all mirrors that have it.
type Deliveries<'d> = Vec<(&'d Outcome, &'d VerifiedImage)>;

/// The delivered images.
#[derive(Debug, Default)]
pub(super) struct EvidenceView {
    pub(super) explained: &'static str,
    pub(super) rows: Vec<EvidenceRow>,
    pub(super) left_out: Option<String>,
}

/// An image on a mirror, or on many.
#[derive(Debug)]
pub(super) struct EvidenceRow {
    pub(super) image: String,
    pub(super) place: String,
    pub(super) digest: String,
    pub(super) checked: &'static str,
}

impl EvidenceView {
    pub(super) fn new(document: &Document) -> Self {
        let mut rows = if document.mirrors.len() <= MAX_EACH { each(document) } else { together(document) };
        let all = rows.len();
        rows.truncate(MAX_ROWS);
        Self {
            explained: "Each image was there, whole and with its tags, when the run ended. An image can be pulled by its \
                        digest, which says which one it is.",
            left_out: left_out(all, rows.len(), "row"),
            rows,
        }
    }
}

/// The registry of a mirror, without the namespace, which is part of places.
fn registry(outcome: &Outcome) -> &str {
    let whole = outcome.site.as_ref().map_or(outcome.name.as_str(), |site| site.registry.as_str());
    whole.split('/').next().unwrap_or(whole)
}

fn row(image: &VerifiedImage, place: String) -> EvidenceRow {
    EvidenceRow {
        image: image.image.clone(),
        place,
        digest: image.digest.map_or_else(|| "–".to_owned(), |digest| digest.to_string()),
        checked: checked(image.verified),
    }
}

fn each(document: &Document) -> Vec<EvidenceRow> {
    let of_mirror =
        |outcome| move |image: &VerifiedImage| row(image, format!("{}/{}", registry(outcome), image.place));
    document
        .mirrors
        .iter()
        .flat_map(|outcome| outcome.images_verified.iter().map(of_mirror(outcome)))
        .collect()
}

/// One row for an image that many mirrors have.
fn together(document: &Document) -> Vec<EvidenceRow> {
    let mut images: BTreeMap<(&str, Option<String>), Deliveries<'_>> = BTreeMap::new();
    for outcome in &document.mirrors {
        for image in &outcome.images_verified {
            let key = (image.image.as_str(), image.digest.map(|digest| digest.to_string()));
            images.entry(key).or_default().push((outcome, image));
        }
    }
    let of = document.mirrors.len();
    let row_of = |places: Deliveries<'_>| {
        let (first, image) = places.first()?;
        // The least that holds for all of them.
        let least = places.iter().map(|(_, image)| *image).min_by_key(|image| rank(image.verified))?;
        let on = format!("on {} of {}", places.len(), count(of, "mirror"));
        let place = format!("{on}, the first: {}/{}", registry(first), image.place);
        Some(EvidenceRow { checked: checked(least.verified), ..row(image, place) })
    };
    images.into_values().filter_map(row_of).collect()
}

const fn rank(verified: Verified) -> u8 {
    match verified {
        Verified::Head => 0,
        Verified::Sample => 1,
        Verified::Pull => 2,
    }
}

const fn checked(verified: Verified) -> &'static str {
    match verified {
        Verified::Head => "the registry says so",
        Verified::Sample => "samples read back",
        Verified::Pull => "all of it read back",
    }
}
