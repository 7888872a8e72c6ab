//! EKS Anywhere: `registryMirrorConfiguration` in the specification of its Cluster.
//!
//! <https://anywhere.eks.amazonaws.com/docs/getting-started/optional/registrymirror/>

use std::fmt::Write as _;

use super::text::block;
use super::{NodeMirror, RenderRefusal, Rendered, RenderedFile};
use crate::document::Quoted;

pub(super) fn render(mirror: &NodeMirror) -> Result<Rendered, RenderRefusal> {
    let refuse = |why: &str, hint: &str| RenderRefusal::new("eks-anywhere", why, hint);
    if mirror.is_plain() {
        return Err(refuse(
            "it speaks nothing but TLS to a mirror",
            "give the mirror a certificate, and its authority with --ca",
        ));
    }
    if !mirror.fallback {
        return Err(refuse(
            "its registryMirrorConfiguration has no setting that forbids the upstream",
            "keep the upstream out of the nodes' network or proxy instead",
        ));
    }
    let port = mirror.port();
    let authority = mirror.authority();
    let host = authority.strip_suffix(&format!(":{port}")).unwrap_or(&authority);
    let mut text = format!(
        "{}apiVersion: anywhere.eks.amazonaws.com/v1alpha1\nkind: Cluster\nspec:\n  registryMirrorConfiguration:\n    \
         endpoint: {}\n    port: \"{port}\"\n",
        mirror.head(),
        Quoted(host)
    );
    if mirror.upstreams().iter().any(|upstream| upstream.namespace.is_some()) {
        text.push_str("    ociNamespaces:\n");
        for upstream in mirror.upstreams() {
            let namespace = upstream.namespace.as_ref().map(ToString::to_string).unwrap_or_default();
            let _ = write!(
                text,
                "      - registry: {}\n        namespace: {}\n",
                Quoted(&upstream.host),
                Quoted(&namespace)
            );
        }
    }
    if let Some(authorities) = &mirror.authorities {
        let _ = write!(text, "    caCertContent: {}", block(&authorities.pem(), 6));
    }
    let mut notes = vec!["merge it into the Cluster of the cluster's own file".to_owned()];
    if text.contains("ociNamespaces") {
        notes.push("ociNamespaces must list every registry that is mirrored, public.ecr.aws of EKS Anywhere itself too".to_owned());
    } else {
        notes.push(
            "without a namespace EKS Anywhere mirrors the registries it knows, whichever --host names"
                .to_owned(),
        );
    }
    if mirror.credentials.is_some() {
        text.push_str("    authenticate: true\n");
        notes.push(
            "EKS Anywhere takes the credentials from REGISTRY_USERNAME and REGISTRY_PASSWORD".to_owned(),
        );
    }
    Ok(Rendered { files: vec![RenderedFile::new("layercast-mirror.yaml", 0o644, text)], notes })
}
