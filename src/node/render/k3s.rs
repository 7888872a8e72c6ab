//! k3s and RKE2: `registries.yaml`. The endpoint is the root; a namespace is a rewrite of the repository's name.
//!
//! <https://docs.k3s.io/installation/private-registry>

use std::fmt::Write as _;

use secrecy::ExposeSecret as _;

use super::{NodeMirror, RenderRefusal, Rendered, RenderedFile};
use crate::document::Quoted;

#[allow(clippy::unnecessary_wraps)] // all renderers look alike
pub(super) fn render(mirror: &NodeMirror, product: &str) -> Result<Rendered, RenderRefusal> {
    let folder = format!("/etc/rancher/{product}");
    let mut text = format!("{}mirrors:\n", mirror.head());
    for upstream in mirror.upstreams() {
        let _ = write!(
            text,
            "  {}:\n    endpoint:\n      - {}\n",
            Quoted(&upstream.host),
            Quoted(&mirror.base())
        );
        if let Some(namespace) = &upstream.namespace {
            let _ = write!(text, "    rewrite:\n      \"^(.*)$\": {}\n", Quoted(&format!("{namespace}/$1")));
        }
    }
    let mut files = Vec::new();
    if mirror.authorities.is_some() || mirror.credentials.is_some() {
        let _ = write!(text, "configs:\n  {}:\n", Quoted(&mirror.authority()));
    }
    if let Some(credentials) = &mirror.credentials {
        let _ = write!(
            text,
            "    auth:\n      username: {}\n      password: {}\n",
            Quoted(&credentials.username),
            Quoted(credentials.password.expose_secret())
        );
    }
    if let Some(authorities) = &mirror.authorities {
        let path = format!("{folder}/layercast-mirror-ca.crt");
        let _ = write!(text, "    tls:\n      ca_file: {}\n", Quoted(&path));
        files.push(RenderedFile::new(path, 0o644, authorities.pem()));
    }
    files.insert(0, RenderedFile::new(format!("{folder}/registries.yaml"), 0o600, text));
    let mut notes = vec![format!("restart {product} on the node: it reads the file when it starts")];
    if !mirror.fallback {
        let text = format!("{}disable-default-registry-endpoint: true\n", mirror.head());
        files.push(RenderedFile::new(
            format!("{folder}/config.yaml.d/50-layercast-mirror.yaml"),
            0o600,
            text,
        ));
        notes.push(
            "disable-default-registry-endpoint counts for every registry that has a mirror on this node"
                .to_owned(),
        );
    }
    Ok(Rendered { files, notes })
}
