//! The files that a cluster's file names: whether they hold what nodes need. Looks at them, and never at a registry.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use crate::cluster::file::RegistryMirror;
use crate::document::{Finding, Findings, Severity};
use crate::node::render::NodeMirror;
use crate::registry::credentials;
use crate::tls::{Authorities, BadFile};

/// Why a file with the authority's certificate cannot be given to nodes.
pub(super) const KEY_INSIDE: &str = "a private key is in the file, which goes to every node";

/// What a look at a file gave.
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

/// That a file which can be read has nothing for a registry.
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

/// What is wrong with the files of a mirror, at the line of its endpoint.
pub(super) fn findings(file: &Path, mirror: &RegistryMirror) -> Vec<Finding> {
    let mut findings = Findings::new(file);
    let mut add = |severity, key: &str, message: String, fix: String| {
        findings.add(severity, "named-file", mirror.at, (format!("{key}: {message}"), fix));
    };
    // What no node can be told of.
    if let Err(refused) = NodeMirror::new(&mirror.endpoint, &mirror.upstreams()) {
        add(Severity::Error, "hosts", refused.to_string(), refused.hint.clone());
    }
    let mut judge = |key: &str, look: Look, fix: String| match look {
        Look::Good => {}
        Look::Unseen(why) => {
            add(
                Severity::Warning,
                key,
                why,
                "nothing, if it is right on the machine where it is read".to_owned(),
            );
        }
        Look::Wrong(why) => add(Severity::Error, key, why, fix),
    };
    if let Some(path) = &mirror.ca_cert_path {
        let fix = "caCertPath: the path of a file with the authority's certificate as PEM";
        judge("caCertPath", ca(path), fix.to_owned());
    }
    if let Some(path) = &mirror.pull_credential_config_path {
        let (key, host) = ("pullCredentialConfigPath", &mirror.host_port);
        let fix = format!("{key}: the path of a docker config.json with an entry for {host} in its auths");
        judge(key, pull_credentials(path, host), fix.clone());
        if let Some(why) = without_entry(path, host) {
            add(Severity::Warning, key, why, fix);
        }
    }
    findings.sorted()
}
