//! Rows of an [`Interval`] added up by VM, vCPU, level, reason, or any of them together.

use super::figure::{Context, Sort, Value};
use super::{Counters, Detail, DetailCounters, Details, ExitCode, Interval, Level, VmId};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Something that rows are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The VM.
    Vm,
    /// The vCPU's number.
    Vcpu,
    /// The level: exits of guests, or of guests that they run.
    Level,
    /// The reason.
    Reason,
    /// The detail: what exits were about.
    Detail,
}

impl Key {
    /// All of them, in the order of a table's columns.
    pub const ALL: [Key; 5] = [Key::Vm, Key::Vcpu, Key::Level, Key::Reason, Key::Detail];

    /// Returns the word that chooses it.
    pub fn word(self) -> &'static str {
        match self {
            Key::Vm => "vm",
            Key::Vcpu => "vcpu",
            Key::Level => "level",
            Key::Reason => "reason",
            Key::Detail => "detail",
        }
    }
}

/// Keys that rows are told apart by; over the other keys they are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By {
    /// Tell VMs apart.
    pub vm: bool,
    /// Tell vCPU numbers apart.
    pub vcpu: bool,
    /// Tell exits of guests apart from those of guests that they run.
    pub level: bool,
    /// Tell reasons apart.
    pub reason: bool,
    /// Tell details apart, of exits that have any.
    pub detail: bool,
}

impl By {
    /// Every vCPU's reasons, as they are counted; a row has the details of its reason.
    pub const ALL: By = By { vm: true, vcpu: true, level: true, reason: true, detail: false };
    /// Nothing is told apart: all is added up.
    pub const NOTHING: By = By { vm: false, vcpu: false, level: false, reason: false, detail: false };

    /// Returns true if rows are told apart by `key`.
    pub fn has(mut self, key: Key) -> bool {
        *self.flag(key)
    }

    fn flag(&mut self, key: Key) -> &mut bool {
        match key {
            Key::Vm => &mut self.vm,
            Key::Vcpu => &mut self.vcpu,
            Key::Level => &mut self.level,
            Key::Reason => &mut self.reason,
            Key::Detail => &mut self.detail,
        }
    }
}

impl Default for By {
    fn default() -> Self {
        By { vm: true, vcpu: false, level: true, reason: true, detail: false }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = Key::ALL.iter().filter(|key| self.has(**key)).map(|key| key.word()).collect();
        f.pad(&words.join(","))
    }
}

/// A word that is no way to group or sort.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {found:?}; choose from {choice}")]
pub struct UnknownWord {
    what: &'static str,
    found: String,
    choice: String,
}

impl UnknownWord {
    /// `found` where one of `choice` was expected.
    pub(crate) fn new(what: &'static str, found: &str, choice: String) -> UnknownWord {
        UnknownWord { what, found: found.into(), choice }
    }
}

impl FromStr for By {
    type Err = UnknownWord;

    /// From words separated by commas, in any order: `vm,reason`.
    fn from_str(text: &str) -> Result<By, UnknownWord> {
        let mut by = By::NOTHING;
        for word in text.split(',').map(str::trim) {
            let Some(key) = Key::ALL.into_iter().find(|key| key.word() == word) else {
                let words = Key::ALL.map(Key::word).join(", ");
                return Err(UnknownWord::new("grouping by", word, format!("{words}, separated by commas")));
            };
            *by.flag(key) = true;
        }
        Ok(by)
    }
}

/// Subject of exits, where details are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// This one.
    Detail(Detail),
    /// Others, which are not told apart.
    Other,
}

/// Exits added up; a key is `None` where it was not told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The VM.
    pub vm: Option<VmId>,
    /// The vCPU's number.
    pub vcpu: Option<u32>,
    /// The level.
    pub level: Option<Level>,
    /// The reason.
    pub code: Option<ExitCode>,
    /// The subject; `None` also of exits that have no details. Of a subject there are count, host time and the longest.
    pub subject: Option<Subject>,
    /// The counters, added up.
    pub counters: Counters,
}

