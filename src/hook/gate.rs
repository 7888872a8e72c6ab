//! The gate: a command that says of each image whether its tags may move.
//!
//! The image is on the mirror by then, under its digest, where a scanner can pull it. What the command says is remembered by
//! mirror and digest: a refusal until it is to be asked again, a pass for a day. An image that has its tags is not asked for.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::Hook;
use crate::locks::Mutex;
use crate::oci::Digest;
use crate::program::Finished;
use crate::report::{Class, Failure};
use crate::state::{GateVerdict, State, VerdictKey};

/// Commands at the same time, of all mirrors of a run, beside one of each mirror: scanners take cores and memory, and a slow
/// one keeps no other mirror waiting.
const MORE_AT_ONCE: usize = 3;
/// A gate that gave no verdict so often in a row is not asked again in this run.
const GIVEN_UP_AFTER: u32 = 3;
/// The shell's codes for what it could not run: that is no judgement.
const NOT_RUN: [i32; 2] = [126, 127];

/// An image that waits for its tags.
#[derive(Debug, Clone)]
pub(crate) struct GatedImage {
    /// Its name in the bundle.
    pub image: String,
    /// Where it can be pulled: `HOST[:PORT]/REPOSITORY@DIGEST`.
    pub reference: String,
    /// Its digest.
    pub digest: Digest,
    /// The tags that are to move.
    pub tags: Vec<String>,
    /// What the mirror is called.
    pub site: String,
    /// Where the mirror is: host, namespace and the path of its API. Verdicts are remembered by it, because a site can move.
    pub mirror: String,
}

/// How the gate of one mirror gets on.
#[derive(Debug)]
struct MirrorGate {
    own: Semaphore,
    /// The commands that gave no verdict, since the last one that did.
    without_verdict: Mutex<u32>,
}

/// What becomes of what gates said in earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum EarlierVerdicts {
    /// It counts as long as it is remembered.
    #[default]
    Count,
    /// Gates are asked again.
    Ignored,
}

/// The gates of a run.
#[derive(Debug)]
pub(crate) struct Gates {
    state: Arc<State>,
    more: Semaphore,
    mirrors: Mutex<HashMap<String, Arc<MirrorGate>>>,
    earlier: EarlierVerdicts,
}

impl Gates {
    pub(crate) fn new(state: Arc<State>, earlier: EarlierVerdicts) -> Self {
        Self { state, more: Semaphore::new(MORE_AT_ONCE), mirrors: Mutex::default(), earlier }
    }

    /// Asks whether the tags of an image may move.
    ///
    /// # Errors
    /// The gate refuses it, or could not judge it.
    pub(crate) async fn judge(
        &self,
        hook: &Hook,
        candidate: GatedImage,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let key = VerdictKey {
            gate: hook.command.clone(),
            mirror: candidate.mirror.clone(),
            digest: candidate.digest,
        };
        if let Some(verdict) = self.remembered(&key).await {
            return match verdict {
                GateVerdict::Passed => Ok(()),
                GateVerdict::Refused { words, .. } => Err(refused(&candidate, &words, true)),
            };
        }
        let mirror = self.mirror(&candidate.mirror);
        let Some(_slot) = self.slot(&mirror).await.filter(|_| !cancel.is_cancelled()) else {
            return Err(Failure::interrupted());
        };
        if *mirror.without_verdict.lock() >= GIVEN_UP_AFTER {
            let why =
                format!("it failed {GIVEN_UP_AFTER} times in a row, and is not asked again in this run");
            return Err(unjudged(&candidate, &why));
        }
        let finished = hook.run(variables(&candidate), Vec::new(), cancel).await;
        if cancel.is_cancelled() {
            return Err(Failure::interrupted());
        }
        let judged =
            finished.and_then(|finished| verdict(&finished).ok_or_else(|| finished.failure_with_output()));
        {
            let mut without_verdict = mirror.without_verdict.lock();
            *without_verdict = if judged.is_ok() { 0 } else { without_verdict.saturating_add(1) };
        }
        let verdict = judged.map_err(|why| unjudged(&candidate, &why))?;
        self.state.remember_verdict(key, verdict.clone());
        match verdict {
            GateVerdict::Passed => Ok(()),
            GateVerdict::Refused { words } => Err(refused(&candidate, &words, false)),
        }
    }

    fn mirror(&self, mirror: &str) -> Arc<MirrorGate> {
        let new = || Arc::new(MirrorGate { own: Semaphore::new(1), without_verdict: Mutex::new(0) });
        Arc::clone(self.mirrors.lock().entry(mirror.to_owned()).or_insert_with(new))
    }

    /// Waits for the mirror's own place, or for one of those that all share.
    async fn slot<'a>(&'a self, mirror: &'a MirrorGate) -> Option<SemaphorePermit<'a>> {
        tokio::select! {
            biased;
            own = mirror.own.acquire() => own.ok(),
            more = self.more.acquire() => more.ok(),
        }
    }

    async fn remembered(&self, key: &VerdictKey) -> Option<GateVerdict> {
        if self.earlier == EarlierVerdicts::Ignored {
            return None;
        }
        let (state, key) = (Arc::clone(&self.state), key.clone());
        // It waits for the disk.
        tokio::task::spawn_blocking(move || state.verdict(&key)).await.ok().flatten()
    }
}

/// What the end of the command means; nothing where it could not be run, or was ended by a signal.
fn verdict(finished: &Finished) -> Option<GateVerdict> {
    match finished.status.code()? {
        0 => Some(GateVerdict::Passed),
        code if NOT_RUN.contains(&code) => None,
        _ => Some(GateVerdict::Refused { words: finished.failure_with_output() }),
    }
}

fn variables(candidate: &GatedImage) -> Vec<(&'static str, String)> {
    let GatedImage { image, reference, digest, tags, site, mirror: _ } = candidate;
    vec![
        ("LAYERCAST_IMAGE", image.clone()),
        ("LAYERCAST_REFERENCE", reference.clone()),
        ("LAYERCAST_DIGEST", digest.to_string()),
        ("LAYERCAST_TAGS", tags.join(" ")),
        ("LAYERCAST_SITE", site.clone()),
    ]
}

fn refused(candidate: &GatedImage, words: &str, is_remembered: bool) -> Failure {
    let when = if is_remembered { "in an earlier run " } else { "" };
    let message = format!("{}: {when}the gate refused it: {words}", candidate.reference);
    Failure::new(Class::GateRefused, message)
        .hint(
            "it is on the mirror by its digest, and its tags are as they were; --regate asks the gate again",
        )
        .cause(format!("the gate refused it: {words}"))
}

fn unjudged(candidate: &GatedImage, why: &str) -> Failure {
    let message = format!("{}: the gate did not judge it: {why}", candidate.reference);
    Failure::new(Class::GateFailed, message)
        .hint("mend the gate, or give it more time, and run again: it is asked again then")
        .cause(format!("the gate did not judge it: {why}"))
}
