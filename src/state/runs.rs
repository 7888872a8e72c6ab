//! The history of runs: what operators ask when something was different last week.

#[cfg(test)]
mod tests;

use rusqlite::params;

use super::{State, now, signed};
use crate::exit::Exit;

/// Runs that are kept.
const MAX_RUNS: i64 = 1000;

/// A run that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunId(i64);

/// What a run came to at one mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RunCounts {
    /// Images that are complete.
    pub images_complete: u64,
    /// Images that are not.
    pub images_incomplete: u64,
    /// Blobs that were sent.
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
    /// The mirrors, without credentials, and what it came to at each.
    pub mirrors: Vec<(String, RunCounts)>,
}

impl State {
    /// A run begins. `bundle` is for people.
    pub(crate) fn begin_run(&self, bundle: &str, mirrors: &[String]) -> Option<RunId> {
        let (bundle, mirrors) = (bundle.to_owned(), mirrors.to_vec());
        self.write_and_wait(move |transaction| {
            transaction.execute(
                "INSERT INTO runs (started_at, pid, version, bundle) VALUES (?1, ?2, ?3, ?4)",
                params![now(), std::process::id(), env!("CARGO_PKG_VERSION"), bundle],
            )?;
            let id = transaction.last_insert_rowid();
            let mut insert =
                transaction.prepare("INSERT OR IGNORE INTO run_mirrors (run, mirror) VALUES (?1, ?2)")?;
            for mirror in &mirrors {
                insert.execute(params![id, mirror])?;
            }
            transaction.execute("DELETE FROM run_mirrors WHERE run <= ?1", [id - MAX_RUNS])?;
            transaction.execute("DELETE FROM runs WHERE id <= ?1", [id - MAX_RUNS])?;
            Ok(RunId(id))
        })
    }

    /// A run has ended, with this at each of its mirrors.
    pub(crate) fn end_run(&self, run: RunId, exit: Exit, mirrors: Vec<(String, RunCounts)>) {
        self.write(move |transaction| {
            let end = "UPDATE runs SET ended_at = ?1, exit = ?2 WHERE id = ?3";
            transaction.execute(end, params![now(), exit.code(), run.0])?;
            let mut update = transaction.prepare(
                "UPDATE run_mirrors SET images_complete = ?1, images_incomplete = ?2, blobs_sent = ?3,
                 bytes_sent = ?4 WHERE run = ?5 AND mirror = ?6",
            )?;
            for (mirror, counts) in &mirrors {
                update.execute(params![
                    signed(counts.images_complete),
                    signed(counts.images_incomplete),
                    signed(counts.blobs_sent),
                    signed(counts.bytes_sent),
                    run.0,
                    mirror
                ])?;
            }
            Ok(())
        });
    }

    /// Whether a run is remembered that brought images to this mirror.
    pub(crate) fn has_filled(&self, mirror: &str) -> bool {
        let mirror = mirror.to_owned();
        let found = self.ask(move |connection| {
            connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM run_mirrors WHERE mirror = ?1 AND images_complete > 0)",
                [mirror],
                |row| row.get(0),
            )
        });
        found.unwrap_or(false)
    }

    /// The last runs, the latest first.
    #[cfg(test)]
    pub(crate) fn runs(&self, limit: u32) -> Vec<Run> {
        let runs = self.ask(move |connection| {
            let mut query = connection.prepare(
                "SELECT id, started_at, ended_at, exit, pid, bundle FROM runs ORDER BY id DESC LIMIT ?1",
            )?;
            let mut mirrors = connection.prepare(
                "SELECT mirror, coalesce(images_complete, 0), coalesce(images_incomplete, 0),
                 coalesce(blobs_sent, 0), coalesce(bytes_sent, 0) FROM run_mirrors WHERE run = ?1 ORDER BY mirror",
            )?;
            let rows = query.query_map([limit], |row| {
                let id: i64 = row.get(0)?;
                let of_mirror = |row: &rusqlite::Row<'_>| {
                    let count = |column: usize| -> rusqlite::Result<u64> {
                        Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
                    };
                    let counts = RunCounts {
                        images_complete: count(1)?,
                        images_incomplete: count(2)?,
                        blobs_sent: count(3)?,
                        bytes_sent: count(4)?,
                    };
                    Ok((row.get::<_, String>(0)?, counts))
                };
                Ok(Run {
                    started_at: row.get(1)?,
                    ended_at: row.get(2)?,
                    exit: row.get(3)?,
                    pid: row.get(4)?,
                    bundle: row.get(5)?,
                    mirrors: mirrors.query_map([id], of_mirror)?.collect::<rusqlite::Result<_>>()?,
                })
            })?;
            rows.collect()
        });
        runs.unwrap_or_default()
    }
}
