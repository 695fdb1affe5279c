//! Rows of a recording that are there for each interval.

use super::Error;
use super::assembly::{Assembly, Parts, Who};
use super::breakdown::{self, BreakdownKey};
use super::columns::{Columns, Order};
use super::metadata::{Breakdowns, Moment};
use super::open::Database;
use super::present::{Present, VcpuId};
use exitscope_model::{
    About, Counter, Counters, ExitCode, Extremes, Interval, Level, Loss, Nested, Row, Split, Unit,
    UserReason, VcpuSpan, VcpuTime, VmId, WorkerSpan, WorkerTimes,
};
use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;
use rusqlite::{Connection, Statement};
use std::collections::{BTreeMap, HashMap};

/// No interval has more rows: 8,191 vCPUs, which is all that the collector has room for, with 64 reasons or classes each.
pub const MAX_ROWS: usize = 8_191 * 64;

/// The most bytes of the name of a loss.
const MOST_FIGURE: usize = 64;

/// Kind of figure that is added up. Over the whole recording each is so small that two together fit in 64
/// bits.
#[derive(Clone, Copy)]
pub enum Sum {
    Counts,
    Times,
    Histogram,
    Nested,
    NestedTimes,
    Returns,
    Details,
    DetailTimes,
    Modes,
    Exits,
    KvmExits,
    VcpuTimes,
    Workers,
    Losses,
}

/// Sums of the numbers so far, by kind.
#[derive(Default)]
pub struct Sums([u64; Sum::Losses as usize + 1]);

impl Sums {
    /// Takes a number that will be added up.
    pub fn take(&mut self, database: &Database, sum: Sum, number: u64) -> Result<u64, Error> {
        let so_far = &mut self.0[sum as usize];
        *so_far = so_far
            .checked_add(number)
            .filter(|sum| *sum <= u64::MAX / 2)
            .ok_or_else(|| database.damaged(format!("its numbers, {number} among them, are too large")))?;
        Ok(number)
    }
}

/// Place where a recording has what exits were about and led to.
pub enum Counted {
    /// Schema 1: only returns, in a table of their own.
    Returns,
    /// Schema 2: counts alone.
    Second(Breakdowns),
    /// Later ones: counts, and those of details with host times.
    Breakdowns(Breakdowns),
}

/// Tables that have rows for each interval.
#[derive(Clone, Copy)]
pub enum Table {
    Spans,
    Exits,
    Nested,
    Returns,
    Used,
    Breakdowns,
    Workers,
    Losses,
}

impl Table {
    /// Returns those that a recording has.
    pub fn of(counted: &Counted, version: usize) -> Vec<Table> {
        let what = match counted {
            Counted::Returns => Table::Returns,
            Counted::Second(_) => Table::Used,
            Counted::Breakdowns(_) => Table::Breakdowns,
        };
        let mut tables = vec![Table::Spans, Table::Exits, Table::Nested, what, Table::Losses];
        if version >= 4 {
            tables.push(Table::Workers);
        }
        tables
    }

    /// Reads the rows from an interval on, in the order of the primary key, by which they lie in the file: so nothing is
    /// sorted, and no index that somebody else has made is used. The last column is the interval.
    ///
    /// # Errors
    /// If there is no such table.
    pub fn query(self, connection: &Connection) -> rusqlite::Result<String> {
        let (table, columns) = match self {
            Table::Spans => (
                "spans",
                "vcpu, exits, kvm_exits, guest_ns, kernel_ns, user_ns, waiting_ns, halted_ns, polled_ns"
                    .to_owned(),
            ),
            Table::Exits => {
                let split = names(connection, "exits", Split::COUNTERS)?;
                ("exits", format!("vcpu, reason, count, time_ns, min_ns, max_ns, histogram, {split}"))
            }
            Table::Nested => {
                let nested = names(connection, "nested", Nested::COUNTERS)?;
                ("nested", format!("vcpu, reason, {nested}"))
            }
            Table::Returns => ("returns", "vcpu, reason, user_reason, count".to_owned()),
            Table::Used => ("used", "vcpu, counts, x''".to_owned()),
            Table::Breakdowns => ("breakdown_counts", "vcpu, counts, details".to_owned()),
            Table::Workers => {
                let keys: Vec<&str> = WorkerTimes::FIGURES.iter().map(|figure| figure.key).collect();
                ("workers", format!("vm, {}", keys.join(", ")))
            }
            Table::Losses => ("losses", "figure, count".to_owned()),
        };
        Ok(format!(
            "SELECT {columns}, interval_id FROM {table} INDEXED BY sqlite_autoindex_{table}_1 WHERE interval_id >= ?"
        ))
    }
}

/// Rows of one table that are read once, from an interval on.
struct Cursor<'a> {
    rows: rusqlite::Rows<'a>,
    database: &'a Database,
    /// The interval of the row before, and of the current one, if there is one.
    interval: Option<i64>,
}

