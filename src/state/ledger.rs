//! The ledger of uploads: sessions that mirrors may still have, with what they have acknowledged.
//!
//! It lies in a file of its own, `uploads.sqlite`, because the location of a session is a permission to write, and nothing else in
//! the state is one. Only its owner may read it, no output shows it, and the commit of an upload removes its entry. The first
//! run that sends a large blob opens the file, and so do runs that find it.
//!
//! A session belongs to its run for as long as that run lives ([`owner`]); other runs leave it alone.

mod owner;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rusqlite::{Row, Transaction, params};

use self::owner::Owner;
use super::worker::{DatabaseThread, Notes};
use super::{all_or_nothing, database, now, signed};
use crate::oci::Repository;
use crate::registry::{KeptMark, SessionReach, StoredSession, UploadKey, UploadLedger};

/// How long an upload waits to hear whether there is a ledger.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sessions that are kept. The oldest go first.
const MAX_UPLOADS: u32 = 10_000;

/// The ledger in one folder.
#[derive(Debug)]
pub(super) struct Ledger {
    folder: PathBuf,
    notes: Notes,
    /// Whether an earlier run has left one.
    was_there: bool,
    /// Empty where no ledger can be opened.
    open: OnceLock<Option<OpenLedger>>,
}

#[derive(Debug)]
struct OpenLedger {
    thread: DatabaseThread,
    owner: Arc<LazyOwner>,
}

/// This run as an owner of uploads, from the first job on: only the thread of the ledger waits for the disk.
#[derive(Debug)]
struct LazyOwner {
    folder: PathBuf,
    notes: Notes,
    made: OnceLock<Option<Owner>>,
}

impl LazyOwner {
    fn get(&self) -> Option<&Owner> {
        let noted = |error: std::io::Error| {
            let note = format!("{}: {}: {error}", database::LEDGER.missed, self.folder.display());
            self.notes.lock().push(note);
        };
        self.made.get_or_init(|| Owner::new(&self.folder).map_err(noted).ok()).as_ref()
    }
}

impl Ledger {
    pub(super) fn new(folder: &Path, notes: &Notes) -> Self {
        let was_there = folder.join(database::LEDGER.name).exists();
        Self { folder: folder.to_owned(), notes: Arc::clone(notes), was_there, open: OnceLock::new() }
    }

    fn exists(&self) -> bool {
        self.folder.join(database::LEDGER.name).exists()
    }

    fn open(&self) -> Option<&OpenLedger> {
        let begin = || {
            let thread = DatabaseThread::start(database::LEDGER, &self.folder, &self.notes)?;
            let (folder, notes) = (self.folder.clone(), Arc::clone(&self.notes));
            Ok(OpenLedger { thread, owner: Arc::new(LazyOwner { folder, notes, made: OnceLock::new() }) })
        };
        let noted = |error: std::io::Error| {
            let note = format!("{}: {}: {error}", database::LEDGER.missed, self.folder.display());
            self.notes.lock().push(note);
        };
        self.open.get_or_init(|| begin().map_err(noted).ok()).as_ref()
    }

    /// Waits until all that was sent is written.
    pub(super) fn settle(&self) {
        if let Some(Some(open)) = self.open.get() {
            open.thread.is_kept();
        }
    }

    /// Runs a job in one transaction, away from the threads of the runtime. Returns nothing where that fails, or takes too long.
    fn send<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Owner) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Option<T>> {
        let Some(OpenLedger { thread, owner }) = self.open() else {
            return std::future::ready(None).boxed();
        };
        let owner = Arc::clone(owner);
        let done = thread.later(move |connection| {
            let Some(owner) = owner.get() else { return Ok(None) };
            all_or_nothing(connection, |transaction| work(transaction, owner)).map(Some)
        });
        done.map(Option::flatten).boxed()
    }

    /// Whether this run has opened the ledger, or finds one.
    async fn is_there(&self) -> bool {
        if self.open.get().is_some() {
            return true;
        }
        let file = self.folder.join(database::LEDGER.name);
        let look = tokio::task::spawn_blocking(move || file.exists());
        matches!(tokio::time::timeout(PATIENCE, look).await, Ok(Ok(true)))
    }

    /// The same for whoever does not wait: `then` has what came of it once it is written, and is dropped where that fails.
    fn submit<T: 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Owner) -> rusqlite::Result<T> + Send + 'static,
        then: impl FnOnce(T) + Send + 'static,
    ) {
        let Some(OpenLedger { thread, owner }) = self.open() else { return };
        let owner = Arc::clone(owner);
        thread.submit(move |connection| {
            if let Some(owner) = owner.get() {
                then(all_or_nothing(connection, |transaction| work(transaction, owner))?);
            }
            Ok(())
        });
    }
}

