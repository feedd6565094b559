//! Opening a store, and making one.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;

/// `application_id` of the file: "sora".
const APPLICATION: i64 = 0x736f_7261;
/// The newest schema.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE manifest (
        id TEXT PRIMARY KEY NOT NULL,
        jumbf BLOB NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE binding (
        alg TEXT NOT NULL,
        value BLOB NOT NULL,
        manifest_id TEXT NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
        PRIMARY KEY (alg, value, manifest_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX binding_manifest ON binding (manifest_id);
    CREATE TABLE fingerprint (
        manifest_id TEXT NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (manifest_id, kind)
    ) STRICT;
";

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading; it must be there.
    Read,
    /// Reading and writing; it is made where it is not there.
    Write,
}

/// Bounds of what a store may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// How long to wait for another program that writes.
    pub wait: Duration,
    /// Most bytes that the file may grow to; `None`: as many as the disk has.
    pub bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { wait: Duration::from_secs(5), bytes: None }
    }
}

/// Between two tries of what SQLite does not wait for.
const AGAIN: Duration = Duration::from_millis(5);

/// Opens the file and looks whether it is a store; makes its tables in an empty one.
pub(crate) fn connect(path: &Path, access: Access, limits: Limits) -> Result<Connection, StoreError> {
    let begun = Instant::now();
    loop {
        match connect_now(path, access, limits) {
            // Where several make a store, SQLite refuses the change to WAL at once instead of waiting, as they might wait for
            // one another.
            Err(StoreError::Locked { .. }) if begun.elapsed() < limits.wait => std::thread::sleep(AGAIN),
            done => return done,
        }
    }
}

fn connect_now(path: &Path, access: Access, limits: Limits) -> Result<Connection, StoreError> {
    let failed = |error| StoreError::of(error, path, limits.wait.as_secs_f64());
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
        | match access {
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(limits.wait).map_err(failed)?;
    let connection = match (number(&connection, "schema_version"), access) {
        // In a folder that cannot be written, WAL has no place for its index; then nobody else writes either.
        (Err(error), Access::Read)
            if matches!(
                error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::ReadOnly)
            ) && path.is_file() =>
        {
            unchanging(path).map_err(failed)?
        }
        (found, _) => {
            found.map_err(failed)?;
            connection
        }
    };
    let version = version(&connection, path, limits)?;
    if access == Access::Write {
        prepare(&connection, limits).map_err(failed)?;
        if version == 0 {
            create(&connection).map_err(failed)?;
        }
    }
    Ok(connection)
}

/// A connection to a file that nobody writes.
fn unchanging(path: &Path) -> rusqlite::Result<Connection> {
    let escaped: String = path.as_os_str().as_encoded_bytes().iter().fold(String::new(), |mut uri, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte))
            }
            other => uri.push_str(&format!("%{other:02x}")),
        }
        uri
    });
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}

/// Version of the schema; 0 for a file without anything in it.
fn version(connection: &Connection, path: &Path, limits: Limits) -> Result<i64, StoreError> {
    let failed = |error| StoreError::of(error, path, limits.wait.as_secs_f64());
    let no_store = |problem: &str| StoreError::Corrupt { path: path.to_owned(), problem: problem.to_owned() };
    // All of one moment: another program may be making the store meanwhile.
    let moment = connection.unchecked_transaction().map_err(failed)?;
    let tables: i64 =
        moment.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    let (application, version) = (
        number(&moment, "application_id").map_err(failed)?,
        number(&moment, "user_version").map_err(failed)?,
    );
    moment.finish().map_err(failed)?;
    match (application, version, tables) {
        (0, 0, 0) if connection.is_readonly("main").map_err(failed)? => Err(no_store("it is empty")),
        (0, 0, 0) => Ok(0),
        (APPLICATION, VERSION, _) => Ok(VERSION),
        (APPLICATION, found, _) if found > VERSION => {
            Err(StoreError::Newer { path: path.to_owned(), found, known: VERSION })
        }
        (APPLICATION, ..) => Err(no_store("its version is none")),
        _ => Err(no_store("it is the database of another program")),
    }
}

fn prepare(connection: &Connection, limits: Limits) -> rusqlite::Result<()> {
    // What is said to be kept survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    if let Some(bytes) = limits.bytes {
        let page = number(connection, "page_size")?.max(1);
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page;
        connection.query_row(&format!("PRAGMA max_page_count = {}", pages.max(1)), [], |_| Ok(()))?;
    }
    Ok(())
}

/// All of it or nothing: of two programs that make the same store, one makes it.
fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let made = number(connection, "user_version").and_then(|version| match version {
        0 => connection.execute_batch(&format!(
            "{SCHEMA} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
        )),
        _ => Ok(()),
    });
    match made {
        Ok(()) => connection.execute_batch("COMMIT"),
        Err(error) => {
            // What failed is what counts; a transaction that is left open ends with the connection.
            let _ = connection.execute_batch("ROLLBACK");
            Err(error)
        }
    }
}
