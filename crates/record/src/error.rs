//! Errors of recordings.

use rusqlite::ErrorCode;
use std::io;
use std::path::{Path, PathBuf};

/// Cause for which a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of that name exists.
    #[error("{} exists already; choose another name, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// The name is that of something else than a file, which is not replaced.
    #[error("{} is no regular file, and will not be replaced; choose another name", .0.display())]
    NotAFile(PathBuf),
    /// The name to be read is that of something else than a file.
    #[error("{} is {found}, and no file; recordings are files that `exitscope record` makes", path.display())]
    NotRegular {
        /// Its name.
        path: PathBuf,
        /// Kind of the thing, with an article.
        found: &'static str,
    },
    /// Reading would take more work than a sound recording of this size needs.
    #[error("{} is damaged, or made to harm who reads it: {what}, which no recording of that size does; \
             copy it again from where it was recorded", path.display())]
    Exceeds {
        /// The file.
        path: PathBuf,
        /// The bound that was met.
        what: String,
    },
    /// A change was cut off; only a user who may write the file can take it back.
    #[error("{path} has a journal beside it ({path}-journal): a change was cut off; take it back with \
             `sqlite3 {path} 'SELECT 1 FROM facts'` as the user whose file it is", path = .0.display())]
    Journal(PathBuf),
    /// Another user can change files that writer and reader depend on.
    #[error("{} {what}, and may stop who reads or writes the recording; {advice}", path.display())]
    Unsafe {
        /// The file or folder.
        path: PathBuf,
        /// Fault of the file or folder.
        what: String,
        /// Remedy.
        advice: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}: {cause}", path.display())]
    Io {
        /// Action that failed, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// No room is left on the disk.
    #[error("no room left on the disk of {}: what was recorded up to now is safe, see it with `exitscope report`; \
             make room, or record to another disk", .0.display())]
    Full(PathBuf),
    /// The file is empty.
    #[error("{} is empty: nothing was recorded into it", .0.display())]
    Empty(PathBuf),
    /// The file is no SQLite database.
    #[error("{} is no recording: it begins with {found:?} where an SQLite database begins with \"SQLite format 3\"; \
             recordings are made by `exitscope record`", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// First bytes of the file.
        found: String,
    },
    /// The file is another program's database.
    #[error("{} is no recording: it is an SQLite database of another program (its application_id is {found:#010x}, that \
             of recordings {expected:#010x}); recordings are made by `exitscope record`", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// `application_id` of the file.
        found: i32,
        /// `application_id` of recordings.
        expected: i32,
    },
    /// The recorder was killed before it had made the schema.
    #[error("{} has no schema: exitscope ended before anything was recorded", .0.display())]
    NoSchema(PathBuf),
    /// The recording is from a newer exitscope.
    #[error("{} is of schema {found}, and this exitscope ({tool}) knows schemas up to {known}: it was recorded by a newer \
             one; read it with that", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest that is known here.
        known: usize,
        /// This version.
        tool: &'static str,
    },
    /// A part of the file is missing.
    #[error("{} is cut off: it has {found} bytes of {expected}; copy it again from where it was recorded", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Length of the file, in bytes.
        found: u64,
        /// Length that the file should have, in bytes.
        expected: u64,
    },
    /// The content contradicts the schema or itself.
    #[error("{} is damaged: {what}; copy it again from where it was recorded, or save what is left with \
             `sqlite3 FILE .recover`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Fault that was found.
        what: String,
    },
    /// The recording was not ended, and its log cannot be taken up here.
    #[error("{path} was not ended, and its last intervals, which are in {path}-wal, cannot be read here ({cause}); copy both \
             into a folder that you can write to, and read it there", path = path.display())]
    NeedsWriting {
        /// The file.
        path: PathBuf,
        /// Message of SQLite.
        cause: String,
    },
    /// Another recorder is writing the file.
    #[error("{} is being recorded; end that recorder first, or choose another name", .0.display())]
    Recording(PathBuf),
    /// No recording stays within so few bytes.
    #[error("{} cannot be kept within {size} bytes: what cannot be thinned yet, an hour's sums and the last minute, \
             takes more; give a larger --max-size (at least 8M), or a longer interval", path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Bytes that were asked for.
        size: u64,
    },
    /// The recording ended before its first interval was over.
    #[error("{} has no interval: recording ended before the first was over", .0.display())]
    NoInterval(PathBuf),
    /// A figure is greater than SQLite's integers.
    #[error("the figure {0} is too large for a recording; please report this as a bug")]
    TooLarge(u64),
    /// Anything else.
    #[error("cannot {doing} {}: {cause}", path.display())]
    Sqlite {
        /// Action that failed, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of SQLite.
        cause: rusqlite::Error,
    },
}

impl Error {
    /// Returns the error for SQLite's failure in an action on a file.
    pub(super) fn sqlite(doing: &'static str, path: &Path, cause: rusqlite::Error) -> Error {
        let path = path.to_owned();
        match cause.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Error::Full(path),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TooBig) => {
                Error::Damaged { path, what: cause.to_string() }
            }
            // Where the disk is full, what SQLite keeps beside the file may not grow, which it does not tell from others.
            Some(ErrorCode::SystemIoFailure) if is_full(&path) => Error::Full(path),
            _ => Error::Sqlite { doing, path, cause },
        }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Error {
        Error::Damaged { path: path.to_owned(), what: what.into() }
    }
}

/// Returns true if the file system of a file has no block left.
fn is_full(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(name) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: all zeros are valid for this structure of integers.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the name ends with NUL, and `found` is valid for writing.
    unsafe { libc::statvfs(name.as_ptr(), &raw mut found) == 0 && found.f_bavail == 0 }
}
