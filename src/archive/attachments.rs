//! Content of a layout that describes other images in it: cosign's signatures, attestations and SBOMs, and manifests that
//! refer to an image.
//!
//! `cosign save` and hauler list them beside their image, under its name or under none, and tell them apart by the
//! annotation `kind` of the entry; other tools by the types of the layers alone. On a registry cosign finds them by a tag
//! that is made of the digest of their image
//! ([signature spec](https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md#tag-based-discovery)), the
//! others are found by the digest in their `subject`.
//!
//! In: the images of a layout. Out: the same images; an attachment no longer has the name of its image.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::archive::catalog::{Attachment, AttachmentKind, ImageName};
use crate::archive::pool::Pool;
use crate::archive::{Listed, names};
use crate::oci::manifest::Kind;
use crate::oci::{Digest, Manifest};

/// A signature has some hundred bytes. Longer documents are not read for their subject.
const MAX_STATEMENT_BYTES: u64 = 64 << 10;

/// The kind of an entry.
struct Claim {
    kind: AttachmentKind,
    /// Its annotation says so.
    is_declared: bool,
    /// The `subject` of the manifest.
    refers_to: Option<Digest>,
}

/// An image that attachments may describe.
struct Main {
    digest: Digest,
    names: Vec<ImageName>,
}

/// Finds the attachments among what a layout lists.
pub(super) fn assign(listed: &mut [Listed], pool: &Pool<'_>) {
    let claims: Vec<Option<Claim>> = listed.iter().map(|image| claim(image, pool)).collect();
    if claims.iter().all(Option::is_none) {
        return;
    }
    let unclaimed = listed.iter().zip(&claims).filter(|(_, claim)| claim.is_none()).map(|(image, _)| image);
    let mains: Vec<Main> =
        unclaimed.map(|image| Main { digest: image.digest, names: image.names.clone() }).collect();
    for (image, claim) in listed.iter_mut().zip(claims) {
        let Some(claim) = claim else { continue };
        let Some(subject) = subject_of(image, &claim, &mains, pool) else { continue };
        let is_shared = |name: &ImageName| mains.iter().any(|main| main.names.contains(name));
        image.names.retain(|name| !is_shared(name));
        image.attachment = Some(Attachment { subject, kind: claim.kind });
    }
}

/// The kind of an entry by its annotation, or by its bytes.
fn claim(image: &Listed, pool: &Pool<'_>) -> Option<Claim> {
    let manifest = pool.manifest(&image.digest);
    let refers_to = manifest.as_ref().and_then(|it| it.subject.as_ref()).map(|subject| subject.digest);
    let declared = names::kind(&image.annotations).and_then(declared);
    let referrer = refers_to.map(|_| AttachmentKind::Referrer);
    let kind = declared.or(referrer).or_else(|| by_layers(manifest.as_deref()?))?;
    Some(Claim { kind, is_declared: declared.is_some(), refers_to })
}

/// The word of an annotation `dev.cosignproject.cosign/sigs`, `dev.hauler/referrers/<hex>` and the like.
fn declared(kind: &str) -> Option<AttachmentKind> {
    match kind.split('/').nth(1)? {
        "sigs" => Some(AttachmentKind::Signatures),
        "atts" => Some(AttachmentKind::Attestations),
        "sboms" => Some(AttachmentKind::Sbom),
        "referrers" => Some(AttachmentKind::Referrer),
        _ => None,
    }
}

/// The kind of a manifest whose layers are all statements of one kind.
fn by_layers(manifest: &Manifest) -> Option<AttachmentKind> {
    let Kind::Image { layers, .. } = &manifest.kind else { return None };
    let kind_of = |media_type: &str| match media_type {
        "application/vnd.dev.cosign.simplesigning.v1+json" => Some(AttachmentKind::Signatures),
        "application/vnd.dsse.envelope.v1+json" => Some(AttachmentKind::Attestations),
        "text/spdx"
        | "text/spdx+xml"
        | "text/spdx+json"
        | "application/vnd.cyclonedx"
        | "application/vnd.cyclonedx+xml"
        | "application/vnd.cyclonedx+json"
        | "application/vnd.syft+json" => Some(AttachmentKind::Sbom),
        _ => None,
    };
    let kind = kind_of(&layers.first()?.media_type)?;
    layers.iter().all(|layer| kind_of(&layer.media_type) == Some(kind)).then_some(kind)
}

/// The image that the first statement of a signature or attestation is about.
fn stated(manifest: &Manifest, pool: &Pool<'_>) -> Option<Digest> {
    let Kind::Image { layers, .. } = &manifest.kind else { return None };
    let statement = pool.small_blob(layers.first()?, MAX_STATEMENT_BYTES)?;
    let json: Value = serde_json::from_slice(&statement).ok()?;
    let signed = &json["critical"]["image"]["docker-manifest-digest"];
    if let Some(digest) = signed.as_str() {
        return digest.parse().ok();
    }
    let payload = STANDARD.decode(json["payload"].as_str()?).ok()?;
    let attested: Value = serde_json::from_slice(&payload).ok()?;
    format!("sha256:{}", attested["subject"][0]["digest"]["sha256"].as_str()?).parse().ok()
}

/// The image that an entry describes, if it is an attachment.
fn subject_of(image: &Listed, claim: &Claim, mains: &[Main], pool: &Pool<'_>) -> Option<Digest> {
    let distinct = |mains: &mut dyn Iterator<Item = &Main>| -> BTreeSet<Digest> {
        mains.map(|main| main.digest).filter(|digest| *digest != image.digest).collect()
    };
    let shares_name = |main: &&Main| main.names.iter().any(|name| image.names.contains(name));
    let shared = distinct(&mut mains.iter().filter(shares_name));
    if claim.kind == AttachmentKind::Referrer {
        // Without a name of another one it is found by its subject, wherever in the bundle that is.
        let is_under_another_name = claim.is_declared || !shared.is_empty();
        return claim.refers_to.or(only(&shared)).filter(|_| is_under_another_name);
    }
    if let Some(only) = only(&shared) {
        return Some(only);
    }
    let is_known = |digest: &Digest| shared.contains(digest) || pool.manifest(digest).is_some();
    let stated =
        || claim.refers_to.or_else(|| pool.manifest(&image.digest).and_then(|it| self::stated(&it, pool)));
    if (!shared.is_empty() || image.names.is_empty())
        && let Some(stated) = stated().filter(is_known)
    {
        return Some(stated);
    }
    // `cosign save` saves one image.
    let all = distinct(&mut mains.iter());
    only(&all).filter(|_| claim.is_declared && image.names.is_empty())
}

fn only(digests: &BTreeSet<Digest>) -> Option<Digest> {
    digests.first().copied().filter(|_| digests.len() == 1)
}

#[cfg(test)]
mod tests;
