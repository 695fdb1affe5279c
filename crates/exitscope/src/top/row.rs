//! The rows of the lists: VMs, vCPUs, and reasons.

use super::accumulator::Accumulator;
use super::history::Key;
use exitscope_model::figure::Context;
use exitscope_model::{
    Counters, ExitCode, Group, Interval, Level, Measured, Row as ExitRow, VcpuTime, Vm, VmId, WorkerTimes,
    float,
};
use exitscope_reason as reason;
use exitscope_view::names::Names;
use exitscope_view::prose::NAME;
use exitscope_view::text;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Kind of a list: it has a row for each of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// VMs.
    Vms,
    /// vCPUs.
    Vcpus,
    /// Reasons.
    Reasons,
}

/// Selection of exits by VM and vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The VM; `None` for all that are shown.
    pub vm: Option<VmId>,
    /// The vCPU of that VM; `None` for all.
    pub vcpu: Option<u32>,
}

impl Scope {
    fn has(&self, vm: VmId, vcpu: u32) -> bool {
        self.vm.is_none_or(|mine| mine == vm) && self.vcpu.is_none_or(|mine| mine == vcpu)
    }
}

/// A reason, and the level of the guest that exited.
pub type Which = (Level, ExitCode);

/// A reason, and on which vCPU; `None` where these are added up.
type OnVcpu = (Option<(VmId, u32)>, Which);

/// Identity of a row, the same from one interval to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// The VM; `None` where all are added up.
    pub vm: Option<VmId>,
    /// The vCPU; `None` likewise.
    pub vcpu: Option<u32>,
    /// The reason; `None` likewise.
    pub reason: Option<Which>,
}

/// Row of a list. Figures are of the span that was asked for, if nothing else is said.
#[derive(Clone, Debug)]
pub struct Row {
    /// Identity of the row.
    pub id: Id,
    /// It belongs to the row above that has none of this.
    pub child: bool,
    /// Name of the VM, harmless.
    pub vm: String,
    /// Process of the VM.
    pub pid: Option<u32>,
    /// Number of vCPUs.
    pub vcpus: u64,
    /// The VM has ended.
    pub ended: bool,
    /// Name of the reason, harmless.
    pub reason: String,
    /// Exits per second.
    pub rate: f64,
    /// Exits since the beginning.
    pub total: u64,
    /// Share of the exits of all rows of the list, from 0 to 1.
    pub share: Option<f64>,
    /// Time by use, in rows of VMs and vCPUs.
    pub time: Option<VcpuTime>,
    /// Times of the threads beside the vCPUs, in rows of VMs.
    pub workers: Option<WorkerTimes>,
    /// Counters, in rows of reasons.
    pub group: Option<Group>,
    /// Values beside the counters that the figures of `group` depend on.
    pub context: Option<Arc<Context<'static>>>,
    /// The most frequent reason, and its share of the exits.
    pub top: Option<(String, f64)>,
}

/// Data from which rows are made.
pub struct RowInput<'a> {
    /// Intervals so far, added up.
    pub accumulator: &'a Accumulator,
    /// Interval that the figures are of.
    pub span: &'a Interval,
    /// Interval from the beginning on.
    pub all: &'a Interval,
    /// Returns true for a VM that is shown.
    pub shows: &'a dyn Fn(&Vm) -> bool,
}

/// The name of a reason as lists have it.
pub fn reason_name((level, code): Which) -> String {
    let whose = if level == Level::L2 { "L2 " } else { "" };
    format!("{whose}{}", text::clean(&reason::name(code), NAME))
}

/// The rows of `interval` that are a VM's.
fn rows_of(interval: &Interval, vm: VmId) -> &[ExitRow] {
    let from = interval.rows.partition_point(|row| row.vm < vm);
    let length = interval.rows[from..].partition_point(|row| row.vm == vm);
    &interval.rows[from..from + length]
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| float(part) / float(whole))
}

fn rate(exits: u64, interval: &Interval) -> f64 {
    let seconds = interval.length.as_secs_f64();
    if seconds > 0.0 { float(exits) / seconds } else { 0.0 }
}

