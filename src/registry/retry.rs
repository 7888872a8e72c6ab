//! The retry policy: which failures are retried, and after which delay. Nothing else decides that. Pure.
//!
//! | outcome | verdict |
//! |---|---|
//! | no connection: resolver, refused, unreachable, timeouts of it | again, when one has found that the host is back |
//! | broken or stalled, and the request may be sent twice | again |
//! | broken or stalled after bytes of a blob | ask first whether the blob is there ([`RetryDecision::Ambiguous`]) |
//! | 408 425 429 499 500 502 503 504 520–524 | again; 429 and 503 pause the whole host, as long as it asks |
//! | 401 | one fresh token, then final (accounts get locked) |
//! | everything else: 403, 404, 405, 409, 412, 413, 507, TLS, the bundle | final |
//!
//! The circuit breaker (`breaker`) decides how long to wait for a host that is away.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::registry::cause::{Cause, ProxyFault};

/// How often a document that arrives too slowly is requested.
const SLOW_DOCUMENT_TRIES: u32 = 2;
/// How often a request is sent that is answered in another protocol: damage on the way looks like that too.
const GARBLED_TRIES: u32 = 3;

/// How patient to be with a registry.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// How often one request is sent at most.
    pub attempts: u32,
    /// The first pause; it doubles each time, with jitter.
    pub min_delay: Duration,
    /// The longest pause that we choose ourselves.
    pub max_delay: Duration,
    /// How long a host that is away is waited for, or that asks to be left alone, until it takes something again.
    pub connect_patience: Duration,
    /// How often the upload of one blob starts anew after its connection broke.
    pub restarts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            min_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(60),
            connect_patience: Duration::from_secs(20),
            restarts: 3,
        }
    }
}

impl RetryPolicy {
    /// How often a request that fails this way is tried. A 500 is as often a bug as a passing fault; a document that
    /// trickles has taken long enough.
    pub(super) fn tries(&self, cause: &Cause) -> u32 {
        match cause {
            Cause::Answer(refusal) if refusal.status == 500 => self.attempts.div_ceil(2),
            Cause::TooSlow { .. } => self.attempts.min(SLOW_DOCUMENT_TRIES),
            Cause::NotHttp(_) => self.attempts.min(GARBLED_TRIES),
            _ => self.attempts,
        }
    }

    /// The pauses between the tries of one request, or of one host: each a random part of a span that doubles ("full
    /// jitter"), so that many who failed at the same moment do not come back at the same moment.
    pub(super) fn delays(&self) -> Delays {
        let longest = self.longest_delay();
        let spans = ExponentialBuilder::new().with_min_delay(self.min_delay).with_max_delay(longest);
        Delays { spans: spans.without_max_times().build(), longest }
    }

    /// No pause of our own choice is longer than the patience.
    fn longest_delay(&self) -> Duration {
        self.max_delay.min(self.connect_patience).max(self.min_delay)
    }
}

/// Pauses without an end.
#[derive(Debug)]
pub(super) struct Delays {
    spans: ExponentialBackoff,
    longest: Duration,
}

impl Delays {
    pub(super) fn next(&mut self) -> Duration {
        self.spans.next().unwrap_or(self.longest).mul_f64(fastrand::f64())
    }
}

/// What may be done with a request whose outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replay {
    /// Sending it twice does no harm.
    Safe,
    /// It carries a blob, or commits one: the caller must find out what became of it.
    Never,
}

/// What to do after a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// Never again.
    Final,
    /// Again after a pause.
    Again,
    /// Again after a pause that everybody keeps who talks to this host.
    Pause(Option<Duration>),
    /// The host takes no connections; again while there is patience.
    Reconnect,
    /// Credentials are missing or stale.
    Unauthorized,
    /// It may have happened or not.
    Ambiguous,
}

/// What to do after a failed try of a request.
pub(super) fn classify(cause: &Cause, replay: Replay) -> RetryDecision {
    match cause {
        Cause::Unreachable(_) | Cause::NoSuchName(_) | Cause::Proxy { fault: ProxyFault::Away, .. } => {
            RetryDecision::Reconnect
        }
        Cause::Broken(_) | Cause::NotHttp(_) | Cause::Stalled(_) | Cause::TooSlow { .. } => match replay {
            Replay::Safe => RetryDecision::Again,
            Replay::Never => RetryDecision::Ambiguous,
        },
        Cause::Answer(refusal) => match refusal.status {
            401 => RetryDecision::Unauthorized,
            _ if refusal.says_not_now() => RetryDecision::Pause(refusal.retry_after),
            _ if refusal.is_transient() && replay == Replay::Never => RetryDecision::Ambiguous,
            _ if refusal.is_transient() => RetryDecision::Again,
            _ => RetryDecision::Final,
        },
        _ => RetryDecision::Final,
    }
}

/// What the upload of one blob has been through.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trials {
    /// Connections that broke or stalled.
    pub(super) broken: u32,
    /// Answers that said "not now".
    pub(super) refused: u32,
    /// Answers that said that what arrived is not the blob.
    pub(super) mangled: u32,
    /// Whether both methods have been tried.
    pub(super) switched: bool,
    /// Up to which byte the registry has kept what had arrived when this was last counted anew.
    pub(super) kept_bytes: u64,
}

impl Trials {
    /// Whether all went well since it last came further.
    pub(super) const fn has_none(&self) -> bool {
        self.broken == 0 && self.refused == 0 && self.mangled == 0
    }
}

/// What follows a failed upload of a blob that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A new session from the first byte, after a pause.
    Restart,
    /// A new session with the other method.
    Switch,
    /// Nothing.
    GiveUp,
}

