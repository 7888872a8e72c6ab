//! How a run shares the memory that it may use.

/// Less does not hold a part for each of two cores.
const MIN_BYTES: u64 = 32 << 20;
/// A layer in work reads from one part while the next is decoded; with less, workers decode each other's parts anew.
const WORKER_BYTES: u64 = 48 << 20;

/// The shares: five eighths for decoded parts, of which half may be found and yet unread; a quarter for compressed
/// layers on their way; the rest for bodies of requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    /// For decoded parts.
    pub part_bytes: u64,
    /// What was found in the bundle and not yet read may be as much as this.
    pub backlog_bytes: u64,
    /// For compressed layers that wait for a mirror.
    pub layer_bytes: u64,
    /// For bodies of requests, of all mirrors together.
    pub body_bytes: u64,
    /// Layers that are compressed at the same time; each reads another place of the bundle.
    pub layer_workers: usize,
}

impl Shares {
    /// The least memory that can be shared.
    pub(crate) const MIN_BYTES: u64 = MIN_BYTES;

    /// The shares of `memory_bytes` on a machine with this number of threads.
    pub(crate) fn of(memory_bytes: u64, threads: usize) -> Self {
        Self {
            part_bytes: memory_bytes / 8 * 5,
            backlog_bytes: memory_bytes / 16 * 5,
            layer_bytes: memory_bytes / 4,
            body_bytes: memory_bytes / 8,
            layer_workers: usize::try_from(memory_bytes / WORKER_BYTES).unwrap_or(1).clamp(1, threads + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_no_more_than_the_memory_and_one_layer_is_always_in_work() {
        for memory in [MIN_BYTES, 256 << 20, 1 << 40] {
            let shares = Shares::of(memory, 2);
            assert!(shares.part_bytes + shares.layer_bytes + shares.body_bytes <= memory, "{shares:?}");
            assert!(shares.backlog_bytes <= shares.part_bytes / 2, "{shares:?}");
            assert!((1..=3).contains(&shares.layer_workers), "{shares:?}");
        }
    }
}
