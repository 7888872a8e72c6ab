//! The history of runs: what operators ask when something was different last week.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{State, now, signed};
use crate::exit::Exit;

const SECONDS_PER_DAY: i64 = 86_400;

/// Which runs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// This many of the last ones.
    pub runs: u32,
    /// Of those, the ones that began in this many last days, if there is a limit.
    pub days: Option<u32>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { runs: 1000, days: None }
    }
}

/// A run that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunId(i64);

/// How a run left a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MirrorEnd {
    /// Every image is there, with its tags.
    Complete,
    /// Some images are not.
    Incomplete,
    /// The mirror as a whole failed.
    Failed,
    /// It was left for a later run.
    Deferred,
    /// The run ended before it came to it.
    NotBegun,
}

impl MirrorEnd {
    const ALL: [Self; 5] = [Self::Complete, Self::Incomplete, Self::Failed, Self::Deferred, Self::NotBegun];

    /// The word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Deferred => "deferred",
            Self::NotBegun => "not_begun",
        }
    }
}

impl FromSql for MirrorEnd {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        Self::ALL.into_iter().find(|end| end.name() == text).ok_or(FromSqlError::InvalidType)
    }
}

/// Why something is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedFailure {
    /// The class of the failure.
    pub class: String,
    /// The failure, in words.
    pub message: String,
}

/// The result of a run at one mirror.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct MirrorResult {
    /// How it left it; none of a run that was killed or goes on, and of runs of older versions.
    pub end: Option<MirrorEnd>,
    /// The first reason if it is not complete.
    pub why: Option<RecordedFailure>,
    /// Images that it was to get.
    pub images: u64,
    /// Images that are complete.
    pub images_complete: u64,
    /// Images that are not.
    pub images_incomplete: u64,
    /// Blobs that were sent.
    pub blobs_sent: u64,
    /// Their bytes on the wire.
    pub bytes_sent: u64,
    /// How long it took.
    pub seconds: f64,
}

/// A run as it is remembered. Without an end where the process was killed, or is still at it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PastRun {
    /// Runs are numbered in the order in which they began.
    pub number: i64,
    /// When it began, in seconds since 1970.
    pub started_at: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Its exit code.
    pub exit: Option<u8>,
    /// Why it failed as a whole.
    pub why: Option<RecordedFailure>,
    /// The process.
    pub pid: u32,
    /// The version of the program.
    pub version: String,
    /// The command, where it was none that fills mirrors: `prune`, `rollback`. What is said of images is about tags then.
    pub command: Option<String>,
    /// The bundles' paths.
    pub bundle: String,
    /// The mirrors, without credentials, and the result at each.
    pub mirrors: Vec<(String, MirrorResult)>,
}

impl State {
    /// A run begins, and those that are not kept any more go. `bundle` is for people.
    pub(crate) fn begin_run(&self, bundle: &str, mirrors: &[String], retention: Retention) -> Option<RunId> {
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
            forget(transaction, id, retention)?;
            Ok(RunId(id))
        })
    }

    /// A command that fills no mirrors has ended: `what` it was about is for people.
    pub(crate) fn record_command(
        &self,
        command: &'static str,
        what: &str,
        exit: Exit,
        mirrors: Vec<(String, MirrorResult)>,
    ) {
        let names: Vec<String> = mirrors.iter().map(|(name, _)| name.clone()).collect();
        let Some(run) = self.begin_run(what, &names, Retention::default()) else { return };
        self.write(move |transaction| {
            transaction.execute("UPDATE runs SET command = ?1 WHERE id = ?2", params![command, run.0])
        });
        self.end_run(run, exit, None, mirrors);
    }

    /// A run begins anew with another bundle: how it ended with the one before does not count.
    pub(crate) fn begin_again(&self, run: RunId, bundle: &str) {
        let bundle = bundle.to_owned();
        self.write(move |transaction| {
            transaction.execute(
                "UPDATE runs SET bundle = ?1, ended_at = NULL, exit = NULL, class = NULL, message = NULL WHERE id = ?2",
                params![bundle, run.0],
            )
        });
    }

    /// Records how a run ended, at each of its mirrors and as a whole. The later of two calls counts: what comes after the push may
    /// fail too, and know of mirrors that the push was not to feed.
    pub(crate) fn end_run(
        &self,
        run: RunId,
        exit: Exit,
        why: Option<RecordedFailure>,
        mirrors: Vec<(String, MirrorResult)>,
    ) {
        self.write(move |transaction| {
            let (class, message) = why.map_or((None, None), |why| (Some(why.class), Some(why.message)));
            let end = "UPDATE runs SET ended_at = ?1, exit = ?2, class = ?3, message = ?4 WHERE id = ?5";
            transaction.execute(end, params![now(), exit.code(), class, message, run.0])?;
            let mut insert =
                transaction.prepare("INSERT OR IGNORE INTO run_mirrors (run, mirror) VALUES (?1, ?2)")?;
            let mut update = transaction.prepare(
                "UPDATE run_mirrors SET images_complete = ?1, images_incomplete = ?2, blobs_sent = ?3,
                 bytes_sent = ?4, images = ?5, seconds = ?6, ended = ?7, class = ?8, message = ?9
                 WHERE run = ?10 AND mirror = ?11",
            )?;
            for (mirror, result) in &mirrors {
                let why = result.why.as_ref();
                insert.execute(params![run.0, mirror])?;
                update.execute(params![
                    signed(result.images_complete),
                    signed(result.images_incomplete),
                    signed(result.blobs_sent),
                    signed(result.bytes_sent),
                    signed(result.images),
                    result.seconds,
                    result.end.map(MirrorEnd::name),
                    why.map(|why| &why.class),
                    why.map(|why| &why.message),
                    run.0,
                    mirror
                ])?;
            }
            Ok(())
        });
    }

    /// Those of these mirrors to which a remembered run pushed images, in one query.
    pub(crate) fn filled(&self, mirrors: &[String]) -> HashSet<String> {
        let asked = mirrors.to_vec();
        let found = self.ask(move |connection| {
            let mut query = connection
                .prepare("SELECT 1 FROM run_mirrors WHERE mirror = ?1 AND images_complete > 0 LIMIT 1")?;
            let mut filled = HashSet::new();
            for mirror in asked {
                if query.exists([&mirror])? {
                    filled.insert(mirror);
                }
            }
            Ok(filled)
        });
        found.unwrap_or_default()
    }

    /// When a run that left it complete has ended, for each of these mirrors; none where no such run is remembered.
    pub(crate) fn last_complete(&self, mirrors: &[String]) -> Vec<(String, Option<i64>)> {
        let asked = mirrors.to_vec();
        let found = self.ask(move |connection| {
            let mut query = connection.prepare(
                "SELECT max(runs.ended_at) FROM run_mirrors JOIN runs ON runs.id = run_mirrors.run
                 WHERE mirror = ?1 AND ended = 'complete' AND command IS NULL",
            )?;
            let answer = |mirror: String| {
                let last = query.query_row([&mirror], |row| row.get(0))?;
                Ok((mirror, last))
            };
            asked.into_iter().map(answer).collect()
        });
        found.unwrap_or_else(|| mirrors.iter().map(|mirror| (mirror.clone(), None)).collect())
    }

    /// The last runs, the latest first; of `mirror` alone those that were at it.
    pub(crate) fn runs(&self, mirror: Option<&str>, limit: u32) -> Vec<PastRun> {
        let mirror = mirror.map(str::to_owned);
        self.ask(move |connection| read(connection, mirror.as_deref(), limit)).unwrap_or_default()
    }
}

