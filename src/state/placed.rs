//! What runs have put on each mirror, by bundle: what `prune` may remove again.
//!
//! A bundle is identified by the places of its images, so another file with the same images is the same bundle. A run owns only
//! what it put or moved itself; what it found already right may belong to somebody else.

use std::fmt;

use rusqlite::{Transaction, params};

use super::{State, now};
use crate::oci::{Digest, Repository, Tag};

/// A tag of an image on a mirror.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PlacedTag {
    /// With the namespace of the mirror.
    pub repository: Repository,
    /// None of an image that has its digest alone.
    pub tag: Option<Tag>,
    /// The digest that it pointed at when the run ended.
    pub digest: Digest,
    /// Whether a run of layercast put it there.
    pub own: bool,
}

/// What a run gave to a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    /// What the bundle is called.
    pub path: String,
    /// Its files; none where the run moved no tag for them and did not find all there, so that the mirror stays at what it had.
    pub files: Vec<String>,
    /// Whether all of it is there.
    pub complete: bool,
    /// The tags that are right.
    pub tags: Vec<PlacedTag>,
}

/// A bundle that was pushed to a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlacedBundle {
    /// The digest of its images and their places.
    pub key: Digest,
    /// What it was called.
    pub path: String,
    /// Whether all of it was there when the last run with it ended.
    pub complete: bool,
    /// Whether no tag of it was removed since.
    pub whole: bool,
    /// When that was, in seconds since 1970.
    pub used_at: i64,
    pub tags: Vec<PlacedTag>,
}

impl PlacedTag {
    /// How the database has the tag; empty where there is none.
    fn tag_text(&self) -> &str {
        self.tag.as_ref().map_or("", Tag::as_str)
    }
}

impl fmt::Display for PlacedTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{}:{tag}", self.repository),
            None => write!(f, "{}@{}", self.repository, self.digest),
        }
    }
}

impl State {
    /// A run gave a bundle to a mirror, whose [`lock_key`](crate::registry::Target::lock_key) this is.
    pub(crate) fn placed(&self, mirror: String, placement: Placement) {
        let Placement { path, files, complete, mut tags } = placement;
        if tags.is_empty() {
            return;
        }
        tags.sort_unstable();
        let key = key_of(&tags).to_string();
        self.write(move |transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO placed_bundles (mirror, bundle, path, complete, used_at, sequence)
                 VALUES (?1, ?2, ?3, ?4, ?5, (SELECT coalesce(max(sequence), 0) + 1 FROM placed_bundles))",
                params![mirror, key, path, complete, now()],
            )?;
            for tag in &tags {
                put(transaction, &mirror, &key, tag)?;
            }
            for file in &files {
                transaction.execute(
                    "INSERT OR REPLACE INTO placed_files (mirror, bundle, path) VALUES (?1, ?2, ?3)",
                    params![mirror, key, file],
                )?;
            }
            Ok(())
        });
    }

    /// The files of the bundles that each of these mirrors was given, the latest first. Asks once, however many they are.
    pub(crate) fn files_given(&self, mirrors: &[String]) -> Vec<Vec<String>> {
        let (asked, none) = (mirrors.to_vec(), || vec![Vec::new(); mirrors.len()]);
        let found = self.ask(move |connection| {
            let mut query = connection.prepare(
                "SELECT placed_files.path FROM placed_files JOIN placed_bundles USING (mirror, bundle)
                 WHERE mirror = ?1 ORDER BY sequence DESC",
            )?;
            let files = |mirror: String| query.query_map([&mirror], |row| row.get(0))?.collect();
            asked.into_iter().map(files).collect::<rusqlite::Result<Vec<Vec<String>>>>()
        });
        found.unwrap_or_else(none)
    }

    /// The bundles that were pushed to a mirror, the latest first.
    pub(crate) fn bundles_of(&self, mirror: &str) -> Vec<PlacedBundle> {
        let mirror = mirror.to_owned();
        let found = self.ask(move |connection| {
            let mut bundles = connection.prepare(
                "SELECT bundle, path, complete, used_at FROM placed_bundles WHERE mirror = ?1
                 ORDER BY sequence DESC",
            )?;
            let mut tags = connection.prepare(
                "SELECT repository, tag, digest, own FROM placed_tags WHERE mirror = ?1 AND bundle = ?2
                 ORDER BY repository, tag",
            )?;
            let rows = bundles.query_map([&mirror], |row| {
                let key: String = row.get(0)?;
                let read = tags.query_map([&mirror, &key], |row| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, String>(1)?,
                        row.get::<_, String>(2)?,
                        row.get(3)?,
                    ))
                })?;
                let read = read.collect::<rusqlite::Result<Vec<_>>>()?;
                Ok((key, row.get(1)?, row.get(2)?, row.get(3)?, read))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        let bundle = |(key, path, complete, used_at, tags): (String, _, _, _, Vec<_>)| {
            let tag = |(repository, tag, digest, own): (String, String, String, bool)| {
                Some(PlacedTag {
                    repository: repository.parse().ok()?,
                    tag: if tag.is_empty() { None } else { Some(tag.parse().ok()?) },
                    digest: digest.parse().ok()?,
                    own,
                })
            };
            let mut tags: Vec<PlacedTag> = tags.into_iter().filter_map(tag).collect();
            tags.sort_unstable();
            let key: Digest = key.parse().ok()?;
            Some(PlacedBundle { whole: key_of(&tags) == key, key, path, complete, used_at, tags })
        };
        found.unwrap_or_default().into_iter().filter_map(bundle).collect()
    }

    /// Forgets tags that are gone from a mirror, and bundles that have no tag left.
    pub(crate) fn removed(&self, mirror: &str, tags: Vec<PlacedTag>) {
        let mirror = mirror.to_owned();
        self.write(move |transaction| {
            for it in &tags {
                transaction.execute(
                    "DELETE FROM placed_tags WHERE mirror = ?1 AND repository = ?2 AND tag = ?3 AND digest = ?4",
                    params![mirror, it.repository.as_str(), it.tag_text(), it.digest.to_string()],
                )?;
            }
            transaction.execute(
                "DELETE FROM placed_bundles WHERE mirror = ?1 AND NOT EXISTS
                 (SELECT 1 FROM placed_tags WHERE placed_tags.mirror = ?1 AND placed_tags.bundle = placed_bundles.bundle)",
                [&mirror],
            )?;
            transaction.execute(
                "DELETE FROM placed_files WHERE mirror = ?1 AND NOT EXISTS
                 (SELECT 1 FROM placed_bundles WHERE placed_bundles.mirror = ?1 AND placed_bundles.bundle = placed_files.bundle)",
                [&mirror],
            )
        });
    }
}

