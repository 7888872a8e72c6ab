//! From the text of a `hosts.toml` to a [`HostsFile`], with the strictness of one version of containerd.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::{Capability, ClientPair, HostSettings, HostsFile, Version, go};
use crate::document::{Entry, Meaning, Node, Position, toml};

/// Why containerd goes on as if the file were not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("containerd ignores the whole file: {why}")]
pub(crate) struct Ignored {
    /// Where in the text, if at any one place.
    pub at: Option<Position>,
    /// What it could not decode.
    pub why: String,
}

/// The text and the version, to say where and to know what is known.
struct Reader<'i> {
    text: &'i str,
    version: Version,
}

impl HostsFile {
    /// Reads a file as `version` does.
    ///
    /// # Errors
    /// When this version would ignore the file. An empty one is ignored by all.
    pub(crate) fn parse(text: &str, version: Version) -> Result<Self, Ignored> {
        if text.is_empty() {
            return Err(Ignored { at: None, why: "it is empty".to_owned() });
        }
        let reader = Reader { text, version };
        let document =
            toml::read(text).map_err(|error| Ignored { at: Some(error.at), why: error.message })?;
        reader.file(&document)
    }
}

impl Reader<'_> {
    fn file(&self, document: &Node) -> Result<HostsFile, Ignored> {
        let server = document.get("server").map(|value| string(value, "server")).transpose()?;
        if let (Some(server), Some(value)) = (&server, document.get("server")) {
            url(value, server)?;
        }
        let root = self.settings(document)?;
        let hosts = match document.get("host") {
            // https://github.com/containerd/containerd/blob/v1.7.20/remotes/docker/config/hosts.go#L459
            None if self.version < Version::TWO => {
                let why = "it has no [host] table, which containerd before 2.0 insists on".to_owned();
                return Err(Ignored { at: None, why });
            }
            None => Vec::new(),
            Some(value) => self.hosts(value)?,
        };
        Ok(HostsFile { server: server.filter(|server| !server.is_empty()), root, hosts })
    }

    fn hosts(&self, value: &Node) -> Result<Vec<(String, HostSettings)>, Ignored> {
        if value.mapping().is_none() {
            return ignored(value, "`host` is not a table");
        }
        let mut found = Vec::new();
        for Entry { key, value } in value.entries() {
            if value.mapping().is_none() {
                return ignored(value, format!("`host.{}` is not a table", key.name));
            }
            url(value, &key.name)?;
            let settings = self.settings(value)?;
            // containerd 2.x looks for hosts in table headers alone.
            if self.version < Version::TWO || self.is_header(key.span.start) {
                found.push((key.name.clone(), settings));
            }
        }
        Ok(found)
    }

    /// Whether what stands there is part of a `[table]` line.
    fn is_header(&self, at: usize) -> bool {
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        self.text[start..at].trim_start().starts_with('[')
    }

    fn settings(&self, table: &Node) -> Result<HostSettings, Ignored> {
        let mut settings = HostSettings::default();
        for Entry { key, value } in table.entries() {
            match key.name.as_str() {
                "capabilities" => settings.capabilities = self.capabilities(value)?,
                "ca" => settings.ca = strings(value, "ca")?,
                "client" => settings.client = clients(value)?,
                "skip_verify" => settings.skip_verify = Some(boolean(value, "skip_verify")?),
                "override_path" if self.version >= Version::OVERRIDE_PATH => {
                    settings.override_path = boolean(value, "override_path")?;
                }
                "header" => settings.header = header(value)?,
                "dial_timeout" if self.version >= Version::DIAL_TIMEOUT => {
                    let text = string(value, "dial_timeout")?;
                    if !text.is_empty() {
                        settings.dial_timeout = Some(go::duration(&text).or_else(|why| ignored(value, why))?);
                    }
                }
                _ => {} // what it does not know does not disturb it
            }
        }
        Ok(settings)
    }

    fn capabilities(&self, value: &Node) -> Result<Vec<Capability>, Ignored> {
        let Some(words) = value.sequence() else {
            return ignored(value, "`capabilities` is not a list");
        };
        let mut capabilities = Vec::new();
        for word in words {
            let text = string(word, "capabilities")?;
            let known = Capability::ALL.into_iter().find(|known| known.name() == text.to_lowercase());
            match known.filter(|known| self.version >= known.since()) {
                Some(capability) => capabilities.push(capability),
                None => return ignored(word, format!("unknown capability {text:?}")),
            }
        }
        Ok(capabilities)
    }
}

fn ignored<T>(value: &Node, why: impl Into<String>) -> Result<T, Ignored> {
    Err(Ignored { at: Some(value.at), why: why.into() })
}

fn url(value: &Node, text: &str) -> Result<(), Ignored> {
    let spelled = super::resolve::with_scheme(text);
    go::url(&spelled).map(|_| ()).or_else(|why| ignored(value, format!("{text:?} is not a URL: {why}")))
}

fn clients(value: &Node) -> Result<Vec<ClientPair>, Ignored> {
    let single = |certificate: &str| ClientPair { certificate: certificate.to_owned(), key: None };
    if let Some(file) = value.text() {
        return Ok(vec![single(file)]);
    }
    let Some(list) = value.sequence() else {
        return ignored(value, "`client` is neither a file nor a list");
    };
    let pair = |value: &Node| match value.text() {
        Some(file) => Ok(single(file)),
        None => match &strings(value, "client")?[..] {
            [certificate, key] => Ok(ClientPair { certificate: certificate.clone(), key: Some(key.clone()) }),
            _ => ignored(value, "a pair of `client` is not two files"),
        },
    };
    list.iter().map(pair).collect()
}

fn header(value: &Node) -> Result<BTreeMap<String, Vec<SecretString>>, Ignored> {
    if value.mapping().is_none() {
        return ignored(value, "`header` is not a table");
    }
    let line = |Entry { key, value }: &Entry| {
        let values = strings(value, &key.name)?;
        Ok((key.name.clone(), values.into_iter().map(SecretString::from).collect()))
    };
    value.entries().iter().map(line).collect()
}

fn string(value: &Node, key: &str) -> Result<String, Ignored> {
    match value.text() {
        Some(text) => Ok(text.to_owned()),
        None => ignored(value, format!("`{key}` is not a text")),
    }
}

fn boolean(value: &Node, key: &str) -> Result<bool, Ignored> {
    match value.scalar().map(|scalar| scalar.meaning) {
        Some(Meaning::Boolean(value)) => Ok(value),
        _ => ignored(value, format!("`{key}` is neither true nor false")),
    }
}

/// One text or a list of them.
fn strings(value: &Node, key: &str) -> Result<Vec<String>, Ignored> {
    if let Some(list) = value.sequence() {
        return list.iter().map(|value| string(value, key)).collect();
    }
    match value.text() {
        Some(text) => Ok(vec![text.to_owned()]),
        None => ignored(value, format!("`{key}` is neither a text nor a list of them")),
    }
}
