//! The history of runs: what operators ask when something was different last week.

use rusqlite::params;

use super::{State, now, signed};
use crate::exit::Exit;

/// Runs that are kept.
const MAX_RUNS: i64 = 1000;

/// A run that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunId(i64);

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RunCounts {
    /// Images complete on all mirrors.
    pub images_complete: u64,
    /// Images that are not.
    pub images_incomplete: u64,
    /// Blobs that were sent, over all mirrors.
    pub blobs_sent: u64,
    /// Their bytes on the wire.
    pub bytes_sent: u64,
}

/// A run as it is remembered. Without an end where the process was killed, or is still at it.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// When it began, in seconds since 1970.
    pub started_at: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Its exit code.
    pub exit: Option<u8>,
    /// The process.
    pub pid: u32,
    /// The bundles' paths.
    pub bundle: String,
    /// The mirrors, without credentials.
    pub mirrors: String,
    /// What it came to.
    pub counts: RunCounts,
}

impl State {
    /// A run begins. `bundle` and `mirrors` are for people.
    pub(crate) fn begin_run(&self, bundle: &str, mirrors: &str) -> Option<RunId> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO runs (started_at, pid, version, bundle, mirrors) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![now(), std::process::id(), env!("CARGO_PKG_VERSION"), bundle, mirrors],
            )?;
            let id = transaction.last_insert_rowid();
            transaction.execute("DELETE FROM runs WHERE id <= ?1", [id - MAX_RUNS])?;
            Ok(RunId(id))
        })
    }

    /// A run has ended.
    pub(crate) fn end_run(&self, run: RunId, exit: Exit, counts: RunCounts) {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE runs SET ended_at = ?1, exit = ?2, images_complete = ?3, images_incomplete = ?4,
                 blobs_sent = ?5, bytes_sent = ?6 WHERE id = ?7",
                params![
                    now(),
                    exit.code(),
                    signed(counts.images_complete),
                    signed(counts.images_incomplete),
                    signed(counts.blobs_sent),
                    signed(counts.bytes_sent),
                    run.0
                ],
            )
        });
    }

    /// Whether a run is remembered that brought images to this mirror.
    pub(crate) fn has_filled(&self, mirror: &str) -> bool {
        let found = self.ask(|connection| {
            connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM runs WHERE images_complete > 0
                 AND instr(' ' || mirrors || ' ', ' ' || ?1 || ' ') > 0)",
                [mirror],
                |row| row.get(0),
            )
        });
        found.unwrap_or(false)
    }

    /// The last runs, the latest first.
    #[cfg(test)]
    pub(crate) fn runs(&self, limit: u32) -> Vec<Run> {
        let runs = self.ask(|connection| {
            let mut query = connection.prepare(
                "SELECT started_at, ended_at, exit, pid, bundle, mirrors, coalesce(images_complete, 0),
                 coalesce(images_incomplete, 0), coalesce(blobs_sent, 0), coalesce(bytes_sent, 0)
                 FROM runs ORDER BY id DESC LIMIT ?1",
            )?;
            let rows = query.query_map([limit], |row| {
                let count = |column: usize| -> rusqlite::Result<u64> {
                    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
                };
                Ok(Run {
                    started_at: row.get(0)?,
                    ended_at: row.get(1)?,
                    exit: row.get(2)?,
                    pid: row.get(3)?,
                    bundle: row.get(4)?,
                    mirrors: row.get(5)?,
                    counts: RunCounts {
                        images_complete: count(6)?,
                        images_incomplete: count(7)?,
                        blobs_sent: count(8)?,
                        bytes_sent: count(9)?,
                    },
                })
            })?;
            rows.collect()
        });
        runs.unwrap_or_default()
    }
}
