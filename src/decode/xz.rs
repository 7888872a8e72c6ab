//! xz: the table of blocks at the end of each stream, and the decoder.
//!
//! A file is one or more streams, each of them header, blocks, Index and footer, with padding between them
//! (<https://tukaani.org/xz/xz-file-format.txt>). The streams are found from the end of the file backwards, and what is
//! found must cover it to the byte. A block is decoded as a stream of its own: a header before it, and behind it an
//! Index and a footer made here, so that liblzma itself verifies the block's check and both of its sizes.

mod index;

use bytes::Bytes;
use xz2::stream::{Action, CONCATENATED, Error, Status, Stream, TELL_UNSUPPORTED_CHECK};

use self::index::{FOOTER_BYTES, Footer, HEADER_BYTES, Record};
use super::feed::Feed;
use super::limits::memory_exceeded;
use super::outline::{Codec, MAX_PARTS, Outline, Part};
use super::{DecodeOptions, DecodeSink, Format, corrupt, truncated};
use crate::error::{BundleError, Fault};
use crate::source::{ByteSpace, read_up_to};

/// A larger Index is not kept in memory; the file is decoded as one stream.
const MAX_INDEX_BYTES: u64 = 4 << 20;

/// No block decodes to more than this multiple of its size: the longest match, 273 bytes, costs at least a third of a bit.
const MAX_RATIO: u64 = 1 << 15;

/// How far before the end of a damaged file the end of its last whole stream is looked for.
const SEARCH_BYTES: u64 = 64 << 10;

/// One stream of the file, as its Index tells.
struct StreamTable {
    start: u64,
    check: u8,
    records: Vec<Record>,
}

/// Reads all footers and Indexes.
pub(super) fn outline(
    stored: &dyn ByteSpace,
    stored_len: u64,
    options: &DecodeOptions,
) -> Result<Outline, BundleError> {
    let mut streams = Vec::new();
    let mut blocks = 0;
    let mut end = stored_len;
    while end > 0 {
        let Some(stream) = stream_before(stored, end, streams.is_empty())? else {
            return Ok(Outline::stream(Format::Xz, None));
        };
        blocks += stream.records.len();
        end = stream.start;
        streams.push(stream);
        if blocks > MAX_PARTS || streams.len() > MAX_PARTS {
            return Ok(Outline::stream(Format::Xz, None));
        }
    }
    streams.reverse();

    let mut parts = Vec::with_capacity(blocks);
    let mut dictionary = 0;
    let mut decoded = 0_u64;
    for stream in &streams {
        let mut start = stream.start + HEADER_BYTES;
        if !stream.records.is_empty() {
            let head = read_up_to(stored, start, 1024)?;
            // A guess for all blocks of the stream; the limit holds for each of them in the decoder.
            dictionary = dictionary.max(index::dictionary_bytes(&head).unwrap_or(0));
        }
        for record in &stream.records {
            if record.uncompressed / MAX_RATIO > record.unpadded {
                return Err(corrupt("the xz Index declares more bytes than a block can hold"));
            }
            let next = decoded
                .checked_add(record.uncompressed)
                .ok_or_else(|| corrupt("the xz Index declares more bytes than can be counted"))?;
            if record.uncompressed > 0 {
                parts.push(Part {
                    stored: start..start + record.padded(),
                    bytes: record.uncompressed,
                    codec: Codec::Xz { check: stream.check, unpadded_bytes: record.unpadded },
                });
            }
            start += record.padded();
            decoded = next;
        }
    }
    if dictionary > options.memory_bytes {
        return Err(memory_exceeded("an xz dictionary", Some(dictionary), options.memory_bytes));
    }
    Ok(Outline::parts(Format::Xz, parts, blocks, dictionary))
}

