//! A setting of uploads that is tried.

use crate::report::document::{HttpVersion, TransferMethod};

/// How bodies go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::bench::link) struct Setting {
    /// Bodies at the same time.
    pub(in crate::bench::link) streams: u32,
    /// Bytes in one request.
    pub(in crate::bench::link) request_bytes: u64,
    pub(in crate::bench::link) method: TransferMethod,
    pub(in crate::bench::link) protocol: HttpVersion,
}

impl Setting {
    /// Bodies one after the other, as a push sends them.
    pub(in crate::bench::link) const fn one_by_one(request_bytes: u64, method: TransferMethod) -> Self {
        Self { streams: 1, request_bytes, method, protocol: HttpVersion::Http1 }
    }

    /// Round trips in which the end of an upload travels.
    pub(super) const fn last_ways(&self) -> u32 {
        match self.method {
            TransferMethod::Put | TransferMethod::Get => 1,
            TransferMethod::Patch | TransferMethod::Chunks => 2,
        }
    }
}
