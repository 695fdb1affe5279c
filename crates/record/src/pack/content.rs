//! Rows of one interval, by the keys of a recording.

use exitscope_model::{
    Counters, DetailCounters, Extremes, Histogram, Loss, Nested, Split, VcpuTime, WorkerTimes,
};

/// Exits and time of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanRow {
    /// Key of the vCPU.
    pub vcpu: u32,
    /// Exits of all reasons.
    pub exits: u64,
    /// KVM's own count of them.
    pub kvm_exits: Option<u64>,
    /// Parts of its time.
    pub time: Option<VcpuTime>,
}

/// Counters of one reason on one vCPU, without those by what exits were about and led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitRow {
    /// Key of the vCPU.
    pub vcpu: u32,
    /// Key of the reason.
    pub reason: u32,
    /// Exits.
    pub count: u64,
    /// Their host time (ns).
    pub time_ns: u64,
    /// Shortest and longest host time.
    pub extremes: Option<Extremes>,
    /// Host times.
    pub histogram: Histogram,
    /// Parts of the host time.
    pub split: Split,
    /// Cost to L1.
    pub nested: Nested,
}

/// Exits of one vCPU by something that they were about or led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakdownRow {
    /// Key of the vCPU.
    pub vcpu: u32,
    /// Number of the breakdown.
    pub breakdown: u32,
    /// Its exits.
    pub counters: DetailCounters,
}

/// Times of the threads that work for a VM beside its vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerRow {
    /// The VM.
    pub vm: u64,
    /// The times.
    pub times: WorkerTimes,
}

/// Rows of one interval, each kind in the order of its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Number of the interval; of several together, of the first.
    pub interval: u64,
    /// Length (ns).
    pub length_ns: u64,
    /// vCPUs that did something.
    pub spans: Vec<SpanRow>,
    /// Reasons of vCPUs.
    pub rows: Vec<ExitRow>,
    /// Things that exits were about and led to.
    pub breakdowns: Vec<BreakdownRow>,
    /// VMs whose workers were looked at.
    pub workers: Vec<WorkerRow>,
    /// Figures of loss.
    pub loss: Loss,
}

/// Kind of a breakdown: exits that are in it are in no other of the same kind and reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Returns of KVM_RUN.
    Return,
    /// Exits by detail, with host times.
    Detail,
    /// Exits by mode.
    Mode,
}

/// Tells the key of the reason, and the kind, of a breakdown.
pub type Of<'a> = &'a dyn Fn(u32) -> Option<(u32, Kind)>;

impl ExitRow {
    /// The row of some counters.
    pub fn new((vcpu, reason): (u32, u32), counters: &Counters) -> ExitRow {
        ExitRow {
            vcpu,
            reason,
            count: counters.count,
            time_ns: counters.time_ns,
            extremes: counters.extremes,
            histogram: counters.histogram.clone(),
            split: counters.split,
            nested: counters.nested,
        }
    }

    /// Its counters.
    pub fn counters(self) -> Counters {
        let ExitRow { count, time_ns, extremes, histogram, split, nested, .. } = self;
        Counters { count, time_ns, extremes, histogram, split, nested, ..Counters::default() }
    }

    fn add(&mut self, next: &ExitRow) {
        self.count += next.count;
        self.time_ns += next.time_ns;
        self.extremes = Extremes::merge(self.extremes, next.extremes);
        self.histogram.add(&next.histogram);
        self.split.add(&next.split);
        self.nested.add(&next.nested);
    }
}

impl SpanRow {
    fn add(&mut self, next: &SpanRow) {
        self.exits += next.exits;
        self.kvm_exits = self.kvm_exits.zip(next.kvm_exits).map(|(a, b)| a + b);
        if let (Some(mine), Some(time)) = (&mut self.time, &next.time) {
            mine.add(time);
        }
    }
}

impl Content {
    /// Number of its rows of all kinds.
    pub fn len(&self) -> usize {
        self.spans.len() + self.rows.len() + self.breakdowns.len() + self.workers.len()
    }

