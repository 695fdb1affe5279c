//! Exits over time, in slices.

use exitscope_model::{ExitCode, Interval, float};
use std::collections::BTreeMap;
use std::time::Duration;

/// Number of slices from which on two become one. At 100 ms that is after two hours.
const MOST: usize = 72_000;

/// Counts of a short time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Time since the start at which it began.
    pub at: Duration,
    /// Duration.
    pub length: Duration,
    /// Exits of all VMs.
    pub exits: u64,
    /// Exits by reason, without those that found no room in the BPF tables.
    pub by_reason: BTreeMap<ExitCode, u64>,
    /// Index of its phase among the [`Stretch`]es.
    pub phase: usize,
}

impl Slice {
    /// Returns exits per second, 0 for a slice without length.
    pub fn rate(&self) -> f64 {
        if self.length.is_zero() { 0.0 } else { float(self.exits) / self.length.as_secs_f64() }
    }

    /// Returns the time since the start at which it ended.
    pub fn end(&self) -> Duration {
        self.at + self.length
    }

    /// Returns the share of these exits in all exits of the slice, 0 for a slice without exits.
    pub fn part(&self, exits: u64) -> f64 {
        if self.exits == 0 { 0.0 } else { float(exits) / float(self.exits) }
    }

    /// Returns the reasons with their exits, the most frequent first.
    pub fn by_frequency(&self) -> Vec<(ExitCode, u64)> {
        let mut kinds: Vec<_> = self.by_reason.iter().map(|(&code, &count)| (code, count)).collect();
        kinds.sort_by_key(|&(code, count)| (std::cmp::Reverse(count), code));
        kinds
    }

    /// Adds a later slice, which may leave a gap.
    fn add(&mut self, next: &Slice) {
        if self.length.is_zero() {
            self.at = next.at;
        }
        self.length += next.length;
        self.exits += next.exits;
        for (&code, count) in &next.by_reason {
            *self.by_reason.entry(code).or_default() += count;
        }
    }
}

/// One phase of the series. A phase that comes twice has two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Name of the phase.
    pub name: String,
    /// Sum of its slices.
    pub whole: Slice,
}

/// Slices in the order of time, with their phases.
#[derive(Clone, Debug)]
pub struct Series {
    slices: Vec<Slice>,
    stretches: Vec<Stretch>,
    /// Time at which the next slice begins.
    now: Duration,
}

impl Series {
    /// Empty series, in a phase of this name.
    pub fn new(phase: &str) -> Series {
        Series {
            slices: Vec::new(),
            stretches: vec![Stretch { name: phase.into(), whole: Slice::default() }],
            now: Duration::ZERO,
        }
    }

    /// Appends an interval to the current phase.
    pub fn add(&mut self, interval: &Interval) {
        let mut by_reason = BTreeMap::new();
        for row in &interval.rows {
            *by_reason.entry(row.code).or_default() += row.counters.count;
        }
        by_reason.retain(|_, count| *count > 0);
        self.add_slice(interval.length, interval.exits(), by_reason);
    }

    /// Appends a slice of so many exits, by reason where that is not 0, to the current phase.
    pub fn add_slice(&mut self, length: Duration, exits: u64, by_reason: BTreeMap<ExitCode, u64>) {
        let phase = self.stretches.len() - 1;
        let slice = Slice { at: self.now, length, exits, by_reason, phase };
        self.now = slice.end();
        if let Some(stretch) = self.stretches.last_mut() {
            stretch.whole.add(&slice);
        }
        self.slices.push(slice);
        if self.slices.len() >= MOST {
            self.halve();
        }
    }

    /// Leaves a gap of this length.
    pub fn skip(&mut self, length: Duration) {
        self.now += length;
    }

    /// Merges each two consecutive slices of a phase into one.
    fn halve(&mut self) {
        let mut halves: Vec<Slice> = Vec::with_capacity(MOST);
        let mut whole = true;
        for slice in self.slices.drain(..) {
            match halves.last_mut().filter(|last| !whole && last.phase == slice.phase) {
                Some(last) => {
                    last.add(&slice);
                    whole = true;
                }
                None => {
                    halves.push(slice);
                    whole = false;
                }
            }
        }
        self.slices = halves;
    }

    /// Begins a phase with the next slice.
    pub fn begin(&mut self, phase: &str) {
        let whole = Slice { at: self.now, phase: self.stretches.len(), ..Slice::default() };
        self.stretches.push(Stretch { name: phase.into(), whole });
    }

