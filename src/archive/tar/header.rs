//! The fields of a tar header, and the records of a PAX header.

/// Headers, and what lies between them, come in multiples of this.
pub(super) const BLOCK: usize = 512;

/// Whether bytes begin like a tar: with a header whose checksum fits, or at least with its magic.
pub(in crate::archive) fn begins_like_tar(bytes: &[u8]) -> bool {
    bytes.get(..BLOCK).is_some_and(|block| checksum_fits(block) || &block[257..262] == b"ustar")
}

/// Whether a header stands anywhere in bytes, at a multiple of its length or, with its magic number, between two.
pub(in crate::archive) fn holds_header(bytes: &[u8]) -> bool {
    let magic = bytes.windows(5).enumerate().filter(|(_, window)| window == b"ustar");
    let with_magic = magic.filter_map(|(at, _)| at.checked_sub(257));
    let starts = (BLOCK..bytes.len()).step_by(BLOCK).chain(with_magic);
    starts.filter_map(|at| bytes.get(at..at + BLOCK)).any(checksum_fits)
}

pub(super) fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|&c| c == 0)
}

/// POSIX sums bytes as unsigned; some old writers summed them as signed.
pub(super) fn checksum_fits(block: &[u8]) -> bool {
    let Some(stated) = number(&block[148..156]).and_then(|n| i64::try_from(n).ok()) else { return false };
    let bytes = block.iter().enumerate().map(|(i, &c)| if (148..156).contains(&i) { b' ' } else { c });
    let unsigned: i64 = bytes.clone().map(i64::from).sum();
    let signed: i64 = bytes.map(|c| i64::from(c.cast_signed())).sum();
    stated == unsigned || stated == signed
}

/// A numeric field: octal text, or GNU's base-256. `None` for what is no number, negative, or beyond 64 bits.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        return rest
            .iter()
            .try_fold(u64::from(first & 0x7f), |n, &c| (n >> 56 == 0).then_some(n << 8 | u64::from(c)));
    }
    let text = field.split(|&c| c == 0).next().unwrap_or_default().trim_ascii();
    text.iter().try_fold(0u64, |n, &c| {
        let digit = (b'0'..=b'7').contains(&c).then(|| u64::from(c - b'0'))?;
        n.checked_mul(8)?.checked_add(digit)
    })
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |n, &c| {
        let digit = c.is_ascii_digit().then(|| u64::from(c - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

/// The records `"<length> <key>=<value>\n"` of a PAX header. By their lengths, for values may hold line feeds, at which
/// the reader of the `tar` crate would stop.
pub(super) fn pax_records(mut body: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let space = body.iter().position(|&c| c == b' ')?;
        let len = usize::try_from(decimal(&body[..space])?).ok()?;
        let record = body.get(space + 1..len)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|&c| c == b'=')?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        body = &body[len..];
    }
    Some(records)
}
