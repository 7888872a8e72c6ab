//! The database file: opening it, and setting aside one that cannot be used.

#[cfg(test)]
mod tests;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::folder;
use super::schema::{self, STEPS, Version};
use crate::source::is_remote;

pub(super) const FILE: &str = "state.sqlite";

/// How long a run waits for another one's transaction. They are short; a hint is not worth more.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) connection: Connection,
    path: PathBuf,
    /// Locked by all users together. The database is set aside only by a process that is alone.
    users: File,
}

/// What became of opening it.
#[derive(Debug)]
pub(super) struct OpenedDatabase {
    pub(super) database: Option<Database>,
    /// What was out of the ordinary, for people.
    pub(super) notes: Vec<String>,
}

/// Opens the database in a folder, and makes both where they are not there.
pub(super) fn open(folder: &Path) -> OpenedDatabase {
    let mut notes = Vec::new();
    let path = folder.join(FILE);
    // Twice: a database that is set aside leaves room for a new one.
    for _ in 0..2 {
        let aside = match try_open(folder, &path) {
            Ok(database) => return OpenedDatabase { database: Some(database), notes },
            Err(OpenError::Unusable(why)) => {
                notes.push(format!(
                    "nothing is remembered between runs: {}: {why}; --state-dir names another folder",
                    path.display()
                ));
                break;
            }
            Err(OpenError::Damaged(why)) => set_aside(folder, &path, "damaged", &why),
            Err(OpenError::Newer(version)) => {
                let why = format!("a newer version of layercast wrote it (schema {version})");
                set_aside(folder, &path, "newer", &why)
            }
        };
        match aside {
            Ok(note) => notes.push(note),
            Err(note) => {
                notes.push(note);
                break;
            }
        }
    }
    OpenedDatabase { database: None, notes }
}

enum OpenError {
    Unusable(String),
    Damaged(String),
    Newer(i64),
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        Self::Unusable(error.to_string())
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) { Self::Damaged(error.to_string()) } else { Self::Unusable(error.to_string()) }
    }
}

/// Whether an error is of the file's content and not of the moment.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn try_open(folder: &Path, path: &Path) -> Result<Database, OpenError> {
    folder::make(folder)?;
    let users = users_file(folder)?;
    users.lock_shared()?;
    // Made here and not by SQLite, for its owner alone. Files beside it get the same mode.
    let file = folder::open_file(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    let remote = is_remote(&file);
    drop(file);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // A write-ahead log needs memory that all processes share, which machines that mount one file do not have
    // (https://www.sqlite.org/wal.html, "All processes using a database must be on the same host computer").
    let mode = if remote { "DELETE" } else { "WAL" };
    connection.pragma_update_and_check(None, "journal_mode", mode, |_| Ok(()))?;
    // A killed process loses nothing by this. A power cut may damage the file, which is then set aside. Waiting for the disk
    // would cost a run with nothing to do more than all its requests.
    connection.pragma_update(None, "synchronous", "OFF")?;
    match schema::migrate(&mut connection, STEPS)? {
        Version::Current => Ok(Database { connection, path: path.to_owned(), users }),
        Version::Newer(version) => Err(OpenError::Newer(version)),
        Version::Foreign => Err(OpenError::Unusable("it is a database of another program".to_owned())),
    }
}

fn users_file(folder: &Path) -> std::io::Result<File> {
    folder::open_file(&folder.join("state.users"))
}

/// Renames the database and the files that belong to it. Of each kind the last one is kept, to be looked at.
fn set_aside(folder: &Path, path: &Path, kind: &str, why: &str) -> Result<String, String> {
    let note = |what: String| format!("state {}: {why}; {what}", path.display());
    let alone = users_file(folder)
        .map_err(|error| error.to_string())
        .and_then(|users| users.try_lock().map(|()| users).map_err(|_| "another run is using it".to_owned()));
    let _alone = alone.map_err(|error| note(format!("it stays, and this run goes without it: {error}")))?;
    let aside = path.with_extension(format!("sqlite.{kind}"));
    let renamed = fs::rename(path, &aside).and_then(|()| {
        ["-wal", "-shm", "-journal"].iter().try_for_each(|end| {
            let (from, to) = (beside(path, end), beside(&aside, end));
            let moved = if from.exists() { fs::rename(from, to) } else { fs::remove_file(to) };
            moved.or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
        })
    });
    match renamed {
        Ok(()) => Ok(note(format!("it was set aside as {}, and a new one begins", aside.display()))),
        Err(error) => Err(note(format!("it could not be set aside, and this run goes without it: {error}"))),
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

impl Database {
    /// Gives up a database that proved damaged while it was used; says what became of it.
    pub(super) fn give_up(self, why: &str) -> String {
        let Self { connection, path, users } = self;
        drop(connection);
        drop(users);
        let folder = path.parent().unwrap_or_else(|| Path::new(".")).to_owned();
        set_aside(&folder, &path, "damaged", why).unwrap_or_else(|note| note)
    }
}
