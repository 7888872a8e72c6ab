//! How much one client may take from the others: places, time, memory.
//!
//! A big blob over a poor link is what this registry is for, so there is no limit on how long a request takes; only on how
//! long nothing moves, and on how little.

use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

/// The limits of a server. Tests have smaller ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once. More take the places of those that wait for a request.
    pub(super) connections: usize,
    /// How long a connection may wait for the whole head of the next request.
    pub(super) head: Duration,
    /// While a body is on its way, `least` bytes have to move in each of these spans.
    pub(super) span: Duration,
    pub(super) least: u64,
}

/// A connection takes a descriptor, and what it reads or writes another one; temporary files come to that.
const DESCRIPTORS_EACH: u64 = 3;
const MOST_CONNECTIONS: u64 = 1024;

/// What a connection reads at once. Also the longest head of a request.
pub(super) const READ_BYTES: usize = 32 << 10;

/// Bytes of blobs that have arrived and are not written yet, of all uploads together.
pub(super) const BUFFERED_BYTES: usize = 32 << 20;

/// What is read and sent at once.
pub(super) const SEND_BYTES: usize = 64 << 10;

/// A document up to this length is kept in memory on its way in or out; a longer one waits in a file without a name.
pub(super) const SMALL_BYTES: usize = 64 << 10;

/// Documents that are read or made at the same time.
pub(super) const DOCUMENTS: usize = 4;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: connections(),
            head: Duration::from_secs(60),
            span: Duration::from_secs(60),
            least: 4 << 10,
        }
    }
}

/// As many as the process may have descriptors for, which is as many as the system lets it ask for.
fn connections() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from((files / DESCRIPTORS_EACH).clamp(8, MOST_CONNECTIONS)).unwrap_or(1)
}
