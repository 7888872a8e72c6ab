//! Which images must be on a mirror before others: a registry may refuse a manifest whose `subject` it does not have (GitLab
//! does), so what refers to another image comes after that one.

use std::collections::{HashMap, HashSet};

use super::{Closure, PlannedImage};
use crate::archive::{Catalog, Content};
use crate::oci::{Digest, Repository};

/// Sorts the images so that subjects come before what refers to them, and counts how many steps that takes for each. All
/// others stay in the order of the bundle.
pub(super) fn subjects_first(images: &mut [PlannedImage], catalog: &Catalog) {
    if catalog.manifests.values().all(|manifest| manifest.subject.is_none()) {
        return;
    }
    let closures: Vec<Vec<Digest>> = images.iter().map(|image| closure(image, catalog)).collect();
    let mut holders: HashMap<(&Repository, Digest), Vec<usize>> = HashMap::new();
    for (at, (image, closure)) in images.iter().zip(&closures).enumerate() {
        for digest in closure {
            holders.entry((&image.repository, *digest)).or_default().push(at);
        }
    }
    let subjects = |at: usize| {
        let own: HashSet<&Digest> = closures[at].iter().collect();
        let manifests = closures[at].iter().filter_map(|digest| catalog.manifests.get(digest));
        let subjects = manifests.filter_map(|it| it.subject.as_ref()).map(|subject| subject.digest);
        let others: HashSet<Digest> = subjects.filter(|subject| !own.contains(subject)).collect();
        others
    };
    let after: Vec<Vec<usize>> = images
        .iter()
        .enumerate()
        .map(|(at, image)| {
            let of =
                |subject: Digest| holders.get(&(&image.repository, subject)).cloned().unwrap_or_default();
            subjects(at).into_iter().flat_map(of).filter(|holder| *holder != at).collect()
        })
        .collect();
    for (image, steps) in images.iter_mut().zip(steps(&after)) {
        image.after_subjects = steps;
    }
    images.sort_by_key(|image| image.after_subjects);
}

fn closure(image: &PlannedImage, catalog: &Catalog) -> Vec<Digest> {
    match &image.content {
        Content::Manifest(root) => Closure::of(catalog, root).manifests,
        Content::Unpacked(_) => Vec::new(),
    }
}

/// How long the longest chain is that leads from each to one that depends on nothing. Nothing can depend on itself: a digest
/// cannot be in what it is the digest of. If it seems so all the same, the circle is cut.
fn steps(after: &[Vec<usize>]) -> Vec<usize> {
    let mut steps: Vec<Option<usize>> = vec![None; after.len()];
    let mut open = vec![false; after.len()];
    for start in 0..after.len() {
        let mut stack = vec![(start, false)];
        while let Some((at, done)) = stack.pop() {
            if done {
                let longest = after[at].iter().filter_map(|&before| steps[before]).max();
                steps[at] = Some(longest.map_or(0, |longest| longest + 1));
            } else if steps[at].is_none() && !open[at] {
                open[at] = true;
                stack.push((at, true));
                stack.extend(after[at].iter().map(|&before| (before, false)));
            }
        }
    }
    steps.into_iter().map(Option::unwrap_or_default).collect()
}

#[cfg(test)]
mod tests {
    use super::steps;

    #[test]
    fn chains_are_counted_and_circles_end() {
        assert_eq!(steps(&[vec![1, 2], vec![2], vec![], vec![]]), [2, 1, 0, 0]);
        assert_eq!(steps(&[vec![1], vec![0]]).len(), 2);
        let long: Vec<Vec<usize>> = (0..100_000).map(|at| Vec::from_iter((at > 0).then(|| at - 1))).collect();
        assert_eq!(steps(&long)[99_999], 99_999);
    }
}
