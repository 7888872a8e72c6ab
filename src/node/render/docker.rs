//! The Docker daemon: `daemon.json`. Its mirrors serve docker.io alone, at the root of a host, and it always falls back.
//!
//! <https://github.com/moby/moby/blob/master/daemon/pkg/registry/service_v2.go>

use super::{NodeMirror, RenderRefusal, Rendered, RenderedFile};

pub(super) fn render(mirror: &NodeMirror) -> Result<Rendered, RenderRefusal> {
    let refuse = |why: &str, hint: &str| RenderRefusal::new("docker", why, hint);
    for upstream in mirror.upstreams() {
        if upstream.host != "docker.io" {
            return Err(refuse(
                &format!(
                    "the daemon asks mirrors for docker.io alone: {upstream} would still be asked itself"
                ),
                "render it for docker.io, and name images of other registries by the mirror's own name",
            ));
        }
        if upstream.namespace.is_some() {
            return Err(refuse(
                "a mirror of the daemon must be the root of a host: it puts /v2 behind whatever path is given",
                "give docker.io a host or port of its own on the mirror",
            ));
        }
    }
    if !mirror.fallback {
        return Err(refuse(
            "the daemon always asks docker.io when the mirror does not have an image",
            "keep docker.io out of the node's network or proxy instead",
        ));
    }
    let mut daemon = serde_json::json!({ "registry-mirrors": [mirror.base()] });
    if mirror.is_plain() {
        daemon["insecure-registries"] = serde_json::json!([mirror.authority()]);
    }
    let mut files = vec![RenderedFile::new("/etc/docker/daemon.json", 0o644, format!("{daemon:#}\n"))];
    if let Some(authorities) = &mirror.authorities {
        let path = format!("/etc/docker/certs.d/{}/ca.crt", mirror.authority());
        files.push(RenderedFile::new(path, 0o644, authorities.pem()));
    }
    let mut notes = vec![
        "JSON has no comments, so the file does not say that layercast made it. Merge it into the node's daemon.json and \
         restart the daemon"
            .to_owned(),
    ];
    if mirror.credentials.is_some() {
        notes.push(
            "the daemon sends no credentials to mirrors: the mirror must let everybody pull".to_owned(),
        );
    }
    Ok(Rendered { files, notes })
}
