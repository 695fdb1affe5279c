//! Intervals into a recording.

use super::about::{self, Notes};
use super::blocks::{Blocks, Span};
use super::breakdown;
use super::files::{beside, check_place, in_the_way, is_unlocked, lock_alone, remove};
use super::keys::{At, Keys};
use super::pack::{BreakdownRow, Content, ExitRow, SpanRow, WorkerRow};
use super::thin::Keep;
use super::{Error, input, schema, text};
use exitscope_analysis::boot_report::{IntervalEvents, LeftOut, Mark, Origin};
use exitscope_analysis::console::Line;
use exitscope_analysis::outcome::{Evidence, Outcome};
use exitscope_analysis::phase_detector::PhaseStart;
use exitscope_model::{About, Interval, Measured, VcpuSpan, VcpuTime};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Pages (of 4 KiB) that the log beside the file may have before they go into the file.
const LOG_PAGES: u32 = 64;

/// Time to wait for another program that uses the file.
const PATIENCE: Duration = Duration::from_secs(10);

/// A recording that is being written.
///
/// Each interval is one transaction, which is on the disk when [`Writer::write`] returns: SQLite writes it into the
/// log beside the file (WAL) and syncs that (`synchronous=FULL`; with less a power cut could cost all since the last
/// checkpoint, which is minutes). A transaction that was cut off is not there for who reads.
pub struct Writer {
    connection: Connection,
    path: PathBuf,
    intervals: Intervals,
    notes: Notes,
    left_out: LeftOut,
    keep: Option<Keep>,
    /// Holds a lock on the file, by which another recorder knows of this one. It goes after the connection: whoever closes
    /// the file gives up SQLite's locks on it (fcntl(2)).
    lock: File,
}

impl Writer {
    /// Begins a recording. What is there already is replaced with `force`, and refused without.
    ///
    /// # Errors
    /// If there is something already, or the file cannot be written.
    pub fn create(path: &Path, force: bool, about: &About) -> Result<Writer, Error> {
        check_place(path)?;
        if in_the_way(path, force)? {
            check_unlocked(path)?;
            remove(path).map_err(|cause| Error::Io { doing: "replace", path: path.to_owned(), cause })?;
        }
        let doing = "write";
        let io = |cause| Error::Io { doing, path: path.to_owned(), cause };
        // This alone refuses what has come meanwhile.
        let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        if !lock_alone(&lock) {
            return Err(Error::Recording(path.to_owned()));
        }
        Writer::begin(path, about, lock).map_err(|cause| {
            // Nothing was recorded; what failed first is what there is to say.
            let _ = remove(path);
            Error::sqlite(doing, path, cause)
        })
    }

    /// Checks early that [`Writer::create`] would not refuse this name.
    ///
    /// # Errors
    /// The error with which it would refuse the name.
    pub fn check(path: &Path, force: bool) -> Result<(), Error> {
        check_place(path)?;
        in_the_way(path, force).map(drop)
    }

    fn begin(path: &Path, about: &About, lock: File) -> rusqlite::Result<Writer> {
        input::guard_sqlite();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        // The bundled SQLite takes names that begin with `file:` for URIs, whatever the flags say. An absolute name does not.
        let mut connection = Connection::open_with_flags(absolute(path), flags)?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update_and_check(None, "wal_autocheckpoint", LOG_PAGES, |_| Ok(()))?;
        connection.set_prepared_statement_cache_capacity(32);
        let transaction = connection.transaction()?;
        schema::migrate(&transaction)?;
        write_about(&transaction, about)?;
        transaction.commit()?;
        // The file alone is a recording from here on.
        checkpoint(&connection)?;
        Ok(Writer {
            connection,
            path: path.to_owned(),
            intervals: Intervals::new(about.measured, Blocks::default()),
            notes: Notes::default(),
            left_out: LeftOut::default(),
            keep: None,
            lock,
        })
    }

    /// Thins the recording from here on. It is written before the first interval.
    ///
    /// # Errors
    /// [`Error::TooSmall`] if no recording stays within that size.
    pub fn keep(&mut self, keep: Keep) -> Result<(), Error> {
        keep.check(&self.path)?;
        self.intervals.blocks.write_all();
        self.keep = Some(keep);
        Ok(())
    }

    /// Writes the interval that follows the last one, and what is known about the numbers by now. It is on the disk when
    /// this returns.
    ///
    /// # Errors
    /// [`Error::Full`] where there is no room left. After an error the recording is as it was before, and nothing more
    /// can be written.
    pub fn write(&mut self, interval: &Interval, notes: &Notes) -> Result<(), Error> {
        self.write_events(interval, notes, &IntervalEvents::default())
    }

