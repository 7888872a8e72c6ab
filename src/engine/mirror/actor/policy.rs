//! What may be done on one mirror. Pure.

use crate::engine::mirror::probe::TagMove;
use crate::engine::{Care, Verification};
use crate::hook::Hook;
use crate::oci::Manifest;

/// What may be done on one mirror, and in which order.
#[derive(Debug)]
pub(in crate::engine::mirror) struct Policy {
    /// No tag moves unless every image of the mirror is complete.
    pub(in crate::engine::mirror) atomic_tags: bool,
    /// How far the mirror's word is trusted, and whether tags are overwritten.
    pub(in crate::engine::mirror) care: Care,
    /// Judges images before their tags move.
    pub(in crate::engine::mirror) gate: Option<Hook>,
}

impl Policy {
    /// Whether the root of an image with tags is put when its tags move and not before.
    pub(super) fn is_put_by_tag(&self, root: &Manifest) -> bool {
        root.subject.is_none()
            && !self.atomic_tags
            && self.gate.is_none()
            && match self.care.verification {
                Verification::None => true,
                Verification::Sample => root.children().is_empty(),
                Verification::Pull => false,
            }
    }

    /// What a tag points at that `--no-overwrite` keeps there.
    pub(super) fn kept(&self, moved: &TagMove) -> Option<String> {
        moved.replaced().filter(|_| self.care.no_overwrite)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::mirror::probe::Replaced;
    use crate::oci::{Digest, media_type};

    fn manifest(json: &str, media_type: &str) -> Manifest {
        let json = json.replace("DIGEST", &Digest::of(b"").to_string());
        Manifest::parse(Bytes::from(json), media_type).unwrap()
    }

    fn policy(verification: Verification) -> Policy {
        let care = Care { verification, ..Care::default() };
        Policy { atomic_tags: false, care, gate: None }
    }

    #[test]
    fn a_root_is_put_by_its_tags_alone_where_nothing_needs_it_by_its_digest_before() {
        let image = r#"{"schemaVersion":2,"config":{"digest":"DIGEST","size":0}}"#;
        let image = manifest(image, media_type::OCI_MANIFEST);
        let child =
            r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"DIGEST","size":0}"#;
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{child}]}}"#);
        let index = manifest(&index, media_type::OCI_INDEX);
        let signature = r#"{"schemaVersion":2,"config":{"digest":"DIGEST","size":0},"subject":{"digest":"DIGEST","size":0}}"#;
        let signature = manifest(signature, media_type::OCI_MANIFEST);
        for (verification, by_tag) in [
            (Verification::None, [true, true, false]),
            (Verification::Sample, [true, false, false]),
            (Verification::Pull, [false, false, false]),
        ] {
            let policy = policy(verification);
            assert_eq!([&image, &index, &signature].map(|root| policy.is_put_by_tag(root)), by_tag);
            let atomic = Policy { atomic_tags: true, ..policy };
            assert!(!atomic.is_put_by_tag(&image), "all manifests are taken before the first tag moves");
        }
    }

    #[test]
    fn only_a_tag_that_stands_for_something_is_kept_and_only_where_that_was_asked_for() {
        let tag_move = |replaces| TagMove { tag: "1".parse().unwrap(), replaces };
        let mut policy = policy(Verification::Sample);
        let other = tag_move(Replaced::Manifest(Some(Digest::of(b"other"))));
        assert_eq!(policy.kept(&other), None);
        policy.care.no_overwrite = true;
        assert_eq!(policy.kept(&other), Some(Digest::of(b"other").to_string()));
        assert!(policy.kept(&tag_move(Replaced::Manifest(None))).is_some());
        assert_eq!(policy.kept(&tag_move(Replaced::Nothing)), None);
    }
}
