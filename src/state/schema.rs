//! The tables, and how those of an older version become those of this one.
//!
//! Times are seconds since 1970, digests are text: operators look into the file with `sqlite3`.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a database as ours (`PRAGMA application_id`): "lcst".
const APPLICATION_ID: i64 = 0x6c63_7374;
/// The same for the ledger of uploads: "lcul".
const LEDGER_ID: i64 = 0x6c63_756c;

/// What tables a database has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema {
    application_id: i64,
    steps: &'static [&'static str],
}

/// Of what is remembered.
pub(super) const STATE: Schema = Schema { application_id: APPLICATION_ID, steps: STEPS };
/// Of the ledger of uploads.
pub(super) const LEDGER: Schema = Schema { application_id: LEDGER_ID, steps: LEDGER_STEPS };

/// The steps of the ledger.
const LEDGER_STEPS: &[&str] = &[
    // 1: sessions that mirrors may still have. The location is a permission to write. The owner is the run that has it.
    "CREATE TABLE uploads (
        registry TEXT NOT NULL,
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,
        location TEXT NOT NULL,
        size INTEGER NOT NULL,
        acknowledged INTEGER NOT NULL,
        sent INTEGER NOT NULL,
        opened_at INTEGER NOT NULL,
        used_at INTEGER NOT NULL,
        lifetime INTEGER NOT NULL,
        owner TEXT NOT NULL,
        PRIMARY KEY (registry, repository, digest)
    ) WITHOUT ROWID;",
];