/// Removes the runs that are not kept. The one with the number `last` has begun and stays.
fn forget(transaction: &Transaction<'_>, last: i64, retention: Retention) -> rusqlite::Result<()> {
    let oldest = retention.days.map_or(i64::MIN, |days| now() - i64::from(days) * SECONDS_PER_DAY);
    let by_age = "SELECT max(id) FROM runs WHERE started_at < ?1 AND id < ?2";
    let by_age: Option<i64> =
        transaction.query_row(by_age, [oldest, last], |row| row.get(0)).optional()?.flatten();
    let gone = by_age.unwrap_or(0).max(last - i64::from(retention.runs.max(1)));
    transaction.execute("DELETE FROM run_mirrors WHERE run <= ?1", [gone])?;
    transaction.execute("DELETE FROM runs WHERE id <= ?1", [gone])?;
    Ok(())
}

fn read(connection: &Connection, mirror: Option<&str>, limit: u32) -> rusqlite::Result<Vec<PastRun>> {
    let mut query = connection.prepare(
        "SELECT id, started_at, ended_at, exit, class, message, pid, version, bundle, command FROM runs
         WHERE ?1 IS NULL OR EXISTS (SELECT 1 FROM run_mirrors WHERE run = id AND mirror = ?1)
         ORDER BY id DESC LIMIT ?2",
    )?;
    let mut mirrors = connection.prepare(
        "SELECT mirror, ended, class, message, coalesce(images, 0), coalesce(images_complete, 0),
         coalesce(images_incomplete, 0), coalesce(blobs_sent, 0), coalesce(bytes_sent, 0), coalesce(seconds, 0)
         FROM run_mirrors WHERE run = ?1 AND (?2 IS NULL OR mirror = ?2) ORDER BY mirror",
    )?;
    let rows = query.query_map(params![mirror, limit], |row| {
        let number: i64 = row.get(0)?;
        Ok(PastRun {
            number,
            started_at: row.get(1)?,
            ended_at: row.get(2)?,
            exit: row.get(3)?,
            why: why(row, 4)?,
            pid: row.get(6)?,
            version: row.get(7)?,
            bundle: row.get(8)?,
            command: row.get(9)?,
            mirrors: mirrors.query_map(params![number, mirror], result)?.collect::<rusqlite::Result<_>>()?,
        })
    })?;
    rows.collect()
}

fn result(row: &Row<'_>) -> rusqlite::Result<(String, MirrorResult)> {
    let count = |column: usize| -> rusqlite::Result<u64> {
        Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
    };
    let result = MirrorResult {
        end: row.get(1)?,
        why: why(row, 2)?,
        images: count(4)?,
        images_complete: count(5)?,
        images_incomplete: count(6)?,
        blobs_sent: count(7)?,
        bytes_sent: count(8)?,
        seconds: row.get(9)?,
    };
    Ok((row.get(0)?, result))
}

/// The class in this column and the message in the next.
fn why(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<RecordedFailure>> {
    let (class, message): (Option<String>, Option<String>) = (row.get(column)?, row.get(column + 1)?);
    Ok(class.zip(message).map(|(class, message)| RecordedFailure { class, message }))
}