/// Decides how the upload of a blob goes on, and counts.
pub(super) fn after_upload(cause: &Cause, policy: &RetryPolicy, trials: &mut Trials) -> Next {
    let (count, limit) = match cause {
        Cause::Broken(_) | Cause::NotHttp(_) | Cause::Stalled(_) | Cause::TooSlow { .. } => {
            (&mut trials.broken, policy.restarts)
        }
        Cause::Answer(refusal) if refusal.has_code("DIGEST_INVALID") || refusal.has_code("SIZE_INVALID") => {
            (&mut trials.mangled, 2)
        }
        // The session is gone. That says nothing of the method, unless it happens again.
        Cause::Answer(refusal) if refusal.has_code("BLOB_UPLOAD_UNKNOWN") && trials.broken == 0 => {
            (&mut trials.broken, policy.restarts)
        }
        Cause::Answer(refusal) if refusal.is_transient() => (&mut trials.refused, policy.tries(cause)),
        Cause::Answer(refusal)
            if matches!(refusal.status, 400 | 404 | 405 | 411 | 413 | 415 | 416 | 501)
                && !trials.switched =>
        {
            trials.switched = true;
            return Next::Switch;
        }
        // Nothing is there of what was taken: the other method may end in another way.
        Cause::NotStored { .. } if !trials.switched => {
            trials.switched = true;
            return Next::Switch;
        }
        // Both methods had their turn, so the session is to blame.
        Cause::Answer(refusal) if refusal.status == 404 => (&mut trials.broken, policy.restarts),
        _ => return Next::GiveUp,
    };
    *count += 1;
    if *count <= limit { Next::Restart } else { Next::GiveUp }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{BundleError, Fault};
    use crate::registry::cause::TlsFault;
    use crate::registry::error_response::ErrorResponse;

    fn answered(status: u16, body: &str) -> Cause {
        Cause::Answer(ErrorResponse::new(
            status,
            Some(Duration::from_secs(3)),
            body.as_bytes(),
            str::to_owned,
        ))
    }

    #[test]
    fn the_table() {
        let why = String::new;
        let three = Some(Duration::from_secs(3));
        for (cause, safe, never) in [
            (Cause::Unreachable(why()), RetryDecision::Reconnect, RetryDecision::Reconnect),
            (Cause::Broken(why()), RetryDecision::Again, RetryDecision::Ambiguous),
            (Cause::Stalled(Duration::ZERO), RetryDecision::Again, RetryDecision::Ambiguous),
            (
                Cause::Tls { fault: TlsFault::Certificate, why: why() },
                RetryDecision::Final,
                RetryDecision::Final,
            ),
            (
                Cause::Source(BundleError::new(Fault::DigestMismatch, "x")),
                RetryDecision::Final,
                RetryDecision::Final,
            ),
            (Cause::Protocol(why()), RetryDecision::Final, RetryDecision::Final),
            (answered(401, ""), RetryDecision::Unauthorized, RetryDecision::Unauthorized),
            (answered(429, ""), RetryDecision::Pause(three), RetryDecision::Pause(three)),
            (answered(503, ""), RetryDecision::Pause(three), RetryDecision::Pause(three)),
            (answered(500, ""), RetryDecision::Again, RetryDecision::Ambiguous),
            (answered(524, ""), RetryDecision::Again, RetryDecision::Ambiguous),
        ] {
            assert_eq!(classify(&cause, Replay::Safe), safe, "{cause:?}");
            assert_eq!(classify(&cause, Replay::Never), never, "{cause:?}");
        }
        for status in [400, 402, 403, 404, 405, 409, 412, 413, 414, 416, 501, 507] {
            assert_eq!(classify(&answered(status, ""), Replay::Safe), RetryDecision::Final, "{status}");
        }
    }

    #[test]
    fn pauses_are_random_parts_of_spans_that_double_and_have_an_end() {
        let policy = RetryPolicy::default();
        let sequences = || std::iter::repeat_with(|| policy.delays()).take(400);
        for n in 0..12 {
            let span = (policy.min_delay * 2_u32.pow(n)).min(policy.connect_patience);
            let nth = |mut delays: Delays| std::iter::repeat_with(|| delays.next()).nth(n as usize).unwrap();
            let all: Vec<Duration> = sequences().map(nth).collect();
            assert!(all.iter().all(|delay| *delay <= span), "{n}: more than {span:?}");
            let mean = all.iter().sum::<Duration>() / 400;
            assert!(mean > span * 2 / 5 && mean < span * 3 / 5, "{n}: {mean:?} of {span:?}");
        }
    }

    #[test]
    fn an_upload_restarts_switches_and_gives_up() {
        use Next::{GiveUp, Restart, Switch};
        let policy = RetryPolicy::default();
        let run = |causes: &[Cause]| {
            let mut trials = Trials::default();
            causes.iter().map(|cause| after_upload(cause, &policy, &mut trials)).collect::<Vec<_>>()
        };
        let broken = Cause::Broken(String::new());
        assert_eq!(run(&vec![broken; 4]), [Restart, Restart, Restart, GiveUp]);
        assert_eq!(run(&[answered(413, ""), answered(413, "")]), [Switch, GiveUp]);
        let lost = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#;
        assert_eq!(run(&vec![answered(404, lost); 5]), [Restart, Switch, Restart, Restart, GiveUp]);
        let mangled = r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#;
        assert_eq!(run(&vec![answered(400, mangled); 3]), [Restart, Restart, GiveUp]);
        assert_eq!(run(&[answered(403, "")]), [GiveUp]);
        assert_eq!(run(&vec![answered(503, ""); 9])[7..], [Restart, GiveUp]);
        assert_eq!(run(&vec![answered(500, ""); 5])[3..], [Restart, GiveUp]);
    }
}
