//! JSON Lines: one object per interval, one line each. `docs/json.md` is its contract.

use super::Options;
use super::text::is_unsafe;
use super::value::Json;
use exitscope_model::figure::{Context, FIGURES, Figure, TIMES};
use exitscope_model::{By, Group, Interval, Measured, VcpuSpan, Vm, WorkerSpan, WorkerTimes, group, sort};
use exitscope_reason as reason;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::io::{self, Write};
use std::time::SystemTime;

/// The format's version; `docs/json.md` tells what may change within one.
pub const VERSION: u32 = 1;

/// Writes the interval as one line of JSON, ending with a newline.
pub fn render(interval: &Interval, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let context = Context::new(interval);
    let mut groups = group(interval, options.by);
    sort(&mut groups, options.sort, &context, reason::name);
    let object = Object {
        version: VERSION,
        start: seconds(interval.start),
        end: seconds(interval.end),
        source: interval.source.word(),
        measured: measured(interval.measured),
        rows: Rows { context: &context, by: options.by, groups: &groups },
        total: interval.exits(),
        kvm_exits: interval.kvm_exits(),
        lost: interval.loss.lost(),
        loss: Loss(interval),
        holders: Holders(interval),
        vcpus: Vcpus(interval),
        workers: Workers(interval),
        vms: Vms(interval),
        thinned: options.explanation.thinned.as_ref().map(Thinned::from),
    };
    write_line(&object, out)
}

fn write_line(object: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    object.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, Harmless))?;
    out.write_all(b"\n")
}

/// An object as one line of JSON, ending with a newline.
pub fn line(object: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_line(object, &mut bytes)?;
    Ok(bytes)
}

/// Returns the word for a level of detail in JSON and CSV.
pub fn measured(measured: Measured) -> &'static str {
    match measured {
        Measured::Counts => "counts",
        Measured::Latency => "times",
        Measured::Breakdown => "split",
    }
}

/// Seconds since the epoch to the microsecond, which a double holds until the year 2255.
pub fn seconds(time: SystemTime) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let seconds = |span: std::time::Duration| span.as_micros() as f64 / 1e6;
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => seconds(after),
        Err(before) => -seconds(before.duration()),
    }
}

#[derive(Serialize)]
struct Object<'a> {
    version: u32,
    start: f64,
    end: f64,
    source: &'static str,
    measured: &'static str,
    rows: Rows<'a>,
    total: u64,
    kvm_exits: Option<u64>,
    lost: u64,
    loss: Loss<'a>,
    holders: Holders<'a>,
    vcpus: Vcpus<'a>,
    workers: Workers<'a>,
    vms: Vms<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinned: Option<Thinned>,
}

#[derive(Serialize)]
struct Thinned {
    gone_ns: u64,
    hours_ns: u64,
    minutes_ns: u64,
    full_ns: u64,
}

impl From<&exitscope_model::Thinned> for Thinned {
    fn from(of: &exitscope_model::Thinned) -> Thinned {
        let [gone_ns, hours_ns, minutes_ns, full_ns] = [of.gone, of.hours, of.minutes, of.full]
            .map(|length| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX));
        Thinned { gone_ns, hours_ns, minutes_ns, full_ns }
    }
}

struct Rows<'a> {
    context: &'a Context<'a>,
    by: By,
    groups: &'a [Group],
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.groups.iter().map(|group| Row { rows: self, group }))
    }
}

struct Row<'a> {
    rows: &'a Rows<'a>,
    group: &'a Group,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let figures = FIGURES.iter().filter(|figure| figure.is_machine(self.rows.by));
        let value = |figure: &Figure| Json(figure.value(self.rows.context, self.group));
        serializer.collect_map(figures.map(|figure| (figure.key, value(figure))))
    }
}

struct Loss<'a>(&'a Interval);

impl Serialize for Loss<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.loss.figures().map(|(figure, number)| (figure.key, number)))
    }
}

struct Holders<'a>(&'a Interval);

impl Serialize for Holders<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let loss = self.0.loss;
        let known = loss.figures().filter_map(|(figure, _)| Some((figure, figure.holder(loss)?)));
        serializer.collect_seq(known.map(|(figure, holder)| HolderObject {
            figure: figure.key,
            vm: self.0.vms.get(&holder.vm).map(|vm| &*vm.name),
            vm_id: holder.vm.0,
            pid: holder.pid,
            held: holder.held,
            of: holder.of,
        }))
    }
}

#[derive(Serialize)]
struct HolderObject<'a> {
    figure: &'static str,
    vm: Option<&'a str>,
    vm_id: u64,
    pid: u32,
    held: u64,
    of: u64,
}

