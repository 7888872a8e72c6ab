//! What decoding may cost, and how a limit is reported.

use std::path::PathBuf;
use std::sync::Arc;

use crate::budget::{Budget, Shares};
use crate::error::{BundleError, Fault};

pub(super) const MIB: u64 = 1 << 20;

/// What decoding may cost.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// The most memory that one decoder may take for itself: an xz dictionary, or a zstd window.
    pub memory_bytes: u64,
    /// The memory for decoded parts and the disk for spool files.
    pub(crate) budget: Arc<Budget>,
    /// Where spool files are made. They have no name and vanish with the process.
    pub spool_dir: PathBuf,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 256 * MIB,
            budget: Budget::new(Shares::default()),
            spool_dir: std::env::temp_dir(),
        }
    }
}

impl DecodeOptions {
    /// The memory for decoded parts and for the decoders at work on them.
    pub(super) fn part_cache_bytes(&self) -> u64 {
        self.budget.shares().parts
    }

    /// The largest part, its decoder's memory included, that is decoded as a part: two of them can be in work at once.
    /// With more threads fewer of the largest parts are in work than could be, but no disk is needed.
    pub(super) fn part_limit_bytes(&self) -> u64 {
        self.part_cache_bytes() / 2
    }

    /// The largest zstd window as a power of two. `zstd --long=31` makes the largest that there is.
    pub(super) fn zstd_window_log(&self) -> u32 {
        self.memory_bytes.max(1).ilog2().clamp(10, 31)
    }
}

/// A stream asks for more memory than it may have.
pub(super) fn memory_exceeded(what: &str, needed: Option<u64>, limit: u64) -> BundleError {
    let limit = mebibytes(limit);
    let (detail, bytes) = match needed {
        Some(needed) => (
            format!("{what} of {} is over the limit of {limit}", mebibytes(needed)),
            format!("{}MiB", needed.div_ceil(MIB)),
        ),
        None => (format!("{what} is over the limit of {limit}"), "BYTES".to_owned()),
    };
    BundleError::new(Fault::LimitExceeded, detail)
        .hint(format!("raise it with `--decode-memory {bytes}` if the bundle is trusted"))
}

/// A size for people, rounded up.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(MIB))
}

/// Reserves memory for `bytes` bytes in all.
///
/// # Errors
/// [`Fault::LimitExceeded`] where the system has none.
pub(super) fn reserve(buffer: &mut Vec<u8>, bytes: u64) -> Result<usize, BundleError> {
    let refused = || BundleError::new(Fault::Io, format!("no memory for {bytes} bytes"));
    let len = usize::try_from(bytes).map_err(|_| refused())?;
    buffer.try_reserve_exact(len.saturating_sub(buffer.len())).map_err(|_| refused())?;
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_the_size_of_the_memory_is_read() {
        let log = |memory_bytes| DecodeOptions { memory_bytes, ..DecodeOptions::default() }.zstd_window_log();
        assert!(DecodeOptions::default().zstd_window_log() >= 27, "what zstd itself reads by default");
        assert_eq!([128 * MIB, 2048 * MIB, 9 << 40].map(log), [27, 31, 31]);
    }

    #[test]
    fn a_default_xz_block_and_its_dictionary_fit_as_a_part_on_any_machine() {
        assert!(DecodeOptions::default().part_limit_bytes() >= (24 + 8) * MIB);
    }
}
