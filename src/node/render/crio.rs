//! CRI-O, Podman, Buildah and Skopeo: a drop-in of `registries.conf`.
//!
//! <https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md>

use std::fmt::Write as _;

use super::{NodeMirror, RenderRefusal, Rendered, RenderedFile};
use crate::document::Quoted;

#[allow(clippy::unnecessary_wraps)] // all renderers look alike
pub(super) fn render(mirror: &NodeMirror, is_crio: bool) -> Result<Rendered, RenderRefusal> {
    let mut text = mirror.head();
    let insecure = if mirror.is_plain() { "insecure = true\n" } else { "" };
    for upstream in mirror.upstreams() {
        let (host, place) = (Quoted(&upstream.host), mirror.place(upstream));
        let place = Quoted(&place);
        // `location` is who is asked last; `blocked` would block the mirrors too.
        let _ = if mirror.fallback {
            write!(
                text,
                "\n[[registry]]\nprefix = {host}\nlocation = {host}\n\n[[registry.mirror]]\nlocation = {place}\n{insecure}"
            )
        } else {
            write!(text, "\n[[registry]]\nprefix = {host}\nlocation = {place}\n{insecure}")
        };
    }
    let mut files =
        vec![RenderedFile::new("/etc/containers/registries.conf.d/50-layercast-mirror.conf", 0o644, text)];
    if let Some(authorities) = &mirror.authorities {
        let path = format!("/etc/containers/certs.d/{}/ca.crt", mirror.authority());
        files.push(RenderedFile::new(path, 0o644, authorities.pem()));
    }
    let mut notes = Vec::new();
    if is_crio {
        notes.push("reload CRI-O: systemctl reload crio".to_owned());
    }
    if mirror.credentials.is_some() {
        notes.push(format!(
            "registries.conf holds no passwords: log in to {} in the auth file of the runtime (podman login --authfile; \
             CRI-O's global_auth_file)",
            mirror.authority()
        ));
    }
    Ok(Rendered { files, notes })
}
