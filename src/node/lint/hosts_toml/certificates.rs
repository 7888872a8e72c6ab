//! Certificates that a host names: authorities, and pairs of client certificates as Go's `tls.X509KeyPair` takes them.

use std::path::Path;

use super::super::{Certificate, FileFindings, NodeFiles};
use super::position_of;
use crate::document::Node;
use crate::node::hosts::{Host, HostSettings};

const EFFECT: &str = "containerd sets up all hosts before it asks the first: every pull from this registry fails, and does not fall back";

pub(super) fn check(
    findings: &mut FileFindings<'_>,
    node: &Node,
    host: &Host,
    settings: &HostSettings,
    files: &dyn NodeFiles,
) {
    for ca in &host.ca {
        findings.authority(files, position_of(node, "ca"), ca, EFFECT);
    }
    let at = position_of(node, "client");
    if let Some(pairs) = flat_list(findings.source.path.as_path(), host, settings, files) {
        let words = [
            "client is a flat list of files: each of them must hold a certificate and its key".to_owned(),
            EFFECT.to_owned(),
            format!("write client = [{pairs}]"),
        ];
        return findings.error("client-flat-list", at, words);
    }
    for (certificate, key) in &host.client {
        findings.client(files, at, certificate, key.as_deref(), EFFECT);
    }
}

/// Certificates and keys that stand beside each other and not in pairs; gives the pairs that were meant.
fn flat_list(file: &Path, host: &Host, settings: &HostSettings, files: &dyn NodeFiles) -> Option<String> {
    let single = || settings.client.iter().zip(&host.client).filter(|(pair, _)| pair.key.is_none());
    let is_whole = |path: &Path| files.client(file, path, path) == Certificate::Good;
    let bad: Vec<_> = single().filter(|(_, (path, _))| !is_whole(path)).collect();
    if single().count() < 2 || bad.is_empty() {
        return None;
    }
    let is_key = |name: &str| name.to_ascii_lowercase().contains("key");
    let mut pairs = Vec::new();
    for (certificate, (path, _)) in &bad {
        let others = bad.iter().filter(|(other, _)| other.certificate != certificate.certificate);
        let fits = |(other, (key, _)): &&(&crate::node::hosts::ClientPair, &(std::path::PathBuf, _))| {
            let found: Certificate = files.client(file, path, key);
            let by_name = matches!(found, Certificate::Missing(_))
                && is_key(&other.certificate)
                && !is_key(&certificate.certificate);
            found == Certificate::Good || by_name
        };
        if let Some((key, _)) = others.clone().find(fits) {
            pairs.push(format!("[{:?}, {:?}]", certificate.certificate, key.certificate));
        }
    }
    (!pairs.is_empty()).then(|| pairs.join(", "))
}
