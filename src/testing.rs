//! What the tests of several modules share.

use std::time::{Duration, Instant};

/// Far longer than anything takes that is to happen in a test.
const LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until something holds that happens beside the test, and fails the test where it does not.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same for a test without a runtime.
pub(crate) fn eventually_blocking(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}
