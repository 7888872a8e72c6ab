//! The database file: opening it, and setting aside one that cannot be used.

#[cfg(test)]
mod tests;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::folder;
use super::schema::{self, DatabaseKind, Schema};
use crate::file_lock::{self, Sharing};
use crate::source::is_remote;

/// A file of the state.
#[derive(Debug, Clone, Copy)]
pub(super) struct DatabaseFile {
    pub(super) name: &'static str,
    /// Locked by all users together.
    users: &'static str,
    schema: Schema,
    /// The note for people where it cannot be used.
    pub(super) missed: &'static str,
    /// What it holds is a permission, which must not outlive its use, and be there after a power cut.
    is_secret: bool,
}

/// What is remembered.
pub(super) const STATE: DatabaseFile = DatabaseFile {
    name: "state.sqlite",
    users: "state.users",
    schema: schema::STATE,
    missed: "nothing is remembered between runs",
    is_secret: false,
};

/// The ledger of uploads.
pub(super) const LEDGER: DatabaseFile = DatabaseFile {
    name: "uploads.sqlite",
    users: "uploads.users",
    schema: schema::LEDGER,
    missed: "no later run goes on with uploads that break off in this one",
    is_secret: true,
};

/// How long a run waits for another one's transaction. They are short; a hint is not worth more.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// Whoever has the database alone, to set it aside, is done within milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) connection: Connection,
    path: PathBuf,
    file: DatabaseFile,
    /// Locked by all users together. The database is set aside only by a process that is alone.
    users: File,
}

/// The result of opening it.
#[derive(Debug)]
pub(super) struct OpenedDatabase {
    pub(super) database: Option<Database>,
    /// Notes for people.
    pub(super) notes: Vec<String>,
}

/// Opens the database in a folder, and makes both where they are not there.
pub(super) fn open(file: DatabaseFile, folder: &Path) -> OpenedDatabase {
    let mut notes = Vec::new();
    let path = folder.join(file.name);
    // Twice: a database that is set aside leaves room for a new one.
    for _ in 0..2 {
        let aside = match try_open(file, folder, &path) {
            Ok(database) => return OpenedDatabase { database: Some(database), notes },
            Err(OpenError::Unusable(why)) => {
                notes.push(format!(
                    "{}: {}: {why}; --state-dir names another folder",
                    file.missed,
                    path.display()
                ));
                break;
            }
            Err(OpenError::Damaged(why)) => set_aside(file, folder, "damaged", &why),
            Err(OpenError::Newer(_)) if file.is_secret => {
                notes.push(format!(
                    "{}: {}: a newer version of layercast wrote it",
                    file.missed,
                    path.display()
                ));
                break;
            }
            Err(OpenError::Newer(version)) => {
                let why = format!("a newer version of layercast wrote it (schema {version})");
                set_aside(file, folder, "newer", &why)
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

/// Whether an error comes from the file's content and does not pass by itself.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn try_open(kind: DatabaseFile, folder: &Path, path: &Path) -> Result<Database, OpenError> {
    folder::make(folder)?;
    let users = users_file(kind, folder)?;
    let locked = file_lock::take(&users, Sharing::Shared, LOCK_PATIENCE);
    locked.map_err(|error| OpenError::Unusable(format!("{}: {error}", kind.users)))?;
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
    // Such a log also keeps what was deleted, until it is written over.
    let mode = if remote || kind.is_secret { "DELETE" } else { "WAL" };
    connection.pragma_update_and_check(None, "journal_mode", mode, |_| Ok(()))?;
    if kind.is_secret {
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update_and_check(None, "secure_delete", "ON", |_| Ok(()))?;
    } else {
        // A killed process loses nothing by this. A power cut may damage the file, which is then set aside. Waiting for the
        // disk would cost a run with nothing to do more than all its requests.
        connection.pragma_update(None, "synchronous", "OFF")?;
    }
    match schema::migrate(&mut connection, kind.schema)? {
        DatabaseKind::Current => Ok(Database { connection, path: path.to_owned(), file: kind, users }),
        DatabaseKind::Newer(version) => Err(OpenError::Newer(version)),
        DatabaseKind::Foreign => Err(OpenError::Unusable("it is a database of another program".to_owned())),
    }
}

fn users_file(file: DatabaseFile, folder: &Path) -> std::io::Result<File> {
    folder::open_file(&folder.join(file.users))
}

/// Renames the database and the files that belong to it. Of each kind the last one is kept, to be looked at; one with secrets is
/// deleted.
fn set_aside(file: DatabaseFile, folder: &Path, kind: &str, why: &str) -> Result<String, String> {
    let path = &folder.join(file.name);
    let note = |what: String| format!("state {}: {why}; {what}", path.display());
    let alone = users_file(file, folder)
        .map_err(|error| error.to_string())
        .and_then(|users| users.try_lock().map(|()| users).map_err(|_| "another run is using it".to_owned()));
    let _alone = alone.map_err(|error| note(format!("it stays, and this run goes without it: {error}")))?;
    if file.is_secret {
        let parts = ["", "-wal", "-shm", "-journal"].map(|end| beside(path, end));
        let removed = parts.iter().try_for_each(|part| match fs::remove_file(part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        return match removed {
            Ok(()) => {
                Ok(note("it was deleted, and a new one begins: uploads that broke off begin anew".to_owned()))
            }
            Err(error) => {
                Err(note(format!("it could not be deleted, and this run goes without it: {error}")))
            }
        };
    }
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
    /// Gives up a database that proved damaged while it was used; returns where it is now.
    pub(super) fn give_up(self, why: &str) -> String {
        let Self { connection, path, file, users } = self;
        drop(connection);
        drop(users);
        let folder = path.parent().unwrap_or_else(|| Path::new(".")).to_owned();
        set_aside(file, &folder, "damaged", why).unwrap_or_else(|note| note)
    }
}
