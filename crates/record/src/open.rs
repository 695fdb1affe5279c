//! Opening a recording to read it.

use super::Error;
use super::files::beside;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// No text, blob or row of a recording is longer: a command line has 64 KiB, which grow sixfold when they are quoted.
const MAX_LENGTH: i32 = 1 << 20;

/// Opens the database without a trace where that can be, and bounds it.
pub fn connect(path: &Path) -> Result<Connection, Error> {
    check_header(path)?;
    // What was not ended has a log beside it, which SQLite reads together with the file; for that it may need a place to
    // write to. What was ended has none, and is read as it lies, from a medium that cannot be written to as well.
    let sides = ["-wal", "-journal"].map(|suffix| beside(path, suffix));
    if sides.iter().all(|side| !side.exists()) {
        return open(path, true).map_err(|cause| Error::sqlite("read", path, cause));
    }
    open(path, false).or_else(|cause| match cause.sqlite_error_code() {
        // A log with nothing in it is not missed.
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) if sides.iter().all(|side| length(side) == 0) => {
            open(path, true).map_err(|cause| Error::sqlite("read", path, cause))
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
            Err(Error::NeedsWriting { path: path.to_owned(), cause })
        }
        _ => Err(Error::sqlite("read", path, cause)),
    })
}

/// With `still`, nobody else may change the file, and SQLite takes no lock and looks for no log.
fn open(path: &Path, still: bool) -> rusqlite::Result<Connection> {
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if still {
        // A relative name would be another one in a URI if it began with two slashes.
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Connection::open_with_flags(uri(&absolute), read_only | OpenFlags::SQLITE_OPEN_URI)?
    } else {
        Connection::open_with_flags(path, read_only)?
    };
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_LENGTH)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "query_only", true)?;
    // The first that looks into the file.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// Looks at what tells other files, and what was cut off, from a recording. SQLite has not opened the file yet, so that no
/// lock of it is lost.
fn check_header(path: &Path) -> Result<(), Error> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let mut header = Vec::new();
    let mut file = File::open(path).map_err(|cause| io("read", path, cause))?;
    let kind = file.metadata().map_err(|cause| io("read", path, cause))?;
    if !kind.is_file() {
        return Err(Error::NotAFile(path.to_owned()));
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
    Ok(())
}

fn io(doing: &'static str, path: &Path, cause: std::io::Error) -> Error {
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
