//! Time of the vCPUs: a sentence for one, a small table for several.

use super::grid::Cells;
use super::line::{Kind, Line};
use super::names::Names;
use super::{unit, value};
use exitscope_model::figure::{Time, share};
use exitscope_model::{Interval, VcpuSpan, VcpuTime};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

/// Number of vCPUs in the small table.
const SHOWN: usize = 16;

/// Returns the parts of a vCPU's time that are told apart.
pub fn parts(interval: &Interval) -> Vec<&'static Time> {
    Time::parts(interval.measured).collect()
}

/// Returns true if a process has several VMs, so that its id does not name one.
pub fn is_ambiguous(interval: &Interval) -> bool {
    let pids: HashSet<u32> = interval.vms.values().map(|vm| vm.pid).collect();
    pids.len() < interval.vms.len()
}

/// The vCPUs whose time is known.
fn timed(interval: &Interval) -> Vec<(&VcpuSpan, VcpuTime)> {
    let known = |span: &VcpuSpan| span.time.filter(|time| time.total_ns() > 0);
    interval.vcpus.iter().filter_map(|span| Some((span, known(span)?))).collect()
}

/// All of them together.
pub fn sum<'a>(times: impl IntoIterator<Item = &'a VcpuTime>) -> VcpuTime {
    let mut all = VcpuTime::default();
    times.into_iter().for_each(|time| all.add(time));
    all
}

/// Returns a sentence on all of them, where it is not in the small table; `None` where no time is known.
pub fn sentence(interval: &Interval) -> Option<Line> {
    let timed = timed(interval);
    let whose = match timed.len() {
        0 => return None,
        1 => "vCPU's".into(),
        _ if !interval.is_idle() => return None,
        several => format!("{} vCPUs'", unit::count(several as u64)),
    };
    let all = sum(timed.iter().map(|(_, time)| time));
    let shares: Vec<String> =
        parts(interval).iter().map(|part| format!("{} {}", part.name, share_of(part, &all))).collect();
    Some(Line { kind: Kind::Plain, text: format!("The {whose} time: {}.", shares.join(", ")) })
}

/// Returns a part as a share of all the time.
pub fn share_of(part: &Time, time: &VcpuTime) -> String {
    value::human(&share(part.ns(time), time.total_ns()))
}

/// The small table: the busiest vCPUs by VM and number, and the others together; `None` where there
/// are fewer than two.
pub fn columns(interval: &Interval) -> Option<Vec<Cells>> {
    let mut timed = timed(interval);
    if timed.len() < 2 {
        return None;
    }
    let all = sum(timed.iter().map(|(_, time)| time));
    timed.sort_by_key(|(span, time)| (Reverse(time.total_ns() - time.idle_ns()), span.vm, span.vcpu));
    let others = timed.split_off(SHOWN.min(timed.len()));
    timed.sort_by_key(|(span, _)| (span.vm, span.vcpu));

    let mut columns = Vec::new();
    let vms: BTreeSet<_> = timed.iter().chain(&others).map(|(span, _)| span.vm).collect();
    let vm = |span: &VcpuSpan| interval.vms.get(&span.vm);
    if vms.len() > 1 {
        let names = Names::of(interval.vms.values());
        let name = |span: &VcpuSpan| vm(span).map_or("-".into(), |vm| names.show(vm));
        columns.push(keys("vm", false, 0, &timed, name));
        columns
            .push(keys("pid", true, 6, &timed, |span| vm(span).map_or("-".into(), |vm| vm.pid.to_string())));
        if is_ambiguous(interval) {
            columns.push(keys("id", true, 0, &timed, |span| span.vm.0.to_string()));
        }
    }
    columns.push(keys("vcpu", true, 0, &timed, |span| span.vcpu.to_string()));
    let first = columns.len();
    for part in parts(interval) {
        let rows = timed.iter().map(|(_, time)| share_of(part, time)).collect();
        let total = share_of(part, &all);
        columns.push(Cells::new(part.name, true, part.rank.unwrap_or(0), rows).with_total(total));
    }
    if !others.is_empty() {
        let rest = sum(others.iter().map(|(_, time)| time));
        columns[..first].iter_mut().for_each(|cells| cells.rows.push(String::new()));
        columns[0].rows[SHOWN] = format!("{} more", unit::count(others.len() as u64));
        for (cells, part) in columns[first..].iter_mut().zip(parts(interval)) {
            cells.rows.push(share_of(part, &rest));
        }
    }
    columns[0].total = "all".into();
    Some(columns)
}

/// A column that tells vCPUs apart.
fn keys(
    heading: &str,
    right: bool,
    dispensable: u8,
    timed: &[(&VcpuSpan, VcpuTime)],
    key: impl Fn(&VcpuSpan) -> String,
) -> Cells {
    let rows = timed.iter().map(|(span, _)| key(span)).collect();
    Cells::new(heading, right, dispensable, rows)
}