    /// The same with what came beside what was counted.
    ///
    /// # Errors
    /// Those of [`Writer::write`].
    pub fn write_events(
        &mut self,
        interval: &Interval,
        notes: &Notes,
        events: &IntervalEvents,
    ) -> Result<(), Error> {
        self.write_transaction(interval, notes, events).map_err(|cause| self.explain(cause))
    }

    fn write_transaction(
        &mut self,
        interval: &Interval,
        notes: &Notes,
        events: &IntervalEvents,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        if *notes != self.notes {
            write_notes(&transaction, notes)?;
            self.notes = notes.clone();
        }
        if events.left_out != self.left_out {
            write_left_out(&transaction, events.left_out)?;
            self.left_out = events.left_out;
        }
        let ended = self.intervals.write(&transaction, interval)?;
        // Phases look for the interval that they begin with.
        write_events(&transaction, events, self.intervals.count)?;
        if let Some(keep) = self.keep.filter(|keep| ended || keep.max_size.is_some())
            && !keep.thin(&transaction, Duration::from_nanos(self.intervals.length_ns))?
        {
            let size = keep.max_size.unwrap_or(0);
            return Err(rusqlite::Error::ToSqlConversionFailure(Box::new(NoRoom(size))));
        }
        transaction.commit()
    }

    /// Leaves it to the kernel when what is written comes to the disk: tests cut no power.
    #[cfg(test)]
    pub(super) fn hurry(&self) {
        self.connection.pragma_update(None, "synchronous", "OFF").unwrap();
    }

    /// From here on there is room for few pages more, which SQLite takes for a disk that is full.
    #[cfg(test)]
    pub(super) fn limit_pages(&self) {
        let pages: i64 = self.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        self.connection.pragma_update_and_check(None, "max_page_count", pages + 5, |_| Ok(())).unwrap();
    }

    /// Returns the bytes that the recording takes on the disk, its log included.
    pub fn size(&self) -> u64 {
        // By name: whoever opens and closes the file itself gives up SQLite's locks on it (fcntl(2)).
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |file| file.len());
        length(self.path.clone()) + length(beside(&self.path, "-wal"))
    }

    /// Returns the number of intervals.
    pub fn intervals(&self) -> u64 {
        self.intervals.count.unsigned_abs()
    }

    /// Returns the length of all intervals together.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.intervals.length_ns)
    }

    /// Keeps what a boot ended with, in words that continue "until".
    ///
    /// # Errors
    /// Those of [`Writer::write`].
    pub fn until(&mut self, words: &str) -> Result<(), Error> {
        let written = self.connection.execute("INSERT OR REPLACE INTO facts VALUES ('until', ?)", [words]);
        written.map(drop).map_err(|cause| self.explain(cause))
    }

    /// Keeps the outcome of a boot, and the times at which lines and the guest's mode told of the same phase.
    ///
    /// # Errors
    /// Those of [`Writer::write`].
    pub fn outcome(&mut self, outcome: &Outcome, evidence: &[Evidence]) -> Result<(), Error> {
        let write = || {
            for (name, value) in about::outcome_facts(outcome, evidence) {
                self.connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, &value])?;
            }
            Ok(())
        };
        let written: rusqlite::Result<()> = write();
        written.map_err(|cause| self.explain(cause))
    }

    /// Ends the recording, `how` in words, and makes it one file that can be read from anywhere.
    ///
    /// # Errors
    /// [`Error::Full`] where there is no room left for that; what was written stays readable, with the log beside it.
    pub fn finish(mut self, how: &str) -> Result<(), Error> {
        self.end(how).map_err(|cause| self.explain(cause))
    }

    fn end(&mut self, how: &str) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        self.intervals.end(&transaction)?;
        transaction.commit()?;
        self.connection.execute("INSERT OR REPLACE INTO facts VALUES ('end', ?)", [how])?;
        checkpoint(&self.connection)?;
        // Without the log, a medium that cannot be written to is no hindrance. Where another program reads at the
        // moment, the log stays until that has done.
        self.connection.busy_timeout(Duration::from_secs(1))?;
        match self.connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(())) {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(()),
            done => done,
        }
    }

    /// Takes the recording back, as one that never began.
    pub fn discard(self) -> io::Result<()> {
        let Writer { connection, path, lock, .. } = self;
        drop(connection);
        drop(lock);
        remove(&path)
    }

    fn explain(&self, cause: rusqlite::Error) -> Error {
        match cause {
            rusqlite::Error::ToSqlConversionFailure(ref inner) => {
                match (inner.downcast_ref::<TooLarge>(), inner.downcast_ref::<NoRoom>()) {
                    (Some(TooLarge(number)), _) => Error::TooLarge(*number),
                    (_, Some(NoRoom(size))) => Error::TooSmall { path: self.path.clone(), size: *size },
                    _ => Error::sqlite("write", &self.path, cause),
                }
            }
            cause => Error::sqlite("write", &self.path, cause),
        }
    }
}

