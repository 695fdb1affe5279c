//! Intervals into a recording.

use super::about::{self, About, Notes};
use super::{Error, histogram, schema, text};
use crate::model::{Counters, ExitCode, Interval, Level, Measured, Nested, VcpuSpan, VcpuTime, Vm, VmId};
use crate::reason;
use rusqlite::{Connection, OpenFlags, Transaction, params};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// So many pages (of 4 KiB) the log beside the file may have before they go into the file.
const LOG_PAGES: u32 = 64;

/// How long another program that uses the file is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A VM that was there in the last interval.
struct Known {
    vm: Vm,
    /// Its vCPUs that were there too, by number.
    vcpus: BTreeMap<u32, KnownVcpu>,
    /// The last interval that it was seen in.
    seen: i64,
}

struct KnownVcpu {
    key: i64,
    seen: i64,
}

/// A recording that is being written.
///
/// Each interval is one transaction, which is on the disk when [`Writer::write`] returns: SQLite writes it into the
/// log beside the file (WAL) and syncs that (`synchronous=FULL`; with less a power cut could cost all since the last
/// checkpoint, which is minutes). A transaction that was cut off is not there for who reads.
pub struct Writer {
    connection: Connection,
    path: PathBuf,
    measured: Measured,
    vms: BTreeMap<VmId, Known>,
    reasons: HashMap<(Level, ExitCode), i64>,
    user_reasons: Vec<i32>,
    notes: Notes,
    /// How many intervals there are, which is the key of the last.
    intervals: i64,
    /// How many vCPUs there have been.
    vcpus: i64,
    /// The length of all of them (ns).
    offset_ns: u64,
}

impl Writer {
    /// Begins a recording. What is there already is replaced with `force`, and refused without.
    ///
    /// # Errors
    /// If there is something already, or the file cannot be written.
    pub fn create(path: &Path, force: bool, about: &About) -> Result<Writer, Error> {
        if in_the_way(path, force)? {
            remove(path).map_err(|cause| Error::Io { doing: "replace", path: path.to_owned(), cause })?;
        }
        let doing = "write";
        let io = |cause| Error::Io { doing, path: path.to_owned(), cause };
        // This alone refuses what has come meanwhile.
        OpenOptions::new().write(true).create_new(true).open(path).map_err(io)?;
        Writer::begin(path, about).map_err(|cause| {
            // Nothing was recorded; what failed first is what there is to say.
            let _ = remove(path);
            Error::sqlite(doing, path, cause)
        })
    }

    /// Whether [`Writer::create`] would refuse this name, to ask early.
    ///
    /// # Errors
    /// Why it would.
    pub fn check(path: &Path, force: bool) -> Result<(), Error> {
        in_the_way(path, force).map(drop)
    }

    fn begin(path: &Path, about: &About) -> rusqlite::Result<Writer> {
        // Without the flag for URIs: a name may begin with `file:`.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
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
            measured: about.measured,
            vms: BTreeMap::new(),
            reasons: HashMap::new(),
            user_reasons: Vec::new(),
            notes: Notes::default(),
            intervals: 0,
            vcpus: 0,
            offset_ns: 0,
        })
    }

    /// Writes the interval that follows the last one, and what is known about the numbers by now. It is on the disk when
    /// this returns.
    ///
    /// # Errors
    /// [`Error::Full`] where there is no room left. After an error the recording is as it was before, and nothing more
    /// can be written.
    pub fn write(&mut self, interval: &Interval, notes: &Notes) -> Result<(), Error> {
        self.write_transaction(interval, notes).map_err(|cause| self.explain(cause))
    }

    fn write_transaction(&mut self, interval: &Interval, notes: &Notes) -> rusqlite::Result<()> {
        let length_ns = u64::try_from(interval.length.as_nanos()).unwrap_or(u64::MAX);
        let id = self.intervals + 1;
        let transaction = self.connection.transaction()?;
        transaction.prepare_cached("INSERT INTO intervals VALUES (?, ?, ?, ?, ?)")?.execute(params![
            id,
            wall_ns(interval.start),
            wall_ns(interval.end),
            int(self.offset_ns)?,
            int(length_ns)?
        ])?;
        if *notes != self.notes {
            write_notes(&transaction, notes)?;
            self.notes = notes.clone();
        }
        write_vms(&transaction, &mut self.vms, interval, id)?;
        let mut keys = Keys {
            transaction: &transaction,
            interval: id,
            vms: &mut self.vms,
            vcpus: &mut self.vcpus,
            reasons: &mut self.reasons,
            user_reasons: &mut self.user_reasons,
        };
        for span in &interval.vcpus {
            let vcpu = keys.vcpu(span.vm, span.vcpu)?;
            write_span(&transaction, id, vcpu, span, self.measured)?;
        }
        for row in &interval.rows {
            let vcpu = keys.vcpu(row.vm, row.vcpu)?;
            let reason = keys.reason(row.level, row.code)?;
            keys.user_reasons(&row.counters)?;
            write_row(&transaction, (id, vcpu, reason), &row.counters)?;
        }
        for (figure, count, _) in interval.loss.figures() {
            if count > 0 {
                let mut statement = transaction.prepare_cached("INSERT INTO losses VALUES (?, ?, ?)")?;
                statement.execute(params![id, figure, int(count)?])?;
            }
        }
        forget_ended(&transaction, &mut self.vms, id)?;
        transaction.commit()?;
        self.intervals = id;
        self.offset_ns = self.offset_ns.saturating_add(length_ns);
        Ok(())
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

    /// How many bytes the recording has on the disk, its log included.
    pub fn size(&self) -> u64 {
        // By name: whoever opens and closes the file itself gives up SQLite's locks on it (fcntl(2)).
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |file| file.len());
        length(self.path.clone()) + length(beside(&self.path, "-wal"))
    }

    /// How many intervals there are.
    pub fn intervals(&self) -> u64 {
        self.intervals.unsigned_abs()
    }

    /// Ends the recording, `how` in words, and makes it one file that can be read from anywhere.
    ///
    /// # Errors
    /// [`Error::Full`] where there is no room left for that; what was written stays readable, with the log beside it.
    pub fn finish(self, how: &str) -> Result<(), Error> {
        self.end(how).map_err(|cause| self.explain(cause))
    }

    fn end(&self, how: &str) -> rusqlite::Result<()> {
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
        let Writer { connection, path, .. } = self;
        drop(connection);
        remove(&path)
    }

    fn explain(&self, cause: rusqlite::Error) -> Error {
        match cause {
            rusqlite::Error::ToSqlConversionFailure(ref inner) => match inner.downcast_ref::<TooLarge>() {
                Some(TooLarge(number)) => Error::TooLarge(*number),
                None => Error::sqlite("write", &self.path, cause),
            },
            cause => Error::sqlite("write", &self.path, cause),
        }
    }
}

