//! SQL over a recording: what is packed is read as virtual tables, in a database in memory that has the rest copied.
//!
//! No view or trigger of the file is run, and nothing of it is attached: all goes through the reader, within its bounds.

use super::Error;
use super::blocks::{Blocks, write_reasons};
use super::metadata::Moment;
use super::reader::{Part, Recording};
use super::writer::Intervals;
use super::{histogram, schema};
use exitscope_model::{Counters, Interval, Loss, Mode, Nested, Split};
use exitscope_reason as reason;
use rusqlite::limits::Limit;
use rusqlite::types::{Value, ValueRef};
use rusqlite::vtab::{
    Context, CreateVTab, Filters, IndexConstraintOp, IndexInfo, Module, VTab, VTabConfig, VTabConnection,
    VTabCursor, VTabKind,
};
use rusqlite::{Connection, ffi, params_from_iter};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_int};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// Memory that SQLite may take for queries, in bytes.
const HEAP: i64 = 1 << 30;

/// Rows of intervals that are read at once, about; and the most intervals.
const ROWS: usize = 8_192;
const INTERVALS: usize = 64;

/// Tables that take the place of what is packed, with their columns.
const TABLES: [(&str, Rows, &str); 4] = [
    (
        "spans",
        spans,
        "interval_id, vm_id, vcpu, exits, kvm_exits, guest_ns, kernel_ns, user_ns, waiting_ns, halted_ns, polled_ns",
    ),
    (
        "exits",
        exits,
        "interval_id, vm_id, vcpu, level, isa, code, reason, count, time_ns, min_ns, max_ns, histogram, user_exits, \
         user_ns, waiting_ns, halted_ns, polled_ns, to_l1, l1_done, l1_exits, l1_ns",
    ),
    (
        "breakdown_rows",
        breakdowns,
        "interval_id, vm_id, vcpu, level, reason, kind, number, attributes, text, name, count, time_ns, max_ns",
    ),
    ("losses", losses, "interval_id, figure, count"),
];

/// Views over them, as older schemas have them.
const VIEWS: &str = "
CREATE VIEW exit_rows AS
    SELECT e.interval_id, i.offset_ns / 1e9 AS second, i.length_ns / 1e9 AS seconds, m.name AS vm, m.pid, e.vm_id, e.vcpu,
        e.level, e.isa, e.code, e.reason, e.count, e.time_ns,
        e.time_ns - e.user_ns - e.waiting_ns - e.halted_ns AS kernel_ns, e.user_ns, e.waiting_ns, e.halted_ns,
        e.polled_ns, e.min_ns, e.max_ns, e.user_exits
    FROM exits e JOIN moments i ON i.first_interval = e.interval_id JOIN vms m ON m.id = e.vm_id;
CREATE VIEW rate_by_reason AS
    SELECT e.interval_id, i.offset_ns / 1e9 AS second, e.level, e.reason, sum(e.count) AS exits,
        round(sum(e.count) * 1e9 / i.length_ns, 2) AS per_second, sum(e.time_ns) AS time_ns
    FROM exits e JOIN moments i ON i.first_interval = e.interval_id
    GROUP BY e.interval_id, e.level, e.reason
    ORDER BY e.interval_id, exits DESC;
CREATE VIEW returns AS
    SELECT interval_id, vm_id, vcpu, level, reason, number AS user_reason, name AS returned, count
    FROM breakdown_rows WHERE kind = 'return';
CREATE VIEW modes AS
    SELECT interval_id, vm_id, vcpu, level, reason, name AS mode, count FROM breakdown_rows WHERE kind = 'mode';
CREATE VIEW details AS
    SELECT interval_id, vm_id, vcpu, level, reason, kind, number, attributes & 1 AS write, attributes, text, name, count,
        time_ns, max_ns
    FROM breakdown_rows WHERE kind NOT IN ('return', 'mode');
";

