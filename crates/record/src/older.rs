//! Recordings as older versions of this program made them, for tests.

use super::breakdown::{self, Breakdown, BreakdownKey};
use super::writer::{int, no_time};
use super::{about, histogram, schema};
use crate::Recording;
use crate::tests::all;
use exitscope_model::{
    Counter, Counters, Interval, Measured, Nested, Split, VcpuSpan, VcpuTime, WorkerSpan, WorkerTimes,
};
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::LazyLock;

/// Makes the recording `old` of a version before 5, of what the recording `new` has.
pub fn make(new: &Path, old: &Path, version: usize) -> Vec<Interval> {
    let connection = Connection::open(old).unwrap();
    schema::make(&connection, version).unwrap();
    connection.execute("ATTACH ? AS new", [new.to_str().unwrap()]).unwrap();
    // Tests cut no power.
    connection.execute_batch("PRAGMA synchronous = OFF; BEGIN").unwrap();
    for (table, _) in schema::tables(version).unwrap() {
        let rows = match table.as_str() {
            "spans" | "exits" | "nested" | "returns" | "used" | "breakdown_counts" | "losses" | "workers" => {
                continue;
            }
            "uses" => "SELECT id, reason, kind, key, attributes, name FROM new.breakdowns".to_owned(),
            "intervals" => "SELECT id, start_ns, end_ns, offset_ns, length_ns FROM new.intervals".to_owned(),
            table => format!("SELECT * FROM new.{table}"),
        };
        connection.execute(&format!("INSERT INTO {table} {rows}"), []).unwrap();
    }
    let keys = Keys::read(&connection);
    let intervals = all(&Recording::open(new).unwrap());
    for (id, interval) in (1..).zip(&intervals) {
        write(&connection, version, id, interval, &keys).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    intervals
}

/// Keys of vCPUs, reasons and breakdowns.
struct Keys {
    vcpus: HashMap<(i64, u32), i64>,
    reasons: HashMap<(i64, String, i64), i64>,
    breakdowns: HashMap<(i64, BreakdownKey), u16>,
}

impl Keys {
    fn read(connection: &Connection) -> Keys {
        let mut keys = Keys { vcpus: HashMap::new(), reasons: HashMap::new(), breakdowns: HashMap::new() };
        let mut vcpus = connection.prepare("SELECT id, vm, number FROM new.vcpus").unwrap();
        let mut rows = vcpus.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            keys.vcpus.insert((row.get(1).unwrap(), row.get(2).unwrap()), row.get(0).unwrap());
        }
        let mut reasons = connection.prepare("SELECT id, level, isa, code FROM new.reasons").unwrap();
        let mut rows = reasons.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let key = (row.get(1).unwrap(), row.get(2).unwrap(), row.get(3).unwrap());
            keys.reasons.insert(key, row.get(0).unwrap());
        }
        let query = "SELECT id, reason, kind, key, attributes FROM new.breakdowns";
        let mut breakdowns = connection.prepare(query).unwrap();
        let mut rows = breakdowns.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let kind: String = row.get(2).unwrap();
            let key = breakdown::from_columns(&kind, row.get(3).unwrap(), row.get(4).unwrap()).unwrap();
            keys.breakdowns.insert((row.get(1).unwrap(), key), row.get(0).unwrap());
        }
        keys
    }
}

