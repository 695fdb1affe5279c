//! What is in a recording for each interval.

use super::Error;
use super::histogram;
use super::metadata::{Moment, Uses, VcpuLife, VmLife};
use super::uses::{self, Use};
use super::writer::no_time;
use exitscope_model::{
    Counter, Counters, ExitCode, Extremes, Histogram, Interval, Level, Loss, Measured, Nested, Row, Source,
    Split, Unit, UserReason, VcpuSpan, VcpuTime, Vm, VmId,
};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// No more VMs, or vCPUs, are there at once: so many the collector has room for.
const MAX_AT_ONCE: usize = 65_534;

/// Keys must come in their order: then a page that is in a table twice ends the reading.
#[derive(Default)]
pub struct Order<K>(Option<K>);

impl<K: PartialOrd> Order<K> {
    /// The next key.
    pub fn next(&mut self, key: K) -> Result<(), ()> {
        if self.0.as_ref().is_some_and(|last| *last >= key) {
            return Err(());
        }
        self.0 = Some(key);
        Ok(())
    }
}

/// A row of a table, whose columns have the types that they should have, or are told.
pub struct Columns<'a> {
    /// The row.
    pub row: &'a rusqlite::Row<'a>,
    /// Its file, for messages.
    pub path: &'a Path,
}

impl Columns<'_> {
    fn value(&self, column: usize) -> Result<ValueRef<'_>, Error> {
        self.row.get_ref(column).map_err(|cause| Error::sqlite("read", self.path, cause))
    }

    fn wrong(&self, column: usize, expected: &str, found: ValueRef<'_>) -> Error {
        let name = self.row.as_ref().column_name(column).unwrap_or("?");
        let found = match found {
            ValueRef::Null => "nothing".to_owned(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            ValueRef::Text(text) => format!("a text of {} bytes", text.len()),
            ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
        };
        Error::damaged(
            self.path,
            format!("{expected} was expected in a column {name}, and found was {found}"),
        )
    }

    /// Any integer.
    pub fn int(&self, column: usize) -> Result<i64, Error> {
        match self.value(column)? {
            ValueRef::Integer(number) => Ok(number),
            other => Err(self.wrong(column, "an integer", other)),
        }
    }

    /// Any integer, or nothing.
    pub fn maybe_int(&self, column: usize) -> Result<Option<i64>, Error> {
        match self.value(column)? {
            ValueRef::Null => Ok(None),
            _ => self.int(column).map(Some),
        }
    }

    /// An integer of at least 0, or nothing.
    pub fn maybe(&self, column: usize) -> Result<Option<u64>, Error> {
        match self.value(column)? {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(number @ 0..) => Ok(Some(number.unsigned_abs())),
            other => Err(self.wrong(column, "a number of at least 0", other)),
        }
    }

    /// An integer of at least 0.
    pub fn number(&self, column: usize) -> Result<u64, Error> {
        self.maybe(column)?.ok_or_else(|| self.wrong(column, "a number of at least 0", ValueRef::Null))
    }

    /// An integer of fewer bits.
    pub fn narrow<T: TryFrom<i64>>(&self, column: usize) -> Result<T, Error> {
        let number = self.int(column)?;
        T::try_from(number).map_err(|_| self.wrong(column, "a number of 32 bits", ValueRef::Integer(number)))
    }

    /// A text.
    pub fn text(&self, column: usize) -> Result<String, Error> {
        let found = self.value(column)?;
        let text = match found {
            ValueRef::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        };
        text.map(str::to_owned).ok_or_else(|| self.wrong(column, "a text in UTF-8", found))
    }

    /// Bytes.
    pub fn blob(&self, column: usize) -> Result<&[u8], Error> {
        match self.value(column)? {
            ValueRef::Blob(bytes) => Ok(bytes),
            other => Err(self.wrong(column, "bytes", other)),
        }
    }

    fn histogram(&self, column: usize) -> Result<Histogram, Error> {
        let buckets = histogram::decode(self.blob(column)?)
            .map_err(|what| Error::damaged(self.path, format!("a histogram is none: {what}")))?;
        Ok(buckets.into_iter().collect())
    }
}

/// Who is there, interval by interval.
pub struct Present<'a> {
    path: &'a Path,
    vms_to_come: &'a [VmLife],
    vcpus_to_come: &'a [VcpuLife],
    now: i64,
    vms: BTreeMap<VmId, &'a VmLife>,
    /// By VM and number.
    vcpus: BTreeMap<(VmId, u32), &'a VcpuLife>,
    by_key: HashMap<i64, (VmId, u32)>,
}

