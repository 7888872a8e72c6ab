//! Sums of files. A file that nobody has touched since need not be read again.

use rusqlite::{OptionalExtension as _, params};

use super::identity::{BundleIdentity, FileIdentity};
use super::{State, now};
use crate::oci::Digest;

/// Sums that are kept: the oldest go.
const MAX_SUMS: i64 = 1000;

impl State {
    /// The sum of a file, if it was taken of this very file and nothing about it changed since. A copy is read itself.
    pub(crate) fn sum(&self, bundle: &BundleIdentity) -> Option<Digest> {
        let (key, FileIdentity { device, inode, ctime_ns }) = (bundle.key.to_string(), bundle.file);
        let found = self.ask(move |connection| {
            let query =
                "SELECT sum FROM sums WHERE device = ?1 AND inode = ?2 AND ctime_ns = ?3 AND key = ?4";
            let file = params![device.cast_signed(), inode.cast_signed(), ctime_ns, key];
            connection.query_row(query, file, |row| row.get::<_, String>(0)).optional()
        });
        found.flatten()?.parse().ok()
    }

    /// Keeps the sum of a file. `bundle` must have been found out before it was taken, and the file must have been seen
    /// unchanged since.
    pub(crate) fn remember_sum(&self, bundle: &BundleIdentity, sum: Digest) {
        let (key, FileIdentity { device, inode, ctime_ns }) = (bundle.key.to_string(), bundle.file);
        self.write(move |transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO sums (device, inode, ctime_ns, key, sum, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![device.cast_signed(), inode.cast_signed(), ctime_ns, key, sum.to_string(), now()],
            )?;
            transaction.execute(
                "DELETE FROM sums WHERE at < (SELECT at FROM sums ORDER BY at DESC LIMIT 1 OFFSET ?1)",
                [MAX_SUMS],
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::state::catalog_codec::tests::Reader;

    #[test]
    fn a_sum_is_known_of_the_very_file_until_it_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state"));
        let (path, copy) = (folder.path().join("file"), folder.path().join("copy"));
        fs::write(&path, "content").unwrap();
        let (identity, sum) = (Reader::identity(&path), Digest::of(b"content"));
        assert_eq!(state.sum(&identity), None);
        state.remember_sum(&identity, sum);
        assert_eq!(state.sum(&Reader::identity(&path)), Some(sum));
        fs::copy(&path, &copy).unwrap();
        assert_eq!(state.sum(&Reader::identity(&copy)), None);
        fs::write(&path, "another").unwrap();
        assert_eq!(state.sum(&Reader::identity(&path)), None);
    }
}
