//! How well a run used the machine and the mirrors, and what limited it. Pure.

use serde::{Deserialize, Serialize};

use crate::report::outcome::Outcome;

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
    /// The stage that limited the run; none where no mirror was connected to.
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

/// What limited a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Bottleneck {
    /// Decoding the bundle.
    Decode,
    /// Compressing layers.
    Compress,
    /// The registry's answers.
    Registry,
    /// The link to the registry.
    Link,
    /// The limit on bytes a second.
    Limit,
}

impl Utilisation {
    /// The utilisation of a run of this many seconds.
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
    let waits = last.waits;
    let (bytes, answers) = (waits.bytes_waited_seconds, waits.answers_waited_seconds);
    let (limit, retries) = (waits.limit_waited_seconds, waits.retries_waited_seconds);
    let is_far = waits.round_trip_seconds >= FAR_SECONDS;
    let is_near = waits.round_trip_seconds < NEAR_SECONDS;
    Some(if waits.mirror_waited_seconds > bytes + answers + limit + retries {
        if core_seconds.compress > core_seconds.decode { Bottleneck::Compress } else { Bottleneck::Decode }
    } else if limit > bytes + answers + retries {
        Bottleneck::Limit
    } else if retries > bytes + answers {
        Bottleneck::Registry
    } else if is_far || (bytes > answers && !is_near) {
        Bottleneck::Link
    } else {
        Bottleneck::Registry
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::outcome::Waits;

    /// Waited for the bundle, the network, answers, the limit and next tries.
    fn mirror(elapsed_seconds: f64, waited: [f64; 5], round_trip_seconds: f64) -> Outcome {
        let [mirror_waited_seconds, bytes_waited_seconds, answers_waited_seconds, limit, retries] = waited;
        let waits = Waits {
            mirror_waited_seconds,
            bytes_waited_seconds,
            answers_waited_seconds,
            limit_waited_seconds: limit,
            retries_waited_seconds: retries,
            round_trip_seconds,
        };
        Outcome { requests: 1, elapsed_seconds, waits, ..Outcome::new("m".into()) }
    }

    #[test]
    fn a_run_hangs_on_what_its_last_mirror_waited_for() {
        let busy = |decode, compress| StageSeconds { decode, compress, ..StageSeconds::default() };
        let (decodes, compresses) = (busy(2.0, 1.0), busy(1.0, 2.0));
        for (work, waited, round_trip, expected) in [
            (decodes, [3.0, 1.0, 1.0, 0.0, 0.0], 0.0, Bottleneck::Decode),
            (compresses, [3.0, 1.0, 1.0, 0.0, 0.0], 0.0, Bottleneck::Compress),
            (compresses, [1.0, 3.0, 1.0, 0.0, 0.0], 0.0002, Bottleneck::Registry),
            (decodes, [1.0, 3.0, 1.0, 0.0, 0.0], 0.005, Bottleneck::Link),
            (decodes, [1.0, 1.0, 3.0, 0.0, 0.0], 0.005, Bottleneck::Registry),
            (decodes, [1.0, 1.0, 3.0, 0.0, 0.0], 0.08, Bottleneck::Link),
            (decodes, [1.0, 0.2, 0.3, 3.0, 0.0], 0.08, Bottleneck::Limit),
            (decodes, [1.0, 0.2, 0.3, 0.0, 3.0], 0.08, Bottleneck::Registry),
        ] {
            let mirrors = [mirror(1.0, [9.0, 0.0, 0.0, 0.0, 0.0], 0.0), mirror(5.0, waited, round_trip)];
            let found = Utilisation::of(2, work, 5.0, &mirrors);
            assert_eq!(found.bottleneck, Some(expected), "{waited:?}");
            assert!((found.pool_busy_share - 0.3).abs() < 1e-9);
        }
        let silent = Outcome { requests: 0, ..mirror(9.0, [9.0, 0.0, 0.0, 0.0, 0.0], 0.0) };
        assert_eq!(Utilisation::of(2, decodes, 0.0, &[silent]).bottleneck, None);
    }
}
