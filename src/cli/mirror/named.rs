//! Checks that the files which a cluster's file names hold what nodes need. Asks no registry.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use crate::cluster::file::{NamedFile, RegistryMirror};
use crate::document::{Finding, Findings, Severity};
use crate::node::render::NodeMirror;
use crate::registry::credentials;
use crate::tls::{Authorities, BadFile};

/// Why a file with the authority's certificate cannot be given to nodes.
pub(super) const KEY_INSIDE: &str = "a private key is in the file, which goes to every node";

/// Keys of the cluster's file.
pub(super) const CA: &str = "caCertPath";
pub(super) const PULL_CREDENTIALS: &str = "pullCredentialConfigPath";

/// The result of checking a file.
#[derive(Debug)]
pub(super) enum Look {
    /// It is what it should be.
    Good,
    /// It is not here, or not for this user: it may be right where it is read.
    Unseen(String),
    /// It is something else.
    Wrong(String),
}

/// The authority of a registry.
pub(super) fn ca(path: &Path) -> Look {
    match Authorities::read(path) {
        Ok(file) if file.holds_key() => Look::Wrong(format!("{}: {KEY_INSIDE}", path.display())),
        Ok(_) => Look::Good,
        Err(BadFile { io: Some(kind), why, .. }) => failed(path, &std::io::Error::new(kind, why)),
        Err(bad) => Look::Wrong(bad.to_string()),
    }
}

/// What nodes pull with from `host`.
pub(super) fn pull_credentials(path: &Path, host: &str) -> Look {
    if let Err(error) = File::open(path) {
        return failed(path, &error);
    }
    match credentials::has_entry(path, host) {
        Ok(_) => Look::Good,
        Err(error) => Look::Wrong(error.to_string()),
    }
}

/// The finding for a readable file that has nothing for a registry.
pub(super) fn without_entry(path: &Path, host: &str) -> Option<String> {
    let has = credentials::has_entry(path, host).unwrap_or(true);
    (!has).then(|| format!("{} has no entry for {host}: nodes pull without credentials", path.display()))
}

fn failed(path: &Path, error: &std::io::Error) -> Look {
    let words = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::NotFound => Look::Unseen(format!("{} is not on this machine", path.display())),
        ErrorKind::PermissionDenied => Look::Unseen(words),
        _ => Look::Wrong(words),
    }
}

/// The mistakes in the files of a mirror, each at the line that names the file.
pub(super) fn findings(file: &Path, mirror: &RegistryMirror) -> Vec<Finding> {
    let mut findings = Findings::new(file);
    let mut add = |severity, at, key: &str, message: String, fix: String| {
        findings.add(severity, "named-file", at, (format!("{key}: {message}"), fix));
    };
    // What no node can be told of.
    if let Err(refused) = NodeMirror::new(&mirror.endpoint, &mirror.upstreams()) {
        add(Severity::Error, mirror.at, "hosts", refused.to_string(), refused.hint.clone());
    }
    for Needed { key, file, look, fix } in needed(mirror) {
        match look {
            Look::Good => {}
            Look::Unseen(why) => {
                let fix = "nothing, if it is right on the machine where it is read".to_owned();
                add(Severity::Warning, file.at, key, why, fix);
            }
            Look::Wrong(why) => add(Severity::Error, file.at, key, why, fix),
        }
    }
    if let Some(NamedFile { path, at }) = &mirror.pull_credential_config_path
        && let Some(why) = without_entry(path, &mirror.host_port)
    {
        let fix = fix_credentials(&mirror.host_port);
        add(Severity::Warning, *at, PULL_CREDENTIALS, why, fix);
    }
    findings.sorted()
}

/// A file that a mirror names, looked at.
pub(super) struct Needed<'m> {
    pub(super) key: &'static str,
    pub(super) file: &'m NamedFile,
    pub(super) look: Look,
    /// The correction, where it is something else.
    pub(super) fix: String,
}

/// The files that a mirror names.
pub(super) fn needed(mirror: &RegistryMirror) -> Vec<Needed<'_>> {
    let ca = mirror.ca_cert_path.as_ref().map(|file| Needed {
        key: CA,
        file,
        look: ca(&file.path),
        fix: format!("{CA}: the path of a file with the authority's certificate as PEM"),
    });
    let host = &mirror.host_port;
    let credentials = mirror.pull_credential_config_path.as_ref().map(|file| Needed {
        key: PULL_CREDENTIALS,
        file,
        look: pull_credentials(&file.path, host),
        fix: fix_credentials(host),
    });
    ca.into_iter().chain(credentials).collect()
}

fn fix_credentials(host: &str) -> String {
    format!("{PULL_CREDENTIALS}: the path of a docker config.json with an entry for {host} in its auths")
}
