//! How much memory the process really takes: resident pages that are not of a mapped file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::small_file;

const EVERY: Duration = Duration::from_millis(50);

/// Looks at the process now and again and keeps the largest figure. Pages of mapped files are left out: the system
/// takes them back whenever it likes.
#[derive(Debug)]
pub(crate) struct PeakMemory {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sampler: Option<thread::JoinHandle<()>>,
}

impl PeakMemory {
    /// Begins to look.
    pub(crate) fn watch() -> Self {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stopped) = (Arc::clone(&peak), Arc::clone(&stop));
        let sampler = thread::Builder::new().name("memory".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(resident_bytes(), Ordering::Relaxed);
                thread::park_timeout(EVERY);
            }
        });
        Self { peak, stop, sampler: sampler.ok() }
    }

    /// The largest figure so far, in bytes; 0 where the system does not tell.
    pub(crate) fn bytes(&self) -> u64 {
        self.peak.fetch_max(resident_bytes(), Ordering::Relaxed).max(self.peak.load(Ordering::Relaxed))
    }
}

impl Drop for PeakMemory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sampler) = self.sampler.take() {
            sampler.thread().unpark();
            let _ = sampler.join();
        }
    }
}

fn resident_bytes() -> u64 {
    small_file::read_kernel_text(Path::new("/proc/self/status")).map_or(0, |status| parse(&status))
}

/// `RssAnon` + `RssShmem` of `/proc/self/status`, which are in kB.
fn parse(status: &str) -> u64 {
    let kilobytes = |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    let ours = |line: &&str| line.starts_with("RssAnon:") || line.starts_with("RssShmem:");
    status.lines().filter(ours).filter_map(kilobytes).map(|kb| kb * 1024).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_our_own_count() {
        assert_eq!(
            parse("VmRSS:\t 999 kB\nRssAnon:\t 10 kB\nRssFile:\t 900 kB\nRssShmem:\t 1 kB\n"),
            11 * 1024
        );
        assert!(PeakMemory::watch().bytes() > 0);
    }
}