struct Vms<'a>(&'a Interval);

impl Serialize for Vms<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.vms.values().map(VmObject))
    }
}

struct VmObject<'a>(&'a Vm);

impl Serialize for VmObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let vm = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("vm", &vm.name)?;
        map.serialize_entry("pid", &vm.pid)?;
        map.serialize_entry("vm_id", &vm.id.0)?;
        map.serialize_entry("vmm", &vm.vmm)?;
        map.serialize_entry("named_by", vm.labels.witness.word())?;
        for (key, label) in vm.labels.pairs() {
            map.serialize_entry(key, &label)?;
        }
        map.serialize_entry("ended", &vm.ended)?;
        map.end()
    }
}

struct Vcpus<'a>(&'a Interval);

impl Serialize for Vcpus<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.vcpus.iter().map(|span| VcpuObject { interval: self.0, span }))
    }
}

struct VcpuObject<'a> {
    interval: &'a Interval,
    span: &'a VcpuSpan,
}

impl Serialize for VcpuObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let VcpuObject { interval, span } = self;
        let vm = interval.vms.get(&span.vm);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("vm", &vm.map(|vm| &vm.name))?;
        map.serialize_entry("pid", &vm.map(|vm| vm.pid))?;
        map.serialize_entry("vm_id", &span.vm.0)?;
        map.serialize_entry("vcpu", &span.vcpu)?;
        map.serialize_entry("exits", &span.exits)?;
        map.serialize_entry("kvm_exits", &span.kvm_exits)?;
        for part in TIMES.iter().filter(|part| part.machine) {
            let time = span.time.filter(|_| interval.measured >= part.needs);
            map.serialize_entry(part.key, &time.map(|time| part.ns(&time)))?;
        }
        map.end()
    }
}

struct Workers<'a>(&'a Interval);

impl Serialize for Workers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.workers.iter().map(|span| WorkersObject { interval: self.0, span }))
    }
}

struct WorkersObject<'a> {
    interval: &'a Interval,
    span: &'a WorkerSpan,
}

impl Serialize for WorkersObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let vm = self.interval.vms.get(&self.span.vm);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("vm", &vm.map(|vm| &vm.name))?;
        map.serialize_entry("pid", &vm.map(|vm| vm.pid))?;
        map.serialize_entry("vm_id", &self.span.vm.0)?;
        for figure in WorkerTimes::FIGURES {
            map.serialize_entry(figure.key, &figure.ns(&self.span.times))?;
        }
        map.end()
    }
}

/// Escapes what would harm a terminal that shows the JSON as it is; parsed, it is the same.
struct Harmless;