impl Group {
    /// All exits of an interval.
    pub fn total(interval: &Interval) -> Group {
        group(interval, By::NOTHING).pop().unwrap_or_else(|| Group::of(Counters::default()))
    }

    /// Exits that are told apart by nothing.
    pub fn of(counters: Counters) -> Group {
        Group { vm: None, vcpu: None, level: None, code: None, subject: None, counters }
    }

    /// Adds up groups. Their sum has a subject if any of them has.
    pub fn sum<'a>(groups: impl IntoIterator<Item = &'a Group>) -> Group {
        let mut sum = Group::of(Counters::default());
        for group in groups {
            sum.counters.add(&group.counters);
            sum.subject = sum.subject.or(group.subject.map(|_| Subject::Other));
        }
        sum
    }

    /// Splits it into a group for each of its details and one for all others; together they have its count and time. As it
    /// is where it has no details.
    fn by_subject(self) -> Vec<Group> {
        let details = &self.counters.details;
        if details.count() == 0 {
            return vec![self];
        }
        let of = |subject: Subject, found: DetailCounters, details: Details| Group {
            subject: Some(subject),
            counters: Counters { count: found.count, time_ns: found.time_ns, details, ..Counters::default() },
            ..self
        };
        // A recording of schema 2 has counts alone.
        let time_ns = if details.time_ns() > 0 { self.counters.time_ns } else { 0 };
        let mut rest = DetailCounters { count: self.counters.count, time_ns, max_ns: details.other.max_ns };
        let mut groups = Vec::with_capacity(details.counts.len() + 1);
        for (detail, found) in &details.counts {
            rest.count = rest.count.saturating_sub(found.count);
            rest.time_ns = rest.time_ns.saturating_sub(found.time_ns);
            let alone = Details { counts: [(*detail, *found)].into(), ..Details::default() };
            groups.push(of(Subject::Detail(*detail), *found, alone));
        }
        if rest.count > 0 {
            groups.push(of(Subject::Other, rest, Details { other: rest, ..Details::default() }));
        }
        groups
    }

    /// Host time in all (ns); `None` of a subject whose time is not known.
    pub fn time_ns(&self) -> Option<u64> {
        Some(self.counters.time_ns).filter(|time_ns| self.subject.is_none() || *time_ns > 0)
    }

    /// Mean host time (ns) of the exits that have entered again; `None` where none has.
    pub fn avg_ns(&self) -> Option<u64> {
        let exits =
            if self.subject.is_some() { self.counters.count } else { self.counters.histogram.count() };
        self.time_ns()?.checked_div(exits)
    }

    /// Longest host time of an exit (ns); `None` where none has entered again.
    pub fn max_ns(&self) -> Option<u64> {
        if self.subject.is_none() {
            return self.counters.extremes.map(|extremes| extremes.max_ns);
        }
        let Details { counts, other, .. } = &self.counters.details;
        counts.values().chain([other]).map(|found| found.max_ns).max().filter(|max| *max > 0)
    }

    /// The host time (ns) that a share `q` of the exits did not exceed, estimated from the
    /// histogram; `None` where no exit has entered again.
    pub fn percentile(&self, q: f64) -> Option<u64> {
        let extremes = self.counters.extremes?;
        self.counters.histogram.percentile(q, extremes.min_ns, extremes.max_ns)
    }
}

type Place = (Option<VmId>, Option<u32>, Option<Level>, Option<ExitCode>);