/// Whether there is something of this name that may be replaced; what may not is refused.
fn in_the_way(path: &Path, force: bool) -> Result<bool, Error> {
    let found = ["", "-wal", "-journal"].iter().find_map(|suffix| {
        let path = beside(path, suffix);
        Some((path.clone(), fs::symlink_metadata(path).ok()?))
    });
    match found {
        None => Ok(false),
        Some((path, _)) if !force => Err(Error::Exists(path)),
        Some((path, file)) if !file.is_file() && !file.is_symlink() => Err(Error::NotAFile(path)),
        Some(_) => Ok(true),
    }
}

/// Removes a recording, and what SQLite keeps beside it.
fn remove(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What SQLite keeps beside a database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

#[derive(Debug, thiserror::Error)]
#[error("{0} is too large")]
struct TooLarge(u64);

/// A figure as SQLite has it.
fn int(number: u64) -> rusqlite::Result<i64> {
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
        ("source", about::word(&about::SOURCES, &about.source)),
        ("measured", about::word(&about::MEASURED, &about.measured)),
    ];
    for fact in facts {
        transaction.execute("INSERT INTO facts VALUES (?, ?)", [fact.0, fact.1])?;
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

/// VMs that are new, or not as they were.
fn write_vms(
    transaction: &Transaction<'_>,
    known: &mut BTreeMap<VmId, Known>,
    interval: &Interval,
    id: i64,
) -> rusqlite::Result<()> {
    for vm in interval.vms.values() {
        if let Some(known) = known.get_mut(&vm.id) {
            known.seen = id;
            if known.vm == *vm {
                continue;
            }
            known.vm = vm.clone();
        } else {
            known.insert(vm.id, Known { vm: vm.clone(), vcpus: BTreeMap::new(), seen: id });
        }
        transaction
            .prepare_cached(
                "INSERT INTO vms VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, ?7) ON CONFLICT (id) DO UPDATE SET \
                 pid = ?2, name = ?3, vmm = ?4, command = ?5, last_interval = NULL, ended = ?7",
            )?
            .execute(params![
                vm.id.0.cast_signed(),
                vm.pid,
                vm.name,
                vm.vmm,
                text::of_arguments(&vm.command),
                id,
                vm.ended
            ])?;
    }
    Ok(())
}

/// VMs and vCPUs that are no more get the interval that they were last in.
fn forget_ended(
    transaction: &Transaction<'_>,
    vms: &mut BTreeMap<VmId, Known>,
    id: i64,
) -> rusqlite::Result<()> {
    let mut last_of_vcpu = transaction.prepare_cached("UPDATE vcpus SET last_interval = ? WHERE id = ?")?;
    let mut last_of_vm = transaction.prepare_cached("UPDATE vms SET last_interval = ? WHERE id = ?")?;
    for (vm, known) in vms.iter_mut() {
        let ended = known.vm.ended || known.seen < id;
        for vcpu in known.vcpus.values().filter(|vcpu| ended || vcpu.seen < id) {
            last_of_vcpu.execute(params![vcpu.seen, vcpu.key])?;
        }
        if ended {
            last_of_vm.execute(params![known.seen, vm.0.cast_signed()])?;
        }
        known.vcpus.retain(|_, vcpu| vcpu.seen == id);
    }
    vms.retain(|_, known| !known.vm.ended && known.seen == id);
    Ok(())
}

/// The small numbers that stand for vCPUs and reasons. What is new gets its row here.
struct Keys<'a> {
    transaction: &'a Transaction<'a>,
    interval: i64,
    vms: &'a mut BTreeMap<VmId, Known>,
    vcpus: &'a mut i64,
    reasons: &'a mut HashMap<(Level, ExitCode), i64>,
    user_reasons: &'a mut Vec<i32>,
}

impl Keys<'_> {
    fn vcpu(&mut self, vm: VmId, number: u32) -> rusqlite::Result<i64> {
        let known = self.vms.get_mut(&vm).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        if let Some(vcpu) = known.vcpus.get_mut(&number) {
            vcpu.seen = self.interval;
            return Ok(vcpu.key);
        }
        let key = *self.vcpus;
        self.transaction.prepare_cached("INSERT INTO vcpus VALUES (?, ?, ?, ?, NULL)")?.execute(params![
            key,
            vm.0.cast_signed(),
            number,
            self.interval
        ])?;
        *self.vcpus += 1;
        known.vcpus.insert(number, KnownVcpu { key, seen: self.interval });
        Ok(key)
    }

    fn reason(&mut self, level: Level, code: ExitCode) -> rusqlite::Result<i64> {
        if let Some(key) = self.reasons.get(&(level, code)) {
            return Ok(*key);
        }
        let key = i64::try_from(self.reasons.len()).unwrap_or(i64::MAX);
        let level_word = about::word(&about::LEVELS, &level);
        let isa = about::word(&about::ISAS, &code.isa);
        self.transaction.prepare_cached("INSERT INTO reasons VALUES (?, ?, ?, ?, ?)")?.execute(params![
            key,
            level_word,
            isa,
            code.code,
            reason::name(code)
        ])?;
        self.reasons.insert((level, code), key);
        Ok(key)
    }

    fn user_reasons(&mut self, counters: &Counters) -> rusqlite::Result<()> {
        for reason in counters.returns.keys() {
            if !self.user_reasons.contains(&reason.0) {
                self.transaction.execute(
                    "INSERT INTO user_reasons VALUES (?, ?)",
                    params![reason.0, reason::user::name(*reason)],
                )?;
                self.user_reasons.push(reason.0);
            }
        }
        Ok(())
    }
}