impl serde_json::ser::Formatter for Harmless {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some((at, found)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            for unit in found.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &rest[at + found.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use exitscope_model::fixture;
    use serde_json::Value;

    fn rendered(interval: &Interval, options: &Options) -> Vec<u8> {
        let mut bytes = Vec::new();
        render(interval, options, &mut bytes).unwrap();
        bytes
    }

    fn parsed(interval: &Interval, options: &Options) -> Value {
        let bytes = rendered(interval, options);
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1, "one line per interval");
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.trim_end().chars().any(is_unsafe), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn every_interval_fits_the_published_schema() {
        let schema = Schema::new(include_str!("../../../docs/stat.schema.json"));
        let documentation = include_str!("../../../docs/json.md");
        for interval in fixture::all() {
            for by in ["vm,vcpu,level,reason", "vm,reason", "vcpu", "level", "reason"] {
                let by: By = by.parse().unwrap();
                let value = parsed(&interval, &Options { by, ..Options::default() });
                schema.check(&value);
                for row in value["rows"].as_array().unwrap() {
                    let there = ["vm", "vcpu", "level", "reason"].map(|key| row.get(key).is_some());
                    assert_eq!(there, [by.vm, by.vcpu, by.level, by.reason]);
                }
            }
        }
        for key in schema.published["properties"].as_object().unwrap().keys() {
            assert!(documentation.contains(&format!("`{key}`")), "docs/json.md does not tell of {key}");
        }
    }

    #[test]
    fn rows_carry_every_exit_and_names_survive() {
        let interval = fixture::busy();
        let value = parsed(&interval, &Options { by: By::ALL, ..Options::default() });
        let rows = value["rows"].as_array().unwrap();
        let sum: u64 = rows.iter().map(|row| row["count"].as_u64().unwrap()).sum();
        assert_eq!(sum, interval.exits());
        assert_eq!(value["total"], interval.exits());
        let vcpus: u64 =
            value["vcpus"].as_array().unwrap().iter().map(|v| v["exits"].as_u64().unwrap()).sum();
        assert_eq!(vcpus, interval.exits());

        // Four times that add up, of rows and of vCPUs.
        let figure = |row: &Value, key: &str| row[key].as_u64().unwrap();
        let parts = |row: &Value| -> u64 {
            ["kernel_ns", "user_ns", "waiting_ns", "halted_ns"].iter().map(|key| figure(row, key)).sum()
        };
        for row in rows {
            assert_eq!(parts(row), figure(row, "time_ns"));
            let returns = row["returns"].as_object().unwrap().values().map(|count| count.as_u64().unwrap());
            assert!(returns.sum::<u64>() >= figure(row, "user_exits"));
            // Of a row about ports or MSRs, each exit that is over is in one of the details or among the others.
            let is_about = ["IOIO", "MSR"].contains(&row["reason"].as_str().unwrap());
            assert_eq!(row["details"].is_array(), is_about, "{row}");
            if is_about {
                let details = row["details"].as_array().unwrap().iter();
                let sum: u64 = details.map(|detail| figure(detail, "count")).sum();
                let over = row["histogram"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap());
                assert_eq!(sum + figure(row, "details_other"), over.sum::<u64>(), "{row}");
            }
        }
        for vcpu in value["vcpus"].as_array().unwrap() {
            assert_eq!(parts(vcpu), figure(vcpu, "host_ns"));
            assert_eq!(figure(vcpu, "host_ns") + figure(vcpu, "guest_ns"), 10_000_000_000);
        }

        let hostile = fixture::hostile();
        let value = parsed(&hostile, &Options::default());
        assert_eq!(value["rows"][0]["vm"], fixture::HOSTILE);
    }

    #[test]
    fn what_is_not_measured_is_null() {
        let is_null = |interval: &Interval, keys: &[&str]| -> Vec<bool> {
            let value = parsed(interval, &Options::default());
            let all =
                |array: &Value, key: &str| array.as_array().unwrap().iter().all(|row| row[key].is_null());
            keys.iter().map(|key| all(&value["rows"], key) && all(&value["vcpus"], key)).collect()
        };
        let split = ["user_ns", "kernel_ns", "waiting_ns", "halted_ns", "polled_ns"];
        assert_eq!(is_null(&fixture::busy(), &split), [false; 5]);
        for interval in [fixture::whole(), fixture::counts(), fixture::statistics()] {
            assert_eq!(is_null(&interval, &split), [true; 5]);
            let value = parsed(&interval, &Options::default());
            let row = &value["rows"][0];
            assert_eq!([&row["returns"], &row["user_exits"], &row["details"]], [&Value::Null; 3]);
            let counts = interval.measured == Measured::Counts;
            let vcpu = &value["vcpus"][0];
            for time in [&row["time_ns"], &row["histogram"], &vcpu["guest_ns"], &vcpu["host_ns"]] {
                assert_eq!(time.is_null(), counts);
            }
        }
    }

    #[test]
    fn what_l2_cost_l1_is_with_l2s_rows_alone() {
        let figures = |interval: &Interval, by: &str| -> Vec<Value> {
            let value = parsed(interval, &Options { by: by.parse().unwrap(), ..Options::default() });
            let figure =
                |row: &Value| ["level", "count", "to_l1", "l1_done", "l1_exits"].map(|key| row[key].clone());
            value["rows"].as_array().unwrap().iter().map(|row| figure(row).to_vec().into()).collect()
        };
        use serde_json::json;
        let interval = fixture::nested();
        let l2 = json!([2, 24_103, 20_003, 20_002, 60_004]);
        assert_eq!(figures(&interval, "level"), [json!([1, 72_024, null, null, null]), l2]);
        assert_eq!(figures(&interval, "vcpu"), [json!([null, 96_127, 20_003, 20_002, 60_004])]);
        let mut plain = fixture::busy();
        plain.source = exitscope_model::Source::Tracepoint;
        for row in figures(&plain, "vm,level,reason") {
            assert_eq!([&row[0], &row[2], &row[4]], [&Value::Null; 3], "this source cannot tell");
        }
    }

    #[test]
    fn one_line() {
        let text = String::from_utf8(rendered(&fixture::hostile(), &Options::default())).unwrap();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn moments_are_exact_to_the_microsecond() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::new(1_792_000_000, 123_456_789);
        assert_eq!(seconds(at).to_string(), "1792000000.123456");
    }
}
