//! The observed behaviour of registries.

#[cfg(test)]
mod tests;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rusqlite::{OptionalExtension as _, params};

use super::{State, now};
use crate::registry::MirrorMemory;

/// How long it counts: registries, proxies and links change.
const LIFETIME_SECONDS: i64 = 30 * 24 * 60 * 60;

/// The remembered behaviour of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RememberedMirror {
    /// The registry, with its scheme.
    pub registry: String,
    /// What its server says of itself.
    pub server: String,
    /// When that was learned, in seconds since 1970.
    pub learned_at: i64,
    /// When it is forgotten.
    pub expires_at: i64,
    /// Its behaviour, as it is stored.
    pub quirks: String,
}

impl MirrorMemory for State {
    fn recall(&self, registry: String, server: String) -> BoxFuture<'_, Option<String>> {
        let found = self.ask_later(move |transaction| {
            let query = "SELECT quirks FROM mirrors WHERE registry = ?1 AND server = ?2 AND learned_at > ?3";
            let key = params![registry, server, now() - LIFETIME_SECONDS];
            transaction.query_row(query, key, |row| row.get(0)).optional()
        });
        found.map(Option::flatten).boxed()
    }

    fn remember(&self, registry: String, server: String, quirks: String) {
        self.write(move |transaction| {
            // What was learned before the clock was set back counts from now on.
            transaction.execute("UPDATE mirrors SET learned_at = ?1 WHERE learned_at > ?1", [now()])?;
            // It counts from when the first of it was learned, else it would never expire.
            transaction.execute("DELETE FROM mirrors WHERE learned_at <= ?1", [now() - LIFETIME_SECONDS])?;
            transaction.execute(
                "INSERT INTO mirrors (registry, server, learned_at, quirks) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (registry) DO UPDATE SET quirks = excluded.quirks, server = excluded.server,
                 learned_at = CASE WHEN server = excluded.server THEN learned_at ELSE excluded.learned_at END",
                params![registry, server, now(), quirks],
            )
        });
    }
}

impl State {
    /// What is remembered of registries, by name.
    pub(crate) fn mirrors(&self) -> Vec<RememberedMirror> {
        let found = self.ask(|connection| {
            let query = "SELECT registry, server, learned_at, quirks FROM mirrors WHERE learned_at > ?1
                 ORDER BY registry";
            let mut query = connection.prepare(query)?;
            let rows = query.query_map([now() - LIFETIME_SECONDS], |row| {
                let learned_at = row.get::<_, i64>(2)?.min(now());
                Ok(RememberedMirror {
                    registry: row.get(0)?,
                    server: row.get(1)?,
                    learned_at,
                    expires_at: learned_at + LIFETIME_SECONDS,
                    quirks: row.get(3)?,
                })
            })?;
            rows.collect()
        });
        found.unwrap_or_default()
    }
}
