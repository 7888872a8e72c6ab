//! Versions of containerd, and which version introduced which part of the file.

use std::fmt;
use std::str::FromStr;

/// A version of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u16,
    minor: u16,
    patch: u16,
}

/// A text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version of containerd: give it as 1.7 or 2.1.4 (`containerd --version` prints it)")]
pub(crate) struct BadVersion(String);

impl Version {
    /// Stands for the newest patch where none is given.
    const ANY_PATCH: u16 = u16::MAX;
    /// The first that knows `override_path`, without which a `hosts.toml` cannot name a namespace.
    pub(crate) const OVERRIDE_PATH: Self = Self::new(1, 6, 0);
    /// The first that takes a file without any `[host]` table, and no longer knows `tls` tables in `config.toml`.
    pub(crate) const TWO: Self = Self::new(2, 0, 0);
    /// The first that looks for `_default`.
    pub(crate) const DEFAULT_FOLDER: Self = Self::new(1, 6, 18);
    /// The first that reads `hosts.toml` for Kubernetes.
    pub(crate) const HOSTS_TOML: Self = Self::new(1, 5, 0);
    /// The first that knows `dial_timeout`: 2.1, and the line of 2.0 since this.
    pub(crate) const DIAL_TIMEOUT: Self = Self::new(2, 0, 7);
    /// The first that pulls through the transfer service, which takes a list in `config_path` for one folder.
    pub(crate) const TRANSFER: Self = Self::new(2, 1, 0);
    /// The first that knows the capability `referrers`.
    pub(crate) const REFERRERS: Self = Self::new(2, 2, 0);
    /// The first that sets `config_path` by itself.
    pub(crate) const DEFAULT_FOLDERS: Self = Self::new(2, 2, 0);
    /// The first that does not do so beside `mirrors`.
    pub(crate) const DEFAULT_WITHOUT_MIRRORS: Self = Self::new(2, 2, 2);
    /// The first that brings each imported file to the newest form before it joins them.
    pub(crate) const MIGRATES_FILES: Self = Self::new(2, 3, 0);
    /// The newest whose rules are known here; later ones are taken to be like it.
    pub(crate) const NEWEST: Self = Self::MIGRATES_FILES;

    /// A version of three numbers.
    pub(crate) const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// `1.7` of 1.7.24.
    pub(crate) const fn line(self) -> (u16, u16) {
        (self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if matches!(self.patch, 0 | Self::ANY_PATCH) { Ok(()) } else { write!(f, ".{}", self.patch) }
    }
}

impl FromStr for Version {
    type Err = BadVersion;

    /// `1.6`, `v2.1.3`, `1.6.20~ds1`, `1.7.0-beta.1`: what `containerd --version` and packages print.
    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion(text.to_owned());
        let plain = text.strip_prefix('v').unwrap_or(text);
        let end = plain.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(plain.len());
        let (numbers, rest) = plain.split_at(end);
        if !(rest.is_empty() || rest.starts_with(['-', '~', '+'])) {
            return Err(bad());
        }
        let numbers: Vec<u16> =
            numbers.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?;
        match numbers[..] {
            // The newest of its line, which most nodes have.
            [major, minor] => Ok(Self::new(major, minor, Self::ANY_PATCH)),
            [major, minor, patch] => Ok(Self::new(major, minor, patch)),
            _ => Err(bad()),
        }
    }
}
