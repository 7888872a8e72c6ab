//! How often an API server is asked the same thing again, and after which pause. Pure.

use std::time::Duration;

/// What is waited before the second try and those after it: a server that restarts is back within seconds, and whoever
/// waits for this program should not wonder what it does.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// No try begins later than this after the first one, whatever the server asks for.
const IN_ALL: Duration = Duration::from_secs(20);

/// How long to wait after this number of `tries`, of which the first began `elapsed` ago; `None` gives up. A server may ask for a
/// longer pause.
pub(super) fn pause(tries: usize, elapsed: Duration, asked_for: Option<Duration>) -> Option<Duration> {
    let own = *PAUSES.get(tries.checked_sub(1)?)?;
    let left = IN_ALL.checked_sub(elapsed)?;
    (own <= left).then(|| asked_for.unwrap_or(own).clamp(own, left))
}

/// Whether an answer may be another one soon: too many requests, or a server in trouble.
pub(super) fn may_pass(code: u16) -> bool {
    code == 429 || (code >= 500 && code != 501 && code != 505)
}

/// How long to wait until an object that changed in between is read again.
pub(super) fn before_rereading(attempts: u32) -> Duration {
    Duration::from_millis(100 << attempts.min(4))
}