/// A bundle is known by this, of its tags in their order. One of which a tag was removed has another key than it was given.
fn key_of(tags: &[PlacedTag]) -> Digest {
    let mut all: Vec<String> =
        tags.iter().map(|it| format!("{}:{} {}", it.repository, it.tag_text(), it.digest)).collect();
    all.dedup();
    Digest::of(all.join("\n").as_bytes())
}

/// What was ours once stays ours under another bundle.
fn put(transaction: &Transaction<'_>, mirror: &str, key: &str, tag: &PlacedTag) -> rusqlite::Result<usize> {
    let (repository, digest) = (tag.repository.as_str(), tag.digest.to_string());
    transaction.execute(
        "INSERT OR REPLACE INTO placed_tags (mirror, bundle, repository, tag, digest, own)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6 OR EXISTS
         (SELECT 1 FROM placed_tags WHERE mirror = ?1 AND repository = ?3 AND tag = ?4 AND digest = ?5 AND own)",
        params![mirror, key, repository, tag.tag_text(), digest, tag.own],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str, content: &str, own: bool) -> PlacedTag {
        let (repository, tag) = name.split_once(':').unwrap();
        let digest = Digest::of(content.as_bytes());
        PlacedTag { repository: repository.parse().unwrap(), tag: Some(tag.parse().unwrap()), digest, own }
    }

    #[test]
    fn what_was_ours_stays_ours_and_what_is_removed_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path());
        let mirror = || "m.example/ns".to_owned();
        let placed = |path: &str, complete, tags| {
            let files = vec![format!("/srv/{path}")];
            state.placed(mirror(), Placement { path: path.to_owned(), files, complete, tags });
        };
        placed("one.tar", true, vec![tag("app:1", "a", true), tag("lib:1", "l", false)]);
        placed("two.tar", false, vec![tag("app:1", "a", false), tag("app:2", "b", true)]);
        let bundles = state.bundles_of("m.example/ns");
        let shown: Vec<(&str, bool, Vec<bool>)> = bundles
            .iter()
            .map(|it| (it.path.as_str(), it.complete, it.tags.iter().map(|tag| tag.own).collect()))
            .collect();
        assert!(shown.contains(&("one.tar", true, vec![true, false])), "{shown:?}");
        assert!(shown.contains(&("two.tar", false, vec![true, true])), "{shown:?}");
        assert!(state.bundles_of("other").is_empty());
        // The same again is the same bundle.
        placed("copy.tar", true, vec![tag("app:1", "a", false), tag("app:2", "b", false)]);
        let bundles = state.bundles_of("m.example/ns");
        assert!(bundles.len() == 2 && bundles.iter().all(|bundle| bundle.whole), "{bundles:?}");
        let given = |state: &State| state.files_given(&[mirror(), "other".to_owned()]);
        assert_eq!(given(&state), [vec!["/srv/copy.tar", "/srv/two.tar", "/srv/one.tar"], vec![]]);
        state.removed("m.example/ns", vec![tag("app:1", "a", true), tag("lib:1", "l", true)]);
        let bundles = state.bundles_of("m.example/ns");
        assert_eq!((bundles.len(), bundles[0].path.as_str(), bundles[0].tags.len()), (1, "copy.tar", 1));
        assert!(!bundles[0].whole, "a tag of it is gone");
        assert_eq!(given(&state)[0], ["/srv/copy.tar", "/srv/two.tar"]);
    }
}
