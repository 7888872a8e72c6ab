use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value, json};

use super::*;
use crate::archive::build::{Blobs, MANIFEST, space, tar_of};
use crate::archive::{Catalog, Limits, read};

const SIGNATURE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

fn catalog(blobs: &Blobs, listed: &[Value]) -> Catalog {
    let space = space(tar_of(&blobs.layout("", listed)));
    read(&space, &|stored: Arc<_>| Ok(stored), &Limits::default(), &|_| {}).unwrap()
}

/// A manifest of one layer, as cosign writes it; gives its descriptor.
fn statement(blobs: &mut Blobs, layer: &Value, media_type: &str) -> Value {
    let config = blobs.document(&json!({"rootfs": {"diff_ids": []}, "of": layer}), "application/json");
    let layer = blobs.document(layer, media_type);
    blobs.document(&json!({"schemaVersion": 2, "config": config, "layers": [layer]}), MANIFEST)
}

fn signature_of(blobs: &mut Blobs, image: &Value) -> Value {
    let layer = json!({"critical": {"image": {"docker-manifest-digest": image["digest"]}}});
    statement(blobs, &layer, SIGNATURE)
}

fn attestation_of(blobs: &mut Blobs, image: &Value) -> Value {
    let hex = image["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let payload = STANDARD.encode(json!({"subject": [{"digest": {"sha256": hex}}]}).to_string());
    statement(blobs, &json!({ "payload": payload }), ENVELOPE)
}

/// A manifest that refers to an image.
fn referrer_of(blobs: &mut Blobs, image: &Value) -> Value {
    let config = blobs.document(&json!({}), "application/vnd.oci.empty.v1+json");
    let subject = json!({"mediaType": MANIFEST, "digest": image["digest"], "size": image["size"]});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [], "subject": subject});
    blobs.document(&manifest, MANIFEST)
}

fn noted(mut descriptor: Value, annotations: &[(&str, &str)]) -> Value {
    descriptor["annotations"] = annotations.iter().copied().collect();
    descriptor
}

/// As hauler writes its entries: each under the name of the image.
fn hauled(descriptor: &Value, kind: &str, name: &str) -> Value {
    let path = name.split_once('/').unwrap().1;
    let annotations =
        [("kind", kind), ("org.opencontainers.image.ref.name", path), ("io.containerd.image.name", name)];
    noted(descriptor.clone(), &annotations)
}

/// What is attached to what, by the digests of what is attached.
fn attached(catalog: &Catalog) -> BTreeMap<String, (AttachmentKind, String)> {
    assert!(catalog.broken.is_empty(), "{:?}", catalog.broken);
    let attached = catalog.images.iter().filter_map(|image| {
        let attachment = image.attachment.as_ref()?;
        assert!(image.names.is_empty(), "{image:?}");
        let crate::archive::Content::Manifest(digest) = image.content else { panic!("{image:?}") };
        Some((digest.to_string(), (attachment.kind, attachment.subject.to_string())))
    });
    attached.collect()
}

fn text(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().to_owned()
}

fn expect(
    attached: &BTreeMap<String, (AttachmentKind, String)>,
    wanted: &[(&Value, AttachmentKind, &Value)],
) {
    let wanted: BTreeMap<String, (AttachmentKind, String)> =
        wanted.iter().map(|(what, kind, subject)| (text(what), (*kind, text(subject)))).collect();
    assert_eq!(*attached, wanted);
}

#[test]
fn entries_of_a_haul_under_the_name_of_an_image_are_attached_to_it() {
    for maker in ["dev.hauler", "dev.cosignproject.cosign"] {
        let mut blobs = Blobs::default();
        let (first, second) = (blobs.image("first", &["1"]), blobs.image("second", &["2"]));
        let index = blobs.index(&[first.clone(), second.clone()]);
        // What the bytes say counts less than where hauler found them.
        let signature = signature_of(&mut blobs, &first);
        let attestation = statement(&mut blobs, &json!({"payload": "e30="}), ENVELOPE);
        let bill = statement(&mut blobs, &json!({"spdxVersion": "SPDX-2.3"}), "text/spdx+json");
        let referrer = referrer_of(&mut blobs, &index);
        let name = "quay.io/team/app:1";
        let of = |descriptor: &Value, kind: &str| hauled(descriptor, &format!("{maker}/{kind}"), name);
        let hex = text(&referrer)[7..].to_owned();
        let listed = [
            of(&signature, "sigs"),
            of(&index, "imageIndex"),
            of(&attestation, "atts"),
            of(&bill, "sboms"),
            of(&referrer, &format!("referrers/{hex}")),
            hauled(&second, &format!("{maker}/image"), "quay.io/team/other:1"),
        ];
        let catalog = catalog(&blobs, &listed);
        expect(
            &attached(&catalog),
            &[
                (&signature, AttachmentKind::Signatures, &index),
                (&attestation, AttachmentKind::Attestations, &index),
                (&bill, AttachmentKind::Sbom, &index),
                (&referrer, AttachmentKind::Referrer, &index),
            ],
        );
        let named = catalog.images.iter().flat_map(|image| &image.names).map(ToString::to_string);
        assert_eq!(named.collect::<Vec<_>>(), [name, "quay.io/team/other:1"]);
    }
}

