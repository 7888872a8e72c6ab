//! Limits on the resources of one client: connections, time, memory.
//!
//! This registry is for big blobs over poor links. So a request may take any time, as long as bytes arrive at a minimum
//! rate.

use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

/// The limits of a server. Tests have smaller ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerLimits {
    /// Connections at the same time. A further one takes the place of an idle one.
    pub(super) connections: usize,
    /// How long a connection may wait for the whole head of the next request.
    pub(super) head_timeout: Duration,
    /// While a body is on its way, at least `rate_bytes` have to move in each of these windows.
    pub(super) rate_window: Duration,
    pub(super) rate_bytes: u64,
    /// A request whose peer was waited for this long gives way where all places are taken and another one needs a place. The
    /// slowest does first.
    pub(super) yields_after: Duration,
}

/// A connection takes a descriptor, the file that it reads or writes takes another, and there are temporary files.
const DESCRIPTORS_EACH: u64 = 3;
const MOST_CONNECTIONS: u64 = 1024;

/// The size of one read from a connection, and the longest head of a request.
pub(super) const READ_BYTES: usize = 32 << 10;

/// Bytes of blobs that have arrived and are not written yet, of all uploads together.
pub(super) const BUFFERED_BYTES: usize = 32 << 20;

/// Idle uploads that are kept. They are counted at the start, at intervals, and each time this many new ones have come.
pub(super) const MAX_IDLE_UPLOADS: usize = 10_000;
pub(super) const UPLOADS_PER_COUNT: usize = 1_000;

/// The size of one read from a file.
pub(super) const SEND_BYTES: usize = 64 << 10;

/// A document up to this length is kept in memory on its way in or out; a longer one waits in a file without a name.
pub(super) const SMALL_BYTES: usize = 64 << 10;

/// Documents that are read or made at the same time.
pub(super) const DOCUMENTS: usize = 4;

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: connections(),
            head_timeout: Duration::from_secs(60),
            rate_window: Duration::from_secs(60),
            rate_bytes: 4 << 10,
            yields_after: Duration::from_secs(2),
        }
    }
}

/// The number that file descriptors suffice for, after raising their limit as far as the system allows.
fn connections() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from((files / DESCRIPTORS_EACH).clamp(8, MOST_CONNECTIONS)).unwrap_or(1)
}