impl UploadLedger for Ledger {
    fn claim(
        &self,
        upload: UploadKey,
        reach: SessionReach,
    ) -> BoxFuture<'_, Option<(Repository, StoredSession)>> {
        let claim = move |transaction: &Transaction<'_>, owner: &Owner| {
            count_from_now(transaction)?;
            let mut kept = all_of_blob(transaction, &upload)?;
            kept.retain(|kept| {
                let is_own = kept.repository == upload.repository;
                // Another repository's session of this run is under way just now.
                let is_left = kept.owner != owner.name() && owner.may_take(&kept.owner);
                if is_own {
                    owner.may_take(&kept.owner)
                } else {
                    reach == SessionReach::AnyRepository && is_left
                }
            });
            kept.retain(|kept| kept.used_at.saturating_add(i64::from(kept.session.lifetime)) > now());
            let best = |kept: &SessionRow| (kept.repository == upload.repository, kept.session.acknowledged);
            let Some(SessionRow { repository, session, .. }) = kept.into_iter().max_by_key(best) else {
                return Ok(None);
            };
            let take =
                "UPDATE uploads SET owner = ?4 WHERE registry = ?1 AND repository = ?2 AND digest = ?3";
            let UploadKey { registry, digest, .. } = &upload;
            transaction
                .execute(take, params![registry, repository.as_str(), digest.to_string(), owner.name()])?;
            Ok(Some((repository, session)))
        };
        async move { if self.is_there().await { self.send(claim).await.flatten() } else { None } }.boxed()
    }

    fn keep(&self, upload: UploadKey, session: StoredSession, mark: KeptMark) {
        let write = move |transaction: &Transaction<'_>, owner: &Owner| {
            let kept = all_of_blob(transaction, &upload)?;
            let is_of_another =
                |kept: &SessionRow| kept.repository == upload.repository && !owner.may_take(&kept.owner);
            if kept.iter().any(is_of_another) {
                return Ok(false);
            }
            count_from_now(transaction)?;
            insert(transaction, &upload, &session, owner.name())?;
            let expired =
                transaction.execute("DELETE FROM uploads WHERE used_at + lifetime <= ?1", [now()])?;
            if expired > 0 {
                tracing::info!(expired, "uploads that broke off are too old to go on");
            }
            let most = "DELETE FROM uploads WHERE (registry, repository, digest) IN
                (SELECT registry, repository, digest FROM uploads ORDER BY used_at DESC LIMIT -1 OFFSET ?1)";
            transaction.execute(most, [MAX_UPLOADS])?;
            Ok(true)
        };
        self.submit(write, move |is_kept| {
            if is_kept {
                mark.set();
            }
        });
    }

    fn forget(&self, upload: UploadKey) {
        if self.was_there || matches!(self.open.get(), Some(Some(_))) {
            let remove_all = move |transaction: &Transaction<'_>, owner: &Owner| {
                for kept in all_of_blob(transaction, &upload)? {
                    // Another repository may still need its own: not every registry mounts.
                    if kept.repository == upload.repository && owner.may_take(&kept.owner) {
                        remove(transaction, &upload, &kept.repository)?;
                    }
                }
                Ok(())
            };
            self.submit(remove_all, |()| ());
        }
    }
}

/// An upload that broke off, or is under way, without its secret location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptUpload {
    /// Which.
    pub upload: UploadKey,
    /// Its bytes.
    pub size: u64,
    /// The bytes that the mirror has acknowledged. It may have more.
    pub acknowledged: u64,
    /// When it was last continued, in seconds since 1970.
    pub used_at: i64,
    /// When it is forgotten.
    pub expires_at: i64,
}

impl Ledger {
    /// What is kept, by registry and repository.
    pub(super) fn list(&self) -> Vec<KeptUpload> {
        if self.open.get().is_none() && !self.exists() {
            return Vec::new();
        }
        let Some(open) = self.open() else { return Vec::new() };
        let found = open.thread.ask(|connection| {
            let query = "SELECT registry, repository, digest, size, acknowledged, min(used_at, ?1), min(used_at, ?1) + lifetime
                 FROM uploads WHERE used_at + lifetime > ?1 ORDER BY registry, repository, digest";
            let mut query = connection.prepare(query)?;
            let rows = query.query_map([now()], kept)?;
            rows.filter_map(Result::transpose).collect()
        });
        found.unwrap_or_default()
    }