/// Adds up an interval's rows, in the order of VM, vCPU, level, code and subject.
///
/// Where reasons are not told apart, `counters.count` is the count of the vCPUs, which is whole
/// also where a reason found no row and where rows overlap ([`super::Source::KvmStat`]); vCPUs
/// and VMs without an exit are then there too, with a count of zero. Where levels are told apart,
/// what is not in L2's rows is L1's.
pub fn group(interval: &Interval, by: By) -> Vec<Group> {
    let mut groups: BTreeMap<Place, Counters> = BTreeMap::new();
    let key = |vm: VmId, vcpu: u32, level: Level, code: Option<ExitCode>| -> Place {
        let (vm, vcpu) = (by.vm.then_some(vm), by.vcpu.then_some(vcpu));
        (vm, vcpu, by.level.then_some(level), code.filter(|_| by.reason))
    };
    for row in &interval.rows {
        groups.entry(key(row.vm, row.vcpu, row.level, Some(row.code))).or_default().add(&row.counters);
    }
    if !by.reason {
        let of_l2 = |key: &Place| key.2 == Some(Level::L2);
        groups.iter_mut().filter(|(key, _)| !of_l2(key)).for_each(|(_, counters)| counters.count = 0);
        for span in &interval.vcpus {
            groups.entry(key(span.vm, span.vcpu, Level::L1, None)).or_default().count += span.exits;
        }
        let l2: Vec<(Place, u64)> = groups
            .iter()
            .filter(|(key, _)| of_l2(key))
            .map(|(key, counters)| (*key, counters.count))
            .collect();
        for ((vm, vcpu, _, _), count) in l2 {
            let rest = groups.entry((vm, vcpu, Some(Level::L1), None)).or_default();
            rest.count = rest.count.saturating_sub(count);
        }
    }
    let group =
        |((vm, vcpu, level, code), counters)| Group { vm, vcpu, level, code, subject: None, counters };
    let groups = groups.into_iter().map(group);
    if by.detail { groups.flat_map(Group::by_subject).collect() } else { groups.collect() }
}

