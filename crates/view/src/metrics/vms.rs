//! Metrics of each VM.

use super::family::{Families, Labels, Place, Type};
use super::{Histograms, NONE, Options, VmLabels};
use crate::value::by_frequency;
use exitscope_model::figure::{Context, FIGURES, Figure, Kind, Metric, Time, Value};
use exitscope_model::{
    BUCKETS, By, ExitCode, Group, Histogram, Interval, Level, Subject, VcpuSpan, VcpuTime, Vm, VmId, WORKERS,
    group,
};
use exitscope_reason as reason;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Bounds of buckets are these powers of two of a nanosecond: shorter times are in the first, longer ones above the last.
const BOUNDS: std::ops::RangeInclusive<usize> = 8..=34;

/// Bounds of coarse buckets: from 1 µs on, each eight times the one before.
const COARSE: (usize, usize) = (10, 3);

/// Number of series and VMs that had no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Series.
    pub series: usize,
    /// VMs.
    pub vms: usize,
}

/// A figure with its metric, its family, and the label of its part.
struct Column {
    figure: &'static Figure,
    place: Place,
    part: Option<Labels>,
}

/// Figures that have a metric here, in the order of the registry. `before` is put in front of their names.
fn columns(
    families: &mut Families,
    total: &Interval,
    before: &str,
    has: impl Fn(&Figure, &Metric) -> bool,
) -> Vec<Column> {
    let mut columns = Vec::new();
    for figure in FIGURES.iter().copied() {
        let Some(metric) = &figure.metric else { continue };
        if !has(figure, metric) || !figure.is_measured(total.source, total.measured) {
            continue;
        }
        let place = families.of_figure(before, figure, metric);
        columns.push(Column { figure, place, part: metric.part.map(|part| NONE.and("part", part)) });
    }
    columns
}

/// Adds the series of all VMs as far as there is room, in the order in which they came.
pub fn add(
    families: &mut Families,
    total: &Interval,
    names: &BTreeMap<VmId, VmLabels>,
    options: &Options,
) -> Cut {
    let whole = |metric: &Metric| metric.until.is_none_or(|until| total.measured < until);
    let by_vm = options.histograms == Histograms::Vm;
    let shown = |figure: &Figure, metric: &Metric| whole(metric) && (figure.kind != Kind::Buckets || by_vm);
    let writer = Writer {
        options,
        context: context(total),
        columns: columns(families, total, "", shown),
        details: match options.details {
            0 => Vec::new(),
            _ => columns(families, total, "detail_", |figure, _| figure.of_details),
        },
        info: families.place("vm", Type::Info, "", "names of the VM, to join with labels of others"),
        vcpus: families.place("vm_vcpus", Type::Gauge, "", "vCPUs of the VM that have exited"),
        kvm_exits: families.place("kvm_exits", Type::Counter, "", "KVM's own count of the exits"),
        difference: families.place(
            "kvm_exits_difference",
            Type::Gauge,
            "",
            "exits that exitscope counted, less KVM's own count of them",
        ),
        time: families.place("vcpu_time", Type::Counter, "seconds", "time of the vCPUs by what they did"),
        worker_time: families.place(
            "worker_time",
            Type::Counter,
            "seconds",
            "time of the threads that work for the VM beside its vCPUs: on a CPU, and waiting for one",
        ),
    };
    let groups = group(total, By { vcpu: options.per_vcpu, ..By::default() });
    let details = match options.details {
        0 => Vec::new(),
        _ => group(total, By { vcpu: options.per_vcpu, detail: true, ..By::default() }),
    };
    let mut reasons = Reasons::default();
    let mut cut = Cut::default();
    for (id, vm) in &total.vms {
        let Some(labels) = names.get(id) else { continue };
        let (before, mark) = (families.series(), families.mark());
        let labels = NONE
            .and("vm", &labels.vm)
            .and("pid", &labels.pid.to_string())
            .and_some("vm_id", labels.number.map(|number| number.to_string()).as_deref());
        writer.add_vm(families, total, vm, &labels);
        for group in of_vm(&groups, *id) {
            writer.add_group(families, &labels, group, &mut reasons);
        }
        if options.details > 0 {
            writer.add_details(families, &labels, of_vm(&details, *id), &mut reasons);
        }
        if families.series() > options.max_series {
            cut.series += families.series() - before;
            cut.vms += 1;
            families.back_to(&mark);
        }
    }
    cut
}

/// Context of figures that are no shares: the total, of which those are parts, would cost as much as all groups.
pub fn context(total: &Interval) -> Context<'_> {
    let Interval { vms, length, source, measured, .. } = total;
    let total = Group::of(Default::default());
    Context { vms: Some(vms), length: *length, source: *source, measured: *measured, total }
}

/// Groups of one VM, of all in the order of VMs.
fn of_vm(groups: &[Group], id: VmId) -> &[Group] {
    let first = groups.partition_point(|group| group.vm < Some(id));
    let count = groups[first..].partition_point(|group| group.vm == Some(id));
    &groups[first..first + count]
}

/// Labels of reasons, each made once.
#[derive(Default)]
struct Reasons(BTreeMap<ExitCode, Labels>);

impl Reasons {
    fn of(&mut self, code: Option<ExitCode>) -> &Labels {
        let code = code.unwrap_or(ExitCode { isa: exitscope_model::Isa::KvmStat, code: -1 });
        self.0.entry(code).or_insert_with(|| NONE.and("reason", &reason::name(code)))
    }
}

/// Families of VMs' metrics, and what is written there.
struct Writer<'a> {
    options: &'a Options,
    context: Context<'a>,
    columns: Vec<Column>,
    details: Vec<Column>,
    info: Place,
    vcpus: Place,
    kvm_exits: Place,
    difference: Place,
    time: Place,
    worker_time: Place,
}

