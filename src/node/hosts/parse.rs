//! From the text of a `hosts.toml` to a [`HostsFile`], with the strictness of one version of containerd.

use std::collections::BTreeMap;

use secrecy::SecretString;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Capability, ClientPair, HostsFile, Settings, Version, go};

type Value<'i> = Spanned<DeValue<'i>>;

/// Why containerd goes on as if the file were not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("containerd ignores the whole file: {why}")]
pub(crate) struct Ignored {
    /// Where in the text, from 1, if at any one place.
    pub line: Option<usize>,
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
            return Err(Ignored { line: None, why: "it is empty".to_owned() });
        }
        let reader = Reader { text, version };
        let document = DeTable::parse(text).map_err(|error| Ignored {
            line: error.span().map(|span| reader.line(span.start)),
            why: error.message().to_owned(),
        })?;
        reader.file(document.get_ref())
    }
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count()
    }

    fn ignored<T>(&self, value: &Value<'_>, why: impl Into<String>) -> Result<T, Ignored> {
        Err(Ignored { line: Some(self.line(value.span().start)), why: why.into() })
    }

    fn file(&self, document: &DeTable<'_>) -> Result<HostsFile, Ignored> {
        let server = document.get("server").map(|value| self.string(value, "server")).transpose()?;
        if let (Some(server), Some(value)) = (&server, document.get("server")) {
            self.url(value, server)?;
        }
        let root = self.settings(document)?;
        let hosts = match document.get("host") {
            // https://github.com/containerd/containerd/blob/v1.7.20/remotes/docker/config/hosts.go#L459
            None if self.version < Version::TWO => {
                let why = "it has no [host] table, which containerd before 2.0 insists on".to_owned();
                return Err(Ignored { line: None, why });
            }
            None => Vec::new(),
            Some(value) => self.hosts(value)?,
        };
        Ok(HostsFile { server: server.filter(|server| !server.is_empty()), root, hosts })
    }

    fn hosts(&self, value: &Value<'_>) -> Result<Vec<(String, Settings)>, Ignored> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.ignored(value, "`host` is not a table");
        };
        let mut found = Vec::new();
        for (name, value) in table {
            let DeValue::Table(settings) = value.get_ref() else {
                return self.ignored(value, format!("`host.{}` is not a table", name.get_ref()));
            };
            self.url(value, name.get_ref())?;
            let settings = self.settings(settings)?;
            // containerd 2.x looks for hosts in table headers alone.
            if self.version < Version::TWO || self.is_header(name.span().start) {
                found.push((name.span().start, name.get_ref().to_string(), settings));
            }
        }
        found.sort_by_key(|(at, ..)| *at);
        Ok(found.into_iter().map(|(_, name, settings)| (name, settings)).collect())
    }

    /// Whether what stands there is part of a `[table]` line.
    fn is_header(&self, at: usize) -> bool {
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        self.text[start..at].trim_start().starts_with('[')
    }

    fn url(&self, value: &Value<'_>, text: &str) -> Result<(), Ignored> {
        let spelled = super::resolve::with_scheme(text);
        go::url(&spelled)
            .map(|_| ())
            .or_else(|why| self.ignored(value, format!("{text:?} is not a URL: {why}")))
    }

    fn settings(&self, table: &DeTable<'_>) -> Result<Settings, Ignored> {
        let mut settings = Settings::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "capabilities" => settings.capabilities = self.capabilities(value)?,
                "ca" => settings.ca = self.strings(value, "ca")?,
                "client" => settings.client = self.clients(value)?,
                "skip_verify" => settings.skip_verify = Some(self.boolean(value, "skip_verify")?),
                "override_path" if self.version >= Version::OVERRIDE_PATH => {
                    settings.override_path = self.boolean(value, "override_path")?;
                }
                "header" => settings.header = self.header(value)?,
                "dial_timeout" if self.version >= Version::DIAL_TIMEOUT => {
                    let text = self.string(value, "dial_timeout")?;
                    if !text.is_empty() {
                        settings.dial_timeout =
                            Some(go::duration(&text).or_else(|why| self.ignored(value, why))?);
                    }
                }
                _ => {} // what it does not know does not disturb it
            }
        }
        Ok(settings)
    }

    fn capabilities(&self, value: &Value<'_>) -> Result<Vec<Capability>, Ignored> {
        let DeValue::Array(words) = value.get_ref() else {
            return self.ignored(value, "`capabilities` is not a list");
        };
        let mut capabilities = Vec::new();
        for word in words {
            let text = self.string(word, "capabilities")?;
            let known = Capability::ALL.into_iter().find(|known| known.name() == text.to_lowercase());
            match known.filter(|known| self.version >= known.since()) {
                Some(capability) => capabilities.push(capability),
                None => return self.ignored(word, format!("unknown capability {text:?}")),
            }
        }
        Ok(capabilities)
    }

    fn clients(&self, value: &Value<'_>) -> Result<Vec<ClientPair>, Ignored> {
        let single = |certificate: &str| ClientPair { certificate: certificate.to_owned(), key: None };
        let list = match value.get_ref() {
            DeValue::String(file) => return Ok(vec![single(file)]),
            DeValue::Array(list) => list,
            _ => return self.ignored(value, "`client` is neither a file nor a list"),
        };
        let pair = |value: &Value<'_>| match value.get_ref() {
            DeValue::String(file) => Ok(single(file)),
            _ => match &self.strings(value, "client")?[..] {
                [certificate, key] => {
                    Ok(ClientPair { certificate: certificate.clone(), key: Some(key.clone()) })
                }
                _ => self.ignored(value, "a pair of `client` is not two files"),
            },
        };
        list.iter().map(pair).collect()
    }

    fn header(&self, value: &Value<'_>) -> Result<BTreeMap<String, Vec<SecretString>>, Ignored> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.ignored(value, "`header` is not a table");
        };
        let line = |(name, value): (&Spanned<toml::de::DeString<'_>>, &Value<'_>)| {
            let values = self.strings(value, name.get_ref())?;
            Ok((name.get_ref().to_string(), values.into_iter().map(SecretString::from).collect()))
        };
        table.iter().map(line).collect()
    }

    fn string(&self, value: &Value<'_>, key: &str) -> Result<String, Ignored> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            _ => self.ignored(value, format!("`{key}` is not a text")),
        }
    }

    fn boolean(&self, value: &Value<'_>, key: &str) -> Result<bool, Ignored> {
        match value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            _ => self.ignored(value, format!("`{key}` is neither true nor false")),
        }
    }

    /// One text or a list of them.
    fn strings(&self, value: &Value<'_>, key: &str) -> Result<Vec<String>, Ignored> {
        match value.get_ref() {
            DeValue::Array(list) => list.iter().map(|value| self.string(value, key)).collect(),
            DeValue::String(text) => Ok(vec![text.to_string()]),
            _ => self.ignored(value, format!("`{key}` is neither a text nor a list of them")),
        }
    }
}
