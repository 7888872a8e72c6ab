//! Divides the time of a mirror by what its requests wait for. Pure: the caller gives the time.

use std::time::Duration;

use crate::clock::Instant;
use crate::locks::Mutex;
use crate::registry::FlightPhase;
use crate::report::outcome::Waits;

/// The time of one mirror since its task began.
#[derive(Debug)]
pub(super) struct MirrorActivity(Mutex<ActivityState>);

#[derive(Debug)]
struct ActivityState {
    since: Instant,
    /// Requests whose bodies wait for the network.
    sending: usize,
    /// Requests whose bodies wait for the limit on bytes a second.
    limited: usize,
    /// Requests that wait for their answers.
    asking: usize,
    /// Requests that have failed and wait for their next try.
    retrying: usize,
    nothing_under_way: Duration,
    bytes_waited: Duration,
    limit_waited: Duration,
    answers_waited: Duration,
    retries_waited: Duration,
    round_trip: Duration,
}

impl MirrorActivity {
    pub(super) fn new(now: Instant) -> Self {
        let zero = Duration::ZERO;
        Self(Mutex::new(ActivityState {
            since: now,
            sending: 0,
            limited: 0,
            asking: 0,
            retrying: 0,
            nothing_under_way: zero,
            bytes_waited: zero,
            limit_waited: zero,
            answers_waited: zero,
            retries_waited: zero,
            round_trip: zero,
        }))
    }

    /// How long the first answer took.
    pub(super) fn connected(&self, round_trip: Duration) {
        self.0.lock().round_trip = round_trip;
    }

    /// A request goes from one phase to another, begins or ends.
    pub(super) fn flight(&self, left: Option<FlightPhase>, entered: Option<FlightPhase>, now: Instant) {
        let mut state = self.0.lock();
        state.pass(now);
        if let Some(count) = left.and_then(|phase| state.count(phase)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = entered.and_then(|phase| state.count(phase)) {
            *count += 1;
        }
    }

    /// All of it until now.
    pub(super) fn waits(&self, now: Instant) -> Waits {
        let mut state = self.0.lock();
        state.pass(now);
        Waits {
            mirror_waited_seconds: state.nothing_under_way.as_secs_f64(),
            bytes_waited_seconds: state.bytes_waited.as_secs_f64(),
            answers_waited_seconds: state.answers_waited.as_secs_f64(),
            limit_waited_seconds: state.limit_waited.as_secs_f64(),
            retries_waited_seconds: state.retries_waited.as_secs_f64(),
            round_trip_seconds: state.round_trip.as_secs_f64(),
        }
    }
}

impl ActivityState {
    /// Of what waits for the mirror; a body that waits for its bytes does not.
    const fn count(&mut self, phase: FlightPhase) -> Option<&mut usize> {
        match phase {
            FlightPhase::Bytes => None,
            FlightPhase::Limit => Some(&mut self.limited),
            FlightPhase::Network => Some(&mut self.sending),
            FlightPhase::Answer => Some(&mut self.asking),
            FlightPhase::NextTry => Some(&mut self.retrying),
        }
    }

    /// Books the time that has passed.
    fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        self.since = self.since.max(now);
        *match (self.sending, self.limited, self.asking, self.retrying) {
            (1.., ..) => &mut self.bytes_waited,
            (0, 1.., ..) => &mut self.limit_waited,
            (0, 0, 1.., _) => &mut self.answers_waited,
            (0, 0, 0, 1..) => &mut self.retries_waited,
            (0, 0, 0, 0) => &mut self.nothing_under_way,
        } += passed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_is_booked_once_and_bytes_on_offer_count_most() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let activity = MirrorActivity::new(start);
        let (bytes, network, answer) = (FlightPhase::Bytes, FlightPhase::Network, FlightPhase::Answer);
        let (limit, next_try) = (FlightPhase::Limit, FlightPhase::NextTry);
        activity.connected(Duration::from_millis(80));
        for (second, left, entered) in [
            (1, None, Some(answer)),
            (3, Some(answer), Some(network)),
            (4, None, Some(answer)),
            (7, Some(network), Some(bytes)),
            (8, Some(answer), None),
            (12, Some(bytes), Some(network)),
            (13, Some(network), Some(answer)),
            (14, Some(answer), None),
            (15, None, Some(next_try)),
            (17, None, Some(answer)),
            (18, Some(answer), Some(limit)),
            (19, None, Some(answer)),
        ] {
            activity.flight(left, entered, at(second));
        }
        let expected = Waits {
            mirror_waited_seconds: 1.0 + 4.0 + 1.0,
            bytes_waited_seconds: 4.0 + 1.0,
            answers_waited_seconds: 2.0 + 1.0 + 1.0 + 1.0,
            limit_waited_seconds: 1.0 + 1.0,
            retries_waited_seconds: 2.0,
            round_trip_seconds: 0.08,
        };
        assert_eq!(activity.waits(at(20)), expected);
    }
}