impl<'a> Present<'a> {
    /// Before the first interval; both lists by when they came.
    pub fn new(path: &'a Path, vms: &'a [VmLife], vcpus: &'a [VcpuLife]) -> Present<'a> {
        Present {
            path,
            vms_to_come: vms,
            vcpus_to_come: vcpus,
            now: 0,
            vms: BTreeMap::new(),
            vcpus: BTreeMap::new(),
            by_key: HashMap::new(),
        }
    }

    /// To the next interval.
    pub fn advance(&mut self, now: i64) -> Result<(), Error> {
        let over = |last: Option<i64>| last.is_some_and(|last| last < now);
        self.now = now;
        self.vms.retain(|_, life| !over(life.last));
        self.vcpus.retain(|_, life| !over(life.last));
        self.by_key.retain(|_, at| self.vcpus.contains_key(at));
        while let Some((life, rest)) = self.vms_to_come.split_first().filter(|(life, _)| life.first <= now) {
            self.vms_to_come = rest;
            if !over(life.last) {
                self.vms.insert(life.vm.id, life);
            }
        }
        while let Some((life, rest)) = self.vcpus_to_come.split_first().filter(|(life, _)| life.first <= now)
        {
            self.vcpus_to_come = rest;
            if over(life.last) {
                continue;
            }
            let at = (life.vm, life.number);
            if !self.vms.contains_key(&life.vm) || self.vcpus.insert(at, life).is_some() {
                let what = format!("vCPU {} of VM {} is there twice, or without it", life.number, life.vm.0);
                return Err(Error::damaged(self.path, what));
            }
            self.by_key.insert(life.key, at);
        }
        if self.vms.len().max(self.vcpus.len()) > MAX_AT_ONCE {
            return Err(Error::damaged(
                self.path,
                format!("more than {MAX_AT_ONCE} vCPUs are there at once"),
            ));
        }
        Ok(())
    }

    fn vms(&self) -> BTreeMap<VmId, Vm> {
        let vm =
            |life: &VmLife| Vm { ended: life.vm.ended && life.last == Some(self.now), ..life.vm.clone() };
        self.vms.iter().map(|(id, life)| (*id, vm(life))).collect()
    }
}

/// What is added up: each is so small over the whole recording that even two together are no more than 64 bits.
#[derive(Clone, Copy)]
enum Sum {
    Counts,
    Times,
    Histogram,
    Nested,
    NestedTimes,
    Returns,
    Details,
    Modes,
    Exits,
    KvmExits,
    VcpuTimes,
    Losses,
}

/// Reads intervals.
pub struct Rows<'a> {
    connection: &'a Connection,
    path: &'a Path,
    source: Source,
    measured: Measured,
    reasons: &'a HashMap<i64, (Level, ExitCode)>,
    uses: Option<&'a Uses>,
    sums: [u64; Sum::Losses as usize + 1],
}

/// What the rows of one table are about: a vCPU and a reason, as they are called there.
type Key = (i64, i64);

