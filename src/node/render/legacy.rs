//! containerd without `config_path`: `registry.mirrors` in `config.toml`. Paths are taken as they stand, the upstream is
//! always asked last, and 2.x has no `tls` tables any more.
//!
//! <https://github.com/containerd/containerd/blob/v1.7.0/docs/cri/registry.md>

use std::fmt::Write as _;

use secrecy::ExposeSecret as _;

use super::{NodeMirror, Options, RenderRefusal, Rendered, RenderedFile};
use crate::document::Quoted;
use crate::node::hosts::{Version, directory};

pub(super) fn render(mirror: &NodeMirror, options: &Options) -> Result<Rendered, RenderRefusal> {
    if !mirror.fallback {
        return Err(RenderRefusal::new(
            "containerd-legacy",
            "containerd adds the upstream after the mirrors of config.toml, and no setting keeps it from that",
            "render containerd (hosts.toml), where the mirror can take the upstream's place",
        ));
    }
    let two = options.containerd.is_some_and(|version| version >= Version::TWO);
    let (version, plugin) =
        if two { (3, "io.containerd.cri.v1.images") } else { (2, "io.containerd.grpc.v1.cri") };
    let registry = format!("plugins.{}.registry", Quoted(plugin));
    let mut notes = vec![
        "merge these tables into the node's /etc/containerd/config.toml and restart containerd. They exclude config_path: \
         with both, containerd does not start"
            .to_owned(),
    ];
    let mut text = format!("{}version = {version}\n", mirror.head());
    for upstream in mirror.upstreams() {
        let _ = write!(
            text,
            "\n[{registry}.mirrors.{}]\n  endpoint = [{}]\n",
            Quoted(&upstream.host),
            Quoted(&mirror.api(upstream))
        );
    }
    let configs = format!("{registry}.configs.{}", Quoted(&mirror.authority()));
    let mut files = Vec::new();
    if let Some(authorities) = &mirror.authorities {
        let path = format!("/etc/containerd/mirror-ca/{}.crt", directory::preferred(&mirror.authority()));
        if two {
            notes.push(format!(
                "containerd 2.x has no tls tables in config.toml: put {path} into the node's own trust store, or render \
                 containerd (hosts.toml)"
            ));
        } else {
            let _ = write!(text, "\n[{configs}.tls]\n  ca_file = {}\n", Quoted(&path));
        }
        files.push(RenderedFile::new(path, 0o644, authorities.pem()));
    }
    if let Some(credentials) = &mirror.credentials {
        let password = credentials.password.expose_secret();
        let _ = write!(
            text,
            "\n[{configs}.auth]\n  username = {}\n  password = {}\n",
            Quoted(&credentials.username),
            Quoted(password)
        );
    }
    let mode = if mirror.credentials.is_some() { 0o600 } else { 0o644 };
    files.insert(0, RenderedFile::new("/etc/containerd/config.toml", mode, text));
    if options.containerd.is_none_or(|version| version >= Version::TWO) {
        notes.push(
            "2.x calls these tables deprecated and will drop them: hosts.toml is what stays".to_owned(),
        );
    }
    Ok(Rendered { files, notes })
}
