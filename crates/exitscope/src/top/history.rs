//! The last minute, for sparklines: exits of each VM, vCPU and reason in slots of a second.

use exitscope_model::{ExitCode, Interval, Level, VmId, float};
use std::collections::{HashMap, VecDeque};

/// Length of the history (s).
pub const SPAN: f64 = 60.0;

/// Least length of a slot (s). A little less than a second, because intervals of a second
/// are now and then a little shorter.
const SLOT: f64 = 0.95;

/// Subject of a series of exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Exits of a VM.
    Vm(VmId),
    /// Exits of a vCPU.
    Vcpu(VmId, u32),
    /// Exits of a VM for one reason.
    Reason(VmId, Level, ExitCode),
}

/// Exits in slots, one after the other.
#[derive(Clone, Debug, Default)]
struct Series {
    /// The number of the first slot in `counts`.
    first: u64,
    counts: VecDeque<u64>,
}

impl Series {
    fn add(&mut self, slot: u64, exits: u64) {
        if self.counts.is_empty() {
            self.first = slot;
        }
        while self.first + self.counts.len() as u64 <= slot {
            self.counts.push_back(0);
        }
        if let Some(last) = self.counts.back_mut() {
            *last += exits;
        }
    }

    fn forget_before(&mut self, slot: u64) {
        while self.first < slot && self.counts.pop_front().is_some() {
            self.first += 1;
        }
    }

    fn get(&self, slot: u64) -> u64 {
        let at = slot.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.counts.get(at)).copied().unwrap_or(0)
    }
}

/// The last minute. Bounded: a minute of whatever exited in it.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The number of the first slot in `lengths`.
    first: u64,
    /// Length of each slot (s).
    lengths: VecDeque<f64>,
    series: HashMap<Key, Series>,
}

impl History {
    /// Takes the interval that follows.
    pub fn take(&mut self, interval: &Interval) {
        let length = interval.length.as_secs_f64();
        match self.lengths.back_mut() {
            Some(last) if *last < SLOT => *last += length,
            _ => self.next_slot(length),
        }
        let slot = self.first + (self.lengths.len() as u64).saturating_sub(1);
        let mut add = |key, exits| {
            if exits > 0 {
                self.series.entry(key).or_default().add(slot, exits);
            }
        };
        for span in &interval.vcpus {
            add(Key::Vm(span.vm), span.exits);
            add(Key::Vcpu(span.vm, span.vcpu), span.exits);
        }
        for row in &interval.rows {
            add(Key::Reason(row.vm, row.level, row.code), row.counters.count);
        }
    }

    fn next_slot(&mut self, length: f64) {
        self.lengths.push_back(length);
        let mut all: f64 = self.lengths.iter().sum();
        while let Some(oldest) = self.lengths.front().copied().filter(|oldest| all - oldest >= SPAN) {
            self.lengths.pop_front();
            self.first += 1;
            all -= oldest;
        }
        let first = self.first;
        self.series.retain(|_, series| {
            series.forget_before(first);
            !series.counts.is_empty()
        });
    }

    /// Exits per second of all `keys` together, oldest first, in so many equal parts of the last minute; `None` where
    /// nobody was watching yet.
    pub fn rates(&self, keys: impl IntoIterator<Item = Key>, parts: usize) -> Vec<Option<f64>> {
        let series: Vec<&Series> = keys.into_iter().filter_map(|key| self.series.get(&key)).collect();
        // Exits and seconds of each part, newest first.
        let mut sums = vec![(0.0, 0.0); parts];
        let width = SPAN / float(parts.max(1) as u64);
        let (mut age, mut part) = (0.0, 0);
        for (at, &length) in self.lengths.iter().enumerate().rev() {
            let exits = series.iter().map(|series| series.get(self.first + at as u64)).sum();
            let rate = if length > 0.0 { float(exits) / length } else { 0.0 };
            let end = age + length;
            while age < end && part < parts {
                let until = end.min(width * float(part as u64 + 1));
                sums[part].0 += rate * (until - age);
                sums[part].1 += until - age;
                age = until;
                if until < end || width * float(part as u64 + 1) <= end {
                    part += 1;
                }
            }
            age = end;
        }
        // What is covered by less than half is known too little.
        sums.iter().rev().map(|(exits, seconds)| (*seconds > width / 2.0).then(|| exits / seconds)).collect()
    }

    /// Length of time that it covers (s).
    pub fn seconds(&self) -> f64 {
        self.lengths.iter().sum::<f64>().min(SPAN)
    }

    /// Number of series.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.series.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::fixture;
    use std::time::Duration;

    fn exits(vm: u64, count: u64, seconds: f64) -> Interval {
        let mut interval = fixture::idle();
        interval.length = Duration::from_secs_f64(seconds);
        interval.vcpus.retain(|span| span.vm == VmId(vm));
        interval.vcpus.iter_mut().for_each(|span| span.exits = count);
        interval
    }

    fn rounded(rates: Vec<Option<f64>>) -> Vec<Option<i64>> {
        #[allow(clippy::cast_possible_truncation)]
        rates.into_iter().map(|rate| rate.map(|rate| rate.round() as i64)).collect()
    }

    #[test]
    fn a_minute_is_kept_and_no_more() {
        let mut history = History::default();
        for second in 0..100 {
            history.take(&exits(0, second, 1.0));
        }
        let rates = rounded(history.rates([Key::Vm(VmId(0))], 60));
        assert_eq!(rates, (40..100).map(Some).collect::<Vec<_>>());
        assert_eq!(rounded(history.rates([Key::Vm(VmId(0))], 6)), [45, 55, 65, 75, 85, 95].map(Some));
        assert_eq!(history.len(), 2);
        // Another VM for a minute: of the first nothing is left.
        for _ in 0..61 {
            history.take(&exits(1, 5, 1.0));
        }
        assert_eq!(history.len(), 2);
        assert_eq!(rounded(history.rates([Key::Vm(VmId(0))], 2)), [Some(0); 2]);
    }

    #[test]
    fn any_length_of_interval_gives_the_same_rate() {
        for length in [0.1, 0.25, 1.0, 3.0, 7.5] {
            let mut history = History::default();
            let mut time = 0.0;
            while time < 200.0 {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                history.take(&exits(0, (1000.0 * length) as u64, length));
                time += length;
            }
            assert!(history.lengths.len() <= 64, "{}", history.lengths.len());
            for parts in [1, 7, 60, 200] {
                let rates = rounded(history.rates([Key::Vm(VmId(0))], parts));
                assert!(rates.iter().all(|rate| *rate == Some(1000)), "{length} {parts} {rates:?}");
            }
        }
        let mut history = History::default();
        history.take(&exits(0, 30, 30.0));
        assert_eq!(rounded(history.rates([Key::Vm(VmId(0))], 4)), [None, None, Some(1), Some(1)]);
        assert_eq!(history.rates([Key::Vm(VmId(0))], 0), []);
    }
}