/// What is taken for the time of a vCPU that has no row in an interval.
pub(super) fn no_time(measured: Measured) -> Option<VcpuTime> {
    (measured != Measured::Counts).then(VcpuTime::default)
}

fn write_span(
    transaction: &Transaction<'_>,
    id: i64,
    vcpu: i64,
    span: &VcpuSpan,
    measured: Measured,
) -> rusqlite::Result<()> {
    // Of a vCPU that did nothing, that it is there says enough.
    if span.exits == 0 && span.kvm_exits == Some(0) && span.time == no_time(measured) {
        return Ok(());
    }
    let part = |part: fn(&VcpuTime) -> u64| span.time.as_ref().map(part).map(int).transpose();
    let mut statement =
        transaction.prepare_cached("INSERT INTO spans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    statement.execute(params![
        id,
        vcpu,
        int(span.exits)?,
        span.kvm_exits.map(int).transpose()?,
        part(|time| time.guest_ns)?,
        part(|time| time.kernel_ns)?,
        part(|time| time.user_ns)?,
        part(|time| time.waiting_ns)?,
        part(|time| time.halted_ns)?,
        part(|time| time.polled_ns)?,
    ])?;
    Ok(())
}

fn write_row(
    transaction: &Transaction<'_>,
    (id, vcpu, reason): (i64, i64, i64),
    counters: &Counters,
) -> rusqlite::Result<()> {
    let split = &counters.split;
    let mut statement =
        transaction.prepare_cached("INSERT INTO exits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    statement.execute(params![
        id,
        vcpu,
        reason,
        int(counters.count)?,
        int(counters.time_ns)?,
        counters.extremes.map(|extremes| int(extremes.min_ns)).transpose()?,
        counters.extremes.map(|extremes| int(extremes.max_ns)).transpose()?,
        int(split.user_exits)?,
        int(split.user_ns)?,
        int(split.waiting_ns)?,
        int(split.halted_ns)?,
        int(split.polled_ns)?,
        histogram::encode(&counters.histogram),
    ])?;
    if counters.nested != Nested::default() {
        let Nested { to_l1, l1_done, l1_exits, l1_ns } = counters.nested;
        let mut statement = transaction.prepare_cached("INSERT INTO nested VALUES (?, ?, ?, ?, ?, ?, ?)")?;
        statement.execute(params![
            id,
            vcpu,
            reason,
            int(to_l1)?,
            int(l1_done)?,
            int(l1_exits)?,
            int(l1_ns)?
        ])?;
    }
    for (returned, count) in &counters.returns {
        let mut statement = transaction.prepare_cached("INSERT INTO returns VALUES (?, ?, ?, ?, ?)")?;
        statement.execute(params![id, vcpu, reason, returned.0, int(*count)?])?;
    }
    Ok(())
}
