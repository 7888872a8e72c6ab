//! What time it is. The one place that asks the system; clippy refuses to ask elsewhere.
//!
//! Waiting and measuring go by [`Instant`], which is tokio's: a test whose runtime is paused moves it as it likes, and
//! windows, back-off and expiry pass without waiting. The time of day moves with it.

use std::time::SystemTime;

use jiff::Timestamp;
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

/// As far from the system's time as a test has moved the clock of its runtime.
fn moved(now: SystemTime) -> SystemTime {
    #[allow(clippy::disallowed_methods)] // this is the place
    let (ours, system) = (Instant::now().into_std(), std::time::Instant::now());
    now + ours.saturating_duration_since(system) - system.saturating_duration_since(ours)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
