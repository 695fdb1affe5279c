//! Which ports and MSRs exits were about, for people and for machines.

use super::line::{Kind, Line};
use super::names::Names;
use super::unit;
use exitscope_model::{Detail, Details, Group, Interval, Measured, VmId};
use exitscope_reason as reason;
use serde::{Serialize, Serializer};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// How many ports, and how many MSRs, the sentence under the table names.
const NAMED: usize = 5;

/// From which part of a VM's exits on it is worth a word that they are about one thing, of how many exits at least, and
/// for how many VMs.
const MUCH: f64 = 0.25;
const MANY: u64 = 1000;
const VMS: usize = 3;

/// Those that were met, the most frequent first.
pub fn by_frequency(details: &Details) -> Vec<(Detail, u64)> {
    let mut pairs: Vec<_> = details.counts.iter().map(|(detail, count)| (*detail, *count)).collect();
    pairs.sort_by_key(|(detail, count)| (Reverse(*count), *detail));
    pairs
}

/// What CSV says: `out:0x3f8=41003;wrmsr:0x6e0=12`.
pub fn plain(details: &Details) -> String {
    let word = |(detail, count): (Detail, u64)| match detail {
        Detail::Port { port, write: true } => format!("out:{port:#x}={count}"),
        Detail::Port { port, write: false } => format!("in:{port:#x}={count}"),
        Detail::Msr { msr, write: true } => format!("wrmsr:{msr:#x}={count}"),
        Detail::Msr { msr, write: false } => format!("rdmsr:{msr:#x}={count}"),
    };
    by_frequency(details).into_iter().map(word).collect::<Vec<_>>().join(";")
}

/// What people read: `0x3f8 out (COM1)`, `0x6e0 written (IA32_TSC_DEADLINE)`.
pub fn human(detail: Detail) -> String {
    let name = reason::known(detail).map_or(String::new(), |known| format!(" ({})", known.name));
    match detail {
        Detail::Port { port, write: true } => format!("{port:#x} out{name}"),
        Detail::Port { port, write: false } => format!("{port:#x} in{name}"),
        Detail::Msr { msr, write: true } => format!("{msr:#x} written{name}"),
        Detail::Msr { msr, write: false } => format!("{msr:#x} read{name}"),
    }
}

/// One port or MSR in JSON.
#[derive(Serialize)]
struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msr: Option<u32>,
    write: bool,
    name: Option<&'static str>,
    count: u64,
}

/// As JSON has it: a list, the most frequent first.
pub fn serialize<S: Serializer>(details: &Details, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(by_frequency(details).into_iter().map(|(detail, count)| {
        let (port, msr) = match detail {
            Detail::Port { port, .. } => (Some(port), None),
            Detail::Msr { msr, .. } => (None, Some(msr)),
        };
        let name = reason::known(detail).map(|known| known.name);
        Entry { port, msr, write: detail.write(), name, count }
    }))
}

/// What stands under the table: the ports and the MSRs that were used most.
pub fn lines(interval: &Interval) -> Vec<Line> {
    if interval.measured != Measured::Breakdown {
        return Vec::new();
    }
    let all = Group::total(interval).counters.details;
    let is_port = |detail: &Detail| matches!(detail, Detail::Port { .. });
    let (ports, msrs): (Vec<_>, Vec<_>) =
        by_frequency(&all).into_iter().partition(|(detail, _)| is_port(detail));
    let plain = |text: String| Line { kind: Kind::Plain, text };
    let mut lines = Vec::new();
    lines.extend(most("Ports", &ports).map(plain));
    lines.extend(most("MSRs", &msrs).map(plain));
    if all.other > 0 {
        let exits = unit::counted(all.other, "exit");
        lines.push(plain(format!("Not told apart: {exits} for other ports and MSRs.")));
    }
    lines
}

/// `Ports: 0x3f8 out (COM1) 41,003 exits, 0x70 out (CMOS/RTC) 12; 31 others 1,033.`
fn most(what: &str, pairs: &[(Detail, u64)]) -> Option<String> {
    let mut words = pairs.iter().take(NAMED).enumerate().map(|(at, (detail, count))| {
        let count = if at == 0 { unit::counted(*count, "exit") } else { unit::count(*count) };
        format!("{} {count}", human(*detail))
    });
    let mut text = format!("{what}: {}", words.next()?);
    words.for_each(|word| text += &format!(", {word}"));
    let rest = pairs.get(NAMED..).unwrap_or_default();
    if !rest.is_empty() {
        let sum = rest.iter().map(|(_, count)| count).sum();
        text += &format!("; {} {}", unit::counted(rest.len() as u64, "other"), unit::count(sum));
    }
    Some(text + ".")
}