/// A recording that SQL is asked of.
pub struct Sql {
    connection: Connection,
}

impl Recording {
    /// Opens the recording for SQL.
    ///
    /// # Errors
    /// If it is damaged, or cannot be read.
    pub fn into_sql(self) -> Result<Sql, Error> {
        let path = self.path().to_owned();
        let said = |cause| Error::sqlite("query", &path, cause);
        // SAFETY: it takes a number, and may be called at any time.
        unsafe { ffi::sqlite3_hard_heap_limit64(HEAP) };
        let mut connection = Connection::open_in_memory().map_err(said)?;
        schema::make_in_memory(&connection).map_err(said)?;
        let made = if self.version() < 5 { self.sum_up(&mut connection)? } else { &["blocks"][..] };
        let here = schema::tables(schema::VERSION).map_err(said)?;
        for (table, _) in schema::tables(self.version()).map_err(said)? {
            if here.iter().any(|(here, _)| *here == table) && !made.contains(&table.as_str()) {
                self.copy(&table, &connection)?;
            }
        }
        if self.version() == 5 {
            self.tell_minutes(&connection)?;
        }
        connection.execute_batch("DROP TABLE blocks").map_err(said)?;
        let recording = Arc::new(Mutex::new(self));
        for (name, rows, columns) in TABLES {
            let aux = Source { recording: recording.clone(), rows, columns };
            connection.create_module(name, Table::MODULE, Some(aux)).map_err(said)?;
        }
        connection.execute_batch(VIEWS).map_err(said)?;
        connection.pragma_update(None, "query_only", true).map_err(said)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0).map_err(said)?;
        Ok(Sql { connection })
    }

    /// Makes of a recording whose rows are not packed what later ones have beside these: sums of minutes and hours, and whatever
    /// those refer to. Returns the names of the tables.
    fn sum_up(&self, into: &mut Connection) -> Result<&'static [&'static str], Error> {
        let said = |cause| Error::sqlite("read", self.path(), cause);
        let transaction = into.transaction().map_err(said)?;
        let mut intervals = Intervals::new(self.about().measured, Blocks::plain());
        self.each(Part::default(), |interval| {
            intervals.write(&transaction, &interval).map(drop).map_err(said)
        })?;
        intervals.end(&transaction).and_then(|()| transaction.commit()).map_err(said)?;
        Ok(&["intervals", "vms", "labels", "vcpus", "reasons", "user_reasons", "breakdowns"])
    }

    /// Fills the table of minutes by VM and reason, which version 5 did not have.
    fn tell_minutes(&self, into: &Connection) -> Result<(), Error> {
        let said = |cause| Error::sqlite("read", self.path(), cause);
        let keys = self.reason_keys();
        let mut minutes: Vec<(i64, i64)> = Vec::new();
        self.table_rows("SELECT id, last_interval FROM minutes NOT INDEXED", |row| {
            minutes.push((row.get(0).map_err(said)?, row.get(1).map_err(said)?));
            Ok(())
        })?;
        for (first, last) in minutes {
            let within = |moment: &Moment| first <= moment.id && moment.last <= last;
            let Some(sum) = self.sum(within)? else { continue };
            let rows = sum.rows.iter().filter_map(|row| {
                let reason = *keys.get(&(row.level, row.code))?;
                let Counters { count, time_ns, extremes, .. } = row.counters;
                Some((row.vm.0.cast_signed(), reason, count, time_ns, extremes.map(|of| of.max_ns)))
            });
            write_reasons(into, first, rows).map_err(said)?;
        }
        Ok(())
    }

    /// Copies a table.
    fn copy(&self, table: &str, into: &Connection) -> Result<(), Error> {
        let said = |cause| Error::sqlite("read", self.path(), cause);
        let query = format!("SELECT * FROM {table}");
        let columns = into.prepare(&query).map_err(said)?.column_count();
        let places = vec!["?"; columns].join(", ");
        let mut insert = into.prepare(&format!("INSERT INTO {table} VALUES ({places})")).map_err(said)?;
        self.table_rows(&query, |row| {
            let values: Vec<Value> =
                (0..columns).map(|column| row.get(column)).collect::<Result<_, _>>().map_err(said)?;
            insert.execute(params_from_iter(values)).map(drop).map_err(said)
        })
    }
}

