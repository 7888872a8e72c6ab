//! Counters of what was asked for, for tests and for the curious.

use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// A kind of path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RouteKind {
    /// `/v2/`
    Base,
    /// `blobs/<digest>`
    Blob,
    /// `blobs/uploads/`
    Uploads,
    /// `blobs/uploads/<session>`
    Upload,
    /// `manifests/<tag or digest>`
    Manifest,
    /// `tags/list`
    Tags,
    /// `referrers/<digest>`
    Referrers,
    /// Anything else.
    Other,
}

/// How often each endpoint was asked, and how many bytes of blobs came in. All since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    requests: Mutex<BTreeMap<(RouteKind, String), u64>>,
    blob_bytes_received: AtomicU64,
}

impl Stats {
    #[cfg(test)]
    /// Requests of this method (`"HEAD"`) to this endpoint, whatever was answered.
    pub(crate) fn requests(&self, method: &str, endpoint: RouteKind) -> u64 {
        let requests = self.requests.lock();
        requests.get(&(endpoint, method.to_owned())).copied().unwrap_or(0)
    }

    #[cfg(test)]
    /// Requests in all.
    pub(crate) fn requests_in_all(&self) -> u64 {
        self.requests.lock().values().sum()
    }

    #[cfg(test)]
    /// Bytes of blobs that arrived in bodies, kept or not.
    pub(crate) fn blob_bytes_received(&self) -> u64 {
        self.blob_bytes_received.load(Ordering::Relaxed)
    }

    pub(super) fn count_request(&self, method: &str, endpoint: RouteKind) {
        let mut requests = self.requests.lock();
        *requests.entry((endpoint, method.to_owned())).or_default() += 1;
    }

    pub(super) fn count_blob_bytes(&self, bytes: u64) {
        self.blob_bytes_received.fetch_add(bytes, Ordering::Relaxed);
    }
}