    /// Forgets the sessions of these registries that belong to no run; returns their number.
    pub(super) fn clear(&self, is_meant: impl Fn(&str) -> bool + Send + 'static) -> usize {
        if self.open.get().is_none() && !self.exists() {
            return 0;
        }
        let Some(OpenLedger { thread, owner }) = self.open() else { return 0 };
        let owner = Arc::clone(owner);
        let cleared = thread.ask(move |connection| {
            let Some(owner) = owner.get() else { return Ok(0) };
            all_or_nothing(connection, |transaction| {
                let mut query =
                    transaction.prepare("SELECT registry, repository, digest, owner FROM uploads")?;
                let rows = query.query_map([], |row| {
                    let texts: [String; 4] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
                    Ok(texts)
                })?;
                let mut cleared = 0;
                for [registry, repository, digest, whose] in rows.collect::<rusqlite::Result<Vec<_>>>()? {
                    if is_meant(&registry) && owner.may_take(&whose) {
                        let remove =
                            "DELETE FROM uploads WHERE registry = ?1 AND repository = ?2 AND digest = ?3";
                        cleared += transaction.execute(remove, params![registry, repository, digest])?;
                    }
                }
                Ok(cleared)
            })
        });
        cleared.unwrap_or(0)
    }
}

/// None where the names are not such as this program writes.
fn kept(row: &Row<'_>) -> rusqlite::Result<Option<KeptUpload>> {
    let [repository, digest]: [String; 2] = [row.get(1)?, row.get(2)?];
    let (Ok(repository), Ok(digest)) = (repository.parse(), digest.parse()) else { return Ok(None) };
    let count = |column: usize| -> rusqlite::Result<u64> {
        Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
    };
    Ok(Some(KeptUpload {
        upload: UploadKey { registry: row.get(0)?, repository, digest },
        size: count(3)?,
        acknowledged: count(4)?,
        used_at: row.get(5)?,
        expires_at: row.get(6)?,
    }))
}

/// A session as a row has it.
#[derive(Debug)]
struct SessionRow {
    repository: Repository,
    session: StoredSession,
    used_at: i64,
    owner: String,
}

/// The sessions of a blob at its registry, in whatever repository. Names that this program does not write are passed over.
fn all_of_blob(transaction: &Transaction<'_>, upload: &UploadKey) -> rusqlite::Result<Vec<SessionRow>> {
    let query = "SELECT location, size, acknowledged, sent, opened_at, lifetime, used_at, owner, repository FROM uploads
         WHERE registry = ?1 AND digest = ?2";
    let mut query = transaction.prepare(query)?;
    let rows = query.query_map(params![upload.registry, upload.digest.to_string()], |row| {
        let Ok(repository) = row.get::<_, String>(8)?.parse() else { return Ok(None) };
        Ok(Some(SessionRow { repository, session: session(row)?, used_at: row.get(6)?, owner: row.get(7)? }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

fn session(row: &Row<'_>) -> rusqlite::Result<StoredSession> {
    let count = |column: usize| -> rusqlite::Result<u64> {
        Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
    };
    Ok(StoredSession {
        location: row.get::<_, String>(0)?.into(),
        size: count(1)?,
        acknowledged: count(2)?,
        sent: count(3)?,
        opened_at: row.get(4)?,
        lifetime: u32::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
    })
}

/// A clock that was set back leaves times that lie ahead. They count from now on: such a session is as good as any, and expires
/// like any.
fn count_from_now(transaction: &Transaction<'_>) -> rusqlite::Result<usize> {
    transaction.execute("UPDATE uploads SET used_at = ?1 WHERE used_at > ?1", [now()])
}

fn insert(
    transaction: &Transaction<'_>,
    upload: &UploadKey,
    session: &StoredSession,
    owner: &str,
) -> rusqlite::Result<()> {
    use secrecy::ExposeSecret as _;
    let insert =
        "INSERT OR REPLACE INTO uploads (registry, repository, digest, location, size, acknowledged, sent,
         opened_at, used_at, lifetime, owner) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    transaction.execute(
        insert,
        params![
            upload.registry,
            upload.repository.as_str(),
            upload.digest.to_string(),
            session.location.expose_secret(),
            signed(session.size),
            signed(session.acknowledged),
            signed(session.sent),
            session.opened_at,
            now(),
            session.lifetime,
            owner
        ],
    )?;
    Ok(())
}

fn remove(
    transaction: &Transaction<'_>,
    upload: &UploadKey,
    repository: &Repository,
) -> rusqlite::Result<()> {
    let remove = "DELETE FROM uploads WHERE registry = ?1 AND repository = ?2 AND digest = ?3";
    let UploadKey { registry, digest, .. } = upload;
    transaction.execute(remove, params![registry, repository.as_str(), digest.to_string()])?;
    Ok(())
}
