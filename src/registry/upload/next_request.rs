//! What an upload sends next. Pure.

use std::ops::Range;

use crate::registry::quirks::{Keeping, Quirks, UploadMethod};

/// The next request of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NextRequest {
    /// A PUT that commits the blob, with these bytes, if any.
    Commit(Range<u64>),
    /// A PATCH with all bytes, which says nothing of where they lie.
    Stream(Range<u64>),
    /// A PATCH with these bytes, which says where they lie.
    Chunk(Range<u64>),
}

impl NextRequest {
    /// What follows for a blob of which a session has the first `acknowledged` bytes.
    pub(super) fn of(size: u64, acknowledged: u64, method: UploadMethod, quirks: &Quirks) -> Self {
        let left = size.saturating_sub(acknowledged);
        // A range of nothing cannot be written down, so an empty blob is always one PUT.
        if left == 0 {
            return Self::Commit(size..size);
        }
        if let Some(bytes) = quirks.chunk(left) {
            return Self::Chunk(acknowledged..acknowledged + bytes);
        }
        let rest = acknowledged..size;
        match method {
            UploadMethod::Single if acknowledged == 0 => Self::Commit(rest),
            UploadMethod::Stream if acknowledged == 0 => Self::Stream(rest),
            // Where a PUT that breaks spoils nothing, it saves a request.
            UploadMethod::Single if quirks.keeping == Keeping::Bytes => Self::Commit(rest),
            _ if quirks.refuses_empty_commit || quirks.this_run.ends_with_bytes => Self::Commit(rest),
            _ => Self::Chunk(rest),
        }
    }

    /// The bytes that it carries.
    pub(super) fn range(&self) -> &Range<u64> {
        match self {
            Self::Commit(range) | Self::Stream(range) | Self::Chunk(range) => range,
        }
    }

    /// How many they are.
    pub(super) fn len(&self) -> u64 {
        self.range().end - self.range().start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn all(size: u64, from: u64, method: UploadMethod, quirks: &Quirks) -> Vec<NextRequest> {
        let mut acknowledged = from;
        let mut requests = Vec::new();
        loop {
            let next = NextRequest::of(size, acknowledged, method, quirks);
            acknowledged = next.range().end;
            let is_end = matches!(next, NextRequest::Commit(_));
            requests.push(next);
            if is_end {
                return requests;
            }
        }
    }

    use NextRequest::{Chunk, Commit, Stream};
    use UploadMethod::Single;

    #[test]
    fn small_blobs_are_single_requests() {
        let quirks = Quirks::default();
        assert_eq!(all(0, 0, UploadMethod::Stream, &quirks), [Commit(0..0)]);
        assert_eq!(all(MIB, 0, Single, &quirks), [Commit(0..MIB)]);
        assert_eq!(all(MIB, 0, UploadMethod::Stream, &quirks), [Stream(0..MIB), Commit(MIB..MIB)]);
    }

    #[test]
    fn what_goes_on_says_where_it_lies_and_is_committed_at_once_only_where_that_spoils_nothing() {
        let mut quirks = Quirks::default();
        assert_eq!(all(9, 4, Single, &quirks), [Chunk(4..9), Commit(9..9)]);
        quirks.keeping = Keeping::Bytes;
        assert_eq!(all(9, 4, Single, &quirks), [Commit(4..9)]);
        assert_eq!(all(9, 4, UploadMethod::Stream, &quirks), [Chunk(4..9), Commit(9..9)]);
        assert_eq!(all(9, 9, Single, &quirks), [Commit(9..9)]);
    }

    #[test]
    fn chunks_follow_each_other_without_a_gap() {
        let mut quirks = Quirks { refused_bytes: Some(4 * MIB), ..Quirks::default() };
        let size = 2 * MIB + 1;
        let whole = [Chunk(0..MIB), Chunk(MIB..2 * MIB), Chunk(2 * MIB..size), Commit(size..size)];
        assert_eq!(all(size, 0, Single, &quirks), whole);
        quirks.refuses_empty_commit = true;
        assert_eq!(all(size, 0, Single, &quirks)[2..], [Commit(2 * MIB..size)]);
    }
}