    /// The largest of all numbers.
    pub fn largest(&self) -> u64 {
        let time = |time: &VcpuTime| {
            let VcpuTime { guest_ns, kernel_ns, user_ns, halted_ns, polled_ns, waiting_ns } = *time;
            guest_ns.max(kernel_ns).max(user_ns).max(halted_ns).max(polled_ns).max(waiting_ns)
        };
        let span =
            |row: &SpanRow| row.exits.max(row.kvm_exits.unwrap_or(0)).max(row.time.as_ref().map_or(0, time));
        let row = |row: &ExitRow| {
            let longest = row.extremes.map_or(0, |extremes| extremes.max_ns);
            let Split { user_exits, user_ns, waiting_ns, halted_ns, polled_ns } = row.split;
            let Nested { to_l1, l1_done, l1_exits, l1_ns } = row.nested;
            let split = user_exits.max(user_ns).max(waiting_ns).max(halted_ns).max(polled_ns);
            let nested = to_l1.max(l1_done).max(l1_exits).max(l1_ns);
            row.count.max(row.time_ns).max(row.histogram.count()).max(longest).max(split).max(nested)
        };
        let breakdown =
            |row: &BreakdownRow| row.counters.count.max(row.counters.time_ns).max(row.counters.max_ns);
        let all = [
            self.spans.iter().map(span).max(),
            self.rows.iter().map(row).max(),
            self.breakdowns.iter().map(breakdown).max(),
        ];
        all.into_iter().flatten().max().unwrap_or(0)
    }

    /// Adds the interval that follows.
    pub fn extend(&mut self, next: &Content) {
        self.length_ns += next.length_ns;
        self.loss.add(&next.loss);
        merge(&mut self.spans, &next.spans, |row| row.vcpu, SpanRow::add);
        merge(&mut self.rows, &next.rows, |row| (row.vcpu, row.reason), ExitRow::add);
        let key = |row: &BreakdownRow| (row.vcpu, row.breakdown);
        merge(&mut self.breakdowns, &next.breakdowns, key, |row, next| row.counters.add(&next.counters));
        merge(&mut self.workers, &next.workers, |row| row.vm, |row, next| row.times.add(&next.times));
    }

    /// Divides it into parts of at most `most` rows of vCPUs, or of one vCPU. The first has the rest.
    pub fn divide(mut self, most: usize) -> Vec<Content> {
        let mut parts = Vec::new();
        loop {
            let mut vcpus: Vec<u32> = self.spans.iter().map(|row| row.vcpu).collect();
            vcpus.extend(self.rows.iter().map(|row| row.vcpu));
            vcpus.extend(self.breakdowns.iter().map(|row| row.vcpu));
            vcpus.sort_unstable();
            // The vCPU with which it would be too long, but one at least.
            let end = vcpus.get(most).zip(vcpus.first()).map(|(end, first)| (*end).max(first + 1));
            let Some(end) = end.filter(|end| vcpus.last() >= Some(end)) else {
                parts.push(self);
                return parts;
            };
            let rest = Content {
                interval: self.interval,
                length_ns: self.length_ns,
                spans: self.spans.split_off(self.spans.partition_point(|row| row.vcpu < end)),
                rows: self.rows.split_off(self.rows.partition_point(|row| row.vcpu < end)),
                breakdowns: self.breakdowns.split_off(self.breakdowns.partition_point(|row| row.vcpu < end)),
                workers: Vec::new(),
                loss: Loss::default(),
            };
            parts.push(std::mem::replace(&mut self, rest));
        }
    }
}

