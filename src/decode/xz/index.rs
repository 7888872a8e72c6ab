//! The fixed pieces of an xz stream: header, footer, Index and the sizes in them. Pure.

use flate2::Crc;

pub(super) const MAGIC: [u8; 6] = *b"\xfd7zXZ\0";
pub(super) const HEADER_BYTES: u64 = 12;
pub(super) const FOOTER_BYTES: u64 = 12;

/// The smallest block there can be.
const MIN_UNPADDED: u64 = 5;
/// The largest size an xz file can state.
const MAX_SIZE: u64 = (1 << 63) - 1;

/// One block as the Index lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Its header, data and check.
    pub(super) unpadded: u64,
    /// Its bytes when decoded.
    pub(super) uncompressed: u64,
}

impl Record {
    /// Its size in the file; up to three zeros lie between data and check.
    pub(super) fn padded(self) -> u64 {
        self.unpadded.next_multiple_of(4)
    }
}

/// Why bytes are not a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Nothing in them looks like one.
    NoFooter,
    /// They look like one, but are damaged.
    Damaged,
    /// They are one of a later format.
    Version,
}

/// What a stream's footer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) index_bytes: u64,
    pub(super) check: u8,
}

impl Footer {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        let (Some((sum, fields)), 12) = (bytes.split_first_chunk::<4>(), bytes.len()) else {
            return Err(Flaw::NoFooter);
        };
        let &[s0, s1, s2, s3, reserved, check, ref magic @ ..] = fields else { return Err(Flaw::NoFooter) };
        let sum_holds = crc32(&fields[..6]) == u32::from_le_bytes(*sum);
        match (sum_holds, magic == b"YZ") {
            (true, true) if reserved == 0 && check < 16 => {
                let backward = u32::from_le_bytes([s0, s1, s2, s3]);
                Ok(Self { index_bytes: (u64::from(backward) + 1) * 4, check })
            }
            (true, true) => Err(Flaw::Version),
            (false, false) => Err(Flaw::NoFooter),
            _ => Err(Flaw::Damaged),
        }
    }
}

