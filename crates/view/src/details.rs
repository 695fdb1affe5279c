//! Details of exits, for people and for machines. All that differs between kinds of detail is in
//! [`exitscope_model::KINDS`].

use super::grid::Cells;
use super::line::{Kind, Line};
use super::{Options, unit};
use exitscope_model::{
    Detail, DetailCounters, Details, Group, Interval, KINDS, KindInfo, Measured, Sort, float,
};
use exitscope_reason as reason;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::cmp::Reverse;

/// Number of details of a kind that the sentence under the table names.
const NAMED: usize = 5;

/// Returns the details that were met, the most frequent first.
pub fn by_frequency(details: &Details) -> Vec<(Detail, DetailCounters)> {
    let mut pairs: Vec<_> = details.counts.iter().map(|(detail, counters)| (*detail, *counters)).collect();
    pairs.sort_by_key(|(detail, counters)| (Reverse(counters.count), *detail));
    pairs
}

/// Returns the kinds that occur, each with its details, the most frequent first.
pub fn by_kind(details: &Details) -> Vec<(&'static KindInfo, Vec<(Detail, DetailCounters)>)> {
    let found = by_frequency(details);
    let of = |info: &'static KindInfo| {
        let mine: Vec<_> = found.iter().filter(|(detail, _)| detail.kind == info.kind).copied().collect();
        (!mine.is_empty()).then_some((info, mine))
    };
    KINDS.iter().filter_map(of).collect()
}

/// Returns counts as CSV has them: `out:0x3f8=41003;wrmsr:0x6e0=12`.
pub fn plain(details: &Details) -> String {
    let word =
        |(detail, counters): (Detail, DetailCounters)| format!("{}={}", detail.plain(), counters.count);
    by_frequency(details).into_iter().map(word).collect::<Vec<_>>().join(";")
}

/// Returns what people read: `0x3f8 out (COM1)`, `0x6e0 written (IA32_TSC_DEADLINE)`.
pub fn human(detail: Detail) -> String {
    let name = reason::known(detail).map_or(String::new(), |known| format!(" ({})", known.name));
    detail.text() + &name
}

/// Returns the host time of a detail's exits: `1.2 ms in all, avg 4.1 us, max 9 us`; empty where there is none.
pub fn times(counters: &DetailCounters) -> String {
    match counters.time_ns.checked_div(counters.count) {
        Some(avg) if counters.time_ns > 0 => {
            let [time, avg, max] = [counters.time_ns, avg, counters.max_ns].map(unit::time);
            format!("{time} in all, avg {avg}, max {max}")
        }
        _ => String::new(),
    }
}

/// One detail in JSON.
struct Entry(Detail, DetailCounters);

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Entry(detail, counters) = self;
        let info = detail.info();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", info.word)?;
        map.serialize_entry("key", &detail.key)?;
        if let Some(key) = info.json_key {
            map.serialize_entry(key, &detail.key)?;
        }
        map.serialize_entry("write", &detail.attributes.is_write())?;
        if let Some(size) = detail.attributes.size() {
            map.serialize_entry("size", &size)?;
        }
        let flags: Vec<&str> = info.flag_words(detail.attributes).collect();
        if !flags.is_empty() {
            map.serialize_entry("flags", &flags)?;
        }
        map.serialize_entry("name", &reason::known(*detail).map(|known| known.name))?;
        map.serialize_entry("count", &counters.count)?;
        // A recording of schema 2 has counts alone.
        let known = counters.time_ns > 0;
        map.serialize_entry("time_ns", &known.then_some(counters.time_ns))?;
        map.serialize_entry("max_ns", &known.then_some(counters.max_ns))?;
        map.end()
    }
}

/// Writes details as JSON has them: a list, the most frequent first.
pub fn serialize<S: Serializer>(details: &Details, serializer: S) -> Result<S::Ok, S::Error> {
    serializer
        .collect_seq(by_frequency(details).into_iter().map(|(detail, counters)| Entry(detail, counters)))
}

/// Returns a table of each kind that is to be listed and occurs: its details in the order of `options`, by time or by
/// count, and the kind's sum.
pub fn tables(interval: &Interval, options: &Options) -> Vec<(&'static KindInfo, Vec<Cells>)> {
    if options.details.is_empty() {
        return Vec::new();
    }
    let all = Group::total(interval).counters.details;
    let kinds = by_kind(&all).into_iter().filter(|(info, _)| options.details.contains(&info.kind));
    kinds.map(|(info, found)| (info, table(info, found, interval, options))).collect()
}

