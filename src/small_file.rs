//! Files that are small by their nature, as certificates, credentials and lists, read whole and never beyond a limit:
//! whoever names `/dev/zero` or the bundle by mistake gets an error, and not the end of the memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::units::ByteCount;

/// `/proc/self/status` and its like have a few kilobytes.
const MAX_KERNEL_BYTES: u64 = 1 << 20;

/// The bytes of a file that has no more than `max_bytes`.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    read_from(File::open(path)?, max_bytes)
}

/// The text of a file that has no more than `max_bytes`.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    read_text_from(File::open(path)?, max_bytes)
}

/// What a reader gives until its end, if that is text of no more than `max_bytes`.
pub(crate) fn read_text_from(reader: impl Read, max_bytes: u64) -> io::Result<String> {
    let bytes = read_from(reader, max_bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// What the kernel says in a file of `/proc` or `/sys`. Names that stand in them, as those of processes, need not be UTF-8.
pub(crate) fn read_kernel_text(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&read(path, MAX_KERNEL_BYTES)?).into_owned())
}

/// What a reader gives until its end, if that is no more than `max_bytes`.
pub(crate) fn read_from(reader: impl Read, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let text = format!("it is longer than {}, the most that is read here", ByteCount(max_bytes));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_beyond_the_limit_and_nothing_is_cut_off() {
        assert_eq!(read_from(&b"four"[..], 4).unwrap(), b"four");
        let error = read_from(io::repeat(b'x'), 4).unwrap_err();
        assert!(error.to_string().contains("longer than 4 B"), "{error}");
        assert!(read(Path::new("/dev/zero"), 1 << 20).is_err());
        assert!(read_text(Path::new("/"), 10).is_err(), "a folder");
        assert!(read_kernel_text(Path::new("/proc/self/stat")).unwrap().contains(')'));
    }
}
