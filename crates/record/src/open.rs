//! Opening a recording to read it.

use super::Error;
use super::bounds::Bounds;
use super::files::{self, beside};
use super::input::{self, NotRegular};
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No text or blob of a recording is longer: a block of packed rows has a few hundred bytes for each at most.
const MAX_LENGTH: i32 = 8 << 20;

/// No statement of a recording's schema is longer, and no name in it.
const MAX_SCHEMA_LENGTH: i32 = 32 << 10;

/// A database that may be anyone's, opened to be read, within bounds.
pub struct Database {
    connection: Connection,
    path: PathBuf,
    bounds: Bounds,
}

impl Database {
    /// Opens a recording, without a trace where that can be.
    ///
    /// # Errors
    /// If it is no recording that can be read from here.
    pub fn open(path: &Path) -> Result<Database, Error> {
        let size = check_header(path)?;
        // Links are resolved here, because SQLite looks for a log beside the file itself.
        let real = std::fs::canonicalize(path).map_err(|cause| io("read", path, cause))?;
        let (connection, bounds) = connect(path, &real)?;
        let database = Database { connection, path: path.to_owned(), bounds };
        // One view of the file for all that is read, while more may be written.
        database.said(database.connection.execute_batch("BEGIN"))?;
        let number = |name| database.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (pages, page) = (database.said(number("page_count"))?, database.said(number("page_size"))?);
        let claimed = pages.unsigned_abs().saturating_mul(page.unsigned_abs());
        database.bounds.set_size(size.min(claimed), page.unsigned_abs());
        Ok(database)
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bounds on what reading may take.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Counts a row that was handed out.
    ///
    /// # Errors
    /// If that is more than the file can hold.
    pub fn count(&self, row: &rusqlite::Row<'_>) -> Result<(), Error> {
        self.bounds.count(&self.connection, row)
    }

    /// Counts VMs or vCPUs that an interval lists.
    ///
    /// # Errors
    /// If these are too many for the size of the file.
    pub fn list(&self, count: usize) -> Result<(), Error> {
        self.bounds.list(count)
    }

    /// Gives an error the file's name.
    pub fn said<T>(&self, result: rusqlite::Result<T>) -> Result<T, Error> {
        result.map_err(|cause| self.bounds.explain("read", cause))
    }

    /// An error that says what is wrong with the file.
    pub fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(&self.path, what)
    }
}

/// Opens the database, `real` being its name without links.
fn connect(path: &Path, real: &Path) -> Result<(Connection, Bounds), Error> {
    // What was not ended has a log beside it, which SQLite reads together with the file; for that it may need a place to
    // write to. What was ended has none, and is read as it lies, from a medium that cannot be written to as well.
    let (log, journal) = (beside(real, "-wal"), beside(real, "-journal"));
    if length(&journal) > 0 {
        return Err(Error::Journal(path.to_owned()));
    }
    let mut is_still = !log.exists();
    if !is_still && let Err(error) = files::check_beside(real) {
        // A log with nothing in it is not missed.
        if length(&log) > 0 {
            return Err(error);
        }
        is_still = true;
    }
    open(path, real, is_still).or_else(|error| match &error {
        Error::Sqlite { cause, .. } => match cause.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) if length(&log) == 0 => open(path, real, true),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
                Err(Error::NeedsWriting { path: path.to_owned(), cause: cause.to_string() })
            }
            _ => Err(error),
        },
        _ => Err(error),
    })
}

/// With `still`, nobody else may change the file, and SQLite takes no lock and looks for no log.
fn open(path: &Path, real: &Path, still: bool) -> Result<(Connection, Bounds), Error> {
    let said = |cause| Error::sqlite("read", path, cause);
    input::guard_sqlite();
    // The bundled SQLite takes names that begin with `file:` for URIs in any case; an absolute one does not.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if still {
        Connection::open_with_flags(uri(real), flags | OpenFlags::SQLITE_OPEN_URI)
    } else {
        Connection::open_with_flags(real, flags)
    };
    let connection = connection.map_err(said)?;
    let bounds = Bounds::new(&connection, path).map_err(said)?;
    restrict(&connection).map_err(said)?;
    let explain = |cause| bounds.explain("read", cause);
    // The first that looks into the file, and reads the schema.
    connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |_| Ok(())).map_err(explain)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_LENGTH).map_err(said)?;
    Ok((connection, bounds))
}

/// Leaves of SQLite what reading tables takes: whatever a schema has besides is not run.
fn restrict(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(10))?;
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_LENGTH, MAX_SCHEMA_LENGTH),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SCHEMA_LENGTH),
        (Limit::SQLITE_LIMIT_COLUMN, 64),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 50),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 20),
        (Limit::SQLITE_LIMIT_VDBE_OP, 10_000),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, most)?;
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.authorizer(Some(authorize))
}

/// Allows to read columns of tables, in statements of ours and not in those of views and triggers.
fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Transaction { .. } => Authorization::Allow,
        AuthAction::Read { .. } if context.accessor.is_none() => Authorization::Allow,
        AuthAction::Pragma { pragma_value: None, .. } => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

/// Tells a recording from other files, and from one that was cut off, by its first bytes. Returns the bytes that it and its log
/// have. SQLite has not opened the file yet, so that no lock of it is lost.
fn check_header(path: &Path) -> Result<u64, Error> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let mut header = Vec::new();
    let (mut file, kind) = input::open(path).map_err(|cause| io("read", path, cause))?;
    if kind.len() == 0 {
        return Err(Error::Empty(path.to_owned()));
    }
    file.by_ref().take(100).read_to_end(&mut header).map_err(|cause| io("read", path, cause))?;
    let found = kind.len();
    if header.is_empty() {
        return Err(Error::Empty(path.to_owned()));
    }
    let start = &header[..header.len().min(MAGIC.len())];
    if *start != MAGIC[..start.len()] {
        return Err(Error::NotADatabase {
            path: path.to_owned(),
            found: String::from_utf8_lossy(start).into_owned(),
        });
    }
    let cut = |expected| Err(Error::Truncated { path: path.to_owned(), found, expected });
    if header.len() < 100 {
        return cut(4096);
    }
    // https://www.sqlite.org/fileformat2.html, "The Database Header".
    let number =
        |at: usize, bytes: usize| header[at..at + bytes].iter().fold(0, |n, b| n << 8 | u64::from(*b));
    let page = if number(16, 2) == 1 { 65_536 } else { number(16, 2) };
    let expected = page * number(28, 4);
    // A log beside the file may have what is missing here; the number of pages is valid if it is of the last change.
    if found < expected && number(24, 4) == number(92, 4) && length(&beside(path, "-wal")) == 0 {
        return cut(expected);
    }
    let log = std::fs::metadata(beside(path, "-wal")).map_or(0, |log| stored(&log));
    Ok(stored(&kind).saturating_add(log))
}

/// The bytes of a file, of which holes count little: a file system that compresses may need an eighth.
fn stored(file: &std::fs::Metadata) -> u64 {
    file.len().min(file.blocks().saturating_mul(8 * 512).saturating_add(1 << 20))
}

fn io(doing: &'static str, path: &Path, cause: std::io::Error) -> Error {
    if let Some(NotRegular(found)) = cause.get_ref().and_then(|cause| cause.downcast_ref()) {
        return Error::NotRegular { path: path.to_owned(), found };
    }
    Error::Io { doing, path: path.to_owned(), cause }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// A file that nobody changes while it is read.
fn uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02x}"));
        }
    }
    uri + "?immutable=1"
}
