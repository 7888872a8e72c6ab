//! The table of catalogs, one for each bundle, bounded by the sum of their sizes.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rusqlite::{OptionalExtension, Transaction, params};

use super::catalog_codec::{self, Home, OpenVolume, Unkept};
use super::identity::{BundleIdentity, FileIdentity};
use super::{State, now, signed};
use crate::archive::Catalog;

/// The most that all compressed catalogs take together: the least used go.
const MAX_TOTAL_BYTES: usize = 64 << 20;
/// A larger catalog would push out too many others.
const MAX_BYTES: usize = 32 << 20;
/// A catalog that was used within this time needs no new mark: a warm run then writes nothing.
const MARK_AFTER_SECONDS: i64 = 60 * 60;

/// The version that wrote a catalog: another one may find other images in the same bytes.
fn reader() -> String {
    format!("layercast {} format {}", env!("CARGO_PKG_VERSION"), catalog_codec::FORMAT)
}

struct Row {
    rowid: i64,
    used_at: i64,
    raw_bytes: usize,
    content: Vec<u8>,
}

/// A catalog as it is written down, for those who keep it elsewhere, and who can read it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenCatalog {
    content: Vec<u8>,
    raw_bytes: usize,
}

impl WrittenCatalog {
    /// Who reads and writes catalogs here.
    pub(crate) fn reader() -> String {
        reader()
    }

    /// A catalog, its places relative to `home`; none of one that is not kept (see [`State::save_catalog`]).
    pub(crate) fn of(catalog: &Catalog, home: &Home) -> Option<Self> {
        let (content, raw_bytes) = catalog_codec::encode(catalog, home).ok()?;
        Some(Self { content, raw_bytes })
    }

    /// The catalog, its places in `home`; none where the bytes are damaged.
    pub(crate) fn read(&self, home: &Home, open: &Arc<OpenVolume>) -> Option<Catalog> {
        catalog_codec::decode(&self.content, self.raw_bytes, home, open).ok()
    }

    /// As the content of a file.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        [&(self.raw_bytes as u64).to_le_bytes()[..], &self.content].concat()
    }

    /// From the content of a file.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (raw_bytes, content) = bytes.split_first_chunk()?;
        let raw_bytes = usize::try_from(u64::from_le_bytes(*raw_bytes)).ok()?;
        Some(Self { content: content.to_vec(), raw_bytes })
    }
}

impl State {
    /// The catalog of this bundle, if it is known. Its places are in `home`, which is not read; archives inside the bundle are
    /// opened with `open` when they are first read.
    pub(crate) fn load_catalog(
        &self,
        bundle: &BundleIdentity,
        home: &Home,
        open: &Arc<OpenVolume>,
    ) -> Option<Catalog> {
        let row = self.catalog_row(bundle)?;
        let catalog = catalog_codec::decode(&row.content, row.raw_bytes, home, open);
        let rowid = row.rowid;
        match catalog {
            Ok(catalog) => {
                if row.used_at < now() - MARK_AFTER_SECONDS {
                    let mark = "UPDATE catalogs SET used_at = ?1 WHERE rowid = ?2";
                    self.write(move |transaction| transaction.execute(mark, [now(), rowid]));
                }
                Some(catalog)
            }
            Err(why) => {
                self.note(format!("what was remembered of the bundle is not used: {why}"));
                self.write(move |transaction| {
                    transaction.execute("DELETE FROM catalogs WHERE rowid = ?1", [rowid])
                });
                None
            }
        }
    }

    /// The catalog of this bundle as it is written down, if it is known.
    pub(crate) fn written_catalog(&self, bundle: &BundleIdentity) -> Option<WrittenCatalog> {
        let Row { content, raw_bytes, .. } = self.catalog_row(bundle)?;
        Some(WrittenCatalog { content, raw_bytes })
    }

    fn catalog_row(&self, bundle: &BundleIdentity) -> Option<Row> {
        let bundle = bundle.clone();
        self.ask(move |connection| {
            let mut query = connection.prepare(
                "SELECT rowid, device, inode, ctime_ns FROM catalogs WHERE key = ?1 AND reader = ?2
                 ORDER BY used_at DESC",
            )?;
            let rows = query.query_map(params![bundle.key.to_string(), reader()], |row| {
                let file = FileIdentity {
                    device: row.get::<_, i64>(1)?.cast_unsigned(),
                    inode: row.get::<_, i64>(2)?.cast_unsigned(),
                    ctime_ns: row.get(3)?,
                };
                Ok((file, row.get::<_, i64>(0)?))
            })?;
            let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            let Some(rowid) = bundle.known_among_files(rows) else { return Ok(None) };
            let content = "SELECT used_at, raw_bytes, content FROM catalogs WHERE rowid = ?1";
            let read = |row: &rusqlite::Row<'_>| {
                let raw_bytes = usize::try_from(row.get::<_, i64>(1)?).unwrap_or(usize::MAX);
                Ok(Row { rowid, used_at: row.get(0)?, raw_bytes, content: row.get(2)? })
            };
            connection.query_row(content, [rowid], read).optional()
        })?
    }

    /// Remembers what is in a bundle. `bundle` must have been found out before the catalog was read, and the bundle must
    /// have been seen unchanged since. Whether it is kept; one of which a later run may read more is not.
    pub(crate) fn save_catalog(&self, bundle: &BundleIdentity, catalog: &Catalog, home: &Home) -> bool {
        if !self.is_kept() {
            return false;
        }
        let (content, raw_bytes) = match catalog_codec::encode(catalog, home) {
            Ok(encoded) => encoded,
            Err(Unkept::MayPass) => return false,
            Err(why) => {
                self.note(format!("what is in the bundle is not remembered: {why}"));
                return false;
            }
        };
        if content.len() > MAX_BYTES {
            self.note(format!("what is in the bundle is not remembered: {}", Unkept::TooLarge));
            return false;
        }
        let FileIdentity { device, inode, ctime_ns } = bundle.file;
        let key = bundle.key.to_string();
        self.write(move |transaction| {
            transaction.execute("DELETE FROM catalogs WHERE reader <> ?1", [reader()])?;
            make_room(transaction, MAX_TOTAL_BYTES - content.len())?;
            transaction.execute(
                "INSERT OR REPLACE INTO catalogs (key, device, inode, ctime_ns, reader, saved_at, used_at, raw_bytes,
                 stored_bytes, content) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9)",
                params![
                    key,
                    device.cast_signed(),
                    inode.cast_signed(),
                    ctime_ns,
                    reader(),
                    now(),
                    signed(raw_bytes as u64),
                    signed(content.len() as u64),
                    content
                ],
            )
        });
        true
    }

    /// Forgets what is in a bundle: its bytes proved not to be what was remembered.
    pub(crate) fn forget_catalog(&self, bundle: &BundleIdentity) {
        let key = bundle.key.to_string();
        self.write(move |transaction| transaction.execute("DELETE FROM catalogs WHERE key = ?1", [key]));
    }
}

/// Drops the least used until the others take no more than `limit` bytes.
fn make_room(transaction: &Transaction<'_>, limit: usize) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM catalogs WHERE rowid IN (
            SELECT rowid FROM (
                SELECT rowid, sum(stored_bytes) OVER (ORDER BY used_at DESC, rowid DESC) AS total FROM catalogs
            ) WHERE total > ?1)",
        [signed(limit as u64)],
    )?;
    Ok(())
}