impl<'a> Rows<'a> {
    /// None read yet. Without `uses`, the file is of the first version.
    pub fn new(
        connection: &'a Connection,
        path: &'a Path,
        source: Source,
        measured: Measured,
        reasons: &'a HashMap<i64, (Level, ExitCode)>,
        uses: Option<&'a Uses>,
    ) -> Rows<'a> {
        Rows { connection, path, source, measured, reasons, uses, sums: [0; Sum::Losses as usize + 1] }
    }

    /// The interval of this moment.
    pub fn interval(&mut self, moment: &Moment, present: &Present<'_>) -> Result<Interval, Error> {
        let vcpus = self.spans(moment.id, present)?;
        let (keys, mut rows) = self.exits(moment.id, present)?;
        self.nested(moment.id, &keys, &mut rows)?;
        match self.uses {
            Some(uses) => self.used(moment.id, uses, &keys, &mut rows)?,
            None => self.returns(moment.id, &keys, &mut rows)?,
        }
        rows.sort_by_key(|row| (row.vm, row.vcpu, row.level, row.code));
        if rows.is_sorted_by(|a, b| (a.vm, a.vcpu, a.level, a.code) < (b.vm, b.vcpu, b.level, b.code)) {
            Ok(Interval {
                start: moment.start,
                end: moment.end,
                length: moment.length,
                source: self.source,
                measured: self.measured,
                vms: present.vms(),
                vcpus,
                rows,
                loss: self.losses(moment.id)?,
            })
        } else {
            Err(self.damaged(format!("interval {} has two rows of one vCPU and reason", moment.id)))
        }
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(self.path, what)
    }

    /// Takes a number that will be added up.
    fn sum(&mut self, sum: Sum, number: u64) -> Result<u64, Error> {
        let so_far = &mut self.sums[sum as usize];
        *so_far = so_far.checked_add(number).filter(|sum| *sum <= u64::MAX / 2).ok_or_else(|| {
            Error::damaged(self.path, format!("its numbers, {number} among them, are too large"))
        })?;
        Ok(number)
    }

    /// Gives each row of a table that is of this interval to `take`; `table` names columns and table, `order` its key.
    fn each<K: PartialOrd>(
        &mut self,
        query: &str,
        interval: i64,
        mut take: impl FnMut(&mut Self, &Columns<'_>) -> Result<K, Error>,
    ) -> Result<(), Error> {
        let (connection, path) = (self.connection, self.path);
        let said = |cause| Error::sqlite("read", path, cause);
        let mut statement = connection.prepare_cached(query).map_err(said)?;
        let mut rows = statement.query([interval]).map_err(said)?;
        let mut order = Order(None);
        while let Some(row) = rows.next().map_err(said)? {
            let key = take(self, &Columns { row, path })?;
            order
                .next(key)
                .map_err(|()| self.damaged(format!("the rows of interval {interval} are not in order")))?;
        }
        Ok(())
    }

    /// All vCPUs that are there; those that did nothing have no row.
    fn spans(&mut self, interval: i64, present: &Present<'_>) -> Result<Vec<VcpuSpan>, Error> {
        let nothing = no_time(self.measured);
        let mut spans: BTreeMap<(VmId, u32), VcpuSpan> = present
            .vcpus
            .keys()
            .map(|&(vm, vcpu)| {
                ((vm, vcpu), VcpuSpan { vm, vcpu, exits: 0, kvm_exits: Some(0), time: nothing })
            })
            .collect();
        let query = "SELECT vcpu, exits, kvm_exits, guest_ns, kernel_ns, user_ns, waiting_ns, halted_ns, polled_ns \
                     FROM spans WHERE interval_id = ? ORDER BY vcpu";
        self.each(query, interval, |rows, row| {
            let key = row.int(0)?;
            let span = present.by_key.get(&key).and_then(|at| spans.get_mut(at));
            let span = span.ok_or_else(|| rows.not_there(interval, key))?;
            span.exits = rows.sum(Sum::Exits, row.number(1)?)?;
            span.kvm_exits = row.maybe(2)?.map(|exits| rows.sum(Sum::KvmExits, exits)).transpose()?;
            let mut part = |column| rows.sum(Sum::VcpuTimes, row.number(column)?);
            span.time = match row.maybe(3)? {
                None => None,
                Some(_) => Some(VcpuTime {
                    guest_ns: part(3)?,
                    kernel_ns: part(4)?,
                    user_ns: part(5)?,
                    waiting_ns: part(6)?,
                    halted_ns: part(7)?,
                    polled_ns: part(8)?,
                }),
            };
            Ok(key)
        })?;
        Ok(spans.into_values().collect())
    }

    fn not_there(&self, interval: i64, vcpu: i64) -> Error {
        self.damaged(format!("interval {interval} has a row of vCPU {vcpu}, which was not there"))
    }

    /// The rows, and their keys in the same order.
    fn exits(&mut self, interval: i64, present: &Present<'_>) -> Result<(Vec<Key>, Vec<Row>), Error> {
        let (mut keys, mut found) = (Vec::new(), Vec::new());
        let columns = names(Split::COUNTERS);
        let query = format!(
            "SELECT vcpu, reason, count, time_ns, min_ns, max_ns, histogram, {columns} FROM exits \
             WHERE interval_id = ? ORDER BY vcpu, reason"
        );
        self.each(&query, interval, |rows, row| {
            let key = (row.int(0)?, row.int(1)?);
            let &(vm, vcpu) = present.by_key.get(&key.0).ok_or_else(|| rows.not_there(interval, key.0))?;
            let unknown = || {
                rows.damaged(format!("interval {interval} has a row of reason {}, which is not known", key.1))
            };
            let (level, code) = *rows.reasons.get(&key.1).ok_or_else(unknown)?;
            let extremes = match (row.maybe(4)?, row.maybe(5)?) {
                (Some(min_ns), Some(max_ns)) if min_ns <= max_ns => Some(Extremes { min_ns, max_ns }),
                (None, None) => None,
                _ => {
                    return Err(
                        rows.damaged(format!("a shortest time of interval {interval} is not the shortest"))
                    );
                }
            };
            let histogram = row.histogram(6)?;
            for bucket in histogram.buckets() {
                rows.sum(Sum::Histogram, bucket)?;
            }
            let count = rows.sum(Sum::Counts, row.number(2)?)?;
            let time_ns = rows.sum(Sum::Times, row.number(3)?)?;
            let mut counters = Counters { count, time_ns, extremes, histogram, ..Counters::default() };
            rows.counters(Split::COUNTERS, [Sum::Counts, Sum::Times], row, 7, &mut counters)?;
            found.push(Row { vm, vcpu, level, code, counters });
            keys.push(key);
            Ok(key)
        })?;
        Ok((keys, found))
    }

    /// Reads the counters of one part from the columns from `first` on; `sums` are those of exits, and of times.
    fn counters(
        &mut self,
        part: &[Counter],
        sums: [Sum; 2],
        row: &Columns<'_>,
        first: usize,
        into: &mut Counters,
    ) -> Result<(), Error> {
        for (column, counter) in (first..).zip(part) {
            let sum = if counter.unit == Unit::Ns { sums[1] } else { sums[0] };
            *counter.get_mut(into) = self.sum(sum, row.number(column)?)?;
        }
        Ok(())
    }

    /// The row of a key.
    fn row<'r>(
        &self,
        interval: i64,
        keys: &[Key],
        rows: &'r mut [Row],
        key: Key,
    ) -> Result<&'r mut Row, Error> {
        let at = keys.binary_search(&key).ok();
        at.and_then(|at| rows.get_mut(at)).ok_or_else(|| {
            self.damaged(format!(
                "interval {interval} has more on reason {} of vCPU {}, of which it has no row",
                key.1, key.0
            ))
        })
    }

    fn nested(&mut self, interval: i64, keys: &[Key], found: &mut [Row]) -> Result<(), Error> {
        let columns = names(Nested::COUNTERS);
        let query =
            format!("SELECT vcpu, reason, {columns} FROM nested WHERE interval_id = ? ORDER BY vcpu, reason");
        self.each(&query, interval, |rows, row| {
            let key = (row.int(0)?, row.int(1)?);
            let counters = &mut rows.row(interval, keys, found, key)?.counters;
            rows.counters(Nested::COUNTERS, [Sum::Nested, Sum::NestedTimes], row, 2, counters)?;
            Ok(key)
        })
    }

    fn returns(&mut self, interval: i64, keys: &[Key], found: &mut [Row]) -> Result<(), Error> {
        let query = "SELECT vcpu, reason, user_reason, count FROM returns WHERE interval_id = ? \
                     ORDER BY vcpu, reason, user_reason";
        self.each(query, interval, |rows, row| {
            let (vcpu, reason, returned) = (row.int(0)?, row.int(1)?, row.narrow(2)?);
            let count = rows.sum(Sum::Returns, row.number(3)?)?;
            let of = rows.row(interval, keys, found, (vcpu, reason))?;
            of.counters.returns.insert(UserReason(returned), count);
            Ok((vcpu, reason, returned))
        })
    }

    fn used(&mut self, interval: i64, uses: &Uses, keys: &[Key], found: &mut [Row]) -> Result<(), Error> {
        let query = "SELECT vcpu, counts FROM used WHERE interval_id = ? ORDER BY vcpu";
        self.each(query, interval, |rows, row| {
            let vcpu = row.int(0)?;
            let counts = uses::decode(row.blob(1)?)
                .map_err(|what| rows.damaged(format!("what exits were about is not told: {what}")))?;
            for (key, count) in counts {
                let &(reason, what) = uses.get(&key.into()).ok_or_else(|| {
                    rows.damaged(format!("interval {interval} has a use {key}, which is not known"))
                })?;
                let sum = match what {
                    Use::Return(_) => Sum::Returns,
                    Use::Detail(_) | Use::Other => Sum::Details,
                    Use::Mode(_) => Sum::Modes,
                };
                let count = rows.sum(sum, count)?;
                uses::add(&mut rows.row(interval, keys, found, (vcpu, reason))?.counters, what, count);
            }
            Ok(vcpu)
        })
    }

    fn losses(&mut self, interval: i64) -> Result<Loss, Error> {
        let mut loss = Loss::default();
        let query = "SELECT figure, count FROM losses WHERE interval_id = ? ORDER BY figure";
        self.each(query, interval, |rows, row| {
            let figure = row.text(0)?;
            let count = rows.sum(Sum::Losses, row.number(1)?)?;
            let known = Loss::FIGURES.iter().find(|known| known.key == figure).ok_or_else(|| {
                rows.damaged(format!("it tells of the loss {figure:?}, which is not known"))
            })?;
            *known.get_mut(&mut loss) = count;
            Ok(figure)
        })?;
        Ok(loss)
    }
}

/// The columns of some counters, separated by commas.
fn names(counters: &[Counter]) -> String {
    counters.iter().map(|counter| counter.key).collect::<Vec<_>>().join(", ")
}