/// The stream, with its padding, that ends at `end`; None if its Index is too large to be kept.
fn stream_before(
    stored: &dyn ByteSpace,
    end: u64,
    is_last: bool,
) -> Result<Option<StreamTable>, BundleError> {
    let padded_end = end;
    let end = end - zeros_before(stored, end)?;
    let at = format!("xz stream that ends at byte {end}");
    let lies = |what: &str| corrupt(what).at(&at);
    let footer = match end.checked_sub(FOOTER_BYTES) {
        Some(start) => Footer::parse(&read_up_to(stored, start, 12)?),
        None => Err(index::Flaw::NoFooter),
    };
    let footer = match footer {
        Ok(footer) => footer,
        Err(index::Flaw::Version) => {
            return Err(BundleError::new(Fault::Unsupported, "a newer version of the xz format").at(&at));
        }
        Err(index::Flaw::NoFooter) if is_last => return Err(unfinished(stored, padded_end)?),
        Err(_) => return Err(lies("the footer is damaged")),
    };
    if !(padded_end - end).is_multiple_of(4) {
        return Err(lies("the padding behind it is not a multiple of four bytes"));
    }
    if footer.index_bytes > MAX_INDEX_BYTES {
        return Ok(None);
    }
    let outside = || lies("the Index does not fit into the file");
    let index_start = (end - FOOTER_BYTES).checked_sub(footer.index_bytes).ok_or_else(outside)?;
    let index_len = usize::try_from(footer.index_bytes).map_err(|_| outside())?;
    let records = index::parse(&read_up_to(stored, index_start, index_len)?).map_err(lies)?;
    let total = records.iter().try_fold(HEADER_BYTES, |sum, record| sum.checked_add(record.padded()));
    let start = total
        .and_then(|total| index_start.checked_sub(total))
        .ok_or_else(|| lies("the Index declares more than the file holds"))?;
    if read_up_to(stored, start, 12)? != index::header(footer.check)[..] {
        return Err(lies("the Index does not lead to the header of the stream"));
    }
    Ok(Some(StreamTable { start, check: footer.check, records }))
}

/// How many zero bytes lie before `end`.
fn zeros_before(stored: &dyn ByteSpace, end: u64) -> Result<u64, BundleError> {
    let mut start = end;
    let mut step = 16;
    while start > 0 {
        let from = start.saturating_sub(step);
        let len = usize::try_from(start - from).unwrap_or(usize::MAX);
        let bytes = read_up_to(stored, from, len)?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            return Ok(end - (from + last as u64 + 1));
        }
        start = from;
        step = 64 << 10;
    }
    Ok(end)
}

/// The end of the file is not the end of a stream: is something missing, or is something there that should not be?
fn unfinished(stored: &dyn ByteSpace, stored_len: u64) -> Result<BundleError, BundleError> {
    let from = stored_len.saturating_sub(SEARCH_BYTES);
    let tail = read_up_to(stored, from, usize::try_from(SEARCH_BYTES).unwrap_or(usize::MAX))?;
    let footer_ends = |end: &usize| Footer::parse(&tail[end - 12..*end]).is_ok();
    let Some(end) = (12..=tail.len()).rev().find(footer_ends) else {
        return Ok(truncated("xz", stored_len));
    };
    let rest = &tail[end..];
    let rest = &rest[rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len())..];
    let begins_a_stream = rest.iter().zip(index::MAGIC).all(|(a, b)| *a == b);
    if begins_a_stream {
        return Ok(truncated("xz", stored_len));
    }
    let at = from + end as u64;
    Ok(corrupt(format!("xz data ends at byte {at}, and {} bytes that are none follow it", stored_len - at)))
}

/// What makes a stream of one block: the bytes before it and behind it.
pub(super) fn frame(check: u8, unpadded_bytes: u64, decoded_bytes: u64) -> (Bytes, Bytes) {
    let mut tail = index::write(&[Record { unpadded: unpadded_bytes, uncompressed: decoded_bytes }]);
    let footer = index::write_footer(check, tail.len() as u64);
    tail.extend_from_slice(&footer);
    (Bytes::copy_from_slice(&index::header(check)), tail.into())
}

