//! Names of the files and folders in a tree: what containerd would look for, and what somebody meant.

use std::path::Path;

use crate::node::hosts::{FILE_NAME, directory, split_port};
use crate::node::lint::url;

pub(super) fn looks_like_registry(folder: &str) -> bool {
    folder == directory::DEFAULT || url::is_registry_name(&folder.replace('_', ":"))
}

/// Whether a name has an extension, as containerd compares it.
pub(super) fn has_end(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// Whether somebody may have meant it to be `hosts.toml`; a copy put aside is not meant.
pub(super) fn is_misnamed(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let put_aside = lower.starts_with("hosts.toml") && lower != FILE_NAME || lower.starts_with('.');
    let is_certificate = [".crt", ".cert", ".key", ".pem"].iter().any(|end| lower.ends_with(end));
    name != FILE_NAME
        && !put_aside
        && !is_certificate
        && (has_end(&lower, "toml") || lower.starts_with("host"))
}

/// Why containerd never looks for a directory of this name, and the right one.
pub(in crate::node::lint) fn wrong_name(name: &str) -> Option<(String, String)> {
    if name == directory::DEFAULT {
        return None;
    }
    if name == "*" {
        let why = "* is how config.toml names all registries".to_owned();
        return Some((why, directory::DEFAULT.to_owned()));
    }
    if let Some(rest) = name.strip_prefix("https:").or_else(|| name.strip_prefix("http:")) {
        let host = rest.trim_matches(['_', '/']);
        return Some(("a directory's name has no scheme".to_owned(), host.to_owned()));
    }
    let upstream = directory::upstream(name)?;
    let (host, port) = split_port(&upstream);
    if url::is_docker_alias(host) || host == "docker.io" && !port.is_empty() {
        return Some((format!("runtimes call {upstream} docker.io"), "docker.io".to_owned()));
    }
    if upstream.contains('*') {
        let why = format!(
            "{upstream} is taken as it stands: no directory stands for several registries but _default"
        );
        return Some((why, directory::DEFAULT.to_owned()));
    }
    if let Some((host, port)) = upstream.rsplit_once('_')
        && port.parse::<u16>().is_ok()
        && url::is_registry_name(host)
    {
        return Some((format!("a port is written _{port}_ or :{port}"), format!("{host}_{port}_")));
    }
    if upstream != upstream.to_ascii_lowercase() {
        return Some((
            "names of registries are lower-case in names of images".to_owned(),
            name.to_ascii_lowercase(),
        ));
    }
    if !url::is_registry_name(&upstream) {
        let why = format!(
            "{upstream} is not the name of a registry: an image {upstream}/a is docker.io/{upstream}/a"
        );
        return Some((why, "the registry's name, as gcr.io".to_owned()));
    }
    None
}
