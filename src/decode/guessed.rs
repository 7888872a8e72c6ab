//! A volume of parts that do not state their decoded size.
//!
//! In: the parts, and the same bytes as stored. Out: the decoded parts; after one has proved too large for the cache, the same
//! bytes decoded in order.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::blocks::BlockVolume;
use super::outline::Outline;
use super::spool::SpoolVolume;
use super::{Format, Shared};
use crate::error::BundleError;
use crate::source::{ByteSpace, Certainty, OpenedOnce};

pub(super) struct GuessedVolume {
    shared: Arc<Shared>,
    stored: Arc<dyn ByteSpace>,
    format: Format,
    blocks: BlockVolume,
    stream: OpenedOnce<SpoolVolume>,
}

impl GuessedVolume {
    /// The outline has at least one part.
    pub(super) fn new(shared: Arc<Shared>, stored: Arc<dyn ByteSpace>, outline: Outline) -> Self {
        let format = outline.format;
        let blocks = BlockVolume::new(Arc::clone(&shared), Arc::clone(&stored), outline);
        Self { shared, stored, format, blocks, stream: OpenedOnce::default() }
    }

    fn read<T>(&self, from: impl Fn(&dyn ByteSpace) -> Result<T, BundleError>) -> Result<T, BundleError> {
        if !self.blocks.one_is_too_large() {
            let result = from(&self.blocks);
            if result.is_ok() || !self.blocks.one_is_too_large() {
                return result;
            }
        }
        let start = || SpoolVolume::of_space(&self.shared, self.format, &self.stored, 0);
        from(self.stream.get_or_open(start)?)
    }
}

impl ByteSpace for GuessedVolume {
    fn len(&self) -> Result<u64, BundleError> {
        self.read(|space| space.len())
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        self.read(|space| space.chunk_at(offset, max))
    }

    fn will_read(&self, range: Range<u64>, certainty: Certainty) {
        self.blocks.will_read(range.clone(), certainty);
        if let Some(stream) = self.stream.get() {
            stream.will_read(range, certainty);
        }
    }

    fn will_not_read(&self, range: Range<u64>, certainty: Certainty) {
        self.blocks.will_not_read(range.clone(), certainty);
        if let Some(stream) = self.stream.get() {
            stream.will_not_read(range, certainty);
        }
    }

    fn release(&self, range: Range<u64>) {
        self.blocks.release(range.clone());
        if let Some(stream) = self.stream.get() {
            stream.release(range);
        }
    }

    fn check_intact(&self) -> Result<(), BundleError> {
        self.stored.check_intact()
    }
}

impl std::fmt::Debug for GuessedVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GuessedVolume").field(&self.blocks).finish()
    }
}
