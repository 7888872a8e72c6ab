//! Groups failures of images by their cause, so that each cause is reported once.

use std::collections::HashMap;

use super::outcome::ImageFailure;
use super::{Class, Failure, Outcome};

/// Images whose names are shown of those that failed alike.
const MAX_NAMED: usize = 3;

/// Images that failed for one reason.
#[derive(Debug)]
pub(crate) struct Alike<'a> {
    /// The first of them.
    pub first: &'a ImageFailure,
    /// All of them.
    pub images: Vec<&'a ImageFailure>,
}

/// What two failures have in common if they are alike.
fn key(failure: &Failure) -> (Class, &str) {
    (failure.class, failure.cause.as_deref().unwrap_or(&failure.message))
}

/// Puts failures with one cause together, in the order of their first ones.
pub(crate) fn alike<'a>(failed: impl IntoIterator<Item = &'a ImageFailure>) -> Vec<Alike<'a>> {
    let mut places: HashMap<_, usize> = HashMap::new();
    let mut groups: Vec<Alike<'_>> = Vec::new();
    for image in failed {
        let place = *places.entry(key(&image.failure)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.images.push(image),
            None => groups.push(Alike { first: image, images: vec![image] }),
        }
    }
    groups
}

impl Alike<'_> {
    /// The failure in one line: `12 images are not complete: no room on the registry (…)`.
    pub(crate) fn in_words(&self) -> String {
        let (first, failure) = (&self.first.image, &self.first.failure);
        match self.images.len() {
            1 => format!("{first} is not complete: {}", failure.message),
            count => {
                let cause = failure.cause.as_deref().unwrap_or(&failure.message);
                format!("{count} images are not complete: {cause}")
            }
        }
    }

    /// Which images they are, in full for the first; nothing where the line says it.
    pub(crate) fn details(&self) -> Vec<String> {
        let Some((first, others)) = self.images.split_first().filter(|(_, others)| !others.is_empty()) else {
            return Vec::new();
        };
        let mut details = Vec::new();
        if let Some(cause) = &first.failure.cause {
            let message = &first.failure.message;
            // The line above has said the cause.
            let own = message.strip_suffix(cause.as_str()).map(|own| own.trim_end_matches([':', ' ']));
            details.push(format!("the first: {}: {}", first.image, own.unwrap_or(message)));
        } else {
            details.push(format!("the first: {}", first.image));
        }
        details.push(format!("the others: {}", named(others.iter().map(|image| image.image.as_str()))));
        details
    }
}

/// Mirrors that failed as a whole for one reason, in the order of their first ones. What each calls its own host makes no
/// difference.
pub(crate) fn alike_mirrors<'a>(failed: impl IntoIterator<Item = &'a Outcome>) -> Vec<Vec<&'a Outcome>> {
    let mut places: HashMap<_, usize> = HashMap::new();
    let mut groups: Vec<Vec<&Outcome>> = Vec::new();
    for mirror in failed {
        let Some(failure) = &mirror.error else { continue };
        let whole = mirror.site.as_ref().map_or(mirror.name.as_str(), |site| site.registry.as_str());
        let host = whole.split('/').next().filter(|host| !host.is_empty()).unwrap_or(whole);
        let place = *places.entry((failure.class, failure.message.replace(host, ""))).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(mirror),
            None => groups.push(vec![mirror]),
        }
    }
    groups
}

/// The first names of some, and how many more there are.
pub(crate) fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MAX_NAMED);
    let named: Vec<&str> = names.take(MAX_NAMED).collect();
    let more = if more > 0 { format!(" and {more} more (--report has all)") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::outcome::Phase;

    fn failed(image: &str, message: &str, cause: Option<&str>) -> ImageFailure {
        let cause = cause.map(str::to_owned);
        let failure = Failure { cause, ..Failure::internal(message) };
        ImageFailure {
            image: image.to_owned(),
            place: String::new(),
            digest: None,
            phase: Phase::Upload,
            failure,
        }
    }

    #[test]
    fn a_cause_is_told_once_with_the_images_that_share_it() {
        let full = Some("no room on the registry");
        let all: Vec<ImageFailure> = ["a", "b", "c", "d", "e", "f"]
            .map(|name| failed(name, &format!("POST /v2/{name}/: 507"), full))
            .into_iter()
            .chain([failed("x", "something else", None)])
            .collect();
        let groups = alike(&all);
        let words: Vec<String> = groups.iter().map(Alike::in_words).collect();
        assert_eq!(
            words,
            ["6 images are not complete: no room on the registry", "x is not complete: something else"]
        );
        assert_eq!(
            groups[0].details(),
            ["the first: a: POST /v2/a/: 507", "the others: b, c, d and 2 more (--report has all)"]
        );
        assert_eq!(groups[1].details(), [""; 0]);
        let all =
            ["a", "b"].map(|name| failed(name, &format!("h/{name}: refused: CVE"), Some("refused: CVE")));
        assert_eq!(alike(&all)[0].details(), ["the first: a: h/a", "the others: b"]);
    }

    #[test]
    fn mirrors_that_fail_alike_differ_in_their_hosts_alone() {
        let failed = |name: &str, message: &str| Outcome {
            error: Some(Failure::new(Class::Unreachable, message)),
            ..Outcome::new(name.to_owned())
        };
        let all = [
            failed("a:5000/ns", "GET http://a:5000/v2/: no connection"),
            failed("b/ns", "GET http://b/v2/: no such name"),
            failed("c:5000", "GET http://c:5000/v2/: no connection"),
        ];
        let groups: Vec<Vec<&str>> = alike_mirrors(&all)
            .iter()
            .map(|group| group.iter().map(|it| it.name.as_str()).collect())
            .collect();
        assert_eq!(groups, [vec!["a:5000/ns", "c:5000"], vec!["b/ns"]]);
    }
}
