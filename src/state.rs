//! What the program remembers between runs, in one SQLite database for each folder of state.
//!
//! In: catalogs of bundles, what layers became, what mirrors do, how runs ended. Out: the same, in a later run. All of it is a
//! hint, and **no call fails.** On a home that cannot be written, a full disk or a damaged file it remembers nothing,
//! [`State::take_notes`] says why, and the run costs what a first run costs.
//!
//! A wrong memory harms no mirror, because everything is checked again:
//! * A kept catalog says where bytes lie and which digest they have. Bytes are hashed on their way, and the last chunk of a blob
//!   with another digest is never sent. Manifests are hashed when the catalog is loaded.
//! * A remembered layer names a blob by digest. The mirror is asked whether it has that blob, and every blob that is sent is
//!   hashed.
//! * The catalog of an earlier bundle, taken for that of a later one, could make a run claim too much. [`BundleIdentity`] is
//!   strict for that reason.
//!
//! Beside it lies the ledger of uploads ([`ledger`]): what mirrors have of blobs whose upload broke off. It is a hint as well.
//!
//! Each database has a thread of its own, to which callers send writes. A query waits for the disk or for the transaction of
//! another run, but for a limited time: it is for threads that may block. A database that does not answer in time is not
//! asked again in the run.

mod catalog_codec;
mod catalogs;
mod database;
mod folder;
mod identity;
mod layers;
mod ledger;
mod lock;
mod manifests;
mod mirrors;
mod placed;
mod runs;
mod schema;
mod sums;
mod verdicts;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};
use rusqlite::{Connection, Transaction, TransactionBehavior};

pub(crate) use catalog_codec::{Home, OpenVolume};
pub(crate) use catalogs::WrittenCatalog;
pub(crate) use folder::{default_folder, folder_of_environment, probe};
pub(crate) use identity::BundleIdentity;
pub(crate) use layers::KnownLayer;
pub(crate) use ledger::KeptUpload;
use ledger::Ledger;
pub(crate) use lock::{LockError, RunLock};
pub(crate) use manifests::RememberedManifest;
pub(crate) use mirrors::RememberedMirror;
pub(crate) use placed::{PlacedBundle, PlacedTag, Placement};
pub(crate) use runs::{MirrorEnd, MirrorResult, PastRun, RecordedFailure, Retention, RunId};
pub(crate) use verdicts::{GateVerdict, VerdictKey};
use worker::{DatabaseThread, Notes};

use crate::clock::unix_seconds as now;
use crate::registry::UploadLedger;

/// The numbers of remembered entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StateCounts {
    /// Bundles whose content is known.
    pub bundles: u32,
    /// Layers of docker-archives whose blobs are known.
    pub layers: u32,
    /// Verdicts of gates on images.
    pub verdicts: u32,
    /// Manifests that were put on registries.
    pub manifests: u32,
    /// Runs.
    pub runs: u32,
}

/// What is remembered. Many threads may ask at once.
#[derive(Debug)]
pub(crate) struct State {
    /// None where nothing is kept, nor locked.
    folder: Option<PathBuf>,
    /// None where nothing is remembered from the start.
    worker: Option<DatabaseThread>,
    /// None where nothing is kept.
    ledger: Option<Arc<Ledger>>,
    notes: Notes,
}

impl State {
    /// The state in this folder; made where it is not there. Never fails: see [`State::take_notes`].
    pub(crate) fn open(folder: &Path) -> Self {
        let notes = Notes::default();
        let worker = DatabaseThread::start(database::STATE, folder, &notes);
        let worker = worker.map_err(|error| {
            notes.lock().push(format!("nothing is remembered in this run: no thread for the state: {error}"));
        });
        let ledger = Some(Arc::new(Ledger::new(folder, &notes)));
        Self { folder: Some(folder.to_owned()), worker: worker.ok(), ledger, notes }
    }

    /// A state that remembers nothing, without a note on that.
    pub(crate) fn none() -> Self {
        Self { folder: None, worker: None, ledger: None, notes: Notes::default() }
    }

    /// Whether there is a folder for locks.
    pub(crate) fn keeps_locks(&self) -> bool {
        self.folder.is_some()
    }

    /// Locks these mirrors for a run. `None` where nothing is kept.
    ///
    /// # Errors
    /// As [`RunLock::acquire`].
    pub(crate) fn lock(&self, mirrors: &[String]) -> Result<Option<RunLock>, LockError> {
        self.folder.as_deref().map(|folder| RunLock::acquire(folder, mirrors)).transpose()
    }

    /// Locks each of these mirrors for a run, as far as no other holds it. `None` where nothing is kept.
    pub(crate) fn lock_each(&self, mirrors: &[String]) -> Vec<Result<Option<RunLock>, LockError>> {
        match &self.folder {
            Some(folder) => {
                RunLock::acquire_each(folder, mirrors).into_iter().map(|lock| lock.map(Some)).collect()
            }
            None => mirrors.iter().map(|_| Ok(None)).collect(),
        }
    }

