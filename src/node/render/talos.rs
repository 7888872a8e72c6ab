//! Talos: documents of their own from 1.12 on, a patch of `machine.registries` before.
//!
//! <https://docs.siderolabs.com/talos/v1.12/reference/configuration/cri/registrymirrorconfig>

use std::fmt::Write as _;

use base64::Engine as _;
use secrecy::ExposeSecret as _;

use super::text::block;
use super::{NodeMirror, Rendered, RenderedFile};
use crate::document::Quoted;

fn rendered(mirror: &NodeMirror, text: String) -> Rendered {
    let mode = if mirror.credentials.is_some() { 0o600 } else { 0o644 };
    let notes = vec!["apply it with talosctl patch machineconfig --patch @layercast-mirror.yaml".to_owned()];
    Rendered { files: vec![RenderedFile::new("layercast-mirror.yaml", mode, text)], notes }
}

pub(super) fn documents(mirror: &NodeMirror) -> Rendered {
    let mut text = mirror.head();
    for (number, upstream) in mirror.upstreams().iter().enumerate() {
        let _ = write!(
            text,
            "{}apiVersion: v1alpha1\nkind: RegistryMirrorConfig\nname: {}\nendpoints:\n  - url: {}\n    overridePath: true\n",
            if number == 0 { "" } else { "---\n" },
            Quoted(&upstream.host),
            Quoted(&mirror.api(upstream))
        );
        if !mirror.fallback {
            text.push_str("skipFallback: true\n");
        }
    }
    let authority = mirror.authority();
    if let Some(authorities) = &mirror.authorities {
        let _ = write!(
            text,
            "---\napiVersion: v1alpha1\nkind: RegistryTLSConfig\nname: {}\nca: {}",
            Quoted(&authority),
            block(&authorities.pem(), 2)
        );
    }
    if let Some(credentials) = &mirror.credentials {
        let _ = write!(
            text,
            "---\napiVersion: v1alpha1\nkind: RegistryAuthConfig\nname: {}\nusername: {}\npassword: {}\n",
            Quoted(&authority),
            Quoted(&credentials.username),
            Quoted(credentials.password.expose_secret())
        );
    }
    rendered(mirror, text)
}

pub(super) fn patch(mirror: &NodeMirror) -> Rendered {
    let mut text = format!("{}machine:\n  registries:\n    mirrors:\n", mirror.head());
    for upstream in mirror.upstreams() {
        let _ = write!(
            text,
            "      {}:\n        endpoints:\n          - {}\n        overridePath: true\n",
            Quoted(&upstream.host),
            Quoted(&mirror.api(upstream))
        );
        if !mirror.fallback {
            text.push_str("        skipFallback: true\n");
        }
    }
    if mirror.authorities.is_some() || mirror.credentials.is_some() {
        let _ = write!(text, "    config:\n      {}:\n", Quoted(&mirror.authority()));
    }
    if let Some(authorities) = &mirror.authorities {
        let encoded = base64::engine::general_purpose::STANDARD.encode(authorities.pem());
        let _ = write!(text, "        tls:\n          ca: {encoded}\n");
    }
    if let Some(credentials) = &mirror.credentials {
        let _ = write!(
            text,
            "        auth:\n          username: {}\n          password: {}\n",
            Quoted(&credentials.username),
            Quoted(credentials.password.expose_secret())
        );
    }
    rendered(mirror, text)
}
