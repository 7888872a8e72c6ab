//! `configs."HOST"`: credentials and certificates for one host.

use std::path::Path;

use super::SetFindings;
use super::keys::unknown;
use crate::document::Node;
use crate::node::containerd::Branch;
use crate::node::hosts::Version;
use crate::node::lint::{NodeFiles, url};

const CONFIG_KEYS: [&str; 2] = ["auth", "tls"];
const AUTH_KEYS: [&str; 4] = ["username", "password", "auth", "identitytoken"];
const TLS_KEYS: [&str; 4] = ["ca_file", "cert_file", "key_file", "insecure_skip_verify"];

pub(super) fn check(
    findings: &mut SetFindings<'_>,
    config: &Branch,
    authorities: &[&str],
    version: Version,
    files: &dyn NodeFiles,
    has_path: bool,
) {
    let (name, at) = (config.name.as_str(), config.at);
    let parts = url::parts(name);
    let unused = "certificates and credentials are not used: the registry is asked without them";
    if ["auths", "auth", "tls", "mirrors", "configs", "headers"].contains(&name) {
        let words = [
            format!("configs.{name} is taken for the settings of a registry called {name:?}"),
            "no registry has that name: credentials and certificates below it are not used".to_owned(),
            match config.branches().first() {
                Some(first) if name == "auths" => {
                    format!("write configs.{:?}.auth", url::parts(&first.name).authority)
                }
                _ => "write configs.\"HOST:PORT\" and below it auth or tls".to_owned(),
            },
        ];
        return findings.error("misplaced-key", at, words);
    }
    if parts.scheme.is_some() || !parts.path.is_empty() {
        let words = [
            format!("configs.{:?} is not HOST or HOST:PORT", parts.shown()),
            format!("containerd looks it up by host and port alone: {unused}")
                .replace("used: the", "not used: the")
                .replace("not not", "not"),
            format!("write configs.{:?}", parts.authority),
        ];
        findings.error("config-for-nobody", at, words);
    } else if matches!(name, "docker.io" | "index.docker.io") {
        let words = [
            format!("configs.{name:?} is not what containerd asks for images of docker.io"),
            unused.to_owned(),
            "write configs.\"registry-1.docker.io\"".to_owned(),
        ];
        findings.warning("config-for-nobody", at, words);
    } else if let Some(endpoint) = url::other_port(name, authorities) {
        let words = [
            format!("configs.{name:?} has another port than the endpoint {endpoint}"),
            "its certificates and credentials are not used for that endpoint".to_owned(),
            format!("write configs.{endpoint:?}"),
        ];
        findings.warning("config-for-nobody", at, words);
    }
    unknown(findings, config.branches(), &CONFIG_KEYS, "configs.\"HOST\"");
    if let Some(tls) = config.get("tls") {
        // Beside config_path, the finding is that both are set.
        if version >= Version::TWO || !has_path {
            check_tls(findings, tls, name, version, files);
        }
    }
    if let Some(auth) = config.get("auth") {
        unknown(findings, auth.branches(), &AUTH_KEYS, "auth");
        findings.of(auth.at.file).readable_password(auth.at.at);
    }
}

fn check_tls(
    findings: &mut SetFindings<'_>,
    tls: &Branch,
    name: &str,
    version: Version,
    files: &dyn NodeFiles,
) {
    if version >= Version::TWO {
        let words = [
            format!("configs.{name:?}.tls is no longer read since containerd 2.0"),
            "the mirror's certificate is not trusted, and every pull goes to the upstream".to_owned(),
            "use config_path and hosts.toml (mirror render --runtime containerd), or the node's trust store"
                .to_owned(),
        ];
        return findings.error("tls-table-gone", tls.at, words);
    }
    unknown(findings, tls.branches(), &TLS_KEYS, "tls");
    let effect = "pulls that would use this mirror fail";
    let text = |key: &str| {
        let branch = tls.get(key)?;
        Some((branch.text().filter(|text| !text.is_empty())?, branch.at))
    };
    if let Some((path, at)) = text("ca_file") {
        findings.of(at.file).authority(files, at.at, Path::new(path), effect);
    }
    match (text("cert_file"), text("key_file")) {
        (Some((certificate, at)), Some((key, _))) => {
            findings.of(at.file).client(files, at.at, Path::new(certificate), Some(Path::new(key)), effect);
        }
        (Some((_, at)), None) => {
            let words = [
                "cert_file stands here without key_file".to_owned(),
                effect.to_owned(),
                "name the file with the key in key_file".to_owned(),
            ];
            findings.error("client-without-key", at, words);
        }
        (None, Some((_, at))) => {
            let words = [
                "key_file stands here without cert_file".to_owned(),
                effect.to_owned(),
                "name the file with the certificate in cert_file".to_owned(),
            ];
            findings.error("client-without-key", at, words);
        }
        (None, None) => {}
    }
    let insecure = tls.get("insecure_skip_verify").filter(|branch| branch.value().is_some_and(Node::is_true));
    if let Some(branch) = insecure {
        findings.of(branch.at.file).unverified(branch.at.at, name);
    }
}
