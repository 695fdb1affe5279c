//! Thinning: old intervals give way to sums of minutes, those to sums of hours, and in the end these go too.
//!
//! It is done in the transaction of the interval that it follows, so that what is read is never half thinned. SQLite writes
//! later rows into the pages that come free; the file does not get smaller.

use super::Error;
use super::blocks::{FULL, MINUTE};
use rusqlite::{OptionalExtension, Transaction, params};
use std::path::Path;
use std::time::Duration;

/// Time for which sums of minutes are kept, counted from the end of the recording.
const MINUTES: Duration = Duration::from_secs(24 * 3600);

/// The smallest size that a recording can be kept within: 8 MiB.
pub const LEAST_SIZE: u64 = 8 << 20;

/// Limits of what a recording keeps.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Time for which intervals are kept as they were recorded.
    pub full: Duration,
    /// Time for which anything is kept; `None` for all time.
    pub keep: Option<Duration>,
    /// Size of the file with its log (bytes), which it stays within; `None` for any.
    pub max_size: Option<u64>,
}

impl Keep {
    /// Thins a recording of this length. Returns false if it is too large, and nothing is left that can be thinned.
    pub(super) fn thin(&self, transaction: &Transaction<'_>, length: Duration) -> rusqlite::Result<bool> {
        let before = |age: Duration| {
            length.checked_sub(age).map(|until| i64::try_from(until.as_nanos()).unwrap_or(i64::MAX))
        };
        if let Some(until) = before(self.full) {
            let last = "SELECT max(last_interval) FROM minutes WHERE offset_ns + length_ns <= ?";
            drop_intervals(transaction, last_of(transaction, last, until)?)?;
        }
        if let Some(until) = before(MINUTES.max(self.full)) {
            drop_minutes(transaction, last_of(transaction, HOURS_BEFORE, until)?)?;
        }
        if let Some(until) = self.keep.and_then(before) {
            drop_hours(transaction, last_of(transaction, HOURS_BEFORE, until)?)?;
        }
        let Some(most) = self.max_size else { return Ok(true) };
        // What the next minute may take beside, and the log.
        let most = most - most / 8;
        while used(transaction)? > most {
            if !self.thin_one(transaction)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Thins the oldest minute, or hour, by one level. Returns false if there is none.
    fn thin_one(&self, transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
        let one = |query: &str| -> rusqlite::Result<Option<i64>> {
            transaction.prepare_cached(query)?.query_row([], |row| row.get(0)).optional()
        };
        let minute = "SELECT last_interval FROM minutes WHERE last_interval >= (SELECT min(id) FROM intervals) LIMIT 1";
        if let Some(last) = one(minute)? {
            drop_intervals(transaction, last)?;
            return Ok(true);
        }
        let hour = "SELECT h.last_interval FROM hours h JOIN blocks b ON b.level = 2 AND b.first_interval = h.id \
                    WHERE h.last_interval >= (SELECT min(id) FROM minutes) ORDER BY h.id LIMIT 1";
        if let Some(last) = one(hour)? {
            drop_minutes(transaction, last)?;
            return Ok(true);
        }
        let oldest = "SELECT h.last_interval FROM hours h JOIN blocks b ON b.level = 2 AND b.first_interval = h.id \
                      ORDER BY h.id LIMIT 1";
        if let Some(last) = one(oldest)? {
            drop_hours(transaction, last)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Checks that these limits can be kept.
    ///
    /// # Errors
    /// [`Error::TooSmall`] if the size is less than any recording can be kept within.
    pub(super) fn check(&self, path: &Path) -> Result<(), Error> {
        match self.max_size {
            Some(size) if size < LEAST_SIZE => Err(Error::TooSmall { path: path.to_owned(), size }),
            _ => Ok(()),
        }
    }
}

/// The last interval of the hours that ended by a time and have a block, without which minutes would be lost.
const HOURS_BEFORE: &str = "SELECT max(h.last_interval) FROM hours h \
     JOIN blocks b ON b.level = 2 AND b.first_interval = h.id WHERE h.offset_ns + h.length_ns <= ?";

fn last_of(transaction: &Transaction<'_>, query: &str, until: i64) -> rusqlite::Result<i64> {
    let last: Option<i64> = transaction.prepare_cached(query)?.query_row([until], |row| row.get(0))?;
    Ok(last.unwrap_or(0))
}

/// Bytes of all pages that are in use.
fn used(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let number = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok(pages.unsigned_abs() * number("page_size")?.unsigned_abs())
}

/// Drops intervals up to this one, of which there are sums of minutes.
fn drop_intervals(transaction: &Transaction<'_>, last: i64) -> rusqlite::Result<()> {
    if transaction.prepare_cached("DELETE FROM intervals WHERE id <= ?")?.execute([last])? > 0 {
        drop_blocks(transaction, FULL, last)?;
    }
    Ok(())
}

/// Drops minutes up to this interval, of which there are sums of hours, and intervals.
fn drop_minutes(transaction: &Transaction<'_>, last: i64) -> rusqlite::Result<()> {
    drop_intervals(transaction, last)?;
    if transaction.prepare_cached("DELETE FROM minutes WHERE id <= ?")?.execute([last])? > 0 {
        transaction.prepare_cached("DELETE FROM minute_reasons WHERE minute <= ?")?.execute([last])?;
        drop_blocks(transaction, MINUTE, last)?;
    }
    Ok(())
}

/// Drops all up to this interval, and the VMs and vCPUs that were gone by then.
fn drop_hours(transaction: &Transaction<'_>, last: i64) -> rusqlite::Result<()> {
    drop_minutes(transaction, last)?;
    let gone = "SELECT id FROM hours WHERE last_interval <= ?1";
    for table in ["hour_spans", "hour_exits", "hour_breakdowns", "hour_workers", "hour_losses"] {
        let query = format!("DELETE FROM {table} WHERE hour IN ({gone})");
        transaction.prepare_cached(&query)?.execute([last])?;
    }
    for query in [
        "DELETE FROM hours WHERE last_interval <= ?",
        "DELETE FROM blocks WHERE last_interval <= ?",
        "DELETE FROM vcpus WHERE last_interval <= ?",
        "DELETE FROM labels WHERE vm IN (SELECT id FROM vms WHERE last_interval <= ?)",
        "DELETE FROM vms WHERE last_interval <= ?",
    ] {
        transaction.prepare_cached(query)?.execute([last])?;
    }
    Ok(())
}

fn drop_blocks(transaction: &Transaction<'_>, level: i64, last: i64) -> rusqlite::Result<()> {
    let query = "DELETE FROM blocks WHERE level = ? AND last_interval <= ?";
    transaction.prepare_cached(query)?.execute(params![level, last])?;
    Ok(())
}