/// Sums over vCPUs of one VM.
#[derive(Default)]
struct Sum {
    vcpus: u64,
    exits: u64,
    time: Option<VcpuTime>,
}

impl Sum {
    fn add(&mut self, span: &exitscope_model::VcpuSpan) {
        self.vcpus += 1;
        self.exits += span.exits;
        if let Some(time) = &span.time {
            self.time.get_or_insert_default().add(time);
        }
    }
}

impl RowInput<'_> {
    /// The VMs that are shown.
    fn vms(&self) -> impl Iterator<Item = &Vm> {
        self.all.vms.values().filter(|vm| (self.shows)(vm))
    }

    /// The VMs of a scope.
    pub fn vms_of(&self, scope: Scope) -> Vec<VmId> {
        self.vms().map(|vm| vm.id).filter(|id| scope.vm.is_none_or(|mine| mine == *id)).collect()
    }

    /// The rows of a list. With `apart`, VMs have their reasons below them, and reasons are told apart by vCPU.
    pub fn rows(&self, list: List, scope: Scope, apart: bool) -> Vec<Row> {
        match list {
            List::Vms if apart => self
                .vm_rows(false)
                .into_iter()
                .flat_map(|row| {
                    let scope = Scope { vm: row.id.vm, vcpu: None };
                    let children = self.reason_rows(scope, false);
                    let child = |child: Row| Row { child: true, ended: row.ended, ..child };
                    let children: Vec<Row> = children.into_iter().map(child).collect();
                    std::iter::once(row).chain(children)
                })
                .collect(),
            List::Vms => self.vm_rows(false),
            List::Vcpus => self.vm_rows(true).into_iter().filter(|row| scope.has_row(row)).collect(),
            List::Reasons => self.reason_rows(scope, apart),
        }
    }

    fn blank(&self, vm: &Vm, names: &Names) -> Row {
        Row {
            id: Id { vm: Some(vm.id), ..Id::default() },
            child: false,
            vm: names.show(vm),
            pid: Some(vm.pid),
            vcpus: 0,
            ended: self.accumulator.has_ended(vm.id),
            reason: String::new(),
            rate: 0.0,
            total: 0,
            share: None,
            time: None,
            workers: None,
            group: None,
            context: None,
            top: None,
        }
    }

    /// A row for each VM, or for each vCPU.
    fn vm_rows(&self, by_vcpu: bool) -> Vec<Row> {
        let key = |vm: VmId, vcpu: u32| (vm, by_vcpu.then_some(vcpu));
        let mut sums: BTreeMap<_, Sum> = BTreeMap::new();
        self.span.vcpus.iter().for_each(|span| sums.entry(key(span.vm, span.vcpu)).or_default().add(span));
        let mut totals: BTreeMap<_, Sum> = BTreeMap::new();
        self.all.vcpus.iter().for_each(|span| totals.entry(key(span.vm, span.vcpu)).or_default().add(span));
        let names = Names::of(self.all.vms.values());
        let shown: u64 = self
            .vms()
            .flat_map(|vm| sums.range((vm.id, None)..=(vm.id, Some(u32::MAX))))
            .map(|(_, s)| s.exits)
            .sum();
        let mut tops = self.tops(by_vcpu);
        let mut rows = Vec::new();
        for vm in self.vms() {
            for ((_, vcpu), all) in totals.range((vm.id, None)..=(vm.id, Some(u32::MAX))) {
                let mut row = self.blank(vm, &names);
                row.id.vcpu = *vcpu;
                (row.vcpus, row.total) = (all.vcpus, all.exits);
                if let Some(sum) = sums.get(&(vm.id, *vcpu)) {
                    row.rate = rate(sum.exits, self.span);
                    row.workers = self.workers_of(vm.id).filter(|_| !by_vcpu);
                    row.share = share(sum.exits, shown);
                    row.time = sum.time.filter(|_| self.span.measured != Measured::Counts);
                    let top = tops.remove(&(vm.id, *vcpu));
                    row.top =
                        top.and_then(|(which, count)| Some((reason_name(which), share(count, sum.exits)?)));
                }
                rows.push(row);
            }
        }
        rows
    }

    /// The times of the threads beside a VM's vCPUs, if they were looked at.
    pub fn workers_of(&self, vm: VmId) -> Option<WorkerTimes> {
        let at = self.span.workers.binary_search_by_key(&vm, |span| span.vm).ok()?;
        Some(self.span.workers[at].times).filter(|times| times.span_ns > 0)
    }

    /// The most frequent reason of each VM, or of each vCPU.
    fn tops(&self, by_vcpu: bool) -> BTreeMap<(VmId, Option<u32>), (Which, u64)> {
        let mut tops = BTreeMap::new();
        let same = |a: &ExitRow, b: &ExitRow| a.vm == b.vm && (!by_vcpu || a.vcpu == b.vcpu);
        let mut counts: Vec<(Which, u64)> = Vec::new();
        for rows in self.span.rows.chunk_by(same) {
            counts.clear();
            for row in rows {
                let which = (row.level, row.code);
                match counts.iter_mut().find(|(known, _)| *known == which) {
                    Some((_, count)) => *count += row.counters.count,
                    None => counts.push((which, row.counters.count)),
                }
            }
            let most = counts.iter().filter(|(_, count)| *count > 0).max_by_key(|(_, count)| *count);
            if let (Some(most), Some(row)) = (most, rows.first()) {
                tops.insert((row.vm, by_vcpu.then_some(row.vcpu)), *most);
            }
        }
        tops
    }

    /// A row for each reason of a scope, or of each of its vCPUs.
    fn reason_rows(&self, scope: Scope, by_vcpu: bool) -> Vec<Row> {
        let names = Names::of(self.all.vms.values());
        // All that occurred since the beginning stays, so that rows do not come and go.
        let mut sums: BTreeMap<OnVcpu, (u64, Counters)> = BTreeMap::new();
        let key = |row: &ExitRow| (by_vcpu.then_some((row.vm, row.vcpu)), (row.level, row.code));
        let mut exits = 0;
        for vm in self.vms_of(scope) {
            for row in rows_of(self.all, vm).iter().filter(|row| scope.has(row.vm, row.vcpu)) {
                sums.entry(key(row)).or_default().0 += row.counters.count;
            }
            for row in rows_of(self.span, vm).iter().filter(|row| scope.has(row.vm, row.vcpu)) {
                sums.entry(key(row)).or_default().1.add(&row.counters);
                exits += row.counters.count;
            }
        }
        let context = Arc::new(self.context(sums.values().map(|(_, counters)| counters)));
        let row = |((vcpu, which), (total, counters)): (OnVcpu, (u64, Counters))| {
            let of = vcpu.map(|(vm, _)| vm).or(scope.vm);
            let vm = of.and_then(|vm| self.all.vms.get(&vm));
            let (level, code) = which;
            let count = counters.count;
            Row {
                id: Id { vm: of, vcpu: vcpu.map(|(_, vcpu)| vcpu).or(scope.vcpu), reason: Some(which) },
                child: false,
                vm: vm.map_or(String::new(), |vm| names.show(vm)),
                pid: vm.map(|vm| vm.pid),
                vcpus: 0,
                ended: of.is_some_and(|vm| self.accumulator.has_ended(vm)),
                reason: reason_name(which),
                rate: rate(count, self.span),
                total,
                share: share(count, exits),
                time: None,
                workers: None,
                group: Some(Group {
                    vm: of,
                    vcpu: vcpu.map(|(_, vcpu)| vcpu),
                    level: Some(level),
                    code: Some(code),
                    subject: None,
                    counters,
                }),
                context: Some(Arc::clone(&context)),
                top: None,
            }
        };
        sums.into_iter().map(row).collect()
    }

    /// Context of figures of rows that together have counted this.
    fn context<'c>(&self, rows: impl Iterator<Item = &'c Counters>) -> Context<'static> {
        let mut counters = Counters::default();
        rows.for_each(|row| counters.add(row));
        Context {
            vms: None,
            length: self.span.length,
            source: self.span.source,
            measured: self.span.measured,
            total: Group::of(counters),
        }
    }

    /// Returns the keys of a row's history; none if no history is kept of it.
    pub fn keys(&self, row: &Row) -> Vec<Key> {
        let Id { vm, vcpu, reason } = row.id;
        match (vm, vcpu, reason) {
            (Some(vm), None, None) => vec![Key::Vm(vm)],
            (Some(vm), Some(vcpu), None) => vec![Key::Vcpu(vm, vcpu)],
            (vm, None, Some((level, code))) => {
                let vms = self.vms_of(Scope { vm, vcpu: None });
                vms.into_iter().map(|vm| Key::Reason(vm, level, code)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// All that one reason counted on each vCPU of a scope, in the span; in the order of VMs and vCPUs.
    pub fn on_vcpus(&self, scope: Scope, which: Which) -> Vec<(VmId, u32, Counters)> {
        let mut found = Vec::new();
        for vm in self.vms_of(scope) {
            let rows = rows_of(self.span, vm).iter();
            let mine = rows.filter(|row| scope.has(row.vm, row.vcpu) && (row.level, row.code) == which);
            found.extend(mine.map(|row| (row.vm, row.vcpu, row.counters.clone())));
        }
        found
    }
}

impl Scope {
    fn has_row(&self, row: &Row) -> bool {
        row.id.vm.zip(row.id.vcpu).is_some_and(|(vm, vcpu)| self.has(vm, vcpu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::fixture;

    fn seen() -> Accumulator {
        let mut seen = Accumulator::default();
        seen.take(fixture::busy());
        seen.take(fixture::busy());
        seen
    }

    fn with<T>(test: impl FnOnce(&RowInput) -> T) -> T {
        let seen = seen();
        let (span, all) = (seen.last.as_ref().unwrap(), seen.total.as_ref().unwrap());
        test(&RowInput { accumulator: &seen, span, all, shows: &|_| true })
    }

    #[test]
    fn every_list_has_every_exit() {
        let exits = fixture::busy().exits();
        with(|source| {
            for (list, apart) in
                [(List::Vms, false), (List::Vcpus, false), (List::Reasons, false), (List::Reasons, true)]
            {
                let rows = source.rows(list, Scope::default(), apart);
                assert_eq!(rows.iter().map(|row| row.total).sum::<u64>(), 2 * exits, "{list:?}");
                let rate: f64 = rows.iter().map(|row| row.rate).sum();
                assert!((rate - float(exits) / 10.0).abs() < 1e-6, "{list:?}");
                let shares: f64 = rows.iter().filter_map(|row| row.share).sum();
                assert!((shares - 1.0).abs() < 1e-9, "{list:?}");
            }
            let one = Scope { vm: Some(VmId(1)), vcpu: Some(0) };
            let rows = source.rows(List::Reasons, one, false);
            let names: Vec<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
            assert_eq!(names, ["INTR", "NPF"]);
            assert_eq!(source.rows(List::Vcpus, Scope { vcpu: None, ..one }, false).len(), 2);
            let reasons: Vec<usize> = [0, 1, 2]
                .map(|vm| source.rows(List::Reasons, Scope { vm: Some(VmId(vm)), vcpu: None }, false).len())
                .into();
            let nested = source.rows(List::Vms, Scope::default(), true);
            assert_eq!(nested.len(), 3 + reasons.iter().sum::<usize>());
            assert_eq!(nested[0].top.as_ref().map(|top| top.0.as_str()), Some("IOIO"));
        });
    }

    #[test]
    fn what_is_not_shown_is_in_no_list() {
        let seen = seen();
        let (span, all) = (seen.last.as_ref().unwrap(), seen.total.as_ref().unwrap());
        let source = RowInput { accumulator: &seen, span, all, shows: &|vm| vm.name == "web-1" };
        for list in [List::Vms, List::Vcpus, List::Reasons] {
            let rows = source.rows(list, Scope::default(), false);
            assert!(rows.iter().all(|row| row.id.vm.is_none_or(|vm| vm == VmId(0))));
            let total: u64 = rows.iter().map(|row| row.total).sum();
            assert_eq!(total, 2 * (66_895 + 7_557 + 5_788 + 1_900 + 1_459 + 612 + 2_204));
        }
    }
}
