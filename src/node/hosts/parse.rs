//! From the text of a `hosts.toml` to a [`HostsFile`], with the strictness of one version of containerd.

use std::collections::BTreeMap;
use std::time::Duration;

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
struct HostsReader<'i> {
    text: &'i str,
    version: Version,
    faults: Vec<Ignored>,
}

impl HostsFile {
    /// Reads a file as `version` does.
    ///
    /// # Errors
    /// When this version would ignore the file. An empty one is ignored by all.
    pub(crate) fn parse(text: &str, version: Version) -> Result<Self, Ignored> {
        let (file, faults) = Self::parse_all(text, version);
        faults.into_iter().next().map_or(Ok(file), Err)
    }

    /// Reads a file as far as it can be read, with every fault for which `version` would ignore the whole.
    pub(crate) fn parse_all(text: &str, version: Version) -> (Self, Vec<Ignored>) {
        if text.is_empty() {
            return (Self::default(), vec![Ignored { at: None, why: "it is empty".to_owned() }]);
        }
        let document = match toml::read(text) {
            Ok(document) => document,
            Err(error) => return (Self::default(), vec![Ignored { at: Some(error.at), why: error.message }]),
        };
        let mut reader = HostsReader { text, version, faults: Vec::new() };
        let file = reader.file(&document);
        (file, reader.faults)
    }
}

impl HostsReader<'_> {
    /// What was read, if it could be.
    fn keep<T>(&mut self, found: Result<T, Ignored>) -> Option<T> {
        found.map_err(|fault| self.faults.push(fault)).ok()
    }

    fn file(&mut self, document: &Node) -> HostsFile {
        let server = document.get("server").and_then(|value| {
            let server = self.keep(string(value, "server"))?;
            self.keep(url(value, &server)).map(|()| server)
        });
        let root = self.settings(document);
        let hosts = match document.get("host") {
            // https://github.com/containerd/containerd/blob/v1.7.20/remotes/docker/config/hosts.go#L459
            None if self.version < Version::TWO => {
                let why = "it has no [host] table, which containerd before 2.0 insists on".to_owned();
                self.faults.push(Ignored { at: None, why });
                Vec::new()
            }
            None => Vec::new(),
            Some(value) => self.hosts(value),
        };
        HostsFile { server: server.filter(|server| !server.is_empty()), root, hosts }
    }

    fn hosts(&mut self, value: &Node) -> Vec<(String, HostSettings)> {
        if value.mapping().is_none() {
            self.keep(ignored::<()>(value, "`host` is not a table"));
        }
        let mut found = Vec::new();
        for Entry { key, value } in value.entries() {
            if value.mapping().is_none() {
                self.keep(ignored::<()>(value, format!("`host.{}` is not a table", key.name)));
                continue;
            }
            self.keep(url(value, &key.name));
            let settings = self.settings(value);
            // containerd 2.x looks for hosts in table headers alone.
            if self.version < Version::TWO || self.is_header(key.span.start) {
                found.push((key.name.clone(), settings));
            }
        }
        found
    }

    /// Whether what stands there is part of a `[table]` line.
    fn is_header(&self, at: usize) -> bool {
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        self.text[start..at].trim_start().starts_with('[')
    }

    fn settings(&mut self, table: &Node) -> HostSettings {
        let mut settings = HostSettings::default();
        for Entry { key, value } in table.entries() {
            match key.name.as_str() {
                "capabilities" => {
                    settings.capabilities = self.keep(self.capabilities(value)).unwrap_or_default();
                }
                "ca" => settings.ca = self.keep(strings(value, "ca")).unwrap_or_default(),
                "client" => settings.client = self.keep(clients(value)).unwrap_or_default(),
                "skip_verify" => settings.skip_verify = self.keep(boolean(value, "skip_verify")),
                "override_path" if self.version >= Version::OVERRIDE_PATH => {
                    settings.override_path = self.keep(boolean(value, "override_path")).unwrap_or_default();
                }
                "header" => settings.header = self.keep(header(value)).unwrap_or_default(),
                "dial_timeout" if self.version >= Version::DIAL_TIMEOUT => {
                    settings.dial_timeout = self.keep(dial_timeout(value)).flatten();
                }
                _ => {} // what it does not know does not disturb it
            }
        }
        settings
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

fn dial_timeout(value: &Node) -> Result<Option<Duration>, Ignored> {
    let text = string(value, "dial_timeout")?;
    if text.is_empty() {
        return Ok(None);
    }
    go::duration(&text).map(Some).or_else(|why| ignored(value, why))
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
