//! gzip: the walk over BGZF members, and the decoder for members of any kind.
//!
//! An ordinary gzip file cannot be cut into parts. BGZF, which `bgzip` writes, is gzip whose members, of at most 64 KiB
//! each, state their length in an extra field (SAM specification, section 4.1).

use flate2::{Decompress, FlushDecompress, Status};

use super::feed::Feed;
use super::outline::{Codec, Grouping, MAX_PARTS, Outline};
use super::{DecodeSink, Format, corrupt, truncated};
use crate::error::BundleError;
use crate::source::{ByteSpace, read_up_to};

/// A BGZF member decodes to no more.
const MAX_MEMBER_BYTES: u64 = 64 << 10;
/// Members up to the group limit make one part, so this many of them fit a table of the usual size.
const MAX_MEMBERS: usize = MAX_PARTS * 16;

/// Walks over the members, as far as they are BGZF.
pub(super) fn outline(stored: &dyn ByteSpace, stored_len: u64) -> Result<Outline, BundleError> {
    let mut groups = Grouping::new(Codec::Gzip);
    let mut at = 0;
    while at < stored_len {
        let head = read_up_to(stored, at, 18)?;
        let Some(len) = bgzf_member_len(&head).filter(|_| groups.units() < MAX_MEMBERS) else {
            return Ok(Outline::stream(Format::Gzip, None));
        };
        let end = at + len;
        if end > stored_len {
            return Err(truncated("gzip", stored_len).at(format!("gzip member at byte {at}")));
        }
        let size = read_up_to(stored, end - 4, 4)?;
        let size = <[u8; 4]>::try_from(&size[..]).map_or(u64::MAX, |size| u32::from_le_bytes(size).into());
        if size > MAX_MEMBER_BYTES {
            return Ok(Outline::stream(Format::Gzip, None));
        }
        groups.add(at..end, size);
        at = end;
    }
    let units = groups.units();
    Ok(Outline::parts(Format::Bgzf, groups.finish(), units, 0))
}

/// The length of the member that begins so, if it tells it the way BGZF does.
fn bgzf_member_len(head: &[u8]) -> Option<u64> {
    let &[0x1f, 0x8b, 8, 4, _, _, _, _, _, _, 6, 0, b'B', b'C', 2, 0, low, high] = head else { return None };
    let len = u64::from(u16::from_le_bytes([low, high])) + 1;
    // Header, the shortest data, trailer.
    (len >= 18 + 2 + 8).then_some(len)
}

/// Decodes all members of the feed, each checksum and length verified. Zeros behind the last one are padding.
pub(super) fn decode(feed: &mut dyn Feed, out: &mut dyn DecodeSink) -> Result<(), BundleError> {
    loop {
        match feed.window()?.first() {
            None => return Ok(()),
            Some(0) => return super::padding("gzip", feed),
            Some(_) => member(feed, out)?,
        }
    }
}

fn member(feed: &mut dyn Feed, out: &mut dyn DecodeSink) -> Result<(), BundleError> {
    let start = feed.position();
    let mut inflate = Decompress::new_gzip(15);
    loop {
        let position = feed.position();
        let stored = feed.window()?;
        let at_end = stored.is_empty();
        let before = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress(stored, out.room()?, FlushDecompress::None);
        // Both are at most the length of a slice.
        let used = usize::try_from(inflate.total_in() - before.0).unwrap_or(0);
        let made = usize::try_from(inflate.total_out() - before.1).unwrap_or(0);
        feed.advance(used);
        out.filled(made)?;
        match status {
            Ok(Status::StreamEnd) => return Ok(()),
            Ok(_) if at_end && made == 0 => return Err(truncated("gzip", position)),
            Ok(_) => {}
            Err(error) => {
                let what = error.message().unwrap_or("damaged data");
                return Err(corrupt(what).at(format!("gzip member at byte {start}")));
            }
        }
    }
}