impl Writer<'_> {
    /// Adds what is not by reason.
    fn add_vm(&self, families: &mut Families, total: &Interval, vm: &Vm, labels: &Labels) {
        let mut info = labels.and("vmm", &vm.vmm);
        for (key, value) in vm.labels.pairs() {
            info = info.and_some(key, value);
        }
        families.count(self.info, &info, 1);
        let first = total.vcpus.partition_point(|span| span.vm < vm.id);
        let count = total.vcpus[first..].partition_point(|span| span.vm == vm.id);
        let spans = &total.vcpus[first..first + count];
        families.count(self.vcpus, labels, count as u64);
        if self.options.per_vcpu {
            for span in spans {
                let labels = labels.and("vcpu", &span.vcpu.to_string());
                self.add_spans(families, std::slice::from_ref(span), &labels);
            }
        } else {
            self.add_spans(families, spans, labels);
        }
        let worker = total.workers.binary_search_by_key(&vm.id, |span| span.vm);
        if let (true, Ok(at)) = (self.options.workers, worker) {
            let times = &total.workers[at].times;
            for worker in WORKERS {
                for (state, figure) in [("running", worker.cpu), ("waiting", worker.waiting)] {
                    let labels = labels.and("worker", worker.name).and("state", state);
                    families.seconds(self.worker_time, &labels, figure.ns(times));
                }
            }
        }
    }

    /// Adds KVM's own count and the times of vCPUs, added up.
    fn add_spans(&self, families: &mut Families, spans: &[VcpuSpan], labels: &Labels) {
        let kvm: Option<u64> = spans.iter().map(|span| span.kvm_exits).sum();
        if let Some(kvm) = kvm {
            let ours: u64 = spans.iter().map(|span| span.exits).sum();
            families.count(self.kvm_exits, labels, kvm);
            families.signed(self.difference, labels, i128::from(ours) - i128::from(kvm));
        }
        let times = spans.iter().filter_map(|span| span.time);
        let sum = times.fold(None, |sum: Option<VcpuTime>, time| {
            let mut sum = sum.unwrap_or_default();
            sum.add(&time);
            Some(sum)
        });
        if let Some(sum) = sum {
            for time in Time::parts(self.context.measured) {
                families.seconds(self.time, &labels.and("state", time.name), time.ns(&sum));
            }
        }
    }

    /// Adds exits for one reason.
    fn add_group(&self, families: &mut Families, labels: &Labels, group: &Group, reasons: &mut Reasons) {
        let labels = self.labels(labels, group, reasons);
        for column in &self.columns {
            let value = column.figure.value(&self.context, group);
            // A series comes with its first exit or time, as that of the reason itself does: most would stay 0 for ever.
            if matches!(value, Value::Count(0) | Value::Ns(0)) {
                continue;
            }
            let labels = match &column.part {
                Some(part) => &labels.with(part),
                None => &labels,
            };
            match value {
                Value::Count(count) => families.count(column.place, labels, count),
                Value::Ns(ns) => families.seconds(column.place, labels, ns),
                Value::Returns(returns) => {
                    for (name, count) in by_frequency(&returns) {
                        families.count(column.place, &labels.and("return", &name), count);
                    }
                }
                value => add_histogram(families, column.place, labels, &value, group, self.options),
            }
        }
    }

    /// Adds the details with most exits.
    fn add_details(&self, families: &mut Families, labels: &Labels, groups: &[Group], reasons: &mut Reasons) {
        let is_detail = |group: &&Group| matches!(group.subject, Some(Subject::Detail(_)));
        let mut details: Vec<&Group> = groups.iter().filter(is_detail).collect();
        details.sort_by_key(|group| Reverse(group.counters.count));
        details.truncate(self.options.details);
        for group in details {
            let Some(Subject::Detail(detail)) = group.subject else { continue };
            let labels = self.labels(labels, group, reasons).and("detail", &detail.plain());
            for column in &self.details {
                match column.figure.value(&self.context, group) {
                    Value::Count(count) => families.count(column.place, &labels, count),
                    Value::Ns(ns) => families.seconds(column.place, &labels, ns),
                    _ => {}
                }
            }
        }
    }

    fn labels(&self, labels: &Labels, group: &Group, reasons: &mut Reasons) -> Labels {
        let labels = match group.vcpu {
            Some(vcpu) => &labels.and("vcpu", &vcpu.to_string()),
            None => labels,
        };
        level(labels.with(reasons.of(group.code)), group)
    }
}

/// Labels with the level, where that is L2: of L1 there is no such label.
pub fn level(labels: Labels, group: &Group) -> Labels {
    if group.level == Some(Level::L2) { labels.and("level", "L2") } else { labels }
}

/// Adds a histogram of the host times of exits.
pub fn add_histogram(
    families: &mut Families,
    place: Place,
    labels: &Labels,
    value: &Value,
    group: &Group,
    options: &Options,
) {
    let Value::Buckets(histogram) = value else { return };
    families.histogram(
        place,
        labels,
        &cumulative(histogram, options.coarse),
        histogram.count(),
        group.counters.time_ns,
    );
}

/// Number of times below each bound (ns).
fn cumulative(histogram: &Histogram, coarse: bool) -> Vec<(u64, u64)> {
    let buckets = histogram.buckets();
    let (first, step) = if coarse { COARSE } else { (*BOUNDS.start(), 1) };
    (first..=*BOUNDS.end()).step_by(step).map(|k| (1 << k, buckets[..k.min(BUCKETS)].iter().sum())).collect()
}