/// Decodes all streams of the feed, each check and Index verified.
pub(super) fn decode(
    feed: &mut dyn Feed,
    out: &mut dyn DecodeSink,
    options: &DecodeOptions,
) -> Result<(), BundleError> {
    let limit = options.memory_bytes;
    let mut stream = Stream::new_stream_decoder(limit, CONCATENATED | TELL_UNSUPPORTED_CHECK)
        .map_err(|error| failure(error, limit))?;
    loop {
        let position = feed.position();
        let stored = feed.window()?;
        let at_end = stored.is_empty();
        let action = if at_end { Action::Finish } else { Action::Run };
        let room = out.room()?;
        let before = (stream.total_in(), stream.total_out());
        let status = stream.process(stored, room, action);
        // Both are at most the length of a slice.
        let used = usize::try_from(stream.total_in() - before.0).unwrap_or(0);
        let made = usize::try_from(stream.total_out() - before.1).unwrap_or(0);
        feed.advance(used);
        out.filled(made)?;
        match status.map_err(|error| failure(error, limit))? {
            Status::StreamEnd => return Ok(()),
            Status::MemNeeded if at_end => return Err(truncated("xz", position)),
            Status::MemNeeded | Status::Ok | Status::GetCheck => {}
        }
    }
}

fn failure(error: Error, limit: u64) -> BundleError {
    match error {
        Error::MemLimit => memory_exceeded("the memory that this xz data needs", None, limit),
        Error::Mem => BundleError::new(Fault::Io, "no memory for the xz decoder"),
        Error::Options => BundleError::new(Fault::Unsupported, "an xz filter or option that is not known"),
        Error::UnsupportedCheck | Error::NoCheck => {
            BundleError::new(Fault::Unsupported, "a kind of xz check that is not known")
        }
        Error::Format => corrupt("not an xz stream"),
        Error::Data | Error::Program => corrupt("the data or its checksum is damaged"),
    }
}

#[cfg(test)]
mod tests {
    use xz2::stream::Check;

    use super::*;
    use crate::decode::testing;

    const BLOCK: usize = 3000;

    /// A file of four blocks whose Index is another one, with right checksums.
    fn relabelled(change: impl Fn(&mut Vec<Record>)) -> Vec<u8> {
        let mut file = testing::xz(&testing::content(4 * BLOCK, 1), BLOCK, Check::Crc64);
        let footer = Footer::parse(&file[file.len() - 12..]).unwrap();
        let start = file.len() - 12 - usize::try_from(footer.index_bytes).unwrap();
        let mut records = index::parse(&file[start..file.len() - 12]).unwrap();
        change(&mut records);
        let index = index::write(&records);
        file.truncate(start);
        file.extend_from_slice(&index);
        file.extend_from_slice(&index::write_footer(footer.check, index.len() as u64));
        file
    }

    fn read(file: &[u8]) -> Result<Vec<u8>, BundleError> {
        let decoder = testing::decoder(2, DecodeOptions::default());
        testing::drain(&decoder.open(testing::space(file))?)
    }

    #[test]
    fn an_index_that_lies_is_found_out() {
        assert!(read(&relabelled(|_| {})).is_ok());
        let lies: [fn(&mut Vec<Record>); 6] = [
            |records| {
                let second = records.remove(1);
                records[0].unpadded = records[0].padded() + second.unpadded;
                records[0].uncompressed += second.uncompressed;
            },
            |records| {
                records[0].unpadded -= 4;
                records[1].unpadded += 4;
            },
            |records| {
                records[0].uncompressed -= 1;
                records[1].uncompressed += 1;
            },
            |records| records[3].uncompressed += 1,
            |records| records.truncate(3),
            |records| records[2].uncompressed = 1 << 62,
        ];
        for (number, lie) in lies.into_iter().enumerate() {
            let error = read(&relabelled(lie)).unwrap_err();
            assert_eq!(error.fault(), Fault::CorruptCompression, "lie {number}: {error}");
        }
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_before_memory_is_taken() {
        let file = relabelled(|records| {
            for record in records {
                record.uncompressed = (1 << 63) - 1;
            }
        });
        assert_eq!(read(&file).unwrap_err().fault(), Fault::CorruptCompression);
    }
}
