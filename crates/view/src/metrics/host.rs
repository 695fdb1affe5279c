//! Metrics of the host and of exitscope itself.

use super::family::{Families, Labels, Type};
use super::vms::{self, Cut};
use super::{Counted, Departed, Histograms, NONE, Options};
use exitscope_model::figure::{FIGURES, Kind};
use exitscope_model::{By, Group, Interval, Loss, group};
use exitscope_reason as reason;
use std::time::SystemTime;

/// Adds what is told of all VMs together.
pub fn add_counted(families: &mut Families, total: &Interval, departed: &Departed, options: &Options) {
    if options.histograms != Histograms::None {
        add_histograms(families, total, departed, options);
    }
    let lost = families.place("lost", Type::Counter, "", "what was not counted as it should be, by cause");
    for figure in Loss::FIGURES.iter().filter(|figure| !figure.asked_for) {
        families.count(lost, &NONE.and("cause", figure.key), figure.get(&total.loss));
    }
    let running = total.vms.values().filter(|vm| !vm.ended).count() as u64;
    let vms = families.place("vms", Type::Gauge, "", "VMs that run and have exited");
    families.count(vms, NONE, running);
    let source = families.place("source", Type::Info, "", "source of the counts, and what it measures");
    let labels =
        NONE.and("source", total.source.word()).and("measured", crate::json::measured(total.measured));
    families.count(source, &labels, 1);
}

/// Adds the histograms of all exits for a reason, those of VMs that are no longer shown included, so that none shrinks.
fn add_histograms(families: &mut Families, total: &Interval, departed: &Departed, options: &Options) {
    let context = vms::context(total);
    let mut groups = group(total, By { level: true, reason: true, ..By::NOTHING });
    for ((level, code), counters) in departed {
        match groups.iter_mut().find(|group| (group.level, group.code) == (Some(*level), Some(*code))) {
            Some(group) => group.counters.add(counters),
            None => {
                let (level, code) = (Some(*level), Some(*code));
                groups.push(Group { level, code, ..Group::of(counters.clone()) });
            }
        }
    }
    groups.sort_by_key(|group| (group.level, group.code));
    for figure in FIGURES.iter().filter(|figure| figure.kind == Kind::Buckets) {
        let Some(metric) = &figure.metric else { continue };
        let place = families.of_figure("host_", figure, metric);
        for group in &groups {
            let name = group.code.map(reason::name).unwrap_or_default();
            let labels = vms::level(NONE.and("reason", &name), group);
            vms::add_histogram(families, place, &labels, &figure.value(&context, group), group, options);
        }
    }
}

/// Adds what is told of exitscope.
pub fn add_own(families: &mut Families, counted: &Counted, cut: Cut) {
    let counting =
        families.place("counting", Type::Gauge, "", "1 if exits are counted, 0 while KVM is waited for");
    families.count(counting, NONE, counted.total.is_some().into());
    let build = families.place("build", Type::Info, "", "version of exitscope");
    families.count(build, &NONE.and("version", counted.version), 1);
    let host = families.place("host", Type::Info, "", "kernel and CPU of the host");
    families.count(host, &NONE.and("kernel", counted.kernel).and("cpu", counted.cpu), 1);
    let start = families.place(
        "start_time",
        Type::Gauge,
        "seconds",
        "begin of this process, since 1970-01-01 00:00 UTC",
    );
    let since = counted.start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    families.seconds(start, NONE, u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));

    let own = counted.own;
    let readings = families.place("readings", Type::Counter, "", "readings of the counters");
    families.count(readings, NONE, own.readings);
    let reading =
        families.place("reading", Type::Counter, "seconds", "time that readings of the counters took");
    families.seconds(reading, NONE, own.reading_ns);
    let cpu = families.place("process_cpu", Type::Counter, "seconds", "CPU time of exitscope's processes");
    let memory = families.place(
        "process_resident_memory",
        Type::Gauge,
        "bytes",
        "resident memory of exitscope's processes",
    );
    for (name, cpu_ns, bytes) in &own.processes {
        let labels: Labels = NONE.and("process", name);
        families.seconds(cpu, &labels, *cpu_ns);
        families.count(memory, &labels, *bytes);
    }
    let series = families.place("series_cut", Type::Gauge, "", "series that were left out by --max-series");
    families.count(series, NONE, cut.series as u64);
    let vms = families.place("vms_cut", Type::Gauge, "", "VMs whose series were left out by --max-series");
    families.count(vms, NONE, cut.vms as u64);
}