/// Adds rows to those of the same key; both are in the order of their keys.
fn merge<T: Clone, K: Ord>(mine: &mut Vec<T>, next: &[T], key: impl Fn(&T) -> K, add: impl Fn(&mut T, &T)) {
    let known = mine.len();
    let mut at = 0;
    for row in next {
        let wanted = key(row);
        // Mostly the next one, since the same come again.
        while at < known && key(&mine[at]) < wanted {
            at += 1;
        }
        match mine.get_mut(at).filter(|_| at < known) {
            Some(found) if key(found) == wanted => add(found, row),
            _ => mine.push(row.clone()),
        }
    }
    if mine.len() > known {
        mine.sort_by_key(key);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use exitscope_model::BUCKETS;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![3 => Just(0_u64), 4 => 0_u64..3000, 1 => 0_u64..1 << 48]
    }

    prop_compose! {
        fn exit_row(vcpu: u32, reason: u32)(
            numbers in prop::array::uniform11(number()),
            buckets in proptest::collection::vec(prop_oneof![Just(0_u64), 0_u64..300], 0..6),
            first in 0..BUCKETS - 6,
            extremes in proptest::option::of((number(), number())),
        ) -> ExitRow {
            let [count, time_ns, user_exits, user_ns, waiting_ns, halted_ns, polled_ns, to_l1, l1_done, l1_exits, l1_ns] =
                numbers;
            ExitRow {
                vcpu,
                reason,
                count,
                time_ns,
                extremes: extremes.map(|(a, b)| Extremes { min_ns: a.min(b), max_ns: a.max(b) }),
                histogram: Histogram::from_bucket(first, buckets),
                split: Split { user_exits, user_ns, waiting_ns, halted_ns, polled_ns },
                nested: Nested { to_l1, l1_done, l1_exits, l1_ns },
            }
        }
    }

    prop_compose! {
        fn span_row(vcpu: u32)(
            exits in number(), kvm_exits in proptest::option::of(number()),
            time in proptest::option::of(prop::array::uniform6(number())),
        ) -> SpanRow {
            let time = time.map(|[guest_ns, kernel_ns, user_ns, halted_ns, polled_ns, waiting_ns]| {
                VcpuTime { guest_ns, kernel_ns, user_ns, halted_ns, polled_ns, waiting_ns }
            });
            SpanRow { vcpu, exits, kvm_exits, time }
        }
    }

    prop_compose! {
        fn breakdown_row(vcpu: u32, breakdown: u32)(numbers in prop::array::uniform3(number())) -> BreakdownRow {
            let [count, time_ns, max_ns] = numbers;
            BreakdownRow { vcpu, breakdown, counters: DetailCounters { count, time_ns, max_ns } }
        }
    }

    prop_compose! {
        /// Any interval of few vCPUs, reasons and breakdowns.
        pub fn content(interval: u64)(
            length_ns in number(),
            spans in proptest::collection::btree_set(0_u32..5, 0..5),
            rows in proptest::collection::btree_set((0_u32..5, 0_u32..4), 0..12),
            breakdowns in proptest::collection::btree_set((0_u32..5, 0_u32..9), 0..9),
            workers in proptest::collection::btree_map(any::<u64>(), number(), 0..3),
            torn in prop_oneof![Just(0), 0_u64..9],
        )(
            length_ns in Just(length_ns),
            spans in spans.into_iter().map(span_row).collect::<Vec<_>>(),
            rows in rows.into_iter().map(|(vcpu, reason)| exit_row(vcpu, reason)).collect::<Vec<_>>(),
            breakdowns in breakdowns.into_iter().map(|(vcpu, id)| breakdown_row(vcpu, id)).collect::<Vec<_>>(),
            workers in Just(workers),
            torn in Just(torn),
        ) -> Content {
            let times = |main_cpu_ns| WorkerTimes { main_cpu_ns, span_ns: length_ns, ..WorkerTimes::default() };
            let workers = workers.into_iter().map(|(vm, ns)| WorkerRow { vm, times: times(ns) }).collect();
            Content { interval, length_ns, spans, rows, breakdowns, workers, loss: Loss { torn, ..Loss::default() } }
        }
    }

    proptest! {
        #[test]
        fn parts_are_the_whole(whole in content(7), most in 1_usize..20) {
            let parts = whole.clone().divide(most);
            for part in &parts {
                let mut vcpus: Vec<u32> = part.rows.iter().map(|row| row.vcpu).collect();
                vcpus.extend(part.spans.iter().map(|row| row.vcpu));
                vcpus.extend(part.breakdowns.iter().map(|row| row.vcpu));
                vcpus.sort_unstable();
                vcpus.dedup();
                prop_assert!(part.len() - part.workers.len() <= most || vcpus.len() == 1);
            }
            let mut sum = Content { length_ns: whole.length_ns, interval: 7, ..Content::default() };
            for part in parts {
                sum.extend(&Content { length_ns: 0, ..part });
            }
            prop_assert_eq!(sum, whole);
        }
    }
}
