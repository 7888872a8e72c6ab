//! OpenShift: an ImageDigestMirrorSet and an ImageTagMirrorSet, and the authorities as a ConfigMap.
//!
//! <https://docs.redhat.com/en/documentation/openshift_container_platform/4.18/html/config_apis>

use std::fmt::Write as _;

use super::text::block;
use super::{NodeMirror, RenderRefusal, Rendered, RenderedFile};
use crate::document::Quoted;

pub(super) fn render(mirror: &NodeMirror) -> Result<Rendered, RenderRefusal> {
    if mirror.is_plain() {
        return Err(RenderRefusal::new(
            "openshift",
            "the machine configuration takes no plain HTTP mirror from a mirror set",
            "give the mirror a certificate, and its authority with --ca",
        ));
    }
    let policy = if mirror.fallback { "AllowContactingSource" } else { "NeverContactSource" };
    let mut text = mirror.head();
    let sets = [("ImageDigestMirrorSet", "imageDigestMirrors"), ("ImageTagMirrorSet", "imageTagMirrors")];
    for (number, (kind, field)) in sets.into_iter().enumerate() {
        let _ = write!(
            text,
            "{}apiVersion: config.openshift.io/v1\nkind: {kind}\nmetadata:\n  name: layercast-mirror\nspec:\n  {field}:\n",
            if number == 0 { "" } else { "---\n" }
        );
        for upstream in mirror.upstreams() {
            let _ = write!(
                text,
                "    - source: {}\n      mirrors:\n        - {}\n      mirrorSourcePolicy: {policy}\n",
                Quoted(&upstream.host),
                Quoted(&mirror.place(upstream))
            );
        }
    }
    let mut notes = vec![
        "the machine config operator writes this to every node, and may drain them one by one".to_owned(),
    ];
    if let Some(authorities) = &mirror.authorities {
        // A key of a ConfigMap has no colons: the operator wants two dots instead.
        let key = mirror.authority().replace(':', "..");
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: layercast-mirror-ca\n  namespace: openshift-config\ndata:\n  \
             {}: {}",
            Quoted(&key),
            block(&authorities.pem(), 4)
        );
        notes.push(
            "the authority counts once the cluster's image configuration names it: oc patch \
             image.config.openshift.io/cluster --type merge -p \
             '{\"spec\":{\"additionalTrustedCA\":{\"name\":\"layercast-mirror-ca\"}}}' (if it names another ConfigMap \
             already, add the key to that one)"
                .to_owned(),
        );
    }
    if mirror.credentials.is_some() {
        notes.push(format!(
            "credentials belong into the cluster's pull secret, under {}: oc set data secret/pull-secret -n openshift-config",
            mirror.authority()
        ));
    }
    Ok(Rendered { files: vec![RenderedFile::new("layercast-mirror.yaml", 0o644, text)], notes })
}
