//! Threads that work for VMs beside their vCPUs: a sentence for one VM, a small table for several.

use super::grid::Cells;
use super::line::{Kind, Line};
use super::names::Names;
use super::vcpus::is_ambiguous;
use super::{unit, value};
use exitscope_model::figure::share;
use exitscope_model::{Interval, Vm, WORKERS, WorkerSpan, WorkerTimes};
use std::cmp::Reverse;

/// Number of VMs in the small table.
const SHOWN: usize = 16;

/// The VMs whose workers were looked at for some time.
fn looked_at(interval: &Interval) -> Vec<(&WorkerSpan, &Vm)> {
    let spans = interval.workers.iter().filter(|span| span.times.span_ns > 0);
    spans.filter_map(|span| Some((span, interval.vms.get(&span.vm)?))).collect()
}

/// Returns a time as a share of one CPU.
fn of_a_cpu(ns: u64, times: &WorkerTimes) -> String {
    value::human(&share(ns, times.span_ns))
}

/// Returns the kinds of thread with their shares of one CPU: "main loop 3.10%, vhost 0.20%". Those that did nothing are left
/// out.
fn kinds(times: &WorkerTimes) -> String {
    let busy = WORKERS.iter().filter(|worker| worker.cpu.ns(times) > 0);
    let parts = busy.map(|worker| format!("{} {}", worker.name, of_a_cpu(worker.cpu.ns(times), times)));
    parts.collect::<Vec<_>>().join(", ")
}

/// Returns a sentence on the workers of the only VM; `None` where there are several, or nothing is known.
pub fn sentence(interval: &Interval) -> Option<Line> {
    let known = looked_at(interval);
    let [(WorkerSpan { times, .. }, _)] = known[..] else { return None };
    if interval.vms.len() > 1 {
        return None;
    }
    Some(line(times))
}

/// Returns the sentence on the workers of a VM.
pub fn line(times: &WorkerTimes) -> Line {
    let text = match times.cpu_ns() {
        0 => "Beside its vCPUs no thread ran for the VM.".to_owned(),
        cpu => format!(
            "Beside its vCPUs the VM took {} of a CPU: {}. These threads waited for one for {}.",
            of_a_cpu(cpu, times),
            kinds(times),
            unit::time(times.waiting_ns())
        ),
    };
    Line { kind: Kind::Plain, text }
}

/// The small table, a line for each VM, those that took most CPU time first; `None` where there is one VM or none.
pub fn columns(interval: &Interval) -> Option<Vec<Cells>> {
    let mut known = looked_at(interval);
    if known.is_empty() || interval.vms.len() < 2 {
        return None;
    }
    known.sort_by_key(|(span, _)| (Reverse(span.times.cpu_ns()), span.vm));
    let mut all = WorkerTimes::default();
    known.iter().for_each(|(span, _)| all.add(&span.times));
    // Shares of all VMs together are of the time of one: its longest.
    all.span_ns = known.iter().map(|(span, _)| span.times.span_ns).max().unwrap_or(0);
    let more = known.split_off(SHOWN.min(known.len()));
    let mut rest = WorkerTimes::default();
    more.iter().for_each(|(span, _)| rest.add(&span.times));
    rest.span_ns = all.span_ns;

    let names = Names::of(interval.vms.values());
    let column = |heading, right, dispensable, cell: &dyn Fn(&WorkerSpan, &Vm) -> String| {
        let rows = known.iter().map(|(span, vm)| cell(span, vm)).collect();
        Cells::new(heading, right, dispensable, rows)
    };
    let mut columns = vec![
        column("vm", false, 0, &|_, vm| names.show(vm)),
        column("pid", true, 6, &|_, vm| vm.pid.to_string()),
    ];
    if is_ambiguous(interval) {
        columns.push(column("id", true, 0, &|span, _| span.vm.0.to_string()));
    }
    let first = columns.len();
    let figure = |heading, dispensable, cell: &dyn Fn(&WorkerTimes) -> String| {
        let mut cells =
            column(heading, true, dispensable, &|span, _| cell(&span.times)).with_total(cell(&all));
        if !more.is_empty() {
            cells.rows.push(cell(&rest));
        }
        cells
    };
    columns.push(figure("CPU", 0, &|times| of_a_cpu(times.cpu_ns(), times)));
    for (rank, worker) in (1..).zip(WORKERS) {
        columns.push(figure(worker.name, rank, &|times| of_a_cpu(worker.cpu.ns(times), times)));
    }
    columns.push(figure("waiting", 7, &|times| unit::time(times.waiting_ns())));
    if !more.is_empty() {
        columns[..first].iter_mut().for_each(|cells| cells.rows.push(String::new()));
        columns[0].rows[SHOWN] = format!("{} more", unit::count(more.len() as u64));
    }
    columns[0].total = "all".into();
    Some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::fixture;

    #[test]
    fn one_vm_has_a_sentence_and_several_have_lines() {
        let mut interval = fixture::single();
        assert!(columns(&interval).is_none());
        let text = sentence(&interval).unwrap().text;
        assert!(
            text.starts_with("Beside its vCPUs the VM took 41.23% of a CPU: main loop 41.20%, others 0.03%."),
            "{text}"
        );
        interval.workers[0].times = WorkerTimes { span_ns: 5, main_waiting_ns: 3, ..WorkerTimes::default() };
        assert_eq!(sentence(&interval).unwrap().text, "Beside its vCPUs no thread ran for the VM.");
        interval.workers[0].times.span_ns = 0;
        assert!(sentence(&interval).is_none(), "it was not looked at");

        let busy = fixture::busy();
        assert!(sentence(&busy).is_none());
        let columns = columns(&busy).unwrap();
        assert_eq!(columns[0].rows.len(), busy.workers.len());
        let cpu = columns.iter().find(|cells| cells.heading == "CPU").unwrap();
        let of = |span: &WorkerSpan| of_a_cpu(span.times.cpu_ns(), &span.times);
        let mut expected: Vec<&WorkerSpan> = busy.workers.iter().collect();
        expected.sort_by_key(|span| Reverse(span.times.cpu_ns()));
        assert_eq!(cpu.rows, expected.into_iter().map(of).collect::<Vec<_>>());
    }

    #[test]
    fn of_many_vms_the_busiest_have_a_line() {
        let mut interval = fixture::busy();
        let (vm, span) = (interval.vms[&exitscope_model::VmId(0)].clone(), interval.workers[0]);
        for id in (3..40).map(exitscope_model::VmId) {
            interval.vms.insert(id, Vm { id, pid: 9000, ..vm.clone() });
            interval.workers.push(WorkerSpan { vm: id, ..span });
        }
        let columns = columns(&interval).unwrap();
        assert!(columns.iter().all(|cells| cells.rows.len() == SHOWN + 1));
        assert_eq!(columns[0].rows[SHOWN], "24 more");
    }
}