impl<'a> Cursor<'a> {
    fn new(database: &'a Database, rows: rusqlite::Rows<'a>) -> Result<Cursor<'a>, Error> {
        let mut cursor = Cursor { rows, database, interval: None };
        cursor.advance()?;
        Ok(cursor)
    }

    /// Goes to the next row.
    fn advance(&mut self) -> Result<(), Error> {
        let before = self.interval.take();
        self.database.said(self.rows.advance())?;
        let Some(row) = self.rows.get() else { return Ok(()) };
        self.database.count(row)?;
        let last = row.as_ref().column_count() - 1;
        let interval = Columns { row, path: self.database.path() }.int(last)?;
        if before.is_some_and(|before| before > interval) {
            return Err(self.database.damaged(format!("the rows of interval {interval} are not in order")));
        }
        self.interval = Some(interval);
        Ok(())
    }
}

/// Reads intervals, in their order.
pub struct Rows<'a> {
    database: &'a Database,
    assembly: Assembly<'a>,
    reasons: &'a HashMap<i64, (Level, ExitCode)>,
    counted: &'a Counted,
    cursors: [Option<Cursor<'a>>; Table::Losses as usize + 1],
    sums: Sums,
}

/// Key of the rows of one table: a vCPU and a reason, as they are called there.
type Key = (i64, i64);

