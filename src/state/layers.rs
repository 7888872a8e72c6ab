//! What plain layers of docker-archives became. A later run knows their digests without compressing them.

#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;

use rusqlite::params;

use super::{State, now, signed};
use crate::oci::Digest;

/// Rows that are kept; the least used go. About 40 MB.
const MAX_ROWS: i64 = 200_000;
/// A layer that was used within this time needs no new mark: a warm run then writes nothing.
const MARK_AFTER_SECONDS: i64 = 24 * 60 * 60;

/// The blob that a layer became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownLayer {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
}

impl State {
    /// Those of these layers that are known, by diff_id, in one query. `recipe` is all that decides what bytes come out
    /// beside the layer's own: algorithm, level, size of members, version of the library.
    pub(crate) fn layers(&self, recipe: &str, diff_ids: &[Digest]) -> HashMap<Digest, KnownLayer> {
        if diff_ids.is_empty() {
            return HashMap::new();
        }
        let (wanted, of_recipe) = (list(diff_ids), recipe.to_owned());
        let found = self.ask(move |connection| {
            let mut query = connection.prepare(
                "SELECT diff_id, digest, size, media_type, used_at FROM layers
                 WHERE recipe = ?1 AND diff_id IN (SELECT value FROM json_each(?2))",
            )?;
            let rows = query.query_map(params![of_recipe, wanted], |row| {
                let texts: (String, String) = (row.get(0)?, row.get(1)?);
                Ok((texts, row.get::<_, i64>(2)?, row.get::<_, String>(3)?, row.get::<_, i64>(4)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        let found = found.unwrap_or_default();
        let long_ago = now() - MARK_AFTER_SECONDS;
        if found.iter().any(|(.., used_at)| *used_at < long_ago) {
            let (wanted, recipe) = (list(diff_ids), recipe.to_owned());
            self.write(move |transaction| {
                transaction.execute(
                    "UPDATE layers SET used_at = ?1
                     WHERE recipe = ?2 AND diff_id IN (SELECT value FROM json_each(?3))",
                    params![now(), recipe, wanted],
                )
            });
        }
        let known = found.into_iter().filter_map(|((diff_id, digest), size, media_type, _)| {
            let size = u64::try_from(size).ok()?;
            Some((diff_id.parse().ok()?, KnownLayer { digest: digest.parse().ok()?, size, media_type }))
        });
        known.collect()
    }

    /// Remembers what layers became, in one transaction. Only what was checked against its diff_id.
    pub(crate) fn remember_layers(&self, recipe: &str, layers: &[(Digest, KnownLayer)]) {
        if layers.is_empty() {
            return;
        }
        let (recipe, layers) = (recipe.to_owned(), layers.to_vec());
        self.write(move |transaction| {
            let mut insert = transaction.prepare(
                "INSERT OR REPLACE INTO layers (diff_id, recipe, digest, size, media_type, used_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for (diff_id, layer) in &layers {
                insert.execute(params![
                    diff_id.to_string(),
                    recipe,
                    layer.digest.to_string(),
                    signed(layer.size),
                    layer.media_type,
                    now()
                ])?;
            }
            trim(transaction, MAX_ROWS)
        });
    }
}

fn trim(transaction: &rusqlite::Transaction<'_>, rows: i64) -> rusqlite::Result<()> {
    let count: i64 = transaction.query_row("SELECT count(*) FROM layers", [], |row| row.get(0))?;
    if count > rows {
        transaction.execute(
            "DELETE FROM layers WHERE (recipe, diff_id) IN
             (SELECT recipe, diff_id FROM layers ORDER BY used_at, diff_id LIMIT ?1)",
            [count - rows],
        )?;
    }
    Ok(())
}

/// A JSON list; digests need no escapes.
fn list(digests: &[Digest]) -> String {
    let quoted: Vec<String> = digests.iter().map(|digest| format!("\"{digest}\"")).collect();
    format!("[{}]", quoted.join(","))
}