/// Returns the columns of a table of one kind.
fn table(
    info: &KindInfo,
    mut found: Vec<(Detail, DetailCounters)>,
    interval: &Interval,
    options: &Options,
) -> Vec<Cells> {
    if options.sort != Sort::COUNT {
        found.sort_by_key(|(detail, counters)| (Reverse(counters.time_ns), *detail));
    }
    let sum = |found: &[(Detail, DetailCounters)]| {
        let mut sum = DetailCounters::default();
        found.iter().for_each(|(_, counters)| sum.add(counters));
        sum
    };
    let total = sum(&found);
    let shown = options.limit.filter(|limit| found.len() > limit + 1).unwrap_or(found.len());
    let mut rows: Vec<(String, DetailCounters)> =
        found.iter().take(shown).map(|(detail, counters)| (human(*detail), *counters)).collect();
    let others = found.get(shown..).unwrap_or_default();
    if !others.is_empty() {
        rows.push((unit::counted(others.len() as u64, "other"), sum(others)));
    }
    let column = |heading: &str, show: &dyn Fn(&DetailCounters) -> String| {
        let rows = rows.iter().map(|(_, counters)| show(counters)).collect();
        Cells::new(heading, true, 0, rows).with_total(show(&total))
    };
    let share = |part: u64, whole: u64| unit::share(float(part) / float(whole.max(1)));
    let names = rows.iter().map(|(name, _)| name.clone()).collect();
    let mut columns = vec![
        Cells::new(info.singular, false, 0, names).with_total("total".into()),
        column("exits", &|found| unit::count(found.count)),
        column("exits %", &|found| share(found.count, interval.exits())),
    ];
    // A recording of schema 2 has counts alone.
    if total.time_ns > 0 {
        columns.extend([
            column("time", &|found| unit::time(found.time_ns)),
            column("avg", &|found| unit::time(found.time_ns.checked_div(found.count).unwrap_or(0))),
            column("max", &|found| unit::time(found.max_ns)),
        ]);
    }
    columns
}

/// Returns what stands under the table: of each kind the details that were met most, unless they are listed in full.
pub fn lines(interval: &Interval, listed: bool) -> Vec<Line> {
    if interval.measured != Measured::Breakdown {
        return Vec::new();
    }
    let all = Group::total(interval).counters.details;
    let plain = |text: String| Line { kind: Kind::Plain, text };
    let kinds = if listed { Vec::new() } else { by_kind(&all) };
    let mut lines: Vec<Line> =
        kinds.iter().filter_map(|(info, pairs)| most(info.plural, pairs)).map(plain).collect();
    if all.other.count > 0 {
        let exits = unit::counted(all.other.count, "exit");
        lines.push(plain(format!("Not told apart: {exits}.")));
    }
    lines
}

/// `Ports: 0x3f8 out (COM1) 41,003 exits, 0x70 out (CMOS/RTC) 12; 31 others 1,033.`
fn most(what: &str, pairs: &[(Detail, DetailCounters)]) -> Option<String> {
    let mut words =
        pairs.iter().take(NAMED).enumerate().map(|(at, (detail, DetailCounters { count, .. }))| {
            let count = if at == 0 { unit::counted(*count, "exit") } else { unit::count(*count) };
            format!("{} {count}", human(*detail))
        });
    let mut text = format!("{what}: {}", words.next()?);
    words.for_each(|word| text += &format!(", {word}"));
    let rest = pairs.get(NAMED..).unwrap_or_default();
    if !rest.is_empty() {
        let sum = rest.iter().map(|(_, counters)| counters.count).sum();
        text += &format!("; {} {}", unit::counted(rest.len() as u64, "other"), unit::count(sum));
    }
    Some(text + ".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_analysis::advice::{Host, advise};
    use exitscope_model::{DetailKind, fixture};

    fn brief(interval: &Interval) -> Vec<String> {
        crate::advice::brief(&advise(interval, &Host::default()), interval)
    }

    fn texts(interval: &Interval) -> Vec<String> {
        lines(interval, false).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn the_most_used_are_named_and_the_others_counted() {
        insta::assert_snapshot!(texts(&fixture::busy()).join("\n"));
        for interval in [fixture::whole(), fixture::counts(), fixture::statistics(), fixture::idle()] {
            assert_eq!(texts(&interval), [""; 0], "what is not counted is not mentioned");
        }
    }

    #[test]
    fn advice_is_for_the_vm_that_uses_it() {
        let mut interval = fixture::busy();
        let help =
            |interval: &Interval| brief(interval).iter().filter(|text| text.contains("console=hvc0")).count();
        assert_eq!(help(&interval), 1);
        // As many exits of the VM's for another reason, and more.
        let mut other = interval.rows[0].clone();
        (other.vcpu, other.counters.details) = (1, Details::default());
        other.counters.count += 1_000_000;
        interval.rows.insert(1, other);
        assert_eq!(help(&interval), 0);
    }

    #[test]
    fn machines_read_every_count() {
        let counters = |count| DetailCounters { count, time_ns: 1000 * count, max_ns: 2000 };
        let details = Details {
            counts: [
                (Detail::new(DetailKind::Port, 0x3f8, true), counters(41_003)),
                (Detail::new(DetailKind::Port, 0x3fd, false), counters(7)),
                (Detail::new(DetailKind::Msr, 0x6e0, true), counters(90_000)),
                (Detail::new(DetailKind::Msr, 0xdead_beef, false), counters(1)),
            ]
            .into(),
            other: counters(3),
            ..Details::default()
        };
        assert_eq!(plain(&details), "wrmsr:0x6e0=90000;out:0x3f8=41003;in:0x3fd=7;rdmsr:0xdeadbeef=1");
        let mut bytes = Vec::new();
        serialize(&details, &mut serde_json::Serializer::new(&mut bytes)).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let first = r#"[{"kind":"msr","key":1760,"msr":1760,"write":true,"name":"IA32_TSC_DEADLINE","count":90000,"time_ns":90000000,"max_ns":2000},"#;
        assert!(text.starts_with(first), "{text}");
        let last = r#"{"kind":"msr","key":3735928559,"msr":3735928559,"write":false,"name":null,"count":1,"time_ns":1000,"max_ns":2000}]"#;
        assert!(text.ends_with(last), "{text}");
    }
}
