//! The names of an image in the `index.json` of the stage: those that the bundle gives it. Pure.

use std::collections::BTreeMap;

use crate::archive::names::{CONTAINERD_NAME, HOSTLESS_NAME, REF_NAME};
use crate::archive::{Catalog, Image, ImageName};
use crate::oci::Digest;

/// The annotations of the entries of an image, and what it is about where it has no place of its own. No entries where the
/// image stands for an index of which the bundle has a part: under its name it would look whole.
pub(crate) fn of(catalog: &Catalog, content: Digest) -> (Vec<BTreeMap<String, String>>, Option<Digest>) {
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
        for key in [CONTAINERD_NAME, HOSTLESS_NAME] {
            annotations.remove(key);
        }
        let key = match name {
            ImageName::Full(_) => Some(CONTAINERD_NAME),
            ImageName::Hostless(..) | ImageName::HostlessDigest(..) => Some(HOSTLESS_NAME),
            ImageName::TagOnly(_) | ImageName::Invalid { .. } => None,
        };
        // Other tools look for the second.
        for key in key.into_iter().chain([REF_NAME]) {
            annotations.insert(key.to_owned(), name.to_string());
        }
        annotations
    };
    image.names.iter().map(with_name).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::archive::catalog::AttachmentKind;
    use crate::archive::names::from_annotations;
    use crate::archive::{Attachment, Content, PartialIndex};

    fn image(content: Digest, names: Vec<ImageName>) -> Image {
        Image {
            names,
            content: Content::Manifest(content),
            origin: String::new(),
            annotations: BTreeMap::from([("kind".to_owned(), "of its tool".to_owned())]),
            partial: None,
            attachment: None,
            unit: None,
        }
    }

    fn catalog(images: Vec<Image>) -> Catalog {
        Catalog { images, ..Catalog::default() }
    }

    #[test]
    fn whoever_reads_an_entry_finds_the_name_that_the_bundle_gave() {
        let digest = Digest::of(b"image");
        let names = vec![
            ImageName::Full("gcr.io/team/app:1".parse().unwrap()),
            ImageName::Full(format!("gcr.io/team/app@{digest}").parse().unwrap()),
            ImageName::Hostless("app".parse().unwrap(), "1".parse().unwrap()),
            ImageName::Hostless("gcr.io/team/app".parse().unwrap(), "1".parse().unwrap()),
            ImageName::HostlessDigest("team/app".parse().unwrap(), digest),
            ImageName::TagOnly("v1".parse().unwrap()),
        ];
        let catalog = catalog(vec![image(digest, names.clone()), image(Digest::of(b"other"), Vec::new())]);
        let (entries, subject) = of(&catalog, digest);
        let read: Vec<ImageName> = entries.iter().flat_map(from_annotations).collect();
        assert_eq!((read, subject), (names, None));
        assert!(entries.iter().all(|entry| entry["kind"] == "of its tool"));
        let nameless = of(&catalog, Digest::of(b"other")).0;
        assert_eq!(nameless, [BTreeMap::from([("kind".to_owned(), "of its tool".to_owned())])]);
    }

    #[test]
    fn an_attachment_says_what_it_is_about_and_a_part_of_an_index_is_not_listed() {
        let [main, about, part] = [&b"main"[..], b"about", b"part"].map(Digest::of);
        let attachment = Attachment { subject: main, kind: AttachmentKind::Signatures };
        let about_it = Image { attachment: Some(attachment), ..image(about, Vec::new()) };
        let present = vec![(main, "linux/amd64".to_owned()), (about, "linux/arm64".to_owned())];
        let index = PartialIndex { index: main, present, missing: vec!["linux/s390x".to_owned()] };
        let named = image(part, vec![ImageName::TagOnly("v1".parse().unwrap())]);
        let catalog = catalog(vec![about_it, Image { partial: Some(Arc::new(index)), ..named }]);
        let (entries, subject) = of(&catalog, about);
        assert_eq!((entries.len(), subject), (1, Some(main)));
        assert_eq!(of(&catalog, part), (Vec::new(), None));
    }
}