/// What people say: `writes to port 0x3f8`.
fn spoken(detail: Detail) -> String {
    match detail {
        Detail::Port { port, write: true } => format!("writes to port {port:#x}"),
        Detail::Port { port, write: false } => format!("reads from port {port:#x}"),
        Detail::Msr { msr, write: true } => format!("writes of MSR {msr:#x}"),
        Detail::Msr { msr, write: false } => format!("reads of MSR {msr:#x}"),
    }
}

/// What would help the VMs that use mostly one device, those with the most such exits first.
pub fn advice(interval: &Interval) -> Vec<String> {
    let mut exits: BTreeMap<VmId, u64> = BTreeMap::new();
    for span in &interval.vcpus {
        *exits.entry(span.vm).or_default() += span.exits;
    }
    // By VM and name: how many, and for which number most.
    let mut used: BTreeMap<(VmId, &str), (u64, Details, &str)> = BTreeMap::new();
    for row in &interval.rows {
        for (&detail, &count) in &row.counters.details.counts {
            let Some(known) = reason::known(detail).filter(|known| !known.help.is_empty()) else { continue };
            let entry = used.entry((row.vm, known.name)).or_default();
            entry.0 += count;
            *entry.1.counts.entry(detail).or_default() += count;
            entry.2 = known.help;
        }
    }
    let mut said: Vec<_> = used.into_iter().collect();
    said.sort_by_key(|(key, (count, ..))| (Reverse(*count), *key));
    let names = Names::of(interval.vms.values());
    let mut lines = Vec::new();
    let mut told = Vec::new();
    for ((vm, name), (count, details, help)) in said {
        #[allow(clippy::cast_precision_loss)]
        let share = count as f64 / exits.get(&vm).copied().unwrap_or(0).max(1) as f64;
        if share < MUCH || count < MANY || told.contains(&vm) || lines.len() == VMS {
            continue;
        }
        told.push(vm);
        let whose = match interval.vms.get(&vm).filter(|_| interval.vms.len() > 1) {
            Some(vm) => format!("the exits of {}", names.show(vm)),
            None => "the exits".into(),
        };
        let most = by_frequency(&details).first().map_or(String::new(), |(detail, _)| spoken(*detail));
        let most = if details.counts.len() > 1 {
            format!("{name}, most of them {most}")
        } else {
            format!("{name}: {most}")
        };
        lines.push(format!("{} of {whose} are for {most}. {help}", unit::share(share)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::fixture;

    fn texts(interval: &Interval) -> Vec<String> {
        lines(interval).into_iter().map(|line| line.text).chain(advice(interval)).collect()
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
            |interval: &Interval| texts(interval).iter().filter(|text| text.contains("console=hvc0")).count();
        assert_eq!(help(&interval), 1);
        // As many exits of the VM's for another reason, and more.
        interval.vcpus[0].exits += 1_000_000;
        assert_eq!(help(&interval), 0);
    }

    #[test]
    fn machines_read_every_count() {
        let details = Details {
            counts: [
                (Detail::Port { port: 0x3f8, write: true }, 41_003),
                (Detail::Port { port: 0x3fd, write: false }, 7),
                (Detail::Msr { msr: 0x6e0, write: true }, 90_000),
                (Detail::Msr { msr: 0xdead_beef, write: false }, 1),
            ]
            .into(),
            other: 3,
        };
        assert_eq!(plain(&details), "wrmsr:0x6e0=90000;out:0x3f8=41003;in:0x3fd=7;rdmsr:0xdeadbeef=1");
        let mut bytes = Vec::new();
        serialize(&details, &mut serde_json::Serializer::new(&mut bytes)).unwrap();
        let expected = r#"[{"msr":1760,"write":true,"name":"IA32_TSC_DEADLINE","count":90000},{"port":1016,"write":true,"name":"COM1","count":41003},{"port":1021,"write":false,"name":"COM1","count":7},{"msr":3735928559,"write":false,"name":null,"count":1}]"#;
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
