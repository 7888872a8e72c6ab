//! How well a run used the machine and the mirrors, and what it hung on. Pure.

use serde::{Deserialize, Serialize};

use crate::report::outcome::{Outcome, Waits};

/// Answers that take longer come over a long way: the link is what a mirror waits for.
const FAR_SECONDS: f64 = 0.020;
/// Answers that come sooner come from this machine or the next one: bytes that wait there wait for the registry.
const NEAR_SECONDS: f64 = 0.001;

/// How well a run used the machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Utilisation {
    /// Threads that decode and compress.
    pub threads: usize,
    /// CPU time by stage.
    pub core_seconds: StageSeconds,
    /// The share of the time of those threads in which work on the bundle was done.
    pub pool_busy_share: f64,
    /// The stage that the run hung on; none where no mirror was talked to.
    pub bottleneck: Option<Bottleneck>,
}

/// CPU time of the process by stage, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StageSeconds {
    /// Decoding the bundle.
    pub decode: f64,
    /// Compressing layers.
    pub compress: f64,
    /// Hashing layers and blobs.
    pub sha256: f64,
    /// All else: sockets, copies, the catalog.
    pub other: f64,
}

/// What a run hung on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Bottleneck {
    /// Decoding the bundle.
    Decode,
    /// Compressing layers.
    Compress,
    /// The registry's answers.
    Registry,
    /// The way to the registry.
    Link,
}

impl Utilisation {
    /// What a run of so many seconds came to.
    pub(crate) fn of(threads: usize, core_seconds: StageSeconds, elapsed: f64, mirrors: &[Outcome]) -> Self {
        let StageSeconds { decode, compress, sha256, .. } = core_seconds;
        let pool_seconds = threads as f64 * elapsed;
        let share = if pool_seconds > 0.0 { (decode + compress + sha256) / pool_seconds } else { 0.0 };
        let pool_busy_share = share.min(1.0);
        Self { threads, core_seconds, pool_busy_share, bottleneck: bottleneck(core_seconds, mirrors) }
    }
}

/// What the mirror that took longest waited for.
fn bottleneck(core_seconds: StageSeconds, mirrors: &[Outcome]) -> Option<Bottleneck> {
    let talked_to = mirrors.iter().filter(|mirror| mirror.requests > 0);
    let last = talked_to.max_by(|a, b| a.elapsed_seconds.total_cmp(&b.elapsed_seconds))?;
    let Waits { mirror_waited_seconds, bytes_waited_seconds, answers_waited_seconds, round_trip_seconds } =
        last.waits;
    Some(if mirror_waited_seconds > bytes_waited_seconds + answers_waited_seconds {
        if core_seconds.compress > core_seconds.decode { Bottleneck::Compress } else { Bottleneck::Decode }
    } else if round_trip_seconds >= FAR_SECONDS
        || (bytes_waited_seconds > answers_waited_seconds && round_trip_seconds >= NEAR_SECONDS)
    {
        Bottleneck::Link
    } else {
        Bottleneck::Registry
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(elapsed_seconds: f64, waited: [f64; 4]) -> Outcome {
        let [mirror_waited_seconds, bytes_waited_seconds, answers_waited_seconds, round_trip_seconds] =
            waited;
        let waits =
            Waits { mirror_waited_seconds, bytes_waited_seconds, answers_waited_seconds, round_trip_seconds };
        Outcome { requests: 1, elapsed_seconds, waits, ..Outcome::new("m".into()) }
    }

    #[test]
    fn a_run_hangs_on_what_its_last_mirror_waited_for() {
        let busy = |decode, compress| StageSeconds { decode, compress, ..StageSeconds::default() };
        let (decodes, compresses) = (busy(2.0, 1.0), busy(1.0, 2.0));
        for (work, waited, expected) in [
            (decodes, [3.0, 1.0, 1.0, 0.0], Bottleneck::Decode),
            (compresses, [3.0, 1.0, 1.0, 0.0], Bottleneck::Compress),
            (compresses, [1.0, 3.0, 1.0, 0.0002], Bottleneck::Registry),
            (decodes, [1.0, 3.0, 1.0, 0.005], Bottleneck::Link),
            (decodes, [1.0, 1.0, 3.0, 0.005], Bottleneck::Registry),
            (decodes, [1.0, 1.0, 3.0, 0.08], Bottleneck::Link),
        ] {
            let mirrors = [mirror(1.0, [9.0, 0.0, 0.0, 0.0]), mirror(5.0, waited)];
            let found = Utilisation::of(2, work, 5.0, &mirrors);
            assert_eq!(found.bottleneck, Some(expected), "{waited:?}");
            assert!((found.pool_busy_share - 0.3).abs() < 1e-9);
        }
        let silent = Outcome { requests: 0, ..mirror(9.0, [9.0, 0.0, 0.0, 0.0]) };
        assert_eq!(Utilisation::of(2, decodes, 0.0, &[silent]).bottleneck, None);
    }
}
