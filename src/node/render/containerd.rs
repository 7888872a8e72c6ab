//! containerd with `config_path`: `/etc/containerd/certs.d/HOST/hosts.toml`, the authorities beside it.
//!
//! The path is always written whole, with `override_path = true`: what is read the same by every version since 1.6, with a
//! namespace and without.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::{MirroredRegistry, NodeMirror, Options, RenderRefusal, Rendered, RenderedFile};
use crate::node::hosts::{Capability, FILE_NAME, HostSettings, HostsFile, Version, directory};

/// Where the tree lies on a node.
pub(super) const ROOT: &str = "/etc/containerd/certs.d";

/// A node waits this long for a mirror that does not answer, where that can be said; containerd would wait 30 s.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn render(mirror: &NodeMirror, options: &Options) -> Result<Rendered, RenderRefusal> {
    let files = tree(mirror, options)?;
    let files = files
        .into_iter()
        .map(|file| RenderedFile { path: format!("{ROOT}/{}", file.path), ..file })
        .collect();
    Ok(Rendered { files, notes: notes(mirror, options) })
}

/// What has to be said beside the tree, wherever it is installed.
pub(super) fn notes(mirror: &NodeMirror, options: &Options) -> Vec<String> {
    let mut notes = Vec::new();
    let table = |two: bool| {
        if two {
            "[plugins.\"io.containerd.cri.v1.images\".registry]"
        } else {
            "[plugins.\"io.containerd.grpc.v1.cri\".registry]"
        }
    };
    let set = |table: &str| {
        format!(
            "set config_path = \"{ROOT}\" under {table} in /etc/containerd/config.toml and restart containerd once"
        )
    };
    match options.containerd {
        Some(version) if version >= Version::DEFAULT_FOLDERS => notes.push(format!(
            "containerd {version} has a list of two folders by itself, and takes it for the name of one where it pulls as it \
             does by default: name one folder, {}",
            set(table(true))
        )),
        Some(version) => notes.push(format!(
            "containerd {version} reads the tree only where it is told to: {}",
            set(table(version >= Version::TWO))
        )),
        None => notes.push(format!(
            "containerd reads the tree only where it is told of this one folder: {} ({} in 2.x)",
            set(table(false)),
            table(true)
        )),
    }
    if mirror.credentials.is_some() {
        notes.push(
            "the password stands in hosts.toml, which only root may read (0600); a registry that hands out tokens may \
             refuse the header: then set the credentials in containerd's config.toml or as an image pull secret"
                .to_owned(),
        );
    }
    notes
}

/// The tree, with paths below its root.
pub(super) fn tree(mirror: &NodeMirror, options: &Options) -> Result<Vec<RenderedFile>, RenderRefusal> {
    let mut files = Vec::new();
    for upstream in mirror.upstreams() {
        check(mirror, upstream, options)?;
        let folder = directory::preferred(&upstream.host);
        let mode = if mirror.credentials.is_some() { 0o600 } else { 0o644 };
        let text = format!("{}{}", mirror.head(), file(mirror, upstream, options));
        files.push(RenderedFile::new(format!("{folder}/{FILE_NAME}"), mode, text));
        if let Some(authorities) = &mirror.authorities {
            files.push(RenderedFile::new(format!("{folder}/ca.crt"), 0o644, authorities.pem()));
        }
    }
    Ok(files)
}

fn check(mirror: &NodeMirror, upstream: &MirroredRegistry, options: &Options) -> Result<(), RenderRefusal> {
    let Some(version) = options.containerd.filter(|&version| version < Version::OVERRIDE_PATH) else {
        return Ok(());
    };
    if upstream.namespace.is_none() {
        return Ok(());
    }
    Err(RenderRefusal::new(
        format!("containerd {version}"),
        format!(
            "it would ask {}/v2/…: override_path, which says that a path is whole, came with 1.6",
            mirror.api(upstream)
        ),
        "upgrade containerd, give the mirror a root of its own, or render containerd-legacy, whose paths are taken as they stand",
    ))
}

fn file(mirror: &NodeMirror, upstream: &MirroredRegistry, options: &Options) -> HostsFile {
    let url = mirror.api(upstream);
    let settings = settings(mirror, options);
    if mirror.fallback {
        let server = if upstream.host == "docker.io" { "registry-1.docker.io" } else { &upstream.host };
        return HostsFile {
            server: Some(format!("https://{server}")),
            root: HostSettings::default(),
            hosts: vec![(url, settings)],
        };
    }
    // Whoever is `server` is asked last, and without one the upstream is: so the mirror is both. containerd before 2.0
    // ignores a file that has no [host] table.
    let tables = if options.containerd.is_some_and(|version| version >= Version::TWO) {
        Vec::new()
    } else {
        vec![(url.clone(), settings.clone())]
    };
    HostsFile { server: Some(url), root: settings, hosts: tables }
}

fn settings(mirror: &NodeMirror, options: &Options) -> HostSettings {
    let since = |version: Version| options.containerd.is_some_and(|given| given >= version);
    let mut capabilities = vec![Capability::Pull, Capability::Resolve];
    if since(Version::REFERRERS) {
        capabilities.push(Capability::Referrers);
    }
    let header = mirror.credentials.as_ref().map(|credentials| {
        let basic = SecretString::from(format!("Basic {}", credentials.basic().expose_secret()));
        BTreeMap::from([("Authorization".to_owned(), vec![basic])])
    });
    HostSettings {
        capabilities,
        // Relative to the file's folder: the tree may be tried out anywhere.
        ca: mirror.authorities.iter().map(|_| "ca.crt".to_owned()).collect(),
        override_path: true,
        dial_timeout: since(Version::DIAL_TIMEOUT).then_some(DIAL_TIMEOUT),
        header: header.unwrap_or_default(),
        ..HostSettings::default()
    }
}
