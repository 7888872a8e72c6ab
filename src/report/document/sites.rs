//! What `sites check --json` says.

use serde::{Deserialize, Serialize};

use super::SchemaVersion;
use crate::report::{Class, Failure};

/// Whether sites could be filled now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SitesDocument {
    /// The version of the schema.
    pub schema_version: SchemaVersion,
    /// The entries for this machine.
    pub machine: Vec<CheckEntry>,
    /// One entry for each site.
    pub sites: Vec<SiteCheck>,
    /// The exit code.
    pub exit_code: u8,
}

/// Whether one site could be filled now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SiteCheck {
    /// Its name.
    pub name: String,
    /// Its place: host, port and namespace.
    pub place: String,
    /// The entries of the check.
    pub checks: Vec<CheckEntry>,
}

/// One entry of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckEntry {
    /// What it is.
    pub what: Aspect,
    /// Its state.
    pub state: CheckState,
    /// The same for people.
    pub message: String,
    /// The class of what is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The repositories that are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
}

impl CheckEntry {
    /// The entry of what would make a run fail.
    pub(crate) fn failed(what: Aspect, failure: Failure) -> Self {
        let Failure { class, message, hint, .. } = failure;
        let (state, class) = (CheckState::Failed, Some(class));
        Self { what, state, message, class, hint, repositories: Vec::new() }
    }
}

/// The subject of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Aspect {
    /// What the file says of a site: its files and where its credentials are.
    Settings,
    /// Whether the name of the registry has an address.
    Name,
    /// The way to the registry, and whether one answers there.
    Connection,
    /// Whether both sides find a way to encrypt.
    Tls,
    /// Certificates: of the registry, and of the authorities that are trusted beside the system's.
    Certificate,
    /// Whether the credentials are taken.
    Login,
    /// Whether clocks agree.
    Clock,
    /// Whether sessions to push can be opened.
    Push,
    /// Whether repositories and projects are there.
    Repositories,
    /// The folders of this machine: whether there is room, and whether the state can be written.
    Disk,
    /// Whether the bundles are there and can be read.
    Bundle,
}

impl Aspect {
    /// The word in text and JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Name => "name",
            Self::Connection => "connection",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::Login => "login",
            Self::Clock => "clock",
            Self::Push => "push",
            Self::Repositories => "repositories",
            Self::Disk => "disk",
            Self::Bundle => "bundle",
        }
    }
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CheckState {
    /// As it should be.
    Good,
    /// It works, and may not for long.
    Warning,
    /// A run would fail.
    Failed,
}

impl SiteCheck {
    /// The state of the site: that of its worst entry.
    pub(crate) fn state(&self) -> CheckState {
        self.checks.iter().map(|check| check.state).max().unwrap_or(CheckState::Good)
    }
}
