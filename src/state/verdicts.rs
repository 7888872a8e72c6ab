//! The verdicts of gates on images.

#[cfg(test)]
mod tests;

use rusqlite::{OptionalExtension as _, params};

use super::{State, now};
use crate::oci::Digest;

/// How long a pass counts: scanners learn of new flaws every day. A refusal counts until the gate is asked again.
const PASS_SECONDS: i64 = 24 * 60 * 60;

/// Which gate, where, and what it was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerdictKey {
    /// The command.
    pub gate: String,
    /// The mirror, because a gate knows it and may judge by it.
    pub mirror: String,
    /// The image.
    pub digest: Digest,
}

/// What a gate said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GateVerdict {
    /// The tags of the image may move.
    Passed,
    /// They may not.
    Refused {
        /// How the command ended, with its last words.
        words: String,
    },
}

impl State {
    /// What was said and still counts.
    pub(crate) fn verdict(&self, key: &VerdictKey) -> Option<GateVerdict> {
        let VerdictKey { gate, mirror, digest } = key.clone();
        let found = self.ask(move |connection| {
            let query = "SELECT words, at FROM gate_verdicts WHERE gate = ?1 AND mirror = ?2 AND digest = ?3";
            let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, i64>(1)?));
            connection.query_row(query, params![gate, mirror, digest.to_string()], row).optional()
        });
        match found.flatten()? {
            (Some(words), _) => Some(GateVerdict::Refused { words }),
            (None, at) => (at > now() - PASS_SECONDS).then_some(GateVerdict::Passed),
        }
    }

    /// Keeps it, in place of what was said before.
    pub(crate) fn remember_verdict(&self, key: VerdictKey, verdict: GateVerdict) {
        let VerdictKey { gate, mirror, digest } = key;
        let words = match verdict {
            GateVerdict::Passed => None,
            GateVerdict::Refused { words } => Some(words),
        };
        self.write(move |transaction| {
            let old = "DELETE FROM gate_verdicts WHERE words IS NULL AND at <= ?1";
            transaction.execute(old, [now() - PASS_SECONDS])?;
            let insert = "INSERT OR REPLACE INTO gate_verdicts (gate, mirror, digest, words, at)
                 VALUES (?1, ?2, ?3, ?4, ?5)";
            transaction.execute(insert, params![gate, mirror, digest.to_string(), words, now()])
        });
    }
}
