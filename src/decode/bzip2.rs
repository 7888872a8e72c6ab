//! bzip2: all streams of a file, in order.
//!
//! `bzip2` writes one stream, `pbzip2` and `lbzip2` write many; a reader that stops after the first loses images. A stream
//! states neither its length nor its decoded size, so a file is never cut into parts.

use bzip2::{Decompress, Status};

use super::feed::Feed;
use super::{DecodeSink, corrupt, truncated};
use crate::error::BundleError;

/// Decodes all streams of the feed, each checksum verified. Zeros behind the last one are padding.
pub(super) fn decode(feed: &mut dyn Feed, out: &mut dyn DecodeSink) -> Result<(), BundleError> {
    loop {
        match feed.window()?.first() {
            None => return Ok(()),
            Some(b'B') => stream(feed, out)?,
            Some(_) => return super::padding("bzip2", feed),
        }
    }
}

fn stream(feed: &mut dyn Feed, out: &mut dyn DecodeSink) -> Result<(), BundleError> {
    let start = feed.position();
    let mut decoder = Decompress::new(false);
    loop {
        let position = feed.position();
        let stored = feed.window()?;
        let at_end = stored.is_empty();
        let before = (decoder.total_in(), decoder.total_out());
        let status = decoder.decompress(stored, out.room()?);
        // Both are at most the length of a slice.
        let used = usize::try_from(decoder.total_in() - before.0).unwrap_or(0);
        let made = usize::try_from(decoder.total_out() - before.1).unwrap_or(0);
        feed.advance(used);
        out.filled(made)?;
        match status {
            Ok(Status::StreamEnd) => return Ok(()),
            Ok(_) if at_end && made == 0 => return Err(truncated("bzip2", position)),
            Ok(_) => {}
            Err(error) => return Err(corrupt(error.to_string()).at(format!("bzip2 stream at byte {start}"))),
        }
    }
}