    /// Drops the phases without slices. Returns the new index of each phase by its old one.
    pub fn forget_empty(&mut self) -> Vec<Option<usize>> {
        let mut kept = 0;
        let places: Vec<Option<usize>> = (0..self.stretches.len())
            .map(|place| {
                let found = self.slices.binary_search_by_key(&place, |slice| slice.phase).is_ok();
                kept += usize::from(found);
                found.then(|| kept - 1)
            })
            .collect();
        let mut old = places.iter();
        self.stretches.retain(|_| old.next().is_some_and(Option::is_some));
        let place = |old: usize| places.get(old).copied().flatten().unwrap_or(0);
        self.slices.iter_mut().for_each(|slice| slice.phase = place(slice.phase));
        self.stretches.iter_mut().for_each(|stretch| stretch.whole.phase = place(stretch.whole.phase));
        places
    }

    /// Begins a phase at a time in the past, but not before the current phase began.
    pub fn begin_at(&mut self, at: Duration, phase: &str) {
        let before = self.stretches.len() - 1;
        self.begin(phase);
        let from = self.slices.partition_point(|slice| slice.phase < before || slice.at < at);
        let later = &mut self.slices[from..];
        later.iter_mut().for_each(|slice| slice.phase = before + 1);
        if later.is_empty() {
            return;
        }
        for place in [before, before + 1] {
            let mut whole = Slice { at: self.stretches[place].whole.at, phase: place, ..Slice::default() };
            self.slices.iter().filter(|slice| slice.phase == place).for_each(|slice| whole.add(slice));
            self.stretches[place].whole = whole;
        }
    }

    /// Returns the slices in the order of time.
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// Returns the phases in the order of time, some of which may have no exit.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// Returns the sum of all slices.
    pub fn whole(&self) -> Slice {
        let mut whole = Slice::default();
        self.slices.iter().for_each(|slice| whole.add(slice));
        whole
    }
}

/// Series for tests: slices of 100 ms, each with exits by code.
#[cfg(any(test, feature = "test-util"))]
pub fn fixture(slices: &[&[(i64, u64)]]) -> Series {
    use exitscope_model::Isa;
    let mut series = Series::new("start");
    for (place, counts) in slices.iter().enumerate() {
        let length = Duration::from_millis(100);
        let code = |code| ExitCode { isa: Isa::Svm, code };
        let slice = Slice {
            at: length * u32::try_from(place).unwrap(),
            length,
            exits: counts.iter().map(|(_, count)| count).sum(),
            by_reason: counts.iter().map(|&(of, count)| (code(of), count)).collect(),
            phase: 0,
        };
        series.stretches[0].whole.add(&slice);
        series.now = slice.end();
        series.slices.push(slice);
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_time_is_kept_in_longer_slices_and_whole() {
        let mut series = fixture(&[&[(0x72, 3)], &[(0x72, 4)], &[(0x7b, 5)], &[(0x7b, 6)], &[(0x78, 7)]]);
        series.slices[4].phase = 1;
        let whole = series.whole();
        series.halve();
        let kept: Vec<_> = series.slices.iter().map(|slice| (slice.at.as_millis(), slice.exits)).collect();
        assert_eq!(kept, [(0, 7), (200, 11), (400, 7)]);
        assert_eq!(series.whole(), whole);
    }

    #[test]
    fn a_phase_may_have_begun_before_it_is_known() {
        let mut series = fixture(&[&[(0x72, 3)], &[(0x72, 4)], &[(0x7b, 5)], &[(0x7b, 6)]]);
        let whole = series.whole();
        series.begin_at(Duration::from_millis(200), "kernel");
        series.begin_at(Duration::from_millis(100), "none of it");
        series.begin_at(Duration::from_millis(400), "login");
        let found: Vec<_> = series
            .stretches()
            .iter()
            .map(|stretch| (stretch.name.as_str(), stretch.whole.at.as_millis(), stretch.whole.exits))
            .collect();
        assert_eq!(found, [("start", 0, 7), ("kernel", 200, 0), ("none of it", 200, 11), ("login", 400, 0)]);
        assert_eq!(series.slices().iter().map(|slice| slice.phase).collect::<Vec<_>>(), [0, 0, 2, 2]);
        assert_eq!(series.whole(), whole);
    }

    #[test]
    fn a_part_keeps_its_times_and_its_phases() {
        let (mut series, interval) = (Series::new("start"), exitscope_model::fixture::busy());
        series.skip(interval.length);
        series.begin("kernel");
        series.add(&interval);
        series.skip(interval.length);
        series.add(&interval);
        series.begin("login");
        assert_eq!(series.forget_empty(), [None, Some(0), None]);
        let seconds: Vec<_> = series.slices().iter().map(|slice| (slice.at.as_secs(), slice.phase)).collect();
        assert_eq!(seconds, [(10, 0), (30, 0)]);
        let [kernel] = series.stretches() else { panic!("{:?}", series.stretches()) };
        assert_eq!((kernel.name.as_str(), &kernel.whole), ("kernel", &series.whole()));
        assert_eq!((kernel.whole.at.as_secs(), kernel.whole.length.as_secs()), (10, 20));
    }
}