    /// Locks these mirrors for a run, and waits for the runs that hold one of them, as [`RunLock::wait_for_each`] does. `None`
    /// where nothing is kept.
    pub(crate) async fn wait_for_locks(
        &self,
        mirrors: &[String],
        over: impl Future<Output = ()>,
        waits: impl FnMut(usize, &LockError),
    ) -> Vec<Result<Option<RunLock>, LockError>> {
        let Some(folder) = &self.folder else { return mirrors.iter().map(|_| Ok(None)).collect() };
        let locks = RunLock::wait_for_each(folder, mirrors, over, waits).await;
        locks.into_iter().map(|lock| lock.map(Some)).collect()
    }

    /// Where the sessions of uploads are kept between runs; nowhere where nothing is remembered.
    pub(crate) fn uploads(&self) -> Option<Arc<dyn UploadLedger>> {
        let ledger = self.ledger.as_ref().filter(|_| self.is_kept())?;
        Some(Arc::clone(ledger) as Arc<dyn UploadLedger>)
    }

    /// Counts the remembered entries.
    pub(crate) fn contents(&self) -> StateCounts {
        let found = self.ask(|connection| {
            let count = |table: &str| {
                let query = format!("SELECT count(*) FROM {table}");
                connection.query_row(&query, [], |row| row.get::<_, u32>(0))
            };
            Ok(StateCounts {
                bundles: count("catalogs")?,
                layers: count("layers")?,
                verdicts: count("gate_verdicts")?,
                manifests: count("manifests")?,
                runs: count("runs")?,
            })
        });
        found.unwrap_or_default()
    }

    /// The uploads that broke off, or are under way.
    pub(crate) fn kept_uploads(&self) -> Vec<KeptUpload> {
        self.ledger.as_ref().map(|ledger| ledger.list()).unwrap_or_default()
    }

    /// Forgets everything that only saves work, and the history of runs too if that is asked for. Uploads of runs that go on
    /// stay. False where it could not.
    pub(crate) fn clear(&self, with_history: bool) -> bool {
        let cleared = self.write_and_wait(move |transaction| {
            let tables =
                "DELETE FROM catalogs; DELETE FROM layers; DELETE FROM gate_verdicts; DELETE FROM sums; \
                 DELETE FROM mirrors; DELETE FROM manifests;";
            transaction.execute_batch(tables)?;
            if with_history {
                transaction.execute_batch(
                    "DELETE FROM run_mirrors; DELETE FROM runs; DELETE FROM placed_tags; DELETE FROM placed_bundles;",
                )?;
            }
            Ok(())
        });
        if let Some(ledger) = &self.ledger {
            ledger.clear(|_| true);
        }
        cleared.is_some()
    }

    /// Forgets what was learned of one registry, and its uploads that broke off. `registry` may lack the scheme. How many
    /// registries and uploads that were.
    pub(crate) fn clear_mirror(&self, registry: &str) -> (usize, usize) {
        let registry = registry.trim_end_matches('/').to_ascii_lowercase();
        let is_meant = move |name: &str| {
            name == registry || name.split_once("://").is_some_and(|(_, bare)| bare == registry)
        };
        let clears = is_meant.clone();
        let cleared = self.write_and_wait(move |transaction| {
            let mut query =
                transaction.prepare("SELECT registry FROM mirrors UNION SELECT registry FROM manifests")?;
            let names = query.query_map([], |row| row.get::<_, String>(0))?;
            let names = names.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().filter(|name| clears(name));
            let mut cleared = 0;
            for name in names {
                transaction.execute("DELETE FROM mirrors WHERE registry = ?1", [&name])?;
                transaction.execute("DELETE FROM manifests WHERE registry = ?1", [&name])?;
                cleared += 1;
            }
            Ok(cleared)
        });
        let uploads = self.ledger.as_ref().map_or(0, |ledger| ledger.clear(is_meant));
        (cleared.unwrap_or(0), uploads)
    }

    /// Queries the database without waiting; the answer arrives later.
    fn ask_later<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Option<T>> {
        match &self.worker {
            // It only reads.
            Some(worker) => worker.later(|connection| ask(&connection.transaction()?)),
            None => future::ready(None).boxed(),
        }
    }

    /// Whether anything is remembered at all.
    pub(crate) fn is_kept(&self) -> bool {
        self.worker.as_ref().is_some_and(DatabaseThread::is_kept)
    }

    /// The notes for people since the last call. Call it after opening and at the end.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        // Writes that were sent may still add notes.
        self.is_kept();
        self.ledger.as_ref().inspect(|ledger| ledger.settle());
        std::mem::take(&mut *self.notes.lock())
    }

    fn note(&self, note: String) {
        self.notes.lock().push(note);
    }

    /// Queries the database, and waits. After an error it is not queried again in this run.
    fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<T> {
        self.worker.as_ref()?.ask(ask)
    }

    /// Writes to the database, all or nothing, and does not wait for it.
    fn write<T: 'static>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) {
        if let Some(worker) = &self.worker {
            worker.submit(|connection| all_or_nothing(connection, write));
        }
    }

    /// Writes to the database, and waits for the result.
    fn write_and_wait<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<T> {
        self.ask(|connection| all_or_nothing(connection, write))
    }
}

fn all_or_nothing<T>(
    connection: &mut Connection,
    write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let answer = write(&transaction)?;
    transaction.commit()?;
    Ok(answer)
}

/// A number for SQLite, whose integers have a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