#[test]
fn what_cosign_saves_without_a_name_is_attached_to_the_one_image() {
    let mut blobs = Blobs::default();
    let image = blobs.image("app", &["1"]);
    let signature = statement(&mut blobs, &json!({"critical": {}}), SIGNATURE);
    // Kept among the blobs, and listed nowhere.
    let referrer = referrer_of(&mut blobs, &image);
    let cosign = |descriptor: &Value, kind| {
        noted(descriptor.clone(), &[("kind", &format!("dev.cosignproject.cosign/{kind}"))])
    };
    let catalog = catalog(&blobs, &[cosign(&image, "image"), cosign(&signature, "sigs")]);
    expect(&attached(&catalog), &[(&signature, AttachmentKind::Signatures, &image)]);
    let digest: Digest = text(&referrer).parse().unwrap();
    assert!(catalog.manifests[&digest].subject.is_some());
    assert_eq!(catalog.images.len(), 3);
}

#[test]
fn layers_and_statements_tell_where_no_annotation_does() {
    let mut blobs = Blobs::default();
    let (old, new) = (blobs.image("old", &["1"]), blobs.image("new", &["2"]));
    let signature = signature_of(&mut blobs, &new);
    let attestation = attestation_of(&mut blobs, &new);
    let referrer = referrer_of(&mut blobs, &new);
    let name =
        |descriptor: &Value, name| noted(descriptor.clone(), &[("org.opencontainers.image.ref.name", name)]);
    let shared = "quay.io/team/app:1";
    // Two images of one name: what is about which of them stands in the statements.
    let listed = [&old, &new, &signature, &attestation, &referrer].map(|it| name(it, shared));
    let wanted = [
        (&signature, AttachmentKind::Signatures, &new),
        (&attestation, AttachmentKind::Attestations, &new),
        (&referrer, AttachmentKind::Referrer, &new),
    ];
    expect(&attached(&catalog(&blobs, &listed)), &wanted);
    // Without names; a manifest with a subject needs nothing else.
    let listed = [name(&new, shared), signature.clone(), attestation.clone(), referrer.clone()];
    expect(&attached(&catalog(&blobs, &listed)), &wanted[..2]);
}

#[test]
fn what_has_a_name_of_its_own_stands_for_itself() {
    let mut blobs = Blobs::default();
    let image = blobs.image("app", &["1"]);
    let signature = signature_of(&mut blobs, &image);
    let bill = statement(&mut blobs, &json!({"spdxVersion": "SPDX-2.3"}), "text/spdx+json");
    let own = |descriptor: &Value, name: &str| {
        noted(descriptor.clone(), &[("org.opencontainers.image.ref.name", name)])
    };
    let tag = format!("quay.io/team/app:{}.sig", text(&image).replace(':', "-"));
    let listed =
        [own(&image, "quay.io/team/app:1"), own(&signature, &tag), own(&bill, "quay.io/team/bill:1")];
    let catalog = catalog(&blobs, &listed);
    assert!(attached(&catalog).is_empty());
    assert_eq!(catalog.images.iter().filter(|image| image.names.len() == 1).count(), 3);
    // Alone in a layout it is what the layout is for.
    assert!(attached(&self::catalog(&blobs, &[signature])).is_empty());
}

#[test]
fn a_tag_is_made_of_the_digest_as_cosign_makes_it() {
    let of = |subject: Digest, kind| Attachment { subject, kind }.tag().map(|tag| tag.to_string());
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let subject = Digest::of(b"");
    assert_eq!(of(subject, AttachmentKind::Signatures), Some(format!("sha256-{hex}.sig")));
    assert_eq!(of(subject, AttachmentKind::Attestations), Some(format!("sha256-{hex}.att")));
    assert_eq!(of(subject, AttachmentKind::Sbom), Some(format!("sha256-{hex}.sbom")));
    assert_eq!(of(subject, AttachmentKind::Referrer), None);
    // Longer than a tag may be.
    assert_eq!(of(Digest::Sha512([0; 64]), AttachmentKind::Signatures), None);
}
