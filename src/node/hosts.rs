//! containerd's hosts tree: which hosts a node asks for an image of an upstream registry, and with which requests.
//!
//! ```text
//!  /etc/containerd/certs.d/gcr.io/hosts.toml ──parse──► HostsFile ──resolve──► [Host, Host, …] ──url──► https://…?ns=gcr.io
//!        └ directory::names: which directory            as written              as used, in order
//! ```
//!
//! * [`directory::names`] lists the directories in which containerd looks for an upstream; [`directory::load`] does what
//!   containerd does with a disk: picks the directory, reads the file, falls back to certificate files, and says why.
//! * [`HostsFile::parse`] reads a `hosts.toml` as one [`Version`] of containerd reads it. A file that this version
//!   cannot decode is an [`Ignored`]: containerd only logs that, and goes on as if the file were not there.
//! * [`HostsFile::resolve`] makes of it the [`Host`]s that are asked, in their order, for one upstream. The last of them
//!   is `server`, or the upstream itself. [`Host::url`] is what a request asks.
//! * `HostsFile`'s `Display` writes it; what is written parses back to the same.
//!
//! A test of a pull is then: `load` (or `parse` and `resolve`), keep the hosts that [may](Host::may) do what is asked
//! (`Resolve` too for a tag), and ask [`Host::url`] of each until one answers. A CA or client certificate that cannot be read
//! fails the whole pull, whatever host it belongs to: containerd sets up all hosts before it asks the first.
//!
//! Follows <https://github.com/containerd/containerd/blob/v2.2.0/core/remotes/docker/config/hosts.go> and the same file of
//! 1.5 to 2.1. Three things are simpler here: TOML is read by version 1.1 of its specification; of a host that a file's tables
//! name twice with another between them (which 2.x would ask twice) only the first place counts; and an upstream on this
//! machine is spoken to as by 1.6.28 and 1.7.7 and later, which also try TLS first at a plain-text host that has certificates.

pub(crate) mod directory;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzed;
mod go;
mod parse;
mod resolve;
#[cfg(test)]
pub(crate) mod tests;
mod version;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;

pub(crate) use parse::Ignored;
pub(crate) use resolve::{Host, HostOrigin, is_loopback, split_port};
pub(crate) use version::Version;

/// Why Go does not take a text for a URL.
pub(crate) fn url_fault(text: &str) -> Option<String> {
    go::url(text).err()
}

/// The name of the file in each directory.
pub(crate) const FILE_NAME: &str = "hosts.toml";

/// A `hosts.toml` as it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostsFile {
    /// Who is asked last; the upstream itself where none is given.
    pub server: Option<String>,
    /// How the server is asked: what stands outside of the `[host]` tables.
    pub root: HostSettings,
    /// Who is asked before that, in order.
    pub hosts: Vec<(String, HostSettings)>,
}

/// The settings of one host.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostSettings {
    /// What it may be asked for; all that containerd knows if empty.
    pub capabilities: Vec<Capability>,
    /// Files with authorities to trust, besides those of the system.
    pub ca: Vec<String>,
    /// Certificates to show.
    pub client: Vec<ClientPair>,
    /// Whether its certificate goes unchecked.
    pub skip_verify: Option<bool>,
    /// Whether the URL's path is the root of the API as it stands.
    pub override_path: bool,
    /// Headers of every request. Their values may be passwords.
    pub header: BTreeMap<String, Vec<SecretString>>,
    /// How long opening a connection may take.
    pub dial_timeout: Option<Duration>,
}

/// A file with a certificate, and the one with its key if that is another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientPair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: Option<String>,
}

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Capability {
    /// Manifests and blobs by digest.
    Pull,
    /// What a tag stands for.
    Resolve,
    /// Taking images.
    Push,
    /// What refers to an image; known since 2.2.
    Referrers,
}

impl Capability {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Pull, Self::Resolve, Self::Push, Self::Referrers];

    /// The word for it in the file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Resolve => "resolve",
            Self::Push => "push",
            Self::Referrers => "referrers",
        }
    }

    /// The first version that knows the word. To all before it the file is not decodable.
    pub(crate) const fn since(self) -> Version {
        match self {
            Self::Referrers => Version::REFERRERS,
            _ => Version::new(1, 5, 0),
        }
    }
}