/// Intervals in a database: their rows, and the keys that these refer to.
pub(super) struct Intervals {
    measured: Measured,
    keys: Keys,
    blocks: Blocks,
    /// Number of intervals, which is the key of the last.
    count: i64,
    /// Length of all intervals (ns).
    length_ns: u64,
}

impl Intervals {
    pub(super) fn new(measured: Measured, blocks: Blocks) -> Intervals {
        Intervals { measured, keys: Keys::default(), blocks, count: 0, length_ns: 0 }
    }

    /// Writes the interval that follows. Returns true if a minute ended before it.
    pub(super) fn write(
        &mut self,
        transaction: &Transaction<'_>,
        interval: &Interval,
    ) -> rusqlite::Result<bool> {
        let length_ns = u64::try_from(interval.length.as_nanos()).unwrap_or(u64::MAX);
        let id = self.count + 1;
        let mut keys = At { keys: &mut self.keys, transaction, interval: id };
        keys.vms(interval)?;
        let content = content(&mut keys, interval, length_ns, self.measured)?;
        keys.forget_ended()?;
        let span = Span {
            first: id,
            last: id,
            start_ns: wall_ns(interval.start),
            end_ns: wall_ns(interval.end),
            offset_ns: self.length_ns,
            length_ns,
        };
        let known = &self.keys;
        let ended = self.blocks.add(transaction, span, content, &|breakdown| known.of(breakdown))?;
        self.count = id;
        self.length_ns = self.length_ns.saturating_add(length_ns);
        Ok(ended)
    }

    /// Ends the minute and the hour that are not over.
    pub(super) fn end(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let known = &self.keys;
        self.blocks.end(transaction, &|breakdown| known.of(breakdown))
    }
}

