//! Manifests that were put on registries, with the blobs that they name.

#[cfg(test)]
mod tests;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rusqlite::params;

use super::{State, now};
use crate::oci::{Digest, Repository};

/// How long one counts. The registry is asked for it in any case; this bounds the needless questions.
const LIFETIME_SECONDS: i64 = 180 * 24 * 60 * 60;
/// Rows that are kept, of all registries: the oldest go. About 20 MB.
const MAX_ROWS: i64 = 20_000;
/// Of one repository the newest are given out.
const MOST_OF_REPOSITORY: u32 = 32;

/// A manifest that was put into a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RememberedManifest {
    /// Its digest.
    pub digest: Digest,
    /// The configuration and the layers that it names.
    pub blobs: Vec<Digest>,
}

impl State {
    /// The manifests that were put into a repository, the newest first. Comes later, and waits for no thread of the runtime.
    pub(crate) fn manifests_in(
        &self,
        registry: String,
        repository: &Repository,
    ) -> BoxFuture<'static, Vec<RememberedManifest>> {
        let repository = repository.to_string();
        let found = self.ask_later(move |transaction| {
            let mut query = transaction.prepare(
                "SELECT digest, blobs FROM manifests WHERE registry = ?1 AND repository = ?2 AND put_at > ?3
                 ORDER BY put_at DESC, digest LIMIT ?4",
            )?;
            let key = params![registry, repository, now() - LIFETIME_SECONDS, MOST_OF_REPOSITORY];
            let rows = query.query_map(key, |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(String, String)>>>()
        });
        // Rows that another hand has written are passed over.
        let parsed = |(digest, blobs): (String, String)| {
            let blobs = blobs.split(' ').map(str::parse).collect::<Result<Vec<_>, _>>().ok()?;
            Some(RememberedManifest { digest: digest.parse().ok()?, blobs })
        };
        found.map(move |rows| rows.unwrap_or_default().into_iter().filter_map(parsed).collect()).boxed()
    }

    /// Remembers what was put into a repository.
    pub(crate) fn remember_manifests(
        &self,
        registry: String,
        repository: &Repository,
        manifests: Vec<RememberedManifest>,
    ) {
        let repository = repository.to_string();
        self.write(move |transaction| {
            transaction.execute("DELETE FROM manifests WHERE put_at <= ?1", [now() - LIFETIME_SECONDS])?;
            for RememberedManifest { digest, blobs } in &manifests {
                let blobs = blobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                transaction.execute(
                    "INSERT OR REPLACE INTO manifests (registry, repository, digest, blobs, put_at)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![registry, repository, digest.to_string(), blobs, now()],
                )?;
            }
            trim(transaction, MAX_ROWS)
        });
    }

    /// A repository does not have a manifest any more.
    pub(crate) fn forget_manifest(&self, registry: String, repository: &Repository, digest: Digest) {
        let repository = repository.to_string();
        self.write(move |transaction| {
            let gone = "DELETE FROM manifests WHERE registry = ?1 AND repository = ?2 AND digest = ?3";
            transaction.execute(gone, params![registry, repository, digest.to_string()])
        });
    }

    /// A registry has a manifest without its blobs: none of its manifests counts any more.
    pub(crate) fn forget_manifests(&self, registry: String) {
        self.write(move |transaction| {
            transaction.execute("DELETE FROM manifests WHERE registry = ?1", [registry])
        });
    }
}

fn trim(transaction: &rusqlite::Transaction<'_>, rows: i64) -> rusqlite::Result<()> {
    let count: i64 = transaction.query_row("SELECT count(*) FROM manifests", [], |row| row.get(0))?;
    if count > rows {
        transaction.execute(
            "DELETE FROM manifests WHERE (registry, repository, digest) IN
             (SELECT registry, repository, digest FROM manifests ORDER BY put_at, digest LIMIT ?1)",
            [count - rows],
        )?;
    }
    Ok(())
}
