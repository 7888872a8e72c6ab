//! The documents that make the stage an [OCI layout](https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md).
//! Pure: from the marks of all bundles to `index.json`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::mark::{Mark, StagedImage};
use crate::oci::{Digest, media_type};

/// The file `oci-layout`.
pub(super) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Annotations that hold names, the one that says most first.
const NAME_KEYS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LayoutIndex<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: Vec<LayoutDescriptor<'a>>,
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
#[serde(rename_all = "camelCase")]
struct LayoutDescriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

/// `index.json`: the images of all marks, those of the bundle that was used last first. A name stands for one image: the
/// first that claims it. What is about an image that is not listed is not listed either.
pub(super) fn index(marks: &[&Mark]) -> Vec<u8> {
    let mut marks: Vec<&Mark> = marks.to_vec();
    marks.sort_by_key(|mark| std::cmp::Reverse(mark.used_at));
    let images: Vec<&StagedImage> = marks.iter().flat_map(|mark| &mark.images).collect();
    let mut names: HashMap<&str, Digest> = HashMap::new();
    let mut listed: BTreeSet<Digest> = BTreeSet::new();
    let mut manifests: Vec<LayoutDescriptor<'_>> = Vec::new();
    for image in images.iter().filter(|image| image.subject.is_none()) {
        for annotations in &image.entries {
            let name = NAME_KEYS.iter().find_map(|key| annotations.get(*key));
            let holder = name.map(|name| *names.entry(name).or_insert(image.root.digest));
            if holder.is_none_or(|holder| holder == image.root.digest) {
                listed.insert(image.root.digest);
                manifests.push(entry(image, annotations));
            }
        }
    }
    for image in &images {
        if image.subject.is_some_and(|subject| listed.contains(&subject)) {
            manifests.extend(image.entries.iter().map(|annotations| entry(image, annotations)));
        }
    }
    let mut seen = BTreeSet::new();
    manifests.retain(|entry| seen.insert(*entry));
    let index = LayoutIndex { schema_version: 2, media_type: media_type::OCI_INDEX, manifests };
    // Text, numbers and maps of text cannot fail to be written.
    serde_json::to_vec_pretty(&index).unwrap_or_default()
}

fn entry<'a>(image: &'a StagedImage, annotations: &'a BTreeMap<String, String>) -> LayoutDescriptor<'a> {
    let root = &image.root;
    LayoutDescriptor { media_type: &root.media_type, digest: root.digest, size: root.size, annotations }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::mark::StagedRoot;

    fn image(seed: &str, names: &[&str], subject: Option<&str>) -> StagedImage {
        let digest = Digest::of(seed.as_bytes());
        let root = StagedRoot { media_type: media_type::OCI_MANIFEST.to_owned(), digest, size: 7 };
        let entry = |name: &&str| BTreeMap::from([(NAME_KEYS[0].to_owned(), (*name).to_owned())]);
        StagedImage {
            content: digest,
            root,
            entries: names.iter().map(entry).collect(),
            subject: subject.map(|subject| Digest::of(subject.as_bytes())),
            blobs: vec![digest],
            layers: Vec::new(),
        }
    }

    fn mark(used_at: i64, images: Vec<StagedImage>) -> Mark {
        Mark { used_at, images, ..Mark::new(None, "bundle".to_owned()) }
    }

    fn listed(marks: &[&Mark]) -> Vec<String> {
        let index: serde_json::Value = serde_json::from_slice(&index(marks)).unwrap();
        let digests: HashMap<String, &str> = ["old", "new", "same", "about-old", "about-new"]
            .map(|seed| (Digest::of(seed.as_bytes()).to_string(), seed))
            .into();
        let word = |entry: &serde_json::Value| {
            let name = entry["annotations"][NAME_KEYS[0]].as_str().unwrap();
            format!("{name} {}", digests[entry["digest"].as_str().unwrap()])
        };
        index["manifests"].as_array().unwrap().iter().map(word).collect()
    }

    #[test]
    fn a_name_stands_for_the_image_of_the_bundle_that_was_used_last() {
        let old = mark(
            1,
            vec![
                image("old", &["a:latest"], None),
                image("same", &["b:1"], None),
                image("about-old", &["a:latest"], Some("old")),
            ],
        );
        let new = mark(
            2,
            vec![
                image("new", &["a:latest", "a:2"], None),
                image("same", &["b:1"], None),
                image("about-new", &["a:2"], Some("new")),
            ],
        );
        let expected = ["a:latest new", "a:2 new", "b:1 same", "a:2 about-new"];
        assert_eq!(listed(&[&old, &new]), expected);
        assert_eq!(listed(&[&new, &old]), expected);
        assert_eq!(listed(&[&old]), ["a:latest old", "b:1 same", "a:latest about-old"]);
    }

    #[test]
    fn of_what_one_image_became_twice_the_later_is_listed_and_the_layers_of_both_are_known() {
        let mut mark = mark(1, Vec::new());
        let zstd = StagedImage { content: Digest::of(b"old"), ..image("new", &["a:1"], None) };
        mark.add(image("old", &["a:1"], None));
        mark.add(zstd.clone());
        mark.add(zstd);
        assert_eq!(mark.images.len(), 2);
        assert_eq!(listed(&[&mark]), ["a:1 new"]);
        assert!(!mark.keep_whole(|digest| *digest == Digest::of(b"old")));
        assert_eq!(mark.blobs(), [Digest::of(b"old")].into());
    }
}