/// The name of a file from the root on. What its folder is named by may be links, which SQLite would not follow.
fn absolute(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (fs::canonicalize(folder), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Checks that no recorder is writing a file that will be replaced.
fn check_unlocked(path: &Path) -> Result<(), Error> {
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    // A link is replaced, and not what it leads to.
    let Ok(file) = open else { return Ok(()) };
    if is_unlocked(&file) { Ok(()) } else { Err(Error::Recording(path.to_owned())) }
}

fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

#[derive(Debug, thiserror::Error)]
#[error("{0} is too large")]
struct TooLarge(u64);

#[derive(Debug, thiserror::Error)]
#[error("{0} bytes are too few")]
struct NoRoom(u64);

/// A figure as SQLite has it.
pub(super) fn int(number: u64) -> rusqlite::Result<i64> {
    i64::try_from(number).map_err(|_| rusqlite::Error::ToSqlConversionFailure(Box::new(TooLarge(number))))
}

/// Nanoseconds since 1970; a clock that is wrong by more than that is at its beginning.
fn wall_ns(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn write_about(transaction: &Transaction<'_>, about: &About) -> rusqlite::Result<()> {
    let interval = about.interval.as_nanos().to_string();
    let (cpus, command) = (about.cpus.to_string(), text::of_words(&about.command));
    let facts = [
        ("tool", about.tool.as_str()),
        ("host", &about.host),
        ("kernel", &about.kernel),
        ("cpu", &about.cpu),
        ("cpus", &cpus),
        ("command", &command),
        ("interval_ns", &interval),
        ("source", about.source.word()),
        ("measured", about::word(&about::MEASURED, &about.measured)),
    ];
    for fact in facts {
        transaction.execute("INSERT INTO facts VALUES (?, ?)", [fact.0, fact.1])?;
    }
    for (name, value) in &about.facts {
        let name = format!("{}{name}", about::HOST);
        transaction.execute("INSERT INTO facts VALUES (?, ?)", [&name, value])?;
    }
    for ((module, name), value) in &about.kvm {
        transaction.execute("INSERT INTO kvm_parameters VALUES (?, ?, ?)", [module, name, value])?;
    }
    Ok(())
}

fn write_notes(transaction: &Transaction<'_>, notes: &Notes) -> rusqlite::Result<()> {
    for (name, words) in notes.facts() {
        match words {
            Some(words) => {
                transaction.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, words])?
            }
            None => transaction.execute("DELETE FROM facts WHERE name = ?", [name])?,
        };
    }
    Ok(())
}

/// Returns the time that is taken for a vCPU that has no row in an interval.
pub(super) fn no_time(measured: Measured) -> Option<VcpuTime> {
    (measured != Measured::Counts).then(VcpuTime::default)
}

/// Rows of an interval by the keys of the recording.
fn content(
    keys: &mut At<'_>,
    interval: &Interval,
    length_ns: u64,
    measured: Measured,
) -> rusqlite::Result<Content> {
    let mut content = Content {
        interval: keys.interval.unsigned_abs(),
        length_ns,
        workers: interval.workers.iter().map(|span| WorkerRow { vm: span.vm.0, times: span.times }).collect(),
        loss: interval.loss,
        ..Content::default()
    };
    for span in &interval.vcpus {
        let vcpu = key(keys.vcpu(span.vm, span.vcpu)?)?;
        let VcpuSpan { exits, kvm_exits, time, .. } = *span;
        // Of a vCPU that did nothing, that it is there says enough.
        if exits > 0 || kvm_exits != Some(0) || time != no_time(measured) {
            content.spans.push(SpanRow { vcpu, exits, kvm_exits, time });
        }
    }
    let mut last = None;
    for row in &interval.rows {
        // The rows of a vCPU lie together.
        let vcpu = match last {
            Some((vm, number, vcpu)) if (vm, number) == (row.vm, row.vcpu) => vcpu,
            _ => key(keys.vcpu(row.vm, row.vcpu)?)?,
        };
        last = Some((row.vm, row.vcpu, vcpu));
        let reason = keys.reason(row.level, row.code)?;
        for (what, counters) in breakdown::of(&row.counters) {
            if let Some((id, _)) = keys.breakdown(reason, what)? {
                content.breakdowns.push(BreakdownRow { vcpu, breakdown: id.into(), counters });
            }
        }
        content.rows.push(ExitRow::new((vcpu, key(reason)?), &row.counters));
    }
    content.spans.sort_unstable_by_key(|row| row.vcpu);
    content.rows.sort_unstable_by_key(|row| (row.vcpu, row.reason));
    // What is not told apart may come several times.
    content.breakdowns.sort_by_key(|row| (row.vcpu, row.breakdown));
    content.breakdowns.dedup_by(|next, row| {
        let same = (next.vcpu, next.breakdown) == (row.vcpu, row.breakdown);
        if same {
            row.counters.add(&next.counters);
        }
        same
    });
    match content.largest() {
        number if number > i64::MAX.unsigned_abs() => int(number).map(|_| content),
        _ => Ok(content),
    }
}

/// A key in a block.
fn key(key: i64) -> rusqlite::Result<u32> {
    u32::try_from(key)
        .map_err(|_| rusqlite::Error::ToSqlConversionFailure(Box::new(TooLarge(key.unsigned_abs()))))
}

/// Lines, marks and phases that came with this interval.
fn write_events(transaction: &Transaction<'_>, events: &IntervalEvents, id: i64) -> rusqlite::Result<()> {
    let ns = |at: Duration| int(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
    for Line { at, text } in &events.lines {
        let mut statement = transaction.prepare_cached("INSERT INTO console VALUES (NULL, ?, ?)")?;
        statement.execute(params![ns(*at)?, text])?;
    }
    for Mark { at, origin, text } in &events.marks {
        let (origin, port, value) = match *origin {
            Origin::Hand => ("hand", None, None),
            Origin::Port { port, value } => ("port", Some(port), Some(value)),
        };
        let mut statement = transaction.prepare_cached("INSERT INTO marks VALUES (NULL, ?, ?, ?, ?, ?)")?;
        statement.execute(params![ns(*at)?, origin, port, value, text])?;
    }
    for PhaseStart { name, at } in &events.phases {
        // With an interval that has begun, or with the one that follows.
        let mut first = transaction
            .prepare_cached("SELECT id FROM intervals WHERE offset_ns >= ? ORDER BY offset_ns, id LIMIT 1")?;
        let first: Option<i64> = first.query_row([ns(*at)?], |row| row.get(0)).optional()?;
        let mut statement = transaction.prepare_cached("INSERT INTO phases VALUES (NULL, ?, ?)")?;
        statement.execute(params![name, first.unwrap_or(id + 1)])?;
    }
    Ok(())
}

fn write_left_out(transaction: &Transaction<'_>, left_out: LeftOut) -> rusqlite::Result<()> {
    for (name, count) in about::left_out(left_out) {
        transaction.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, &count.to_string()])?;
    }
    Ok(())
}
