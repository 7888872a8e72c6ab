//! The gate: a command that says of each image whether its tags may move.
//!
//! The image is on the mirror by then, under its digest, where a scanner can pull it. What the command says is remembered by
//! mirror and digest: a refusal until it is to be asked again, a pass for a day. An image that has its tags is not asked for.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Hook;
use crate::oci::Digest;
use crate::program::Finished;
use crate::report::{Class, Failure};
use crate::state::{GateVerdict, State, VerdictKey};

/// Commands at the same time, of all mirrors of a run: scanners take cores and memory.
const AT_ONCE: usize = 4;
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
    /// The mirror.
    pub site: String,
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
    slots: Semaphore,
    earlier: EarlierVerdicts,
}

impl Gates {
    pub(crate) fn new(state: Arc<State>, earlier: EarlierVerdicts) -> Self {
        Self { state, slots: Semaphore::new(AT_ONCE), earlier }
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
            mirror: candidate.site.clone(),
            digest: candidate.digest,
        };
        if let Some(verdict) = self.remembered(&key).await {
            return match verdict {
                GateVerdict::Passed => Ok(()),
                GateVerdict::Refused { words, .. } => Err(refused(&candidate, &words, true)),
            };
        }
        let Ok(_slot) = self.slots.acquire().await else { return Err(Failure::interrupted()) };
        if cancel.is_cancelled() {
            return Err(Failure::interrupted());
        }
        let finished = hook.run(variables(&candidate), Vec::new(), cancel).await;
        if cancel.is_cancelled() {
            return Err(Failure::interrupted());
        }
        let finished = finished.map_err(|why| unjudged(&candidate, &why))?;
        let verdict =
            verdict(&finished).ok_or_else(|| unjudged(&candidate, &finished.failure_with_output()))?;
        self.state.remember_verdict(key, verdict.clone());
        match verdict {
            GateVerdict::Passed => Ok(()),
            GateVerdict::Refused { words } => Err(refused(&candidate, &words, false)),
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
    let GatedImage { image, reference, digest, tags, site } = candidate;
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