/// One step from each version to the next, never altered once released: the version is the number of steps taken.
const STEPS: &[&str] = &[
    // 1: what is in bundles, and what layers of docker-archives become.
    "CREATE TABLE catalogs (
        key TEXT NOT NULL,
        device INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL,
        reader TEXT NOT NULL,
        saved_at INTEGER NOT NULL,
        used_at INTEGER NOT NULL,
        raw_bytes INTEGER NOT NULL,
        stored_bytes INTEGER NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (key, device, inode)
    );
    CREATE INDEX catalogs_by_use ON catalogs (used_at);
    CREATE TABLE layers (
        diff_id TEXT NOT NULL,
        recipe TEXT NOT NULL,
        digest TEXT NOT NULL,
        size INTEGER NOT NULL,
        media_type TEXT NOT NULL,
        used_at INTEGER NOT NULL,
        PRIMARY KEY (recipe, diff_id)
    ) WITHOUT ROWID;",
    // 2: the history of runs.
    "CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        started_at INTEGER NOT NULL,
        ended_at INTEGER,
        exit INTEGER,
        pid INTEGER NOT NULL,
        version TEXT NOT NULL,
        bundle TEXT NOT NULL,
        mirrors TEXT NOT NULL,
        images_complete INTEGER,
        images_incomplete INTEGER,
        blobs_sent INTEGER,
        bytes_sent INTEGER
    );",
    // 3: what runs came to at each mirror. Names of mirrors have no blanks, and were joined with them.
    "CREATE TABLE run_mirrors (
        run INTEGER NOT NULL,
        mirror TEXT NOT NULL,
        images_complete INTEGER,
        images_incomplete INTEGER,
        blobs_sent INTEGER,
        bytes_sent INTEGER,
        PRIMARY KEY (run, mirror)
    ) WITHOUT ROWID;
    CREATE INDEX run_mirrors_by_mirror ON run_mirrors (mirror);
    INSERT OR IGNORE INTO run_mirrors
        WITH RECURSIVE split (run, mirror, rest) AS (
            SELECT id, '', mirrors || ' ' FROM runs
            UNION ALL
            SELECT run, substr(rest, 1, instr(rest, ' ') - 1), substr(rest, instr(rest, ' ') + 1)
            FROM split WHERE rest <> ''
        )
        SELECT run, mirror, images_complete, images_incomplete, blobs_sent, bytes_sent
        FROM split JOIN runs ON runs.id = split.run WHERE mirror <> '';
    ALTER TABLE runs DROP COLUMN mirrors;
    ALTER TABLE runs DROP COLUMN images_complete;
    ALTER TABLE runs DROP COLUMN images_incomplete;
    ALTER TABLE runs DROP COLUMN blobs_sent;
    ALTER TABLE runs DROP COLUMN bytes_sent;",
    // 4: how runs left each mirror, and why.
    "ALTER TABLE run_mirrors ADD COLUMN images INTEGER;
    ALTER TABLE run_mirrors ADD COLUMN seconds REAL;
    ALTER TABLE run_mirrors ADD COLUMN ended TEXT;
    ALTER TABLE run_mirrors ADD COLUMN class TEXT;
    ALTER TABLE run_mirrors ADD COLUMN message TEXT;
    ALTER TABLE runs ADD COLUMN class TEXT;
    ALTER TABLE runs ADD COLUMN message TEXT;",
    // 5: what gates said of images; no words where they let one pass.
    "CREATE TABLE gate_verdicts (
        gate TEXT NOT NULL,
        mirror TEXT NOT NULL,
        digest TEXT NOT NULL,
        words TEXT,
        at INTEGER NOT NULL,
        PRIMARY KEY (gate, mirror, digest)
    ) WITHOUT ROWID;",
    // 6: sums of files.
    "CREATE TABLE sums (
        device INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL,
        key TEXT NOT NULL,
        sum TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (device, inode)
    ) WITHOUT ROWID;",
    // 7: what registries were seen to do, as JSON.
    "CREATE TABLE mirrors (
        registry TEXT NOT NULL PRIMARY KEY,
        server TEXT NOT NULL,
        learned_at INTEGER NOT NULL,
        quirks TEXT NOT NULL
    ) WITHOUT ROWID;",
    // 8: manifests that were put, with the blobs that they name: digests with blanks between them.
    "CREATE TABLE manifests (
        registry TEXT NOT NULL,
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,
        blobs TEXT NOT NULL,
        put_at INTEGER NOT NULL,
        PRIMARY KEY (registry, repository, digest)
    ) WITHOUT ROWID;
    CREATE INDEX manifests_by_age ON manifests (put_at);",
    // 9: which bundles mirrors were given, and what of them. No tag stands for an image that has its digest alone.
    "CREATE TABLE placed_bundles (
        mirror TEXT NOT NULL,
        bundle TEXT NOT NULL,
        path TEXT NOT NULL,
        complete INTEGER NOT NULL,
        used_at INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        PRIMARY KEY (mirror, bundle)
    ) WITHOUT ROWID;
    CREATE TABLE placed_tags (
        mirror TEXT NOT NULL,
        bundle TEXT NOT NULL,
        repository TEXT NOT NULL,
        tag TEXT NOT NULL,
        digest TEXT NOT NULL,
        own INTEGER NOT NULL,
        PRIMARY KEY (mirror, bundle, repository, tag, digest)
    ) WITHOUT ROWID;",
    // 10: the files of those bundles, as far as tags were moved for them. Which command a run was, if not one that fills mirrors.
    "CREATE TABLE placed_files (
        mirror TEXT NOT NULL,
        bundle TEXT NOT NULL,
        path TEXT NOT NULL,
        PRIMARY KEY (mirror, bundle, path)
    ) WITHOUT ROWID;
    INSERT INTO placed_files SELECT mirror, bundle, path FROM placed_bundles WHERE complete;
    ALTER TABLE runs ADD COLUMN command TEXT;",
];

/// What kind of file was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DatabaseKind {
    /// Ours, and now with all steps taken.
    Current,
    /// Of a later version of the program.
    Newer(i64),
    /// A database of another program.
    Foreign,
}