impl<'a> Rows<'a> {
    /// Begins with an interval.
    pub fn new(
        database: &'a Database,
        statements: &'a mut [(Table, Statement<'_>)],
        from: i64,
        about: &About,
        reasons: &'a HashMap<i64, (Level, ExitCode)>,
        counted: &'a Counted,
    ) -> Result<Rows<'a>, Error> {
        let mut cursors = [const { None }; Table::Losses as usize + 1];
        for (table, statement) in statements {
            let rows = database.said(statement.query([from]))?;
            cursors[*table as usize] = Some(Cursor::new(database, rows)?);
        }
        let (assembly, sums) = (Assembly::new(database, about), Sums::default());
        Ok(Rows { database, assembly, reasons, counted, cursors, sums })
    }

    /// The interval of this moment, which is later than those before.
    pub fn interval(&mut self, moment: &Moment, present: &Present<'_>, who: Who) -> Result<Interval, Error> {
        let vcpus = self.spans(moment.id, present)?;
        let (keys, mut rows) = self.exits(moment.id, present)?;
        self.nested(moment.id, &keys, &mut rows)?;
        let counted = self.counted;
        match counted {
            Counted::Returns => self.returns(moment.id, &keys, &mut rows)?,
            Counted::Second(known) => {
                self.breakdowns(moment.id, Table::Used, known, &keys, &mut rows)?;
            }
            Counted::Breakdowns(known) => {
                self.breakdowns(moment.id, Table::Breakdowns, known, &keys, &mut rows)?;
            }
        }
        let (workers, loss) = (self.workers(moment.id, present)?, self.losses(moment.id)?);
        self.assembly.interval(moment, present, who, Parts { vcpus, rows, workers, loss })
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        self.database.damaged(what)
    }

    /// Takes a number that will be added up.
    fn sum(&mut self, sum: Sum, number: u64) -> Result<u64, Error> {
        self.sums.take(self.database, sum, number)
    }

    /// Gives each row of a table that is of this interval to `take`, which returns its key, and leaves those before out.
    fn each<K: PartialOrd>(
        &mut self,
        table: Table,
        interval: i64,
        mut take: impl FnMut(&mut Self, &Columns<'_>) -> Result<K, Error>,
    ) -> Result<(), Error> {
        let Some(mut cursor) = self.cursors[table as usize].take() else { return Ok(()) };
        let mut order = Order::new();
        while let Some(at) = cursor.interval.filter(|at| *at <= interval) {
            if let Some(row) = cursor.rows.get().filter(|_| at == interval) {
                let key = take(self, &Columns { row, path: self.database.path() })?;
                order.next(key).map_err(|()| {
                    self.damaged(format!("the rows of interval {interval} are not in order"))
                })?;
            }
            cursor.advance()?;
        }
        self.cursors[table as usize] = Some(cursor);
        Ok(())
    }

    /// The vCPUs; those that did nothing have no row.
    fn spans(&mut self, interval: i64, present: &Present<'_>) -> Result<BTreeMap<VcpuId, VcpuSpan>, Error> {
        let mut spans = BTreeMap::new();
        self.each(Table::Spans, interval, |rows, row| {
            let key = row.int(0)?;
            let vcpu = present.vcpu(key).ok_or_else(|| rows.not_there(interval, key))?;
            let mut span = rows.assembly.idle(vcpu);
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
            spans.insert(vcpu, span);
            Ok(key)
        })?;
        Ok(spans)
    }

    fn not_there(&self, interval: i64, vcpu: i64) -> Error {
        self.damaged(format!("interval {interval} has a row of vCPU {vcpu}, which was not there"))
    }

    /// The rows, and their keys in the same order.
    fn exits(&mut self, interval: i64, present: &Present<'_>) -> Result<(Vec<Key>, Vec<Row>), Error> {
        let (mut keys, mut found) = (Vec::new(), Vec::new());
        self.each(Table::Exits, interval, |rows, row| {
            let key = (row.int(0)?, row.int(1)?);
            let (vm, vcpu) = present.vcpu(key.0).ok_or_else(|| rows.not_there(interval, key.0))?;
            if found.len() == MAX_ROWS {
                return Err(rows.damaged(format!("interval {interval} has more than {MAX_ROWS} rows")));
            }
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
        self.each(Table::Nested, interval, |rows, row| {
            let key = (row.int(0)?, row.int(1)?);
            let counters = &mut rows.row(interval, keys, found, key)?.counters;
            rows.counters(Nested::COUNTERS, [Sum::Nested, Sum::NestedTimes], row, 2, counters)?;
            Ok(key)
        })
    }

    fn returns(&mut self, interval: i64, keys: &[Key], found: &mut [Row]) -> Result<(), Error> {
        self.each(Table::Returns, interval, |rows, row| {
            let (vcpu, reason, returned) = (row.int(0)?, row.int(1)?, row.narrow(2)?);
            let count = rows.sum(Sum::Returns, row.number(3)?)?;
            let of = rows.row(interval, keys, found, (vcpu, reason))?;
            of.counters.returns.insert(UserReason(returned), count);
            Ok((vcpu, reason, returned))
        })
    }

    fn breakdowns(
        &mut self,
        interval: i64,
        table: Table,
        known: &Breakdowns,
        keys: &[Key],
        found: &mut [Row],
    ) -> Result<(), Error> {
        self.each(table, interval, |rows, row| {
            let vcpu = row.int(0)?;
            let wrong = |what| rows.damaged(format!("what exits were about is not told: {what}"));
            let counts = breakdown::decode_counts(row.blob(1, breakdown::MOST_BYTES)?).map_err(wrong)?;
            let details = breakdown::decode_details(row.blob(2, breakdown::MOST_BYTES)?).map_err(wrong)?;
            for (id, of) in counts.into_iter().chain(details) {
                let &(reason, what) = known.get(&id.into()).ok_or_else(|| {
                    rows.damaged(format!("interval {interval} has a breakdown {id}, which is not known"))
                })?;
                let sum = match what {
                    BreakdownKey::Return(_) => Sum::Returns,
                    BreakdownKey::Detail(_) | BreakdownKey::Other => Sum::Details,
                    BreakdownKey::Mode(_) => Sum::Modes,
                };
                rows.sum(sum, of.count)?;
                rows.sum(Sum::DetailTimes, of.time_ns)?;
                breakdown::add(&mut rows.row(interval, keys, found, (vcpu, reason))?.counters, what, of);
            }
            Ok(vcpu)
        })
    }

    /// The workers of those VMs that have a row.
    fn workers(&mut self, interval: i64, present: &Present<'_>) -> Result<Vec<WorkerSpan>, Error> {
        let mut workers = Vec::new();
        self.each(Table::Workers, interval, |rows, row| {
            let key = row.int(0)?;
            let vm = VmId(key.cast_unsigned());
            if !present.has(vm) {
                return Err(
                    rows.damaged(format!("interval {interval} has workers of VM {key}, which was not there"))
                );
            }
            let mut times = WorkerTimes::default();
            for (column, figure) in (1..).zip(WorkerTimes::FIGURES) {
                *figure.ns_mut(&mut times) = rows.sum(Sum::Workers, row.number(column)?)?;
            }
            workers.push(WorkerSpan { vm, times });
            Ok(key)
        })?;
        workers.sort_by_key(|span| span.vm);
        Ok(workers)
    }

    fn losses(&mut self, interval: i64) -> Result<Loss, Error> {
        let mut loss = Loss::default();
        self.each(Table::Losses, interval, |rows, row| {
            let figure = row.text(0, MOST_FIGURE)?;
            let count = rows.sum(Sum::Losses, row.number(1)?)?;
            if !loss.set(&figure, count) {
                return Err(rows.damaged(format!("it tells of the loss {figure:?}, which is not known")));
            }
            Ok(figure)
        })?;
        Ok(loss)
    }
}

/// The columns of some counters, separated by commas. A counter that came with a later schema has no column in an older
/// file, and is 0 there.
fn names(connection: &Connection, table: &str, counters: &[Counter]) -> rusqlite::Result<String> {
    let statement = connection.prepare(&format!("SELECT * FROM {table} LIMIT 0"))?;
    let there = statement.column_names();
    let column = |counter: &Counter| if there.contains(&counter.key) { counter.key } else { "0" };
    Ok(counters.iter().map(column).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_an_older_file_lacks_is_zero() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE nested (vcpu INTEGER, l1_done INTEGER, to_l1 INTEGER)")
            .unwrap();
        assert_eq!(names(&connection, "nested", Nested::COUNTERS).unwrap(), "to_l1, l1_done, 0, 0");
    }
}