impl Sql {
    /// Runs one statement. Gives the names of its columns to `head`, and the values of each row to `take`.
    ///
    /// # Errors
    /// SQLite's message if it is no statement that can be run; an error of `take`.
    pub fn query<E: From<String>>(
        &self,
        sql: &str,
        head: impl FnOnce(&[&str]) -> Result<(), E>,
        mut take: impl FnMut(&[ValueRef<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let said = |cause: rusqlite::Error| E::from(cause.to_string());
        let mut statement = self.connection.prepare(sql).map_err(said)?;
        head(&statement.column_names())?;
        let columns = statement.column_count();
        let mut rows = statement.query([]).map_err(said)?;
        while let Some(row) = rows.next().map_err(said)? {
            let values = (0..columns)
                .map(|column| row.get_ref(column))
                .collect::<Result<Vec<_>, _>>()
                .map_err(said)?;
            take(&values)?;
        }
        Ok(())
    }
}

/// Makes the rows of an interval, whose first number is given.
type Rows = fn(i64, &Interval, &mut dyn FnMut(Vec<Value>));

fn int(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn maybe(number: Option<u64>) -> Value {
    number.map_or(Value::Null, int)
}

fn text(text: impl ToString) -> Value {
    Value::Text(text.to_string())
}

fn spans(id: i64, interval: &Interval, take: &mut dyn FnMut(Vec<Value>)) {
    for span in &interval.vcpus {
        let time = span.time;
        take(vec![
            Value::Integer(id),
            Value::Integer(span.vm.0.cast_signed()),
            int(span.vcpu.into()),
            int(span.exits),
            maybe(span.kvm_exits),
            maybe(time.map(|time| time.guest_ns)),
            maybe(time.map(|time| time.kernel_ns)),
            maybe(time.map(|time| time.user_ns)),
            maybe(time.map(|time| time.waiting_ns)),
            maybe(time.map(|time| time.halted_ns)),
            maybe(time.map(|time| time.polled_ns)),
        ]);
    }
}

fn exits(id: i64, interval: &Interval, take: &mut dyn FnMut(Vec<Value>)) {
    for row in &interval.rows {
        let counters = &row.counters;
        let mut values = vec![
            Value::Integer(id),
            Value::Integer(row.vm.0.cast_signed()),
            int(row.vcpu.into()),
            Value::Integer(level(row.level)),
            text(row.code.isa.name()),
            Value::Integer(row.code.code),
            text(reason::name(row.code)),
            int(counters.count),
            int(counters.time_ns),
            maybe(counters.extremes.map(|extremes| extremes.min_ns)),
            maybe(counters.extremes.map(|extremes| extremes.max_ns)),
            Value::Blob(histogram::encode(&counters.histogram)),
        ];
        let plain = Split::COUNTERS.iter().chain(Nested::COUNTERS);
        values.extend(plain.map(|counter| int(counter.get(counters))));
        take(values);
    }
}

fn breakdowns(id: i64, interval: &Interval, take: &mut dyn FnMut(Vec<Value>)) {
    for row in &interval.rows {
        let mut one = |kind: &str, number, attributes, words: String, name: String, of: [u64; 3]| {
            let mut values = vec![
                Value::Integer(id),
                Value::Integer(row.vm.0.cast_signed()),
                int(row.vcpu.into()),
                Value::Integer(level(row.level)),
                text(reason::name(row.code)),
                text(kind),
                number,
                attributes,
                Value::Text(words),
                Value::Text(name),
            ];
            values.extend(of.map(int));
            take(values);
        };
        let counters = &row.counters;
        for (&returned, &count) in &counters.returns {
            let name = reason::user::name(returned).to_string();
            let number = Value::Integer(returned.0.into());
            one("return", number, Value::Null, String::new(), name, [count, 0, 0]);
        }
        for (detail, of) in &counters.details.counts {
            let name = reason::known(*detail).map_or(String::new(), |known| known.name.to_owned());
            let number = Value::Integer(detail.key.cast_signed());
            let (attributes, kind) = (int(detail.attributes.0.into()), detail.info().word);
            one(kind, number, attributes, detail.text(), name, [of.count, of.time_ns, of.max_ns]);
        }
        let other = counters.details.other;
        if other.count > 0 {
            let of = [other.count, other.time_ns, other.max_ns];
            one("other", Value::Null, Value::Null, String::new(), String::new(), of);
        }
        for mode in Mode::ALL.into_iter().filter(|mode| counters.modes.get(*mode) > 0) {
            let name = super::breakdown::mode_name(mode).to_owned();
            let count = counters.modes.get(mode);
            one("mode", int(mode as u64), Value::Null, String::new(), name, [count, 0, 0]);
        }
    }
}

fn losses(id: i64, interval: &Interval, take: &mut dyn FnMut(Vec<Value>)) {
    for (figure, count) in Loss::figures(&interval.loss).filter(|(_, count)| *count > 0) {
        take(vec![Value::Integer(id), text(figure.key), int(count)]);
    }
}

fn level(level: exitscope_model::Level) -> i64 {
    super::about::word(&super::about::LEVELS, &level)
}

/// Source of the rows of a virtual table.
#[derive(Clone)]
struct Source {
    recording: Arc<Mutex<Recording>>,
    rows: Rows,
    columns: &'static str,
}

/// A virtual table.
#[repr(C)]
struct Table {
    base: ffi::sqlite3_vtab,
    source: Source,
}

impl Table {
    const MODULE: &'static Module<'static, Table> = &Module::eponymous_only_module();
}

// SAFETY: the base comes first.
unsafe impl<'vtab> VTab<'vtab> for Table {
    type Aux = Source;
    type Cursor = Cursor<'vtab>;

    fn connect(
        database: &mut VTabConnection,
        aux: Option<&Source>,
        _: &[u8],
        _: &[u8],
        _: &[u8],
        _: &[&[u8]],
    ) -> rusqlite::Result<(Cow<'static, CStr>, Table)> {
        // Views of ours read it.
        database.config(VTabConfig::Innocuous)?;
        let source = aux.ok_or(rusqlite::Error::InvalidQuery)?.clone();
        let declared = CString::new(format!("CREATE TABLE x({})", source.columns))?;
        Ok((Cow::Owned(declared), Table { base: ffi::sqlite3_vtab::default(), source }))
    }

    /// Takes bounds on the interval: 1 says that there is a lowest, 2 a highest.
    fn best_index(&self, info: &mut IndexInfo) -> rusqlite::Result<bool> {
        let mut bounds = [None; 2];
        for (number, constraint) in info.constraints().enumerate() {
            if constraint.column() != 0 || !constraint.is_usable() {
                continue;
            }
            match constraint.operator() {
                IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_EQ => bounds = [Some(number); 2],
                IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_GE
                | IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_GT => bounds[0] = Some(number),
                IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_LE
                | IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_LT => bounds[1] = Some(number),
                _ => {}
            }
            if bounds[0].is_some() && bounds[0] == bounds[1] {
                break;
            }
        }
        let is_one = bounds[0].is_some() && bounds[0] == bounds[1];
        let mut arguments = 0;
        for number in bounds.into_iter().take(if is_one { 1 } else { 2 }).flatten() {
            arguments += 1;
            info.constraint_usage(number).set_argv_index(arguments);
        }
        let number = match bounds {
            _ if is_one => 4,
            [low, high] => c_int::from(low.is_some()) + 2 * c_int::from(high.is_some()),
        };
        info.set_idx_num(number);
        let cost = [1e9, 3e8, 3e8, 1e8, 1e4];
        info.set_estimated_cost(
            usize::try_from(number).ok().and_then(|at| cost.get(at)).copied().unwrap_or(1e9),
        );
        Ok(true)
    }

    fn open(&'vtab mut self) -> rusqlite::Result<Cursor<'vtab>> {
        let base = ffi::sqlite3_vtab_cursor::default();
        let (rows, source) = (VecDeque::new(), self.source.clone());
        Ok(Cursor { base, source, next: 0, end: 0, step: 1, rows, number: 0, table: PhantomData })
    }
}

impl<'vtab> CreateVTab<'vtab> for Table {
    const KIND: VTabKind = VTabKind::EponymousOnly;
}

/// A place in a virtual table.
#[repr(C)]
struct Cursor<'vtab> {
    base: ffi::sqlite3_vtab_cursor,
    source: Source,
    /// Intervals that are still to be read, by their places, and how many at once.
    next: usize,
    end: usize,
    step: usize,
    rows: VecDeque<Vec<Value>>,
    /// Number of the row.
    number: i64,
    table: PhantomData<&'vtab Table>,
}

impl Cursor<'_> {
    /// Reads intervals until there is a row.
    fn fill(&mut self) -> rusqlite::Result<()> {
        while self.rows.is_empty() && self.next < self.end {
            let until = (self.next + self.step).min(self.end);
            let recording = self.source.recording.lock().unwrap_or_else(PoisonError::into_inner);
            let rows = &mut self.rows;
            let (mut at, mut most) = (self.next, 1);
            let read = recording.each_of(self.next..until, |interval| {
                let id = recording.first_interval(at);
                (self.source.rows)(id, &interval, &mut |row| rows.push_back(row));
                most = most.max(interval.rows.len());
                at += 1;
                Ok::<_, Error>(())
            });
            read.map_err(|error| rusqlite::Error::ModuleError(error.to_string()))?;
            self.next = until;
            self.step = (ROWS / most).clamp(1, INTERVALS);
        }
        Ok(())
    }
}

// SAFETY: the base comes first.
unsafe impl VTabCursor for Cursor<'_> {
    fn filter(&mut self, plan: c_int, _: Option<&str>, arguments: &Filters<'_>) -> rusqlite::Result<()> {
        self.rows.clear();
        self.number = 0;
        let mut bounds = arguments.iter().map(|value| match value {
            ValueRef::Integer(number) => Some(number),
            // SQLite looks at the rows itself in any case.
            _ => None,
        });
        let mut bound = |is_given: bool| if is_given { bounds.next().flatten() } else { None };
        let (low, high) = match plan {
            4 => {
                let one = bound(true);
                (one, one)
            }
            _ => (bound(plan & 1 != 0), bound(plan & 2 != 0)),
        };
        let recording = self.source.recording.lock().unwrap_or_else(PoisonError::into_inner);
        self.next = low.map_or(0, |low| recording.place(low));
        self.end = high.map_or(recording.len(), |high| recording.place(high.saturating_add(1)));
        drop(recording);
        self.step = 1;
        self.fill()
    }

    fn next(&mut self) -> rusqlite::Result<()> {
        self.rows.pop_front();
        self.number += 1;
        self.fill()
    }

    fn eof(&self) -> bool {
        self.rows.is_empty()
    }

    fn column(&self, context: &mut Context, column: c_int) -> rusqlite::Result<()> {
        let row = self.rows.front();
        let value = usize::try_from(column).ok().and_then(|column| row?.get(column));
        context.set_result(value.unwrap_or(&Value::Null))
    }

    fn rowid(&self) -> rusqlite::Result<i64> {
        Ok(self.number)
    }
}
