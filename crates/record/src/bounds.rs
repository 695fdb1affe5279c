//! Bounds on what reading a recording may take, in proportion to its size.
//!
//! A file can claim more than it holds: rows that share their bytes, trees whose pages are in them many times. In a sound
//! database each byte of a row lies in the file once, so reading every table once hands out no more bytes than the file has.
//! A recording for which that does not hold is refused, and so is one that takes more steps, pages or memory than any sound
//! one of its size. What is counted is the same on each machine; time decides nothing.

use super::Error;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, ffi};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Instructions of SQLite's virtual machine for each byte of the file. A row of n columns has more than n bytes, and
/// takes about n + 6 instructions.
const STEPS_PER_BYTE: u64 = 8;

/// Instructions that any recording may take, and all that reading the schema may: a schema has some 50 entries of about 20.
const STEPS: u64 = 100_000;

/// Look-ups of pages for each page of the file, and what any recording may take besides.
const LOOKS_PER_PAGE: u64 = 32;
const LOOKS: u64 = 20_000;

/// VMs and vCPUs that are listed for each byte of the file, and what any recording may list besides: those that do nothing
/// have no row.
const LISTED_PER_BYTE: u64 = 4;
const LISTED: u64 = 4 << 20;

/// Memory that SQLite may take, in bytes, of all databases of this process. The tests of this crate run side by side in
/// one process, where each has databases of its own.
pub const HEAP: i64 = if cfg!(test) { 1 << 30 } else { 48 << 20 };

/// Instructions between two looks at how many there were.
const STRIDE: i32 = 500;

/// Rows between two readings of the number of pages that were looked up.
const ROWS: u64 = 16;

/// Work done so far, and its bounds.
pub struct Bounds {
    path: PathBuf,
    /// Bytes of the file, its log included, that are stored somewhere.
    size: Cell<u64>,
    steps: Arc<AtomicU64>,
    most_steps: Arc<AtomicU64>,
    bytes: Cell<u64>,
    rows: Cell<u64>,
    looks: Cell<u64>,
    page_size: Cell<u64>,
    listed: Cell<u64>,
}

impl Bounds {
    /// Bounds a connection, for now so that a schema can be read.
    pub fn new(connection: &Connection, path: &Path) -> rusqlite::Result<Bounds> {
        // SAFETY: it takes a number, and may be called at any time.
        unsafe { ffi::sqlite3_hard_heap_limit64(HEAP) };
        let steps = Arc::new(AtomicU64::new(0));
        let most_steps = Arc::new(AtomicU64::new(STEPS));
        let (taken, most) = (steps.clone(), most_steps.clone());
        let stride = STRIDE.unsigned_abs().into();
        let over = move || taken.fetch_add(stride, Ordering::Relaxed) + stride > most.load(Ordering::Relaxed);
        connection.progress_handler(STRIDE, Some(over))?;
        Ok(Bounds {
            path: path.to_owned(),
            size: Cell::new(0),
            steps,
            most_steps,
            bytes: Cell::new(0),
            rows: Cell::new(0),
            looks: Cell::new(0),
            page_size: Cell::new(4096),
            listed: Cell::new(0),
        })
    }

    /// Takes the size of the file, in bytes, as the measure for all that follows.
    pub fn set_size(&self, size: u64, page_size: u64) {
        self.size.set(size);
        self.page_size.set(page_size.max(512));
        self.begin(Some(size));
    }

    /// Begins to read the tables once more.
    pub fn restart(&self) {
        self.begin(Some(self.size.get()));
    }

    fn begin(&self, size: Option<u64>) {
        let steps = size.map_or(STEPS, |size| STEPS.saturating_add(size.saturating_mul(STEPS_PER_BYTE)));
        self.steps.store(0, Ordering::Relaxed);
        self.most_steps.store(steps, Ordering::Relaxed);
        for counter in [&self.bytes, &self.rows, &self.looks, &self.listed] {
            counter.set(0);
        }
    }

    /// Counts a row that SQLite handed out.
    ///
    /// # Errors
    /// If the rows have more bytes than the file, or more pages were looked up than a sound file takes.
    pub fn count(&self, connection: &Connection, row: &rusqlite::Row<'_>) -> Result<(), Error> {
        let columns = row.as_ref().column_count();
        // At least: where the cell lies (2), its length and its header's (1 each), and one byte for each column's type.
        let mut bytes = columns as u64 + 4;
        for column in 0..columns {
            if let Ok(ValueRef::Text(value) | ValueRef::Blob(value)) = row.get_ref(column) {
                bytes += value.len() as u64;
            }
        }
        self.bytes.set(self.bytes.get() + bytes);
        if self.bytes.get() > self.size.get() {
            return Err(
                self.exceeds(format!("its rows have more than the {} bytes of the file", self.size.get()))
            );
        }
        self.rows.set(self.rows.get() + 1);
        if self.rows.get().is_multiple_of(ROWS) { self.count_looks(connection) } else { Ok(()) }
    }

    fn count_looks(&self, connection: &Connection) -> Result<(), Error> {
        let of = |figure| {
            let (mut now, mut highest) = (0, 0);
            // SAFETY: the connection is open, and both numbers are valid for writing.
            unsafe { ffi::sqlite3_db_status(connection.handle(), figure, &raw mut now, &raw mut highest, 1) };
            u64::from(now.unsigned_abs())
        };
        let looks = of(ffi::SQLITE_DBSTATUS_CACHE_HIT) + of(ffi::SQLITE_DBSTATUS_CACHE_MISS);
        self.looks.set(self.looks.get() + looks);
        let most = LOOKS + self.size.get() / self.page_size.get() * LOOKS_PER_PAGE;
        if self.looks.get() > most {
            return Err(self.exceeds(format!("reading it looks up more than {most} pages")));
        }
        Ok(())
    }

    /// Counts VMs and vCPUs that are listed for an interval though no row tells of them.
    ///
    /// # Errors
    /// If there are more of them, over all intervals, than a file of this size may list.
    pub fn list(&self, count: usize) -> Result<(), Error> {
        self.listed.set(self.listed.get() + count as u64);
        let most = LISTED.saturating_add(self.size.get().saturating_mul(LISTED_PER_BYTE));
        if self.listed.get() > most {
            return Err(
                self.exceeds(format!("its intervals list more than {most} VMs and vCPUs that did nothing"))
            );
        }
        Ok(())
    }

    /// An error of SQLite's; one that a bound was met says which.
    pub fn explain(&self, doing: &'static str, cause: rusqlite::Error) -> Error {
        match cause.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => {
                let most = self.most_steps.load(Ordering::Relaxed);
                self.exceeds(format!("reading it takes more than {most} steps of SQLite"))
            }
            Some(ErrorCode::OutOfMemory) => {
                self.exceeds(format!("reading it takes more than {} MiB in SQLite", HEAP >> 20))
            }
            _ => Error::sqlite(doing, &self.path, cause),
        }
    }

    fn exceeds(&self, what: String) -> Error {
        Error::Exceeds { path: self.path.clone(), what }
    }
}
