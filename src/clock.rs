//! What time it is. The one place that asks the system; clippy refuses to ask elsewhere.
//!
//! Waiting and measuring go by [`Instant`], which is tokio's: a test whose runtime is paused moves it as it likes, and
//! windows, back-off and expiry pass without waiting. The time of day moves with it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
pub(crate) use tokio::time::Instant;

/// The time of day.
pub(crate) fn wall() -> SystemTime {
    #[allow(clippy::disallowed_methods)] // this is the place
    let now = SystemTime::now();
    if cfg!(test) { moved(now) } else { now }
}

/// The time of day, for documents and logs.
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::try_from(wall()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The time of day in seconds since 1970, as it is kept between runs.
pub(crate) fn unix_seconds() -> i64 {
    timestamp().as_second()
}

/// The same in milliseconds.
pub(crate) fn unix_millis() -> i64 {
    timestamp().as_millisecond()
}

/// As far from the system's time as a test has moved the clock of its runtime.
fn moved(now: SystemTime) -> SystemTime {
    #[allow(clippy::disallowed_methods)] // this is the place
    let (ours, system) = (Instant::now().into_std(), std::time::Instant::now());
    now + ours.saturating_duration_since(system) - system.saturating_duration_since(ours)
}

/// CPU time that work of one kind has taken, on whatever threads.
#[derive(Debug, Default)]
pub(crate) struct CpuTime(AtomicU64);

thread_local! {
    /// What this thread has spent on work of any kind, in nanoseconds.
    static SPENT: Cell<u64> = const { Cell::new(0) };
}

impl CpuTime {
    /// Does work on this thread and adds what it takes, without what work of its own kind or another inside it takes.
    pub(crate) fn of<T>(&self, work: impl FnOnce() -> T) -> T {
        let (began, before) = (thread_cpu_nanos(), SPENT.get());
        let done = work();
        let (took, inside) = (thread_cpu_nanos().saturating_sub(began), SPENT.get().saturating_sub(before));
        self.0.fetch_add(took.saturating_sub(inside), Ordering::Relaxed);
        SPENT.set(before + took);
        done
    }

    /// All of it so far.
    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// CPU time of all threads of this process, those that have ended among them.
pub(crate) fn process_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn thread_cpu_nanos() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_counts_work_and_no_waiting_and_nothing_twice() {
        let (outer, inner) = (CpuTime::default(), CpuTime::default());
        let work = |millis: u128| {
            let began = thread_cpu_nanos();
            while u128::from(thread_cpu_nanos() - began) < millis * 1_000_000 {}
        };
        outer.of(|| {
            work(2);
            inner.of(|| work(6));
            std::thread::sleep(Duration::from_millis(20));
        });
        let [outer, inner] = [outer, inner].map(|time| time.total().as_secs_f64());
        assert!((0.002..0.006).contains(&outer) && inner >= 0.006, "{outer} {inner}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_runtime_moves_both_clocks() {
        let (began, day) = (Instant::now(), wall());
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        assert_eq!(began.elapsed().as_secs(), 86_400);
        let passed = wall().duration_since(day).unwrap();
        assert!(passed.abs_diff(Duration::from_secs(86_400)) < Duration::from_secs(1), "{passed:?}");
        assert_eq!(timestamp().as_second(), Timestamp::try_from(wall()).unwrap().as_second());
    }
}