/// Sorts groups of one interval by a figure; equal ones by count, then by VM, vCPU, level, code and subject, so that
/// the order is always the same. Groups without the figure come last; where none has it, the count decides.
/// `name` names reasons.
pub fn sort(
    groups: &mut Vec<Group>,
    order: Sort,
    context: &Context,
    name: impl Fn(ExitCode) -> Cow<'static, str>,
) {
    let mut valued: Vec<(Value, Group)> = std::mem::take(groups)
        .into_iter()
        .map(|group| (order.figure().value(context, &group), group))
        .collect();
    valued.sort_by(|(a, x), (b, y)| {
        let rest = |g: &Group| (Reverse(g.counters.count), g.vm, g.vcpu, g.level, g.code, g.subject);
        a.order(b, &name).then_with(|| rest(x).cmp(&rest(y)))
    });
    groups.extend(valued.into_iter().map(|(_, group)| group));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Detail, DetailCounters, DetailKind, Details, Extremes, Histogram, Isa, Loss, Measured, Nested, Row,
        Source, Split, UserReason, VcpuSpan, Vm,
    };
    use proptest::prelude::*;
    use std::time::{Duration, SystemTime};

    fn interval(cells: &[(u8, u8, u8, u64)]) -> Interval {
        let mut rows: BTreeMap<(VmId, u32, Level, i64), Counters> = BTreeMap::new();
        let mut vcpus: BTreeMap<(VmId, u32), u64> = BTreeMap::new();
        for &(vm, vcpu, code, ns) in cells {
            let (vm, vcpu) = (VmId(vm.into()), vcpu.into());
            let bucket = (1..crate::BUCKETS).find(|&b| Histogram::bounds(b).contains(&ns)).unwrap_or(0);
            let histogram = Histogram::from_bucket(bucket, [1]);
            let extremes = Some(Extremes { min_ns: ns, max_ns: ns });
            // Codes from 3 on halt for most of the time, even ones go to user space.
            let halted_ns = if code >= 3 { ns - ns / 8 } else { 0 };
            let out = u64::from(code % 2 == 0);
            let rest = ns - halted_ns;
            let split = Split {
                user_exits: out,
                user_ns: out * (rest / 3),
                halted_ns,
                polled_ns: halted_ns / 5,
                waiting_ns: rest / 2,
            };
            let returns = (0..out).map(|_| (UserReason(i32::from(code) - 2), 1)).collect();
            // Every third is one of L2's.
            let level = if ns % 3 == 0 { Level::L2 } else { Level::L1 };
            let to_l1 = u64::from(level == Level::L2);
            let nested = Nested { to_l1, l1_done: to_l1, l1_exits: to_l1 * 3, l1_ns: to_l1 * 4 * ns };
            let write = ns % 2 == 0;
            let detail = Detail::new(DetailKind::Msr, code.into(), write);
            let once = DetailCounters { count: 1, time_ns: ns, max_ns: ns };
            let details = Details { counts: [(detail, once)].into(), ..Details::default() };
            let one = Counters {
                count: 1,
                time_ns: ns,
                extremes,
                histogram,
                split,
                returns,
                nested,
                details,
                ..Counters::default()
            };
            rows.entry((vm, vcpu, level, code.into())).or_default().add(&one);
            *vcpus.entry((vm, vcpu)).or_default() += 1;
        }
        let vm = |id: VmId| {
            let (name, vmm) = (format!("vm{}", id.0 / 2), "qemu".into());
            (id, Vm { id, pid: 7, name, vmm, command: "".into(), labels: Default::default(), ended: false })
        };
        Interval {
            start: SystemTime::UNIX_EPOCH,
            end: SystemTime::UNIX_EPOCH,
            length: Duration::from_secs(1),
            source: Source::Btf,
            measured: Measured::Breakdown,
            vms: vcpus.keys().map(|(id, _)| vm(*id)).collect(),
            vcpus: vcpus
                .iter()
                .map(|(&(vm, vcpu), &exits)| VcpuSpan { vm, vcpu, exits, kvm_exits: None, time: None })
                .collect(),
            rows: rows
                .into_iter()
                .map(|((vm, vcpu, level, code), counters)| Row {
                    vm,
                    vcpu,
                    level,
                    code: ExitCode { isa: Isa::Vmx, code },
                    counters,
                })
                .collect(),
            workers: Vec::new(),
            loss: Loss::default(),
        }
    }

    proptest! {
        #[test]
        fn grouping_keeps_every_exit_and_sorting_is_one_order(
            cells in proptest::collection::vec((0u8..4, 0u8..3, 0u8..5, 0u64..1 << 40), 0..60),
            (vm, vcpu, level, reason, detail) in any::<(bool, bool, bool, bool, bool)>(),
            order in proptest::sample::select(Sort::all().collect::<Vec<_>>()),
        ) {
            let interval = interval(&cells);
            let by = By { vm, vcpu, level, reason, detail };
            let mut groups = group(&interval, by);
            let all = Group::sum(&groups).counters;
            if !detail {
                prop_assert_eq!(&all, &Group::total(&interval).counters);
            }
            prop_assert_eq!(&all.details, &Group::total(&interval).counters.details);
            prop_assert_eq!(all.count, cells.len() as u64);
            prop_assert_eq!(all.time_ns, cells.iter().map(|cell| cell.3).sum::<u64>());
            prop_assert_eq!(all.returns.values().sum::<u64>(), all.split.user_exits);
            prop_assert_eq!(all.details.count(), all.count);
            prop_assert_eq!(all.details.time_ns(), all.time_ns);
            if detail {
                let is_told = |group: &Group| group.subject.is_some() && group.avg_ns().is_some();
                prop_assert!(groups.iter().all(|group| group.counters.count == 0 || is_told(group)));
            }
            for g in groups.iter().filter(|group| group.subject.is_none()) {
                let (counters, split) = (&g.counters, &g.counters.split);
                let parts = split.kernel_ns(counters.time_ns) + split.user_ns + split.halted_ns + split.waiting_ns;
                prop_assert_eq!(parts, counters.time_ns);
                prop_assert_eq!(counters.busy_ns() + split.halted_ns, counters.time_ns);
                prop_assert_eq!((g.vm.is_some(), g.vcpu.is_some(), g.code.is_some()), (vm, vcpu, reason));
                prop_assert_eq!(g.level.is_some(), level);
                if level {
                    let l2 = if g.level == Some(Level::L2) { counters.count } else { 0 };
                    prop_assert_eq!(counters.nested.to_l1, l2);
                }
            }

            let name = |code: ExitCode| Cow::Owned(format!("R{}", code.code / 2));
            let context = Context::new(&interval);
            sort(&mut groups, order, &context, name);
            let mut other: Vec<Group> = groups.iter().rev().cloned().collect();
            sort(&mut other, order, &context, name);
            prop_assert_eq!(groups, other);
        }
    }

    #[test]
    fn orders_put_the_largest_figure_or_the_first_name_on_top() {
        let mut interval = interval(&[
            (2, 0, 1, 10),
            (2, 0, 1, 10),
            (0, 1, 9, 900),
            (0, 1, 5, 30),
            (2, 0, 2, 400),
            (2, 1, 7, 1000),
            (2, 1, 7, 400),
        ]);
        let by = |interval: &Interval, order| {
            let mut groups = group(interval, By::ALL);
            sort(&mut groups, order, &Context::new(interval), |code| {
                Cow::Owned(format!("{:02}", 20 - code.code))
            });
            groups[0].code.map(|code| code.code)
        };
        let first = |word: &str| by(&interval, word.parse().unwrap());
        assert_eq!(first("count"), Some(1));
        assert_eq!(first("rate"), Some(1));
        assert_eq!(first("time"), Some(7));
        assert_eq!(first("busy"), Some(2), "what halted is not busy");
        assert_eq!(first("user-exits"), Some(2));
        assert_eq!(first("halted"), Some(7));
        assert_eq!(first("p99"), Some(7));
        assert_eq!(first("name"), Some(9));
        assert_eq!(first("vm"), Some(5), "vm0 comes first, and of its rows the one with the lower code");
        assert_eq!(first("vcpu"), Some(1));
        for measured in [Measured::Latency, Measured::Counts] {
            interval.measured = measured;
            for order in ["busy", "kernel"] {
                let order: Sort = order.parse().unwrap();
                assert_eq!(by(&interval, order), by(&interval, Sort::COUNT), "{order} is not measured");
            }
        }
    }

    #[test]
    fn a_count_without_reasons_is_that_of_the_vcpus() {
        let mut interval = interval(&[(0, 0, 1, 10)]);
        interval.vcpus[0].exits = 5;
        interval.vcpus.push(VcpuSpan { vm: VmId(0), vcpu: 1, exits: 0, kvm_exits: None, time: None });
        let by = "vcpu".parse().unwrap();
        let counts: Vec<u64> = group(&interval, by).iter().map(|g| g.counters.count).collect();
        assert_eq!(counts, [5, 0]);
    }

    #[test]
    fn words_are_read_and_written() {
        assert_eq!("reason, level, vm".parse(), Ok(By::default()));
        assert_eq!(By::ALL.to_string(), "vm,vcpu,level,reason");
        assert_eq!("detail, vm".parse::<By>().map(|by| by.to_string()), Ok("vm,detail".into()));
        for order in Sort::all() {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        let error = "vm,cpu".parse::<By>().unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no grouping by \"cpu\"; choose from vm, vcpu, level, reason, detail, separated by commas"
        );
        assert!("".parse::<By>().is_err());
        assert!(
            "biggest"
                .parse::<Sort>()
                .unwrap_err()
                .to_string()
                .contains("choose from busy, count, rate, user-exits")
        );
    }
}