/// Takes the steps that are missing, all or none. Several processes may try at once.
pub(super) fn migrate(connection: &mut Connection, schema: Schema) -> rusqlite::Result<DatabaseKind> {
    take_steps(connection, schema.application_id, schema.steps)
}

fn take_steps(connection: &mut Connection, id: i64, steps: &[&str]) -> rusqlite::Result<DatabaseKind> {
    let newest = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    let version =
        |connection: &Connection| connection.pragma_query_value(None, "user_version", |row| row.get(0));
    if version(connection)? == newest && is_ours(connection, id)? {
        return Ok(DatabaseKind::Current);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 && !is_ours(&transaction, id)? {
        return Ok(DatabaseKind::Foreign);
    }
    let taken: i64 = version(&transaction)?;
    if taken > newest {
        return Ok(DatabaseKind::Newer(taken));
    }
    for step in &steps[usize::try_from(taken).unwrap_or(0)..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", id)?;
    transaction.pragma_update(None, "user_version", newest)?;
    transaction.commit()?;
    Ok(DatabaseKind::Current)
}

fn is_ours(connection: &Connection, id: i64) -> rusqlite::Result<bool> {
    let found: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    Ok(found == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migrate(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<DatabaseKind> {
        take_steps(connection, APPLICATION_ID, steps)
    }

    #[test]
    fn an_older_schema_grows_and_keeps_what_it_holds() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert_eq!(migrate(&mut connection, &STEPS[..1]).unwrap(), DatabaseKind::Current);
        connection
            .execute("INSERT INTO layers VALUES ('sha256:d', 'gzip', 'sha256:b', 7, 'application/x', 1)", [])
            .unwrap();
        assert_eq!(migrate(&mut connection, STEPS).unwrap(), DatabaseKind::Current);
        let size: i64 = connection.query_row("SELECT size FROM layers", [], |row| row.get(0)).unwrap();
        let runs: i64 = connection.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap();
        assert_eq!((size, runs), (7, 0));
        assert_eq!(migrate(&mut connection, STEPS).unwrap(), DatabaseKind::Current);
    }

    #[test]
    fn mirrors_of_earlier_runs_become_rows() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &STEPS[..2]).unwrap();
        let runs = "INSERT INTO runs (id, started_at, pid, version, bundle, mirrors, images_complete) VALUES
            (1, 0, 1, '0', 'b', 'one.example/ns', 3), (2, 0, 1, '0', 'b', 'one.example/ns two.example', NULL)";
        connection.execute(runs, []).unwrap();
        migrate(&mut connection, STEPS).unwrap();
        let mut query =
            connection.prepare("SELECT run, mirror, images_complete FROM run_mirrors ORDER BY 1, 2").unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        let rows: Vec<(i64, String, Option<i64>)> = rows.collect::<rusqlite::Result<_>>().unwrap();
        let row = |run, mirror: &str, complete| (run, mirror.to_owned(), complete);
        let expected =
            [row(1, "one.example/ns", Some(3)), row(2, "one.example/ns", None), row(2, "two.example", None)];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_step_that_fails_takes_none() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &STEPS[..1]).unwrap();
        migrate(&mut connection, &[STEPS[0], "CREATE TABLE a (b);", "no SQL"]).unwrap_err();
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 1);
        assert!(connection.query_row("SELECT * FROM a", [], |_| Ok(())).is_err());
    }

    #[test]
    fn what_is_newer_or_not_ours_stays_untouched() {
        let mut connection = Connection::open_in_memory().unwrap();
        let newer = [STEPS, &["CREATE TABLE later (a);"]].concat();
        migrate(&mut connection, &newer).unwrap();
        assert_eq!(
            migrate(&mut connection, STEPS).unwrap(),
            DatabaseKind::Newer(i64::try_from(STEPS.len()).unwrap() + 1)
        );
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE recipes (a)").unwrap();
        assert_eq!(migrate(&mut connection, STEPS).unwrap(), DatabaseKind::Foreign);
    }
}
