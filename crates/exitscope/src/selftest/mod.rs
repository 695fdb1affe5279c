//! Comparison of the exits that were counted of the built-in guest with those that it made.

pub mod cost;
mod expect;
mod render;

pub use render::render;

use exitscope_model::{ExitCode, Interval, Isa};
use exitscope_testguest::{Done, Kind, VcpuDone};
use expect::{Expected, INVD, WBINVD};
use std::collections::{BTreeMap, BTreeSet};

/// Result of the comparison of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Counted as done.
    Exact,
    /// The guest did nothing for it: the host's interrupts, its scheduling, its memory.
    HostsOwn,
    /// Counted otherwise than done.
    Wrong,
    /// Nobody did it, and a host does not do it on its own either.
    Unexplained,
}

/// One reason of one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The vCPU's number.
    pub vcpu: u32,
    /// The reason.
    pub code: ExitCode,
    /// The kinds that make it.
    pub kinds: Vec<Kind>,
    /// Page faults and first accesses among `done`, by KVM's own statistic.
    pub faults: u64,
    /// Exits that the guest made, `faults` included.
    pub done: u64,
    /// Greatest valid `counted`: above `done` where the host adds exits that cannot be told apart.
    pub most: u64,
    /// Exits that were counted.
    pub counted: u64,
    /// Result of the comparison.
    pub verdict: Verdict,
}

/// All exits of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// The vCPU's number.
    pub vcpu: u32,
    /// Sum of its rows.
    pub rows: u64,
    /// Its total as it was counted.
    pub counted: u64,
    /// KVM's own count; `None` where KVM keeps none.
    pub kvm: Option<u64>,
}

impl Total {
    /// Returns true if the rows, the total and KVM's count are one number.
    pub fn agrees(&self) -> bool {
        self.rows == self.counted && self.kvm.is_none_or(|kvm| kvm == self.counted)
    }
}

/// The result of the comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each reason of each vCPU that was done or counted.
    pub rows: Vec<Row>,
    /// Each vCPU's exits altogether.
    pub totals: Vec<Total>,
    /// Causes for which the comparison fails as a whole.
    pub problems: Vec<String>,
    /// Oddities of this hardware, which do not make it fail.
    pub notes: Vec<String>,
}

impl Report {
    /// Returns true if every exit was counted as it was made, and at least one was compared.
    pub fn is_exact(&self) -> bool {
        self.problems.is_empty()
            && self.totals.iter().all(Total::agrees)
            && self.rows.iter().all(|row| matches!(row.verdict, Verdict::Exact | Verdict::HostsOwn))
            && self.rows.iter().any(|row| row.verdict == Verdict::Exact && row.counted > 0)
    }
}

/// Compares an interval that holds the guest's VM alone, from before its first exit to after its last,
/// with what the guest did.
///
/// Every reason that the guest makes must be counted exactly as often as it was made. Two of them have a
/// part that the host decides, and it is known: nested page faults on first touch, from KVM's own
/// statistic of the vCPU (without that statistic, at most one for each page of the guest), and on VMX the
/// NMIs that hit the guest and share the exceptions' code, at most as many as the host had.
pub fn compare(interval: &Interval, done: &Done) -> Report {
    let mut report = Report::default();
    let Some(isa) = done.isa else {
        report.problems.push(
            "KVM uses neither VMX nor SVM here: exits have no reason that could be compared".to_owned(),
        );
        return report;
    };
    if interval.vms.len() != 1 {
        let vms = interval.vms.len();
        report.problems.push(format!("the interval holds {vms} VMs, and the guest is one: count it alone"));
        return report;
    }
    for (figure, count) in interval.loss.figures() {
        let (name, what) = (figure.key, figure.meaning);
        // A figure read while a vCPU ran is mended by the next reading; the others stay.
        if count == 0 || name == "torn" {
            continue;
        }
        // What is compared are counts, to which this makes no difference.
        if name == "skipped_split" {
            report.notes.push(format!("{name} = {count}: {what}"));
        } else {
            report.problems.push(format!("{name} = {count}: {what}"));
        }
    }
    for span in &interval.vcpus {
        if !done.vcpus.iter().any(|vcpu| vcpu.vcpu == span.vcpu) {
            report.problems.push(format!("vCPU {} was counted, and the guest has none such", span.vcpu));
        }
    }
    let mut renamed = 0;
    for vcpu in &done.vcpus {
        let counted: BTreeMap<ExitCode, u64> = interval
            .rows
            .iter()
            .filter(|row| row.vcpu == vcpu.vcpu)
            .map(|row| (row.code, row.counters.count))
            .collect();
        let Some(span) = interval.vcpus.iter().find(|span| span.vcpu == vcpu.vcpu) else {
            report.problems.push(format!("vCPU {} was not counted at all", vcpu.vcpu));
            continue;
        };
        report.totals.push(Total {
            vcpu: vcpu.vcpu,
            rows: counted.values().sum(),
            counted: span.exits,
            kvm: vcpu.kvm.map(|kvm| kvm.exits),
        });
        let mut expected = expect::of(vcpu, isa, done);
        if done.emulated && isa == Isa::Svm && invd_as_wbinvd(&mut expected, &counted) {
            renamed += 1;
        }
        report.rows.extend(rows(vcpu, isa, &expected, &counted));
    }
    if renamed > 0 {
        report.notes.push(
            "this hardware is QEMU's emulation, which reports INVD as WBINVD: both are compared as one"
                .into(),
        );
    }
    report
}

/// QEMU's SVM (target/i386/tcg/translate.c) looks at a bit of the opcode that is the same in INVD and
/// WBINVD, and reports both as WBINVD. Expects that, if not one INVD was counted; says whether it did.
fn invd_as_wbinvd(expected: &mut BTreeMap<ExitCode, Expected>, counted: &BTreeMap<ExitCode, u64>) -> bool {
    if counted.contains_key(&INVD) {
        return false;
    }
    let Some(invd) = expected.remove(&INVD) else { return false };
    let wbinvd = expected.entry(WBINVD).or_default();
    wbinvd.kinds.extend(invd.kinds);
    wbinvd.done += invd.done;
    wbinvd.more += invd.more;
    true
}

fn rows(
    vcpu: &VcpuDone,
    isa: Isa,
    expected: &BTreeMap<ExitCode, Expected>,
    counted: &BTreeMap<ExitCode, u64>,
) -> Vec<Row> {
    let codes: BTreeSet<ExitCode> = expected.keys().chain(counted.keys()).copied().collect();
    codes
        .into_iter()
        .map(|code| {
            let counted = counted.get(&code).copied().unwrap_or(0);
            let Expected { kinds, done, faults, more } = expected.get(&code).cloned().unwrap_or_default();
            let most = done + more;
            let verdict = if expected.contains_key(&code) {
                if (done..=most).contains(&counted) { Verdict::Exact } else { Verdict::Wrong }
            } else if expect::hosts_own(code, isa) {
                Verdict::HostsOwn
            } else {
                Verdict::Unexplained
            };
            Row { vcpu: vcpu.vcpu, code, kinds, faults, done, most, counted, verdict }
        })
        .collect()
}

#[cfg(test)]
mod tests;
