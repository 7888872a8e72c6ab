//! Under which names an image stands in the `index.json` of the stage, so that whoever reads it finds what the bundle said.
//! Pure.

use std::collections::BTreeMap;

use crate::archive::{Catalog, Image, ImageName};
use crate::oci::Digest;

const CONTAINERD_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotations of the entries of an image, and what it is about where it has no place of its own. No entries where the
/// image stands for an index of which the bundle has a part: under its name it would look whole.
pub(super) fn of(catalog: &Catalog, content: Digest) -> (Vec<BTreeMap<String, String>>, Option<Digest>) {
    let images = catalog.images.iter().filter(|image| image.content.key().digest() == content);
    let (mut entries, mut subject) = (Vec::new(), None);
    for image in images.filter(|image| image.partial.as_ref().is_none_or(|part| part.present.len() == 1)) {
        match &image.attachment {
            // Its own entry says what it is, and by a name of its image or its content what it is about.
            Some(attachment) => {
                subject = Some(attachment.subject);
                entries.push(image.annotations.clone());
            }
            None => entries.extend(named(image)),
        }
    }
    entries.dedup();
    (entries, subject)
}

fn named(image: &Image) -> Vec<BTreeMap<String, String>> {
    if image.names.is_empty() {
        return vec![image.annotations.clone()];
    }
    let with_name = |name: &ImageName| {
        let mut annotations = image.annotations.clone();
        annotations.remove(CONTAINERD_NAME);
        if let ImageName::Full(name) = name {
            annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
        }
        annotations.insert(REF_NAME.to_owned(), name.to_string());
        annotations
    };
    image.names.iter().map(with_name).collect()
}