/// The header of a stream with this kind of check.
pub(super) fn header(check: u8) -> [u8; 12] {
    let mut header = [0; 12];
    header[..6].copy_from_slice(&MAGIC);
    header[7] = check;
    let sum = crc32(&header[6..8]);
    header[8..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// The footer of a stream with this kind of check and an Index of this size.
pub(super) fn write_footer(check: u8, index_bytes: u64) -> [u8; 12] {
    let mut footer = [0; 12];
    let backward = u32::try_from(index_bytes / 4).unwrap_or(u32::MAX).saturating_sub(1);
    footer[4..8].copy_from_slice(&backward.to_le_bytes());
    footer[9] = check;
    let sum = crc32(&footer[4..10]);
    footer[..4].copy_from_slice(&sum.to_le_bytes());
    footer[10..].copy_from_slice(b"YZ");
    footer
}

/// Reads an Index; the slice is all of it.
pub(super) fn parse(index: &[u8]) -> Result<Vec<Record>, &'static str> {
    let (body, sum) = index.split_last_chunk::<4>().ok_or("the Index is cut short")?;
    if crc32(body) != u32::from_le_bytes(*sum) {
        return Err("the checksum of the Index does not match");
    }
    let Some((0, mut rest)) = body.split_first() else { return Err("no Index where it should be") };
    let count = number(&mut rest)?;
    if count > rest.len() as u64 / 2 {
        return Err("the Index counts more blocks than it lists");
    }
    let mut records = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    for _ in 0..count {
        let record = Record { unpadded: number(&mut rest)?, uncompressed: number(&mut rest)? };
        if !(MIN_UNPADDED..=MAX_SIZE - 3).contains(&record.unpadded) {
            return Err("the Index lists a block of an impossible size");
        }
        records.push(record);
    }
    if rest.len() > 3 || rest.iter().any(|byte| *byte != 0) || !index.len().is_multiple_of(4) {
        return Err("the Index does not end where it should");
    }
    Ok(records)
}

/// Writes an Index of these blocks.
pub(super) fn write(records: &[Record]) -> Vec<u8> {
    let mut index = vec![0];
    write_number(&mut index, records.len() as u64);
    for record in records {
        write_number(&mut index, record.unpadded);
        write_number(&mut index, record.uncompressed);
    }
    index.resize(index.len().next_multiple_of(4), 0);
    let sum = crc32(&index);
    index.extend_from_slice(&sum.to_le_bytes());
    index
}

/// The size of the LZMA2 dictionary that a block's header asks for, if it is a header and names one.
pub(super) fn dictionary_bytes(block: &[u8]) -> Option<u64> {
    let header = block.get(..(usize::from(*block.first()?) + 1) * 4)?;
    let (flags, mut rest) = (*header.get(1)?, header.get(2..)?);
    for size_is_there in [flags & 0x40, flags & 0x80] {
        if size_is_there != 0 {
            number(&mut rest).ok()?;
        }
    }
    for _ in 0..=flags & 3 {
        let (filter, len) = (number(&mut rest).ok()?, usize::try_from(number(&mut rest).ok()?).ok()?);
        let properties = rest.get(..len)?;
        rest = rest.get(len..)?;
        if filter == 0x21 {
            return match *properties.first()? {
                40 => Some(u64::from(u32::MAX)),
                bits @ 0..40 => Some((2 | u64::from(bits & 1)) << (bits / 2 + 11)),
                _ => None,
            };
        }
    }
    None
}

/// A number of one to nine bytes, seven bits each, the lowest first.
fn number(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0;
    for place in 0..9 {
        let (byte, after) = rest.split_first().ok_or("the Index is cut short")?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            // The shortest form is the only one.
            return if *byte == 0 && place > 0 {
                Err("the Index holds a malformed number")
            } else {
                Ok(value)
            };
        }
    }
    Err("the Index holds a malformed number")
}

fn write_number(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let record = (MIN_UNPADDED..1 << 62, 0..=MAX_SIZE)
            .prop_map(|(unpadded, uncompressed)| Record { unpadded, uncompressed });
        prop::collection::vec(record, 0..40)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(records in records()) {
            prop_assert_eq!(parse(&write(&records)).unwrap(), records);
        }

        #[test]
        fn a_flipped_bit_is_found(records in records(), bit in 0_usize..10_000) {
            let mut index = write(&records);
            let bit = bit % (index.len() * 8);
            index[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse(&index).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&bytes);
            let _ = Footer::parse(&bytes);
            let _ = dictionary_bytes(&bytes);
            // With a right checksum, too.
            let mut index = bytes;
            let sum = crc32(&index);
            index.extend_from_slice(&sum.to_le_bytes());
            let _ = parse(&index);
        }
    }

    #[test]
    fn a_footer_is_read_as_it_is_written() {
        let footer = write_footer(4, 4096);
        assert_eq!(Footer::parse(&footer), Ok(Footer { index_bytes: 4096, check: 4 }));
        assert_eq!(Footer::parse(&[0; 12]), Err(Flaw::NoFooter));
        let mut damaged = footer;
        damaged[5] ^= 1;
        assert_eq!(Footer::parse(&damaged), Err(Flaw::Damaged));
    }

    #[test]
    fn the_largest_dictionary_is_seen() {
        // Header size, flags, filter LZMA2, one byte of properties.
        assert_eq!(dictionary_bytes(&[2, 0, 0x21, 1, 40, 0, 0, 0, 0, 0, 0, 0]), Some(u64::from(u32::MAX)));
        assert_eq!(dictionary_bytes(&[2, 0, 0x21, 1, 22, 0, 0, 0, 0, 0, 0, 0]), Some(8 << 20));
    }
}