fn write(
    connection: &Connection,
    version: usize,
    id: i64,
    interval: &Interval,
    keys: &Keys,
) -> rusqlite::Result<()> {
    let vcpu = |vm: u64, vcpu: u32| keys.vcpus[&(vm.cast_signed(), vcpu)];
    for span in &interval.vcpus {
        write_span(connection, id, vcpu(span.vm.0, span.vcpu), span, interval.measured)?;
    }
    let mut breakdowns: BTreeMap<i64, Breakdown> = BTreeMap::new();
    for row in &interval.rows {
        let isa: &str = about::word(&about::ISAS, &row.code.isa);
        let reason = (about::word(&about::LEVELS, &row.level), isa.to_owned(), row.code.code);
        let (vcpu, reason) = (vcpu(row.vm.0, row.vcpu), keys.reasons[&reason]);
        write_row(connection, (id, vcpu, reason), &row.counters)?;
        for (what, mut of) in breakdown::of(&row.counters) {
            match what {
                BreakdownKey::Return(returned) if version == 1 => {
                    let insert = "INSERT INTO returns VALUES (?, ?, ?, ?, ?)";
                    connection.execute(insert, params![id, vcpu, reason, returned.0, int(of.count)?])?;
                }
                _ if version == 1 => {}
                what => {
                    if version == 2 {
                        (of.time_ns, of.max_ns) = (0, 0);
                    }
                    let number = keys.breakdowns[&(reason, what)];
                    breakdowns.entry(vcpu).or_default().add(number, what, of);
                }
            }
        }
    }
    for (vcpu, of) in &breakdowns {
        let [counts, details] = of.encode();
        if version == 2 {
            let details = breakdown::decode_details(&details).unwrap();
            let counts = breakdown::decode_counts(&counts).unwrap().into_iter().chain(details);
            let blob = breakdown::encode(&counts.map(|(id, of)| (id, [of.count])).collect());
            connection.execute("INSERT INTO used VALUES (?, ?, ?)", params![id, vcpu, blob])?;
        } else {
            let insert = "INSERT INTO breakdown_counts VALUES (?, ?, ?, ?)";
            connection.execute(insert, params![id, vcpu, counts, details])?;
        }
    }
    for span in interval.workers.iter().filter(|_| version >= 4) {
        write_workers(connection, id, span)?;
    }
    for (name, number) in interval.loss.numbers() {
        let insert = "INSERT INTO losses VALUES (?, ?, ?)";
        connection.execute(insert, params![id, name, int(number)?])?;
    }
    Ok(())
}

/// Writes the times of a VM's workers.
fn write_workers(connection: &Connection, id: i64, span: &WorkerSpan) -> rusqlite::Result<()> {
    let figures = WorkerTimes::FIGURES.iter().map(|figure| int(figure.ns(&span.times)));
    let values: Vec<i64> =
        [Ok(id), Ok(span.vm.0.cast_signed())].into_iter().chain(figures).collect::<Result<_, _>>()?;
    let places = vec!["?"; values.len()].join(", ");
    connection
        .prepare_cached(&format!("INSERT INTO workers VALUES ({places})"))?
        .execute(params_from_iter(values))?;
    Ok(())
}

fn write_span(
    connection: &Connection,
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
        connection.prepare_cached("INSERT INTO spans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
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
    connection: &Connection,
    (id, vcpu, reason): (i64, i64, i64),
    counters: &Counters,
) -> rusqlite::Result<()> {
    static EXITS: LazyLock<String> = LazyLock::new(|| {
        insert("exits", &["count", "time_ns", "min_ns", "max_ns", "histogram"], Split::COUNTERS)
    });
    static NESTED: LazyLock<String> = LazyLock::new(|| insert("nested", &[], Nested::COUNTERS));
    let key = [id, vcpu, reason].map(Value::Integer);
    let maybe = |number: Option<u64>| Ok::<_, rusqlite::Error>(number.map(int).transpose()?.into());
    let exits = [
        int(counters.count)?.into(),
        int(counters.time_ns)?.into(),
        maybe(counters.extremes.map(|extremes| extremes.min_ns))?,
        maybe(counters.extremes.map(|extremes| extremes.max_ns))?,
        histogram::encode(&counters.histogram).into(),
    ];
    let plain = |part: &'static [Counter]| {
        part.iter()
            .map(|counter| int(counter.get(counters)).map(Value::Integer))
            .collect::<Result<Vec<_>, _>>()
    };
    let exits = key.iter().cloned().chain(exits).chain(plain(Split::COUNTERS)?);
    connection.prepare_cached(&EXITS)?.execute(params_from_iter(exits))?;
    if counters.nested != Nested::default() {
        let nested = key.into_iter().chain(plain(Nested::COUNTERS)?);
        connection.prepare_cached(&NESTED)?.execute(params_from_iter(nested))?;
    }
    Ok(())
}

/// Statement that inserts a row of a vCPU and a reason: its key, some columns, and a column for each of some counters.
fn insert(table: &str, columns: &[&str], counters: &[Counter]) -> String {
    let key = ["interval_id", "vcpu", "reason"];
    let names: Vec<&str> =
        key.iter().chain(columns).copied().chain(counters.iter().map(|counter| counter.key)).collect();
    let places = vec!["?"; names.len()].join(", ");
    format!("INSERT INTO {table} ({}) VALUES ({places})", names.join(", "))
}
