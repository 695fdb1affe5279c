//! A recording as a source of intervals, in either direction.

use crate::top::{Accumulator, Adding, Mode, Replay, State};
use exitscope_model::{Interval, Vm};
use exitscope_record::{self as record, Recording, Resolution};
use std::ops::Range;
use std::time::Duration;

/// Largest number of saved states, from which one goes back quickly, and of rows in all of them.
const MAX_SAVED: usize = 32;
const MAX_SAVED_ROWS: usize = 50_000;

/// Largest number of intervals whose rates are all read where not all VMs are shown. Of longer recordings sums of minutes do: there
/// are more intervals than a screen has columns.
const MAX_RATES: usize = 600;

/// Length of what is shown of the past, interval by interval; what was before that is only in the sum of all.
const PAST: Duration = Duration::from_secs(62);

/// A recording, and a place in it.
pub struct Cursor {
    recording: Recording,
    /// Begin of each interval since that of the recording, and its length.
    moments: Vec<(Duration, Duration)>,
    /// VMs that are shown.
    keep: Box<dyn Fn(&Vm) -> bool>,
    /// The interval that is shown.
    at: usize,
    /// States after some intervals, in their order.
    saved: Vec<(usize, Accumulator)>,
    /// Intervals between two of these.
    stride: usize,
}

impl Cursor {
    /// Opens a recording at its beginning. Returns the rate of each interval too (exits per second), for which it is all
    /// read only where a recording of an older schema, or a filter, takes that. Where not all VMs are shown and there are more
    /// than [`MAX_RATES`] intervals, the rate is that of the minute.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(
        recording: Recording,
        keep: impl Fn(&Vm) -> bool + 'static,
    ) -> Result<(Cursor, Vec<f64>), record::Error> {
        let moments: Vec<_> = recording.moments().collect();
        #[allow(clippy::cast_precision_loss)]
        let rate = |exits: u64, length: Duration| exits as f64 / length.as_secs_f64().max(1e-9);
        if recording.vms().all(&keep)
            && let Some(exits) = recording.exits()?
        {
            let rates = exits.into_iter().zip(&moments).map(|(exits, (_, length))| rate(exits, *length));
            let rates = rates.collect();
            let keep = Box::new(keep);
            return Ok((Cursor { recording, moments, keep, at: 0, saved: Vec::new(), stride: 16 }, rates));
        }
        let mut rates = vec![0.0; moments.len()];
        let longest = if moments.len() > MAX_RATES { Resolution::Minute } else { Resolution::Full };
        recording.each_sum(0..moments.len(), longest, |numbers, mut interval| {
            interval.retain(|vm, _| keep(vm));
            rates[numbers].fill(rate(interval.exits(), interval.length));
            Ok::<_, record::Error>(())
        })?;
        let keep = Box::new(keep);
        Ok((Cursor { recording, moments, keep, at: 0, saved: Vec::new(), stride: 16 }, rates))
    }

    /// Length of the interval that is shown, when it was recorded.
    pub fn length(&self) -> Duration {
        self.moments.get(self.at).map_or(Duration::ZERO, |(_, length)| *length)
    }

    /// Shows the interval that is so many further, or back. Returns false if there is none: the first or last is shown then.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn go(&mut self, by: isize, state: &mut State) -> Result<bool, record::Error> {
        let last = self.moments.len().saturating_sub(1);
        let wanted = self.at.checked_add_signed(by);
        let to = wanted.unwrap_or(0).min(last);
        let seen = state.accumulator.last.is_some();
        if to != self.at || !seen {
            // The last one saved before that place.
            let state_before = self.saved.iter().rev().find(|(at, _)| *at <= to);
            let ahead = seen && to > self.at && state_before.is_none_or(|(at, _)| *at <= self.at);
            let (from, seen) = match state_before {
                _ if ahead => (self.at + 1, std::mem::take(&mut state.accumulator)),
                Some((at, seen)) => (at + 1, seen.clone()),
                None => (0, Accumulator::default()),
            };
            let mut now = seen.adding();
            let past = self.past(from, to);
            let (recording, keep) = (&self.recording, &self.keep);
            let (saved, stride) = (&mut self.saved, &mut self.stride);
            for (numbers, longest) in [(from..past, Resolution::Hour), (past..to + 1, Resolution::Full)] {
                recording.each_sum(numbers, longest, |numbers, mut interval: Interval| {
                    interval.retain(|vm, _| keep(vm));
                    now.take(interval);
                    save_here(saved, stride, &numbers, &now);
                    Ok::<_, record::Error>(())
                })?;
            }
            self.at = to;
            state.show(now.finish());
        }
        if let Mode::Replay(replay) = &mut state.mode {
            self.place(replay);
        }
        Ok(wanted == Some(to))
    }

    /// Returns the first interval from `from` on that is less than [`PAST`] before the end of the one at `to`.
    fn past(&self, from: usize, to: usize) -> usize {
        let Some(&(last, _)) = self.moments.get(to) else { return to };
        let begin = last.saturating_sub(PAST);
        self.moments.partition_point(|(offset, _)| *offset < begin).clamp(from, to.max(from))
    }

    fn place(&self, replay: &mut Replay) {
        let (offset, length) = self.moments.get(self.at).copied().unwrap_or_default();
        replay.at = self.at;
        replay.time = offset + length;
        replay.resolution = self.recording.resolution(self.at);
    }
}

/// Saves the state after these intervals if that is due. Where it gets too much, every other one is dropped.
fn save_here(
    saved: &mut Vec<(usize, Accumulator)>,
    stride: &mut usize,
    numbers: &Range<usize>,
    now: &Adding,
) {
    let number = numbers.end - 1;
    if !number.is_multiple_of(*stride) || saved.last().is_some_and(|(last, _)| *last >= number) {
        return;
    }
    saved.push((number, now.clone().finish()));
    let rows: usize =
        saved.iter().filter_map(|(_, seen)| seen.total.as_ref()).map(|all| all.rows.len()).sum();
    if saved.len() > MAX_SAVED || rows > MAX_SAVED_ROWS {
        *stride *= 2;
        saved.retain(|(at, _)| at.is_multiple_of(*stride));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::fixture;
    use exitscope_model::fixture::about;
    use exitscope_record::{Notes, Writer};
    use proptest::prelude::*;

    /// A recording of so many seconds, each of which has exits of its own.
    fn record(path: &std::path::Path, seconds: u32) -> Vec<Interval> {
        let mut first = fixture::busy();
        first.rows.iter_mut().for_each(|row| row.counters.details = Default::default());
        let mut writer = Writer::create(path, true, &about(&first)).unwrap();
        let mut all = Vec::new();
        for second in 0..seconds {
            let mut interval = first.clone();
            interval.start += Duration::from_secs(second.into());
            interval.length = Duration::from_secs(1);
            interval.end = interval.start + interval.length;
            for (row, span) in interval.rows.iter_mut().zip(0u64..) {
                row.counters.count += u64::from(second) + span;
            }
            interval.vcpus[0].exits += u64::from(second);
            writer.write(&interval, &Notes::default()).unwrap();
            all.push(interval);
        }
        writer.finish("as asked").unwrap();
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// However one gets there, the same is seen.
        #[test]
        fn every_way_leads_to_the_same(
            seconds in 1u32..90, steps in proptest::collection::vec(-80isize..80, 1..12),
        ) {
            let path = std::env::temp_dir().join(format!("exitscope-cursor-{}", std::process::id()));
            let intervals = record(&path, seconds);
            let (mut cursor, rates) = Cursor::open(Recording::open(&path).unwrap(), |_| true).unwrap();
            prop_assert_eq!(rates.len(), intervals.len());
            let replay = Replay { name: "r".into(), count: intervals.len(), ..Replay::default() };
            let mut state = State::new(Mode::Replay(replay), Duration::from_secs(1));
            cursor.go(0, &mut state).unwrap();
            let mut at = 0usize;
            for by in steps {
                let there = cursor.go(by, &mut state).unwrap();
                let wanted = at.checked_add_signed(by);
                at = wanted.unwrap_or(0).min(intervals.len() - 1);
                prop_assert_eq!(there, wanted == Some(at));
                let mut expected = Accumulator::default();
                intervals[..=at].iter().for_each(|interval| expected.take(interval.clone()));
                prop_assert!(state.accumulator.last == expected.last, "interval {}", at);
                prop_assert!(state.accumulator.total == expected.total, "all up to {}", at);
                let keys = || [crate::top::Key::Vm(exitscope_model::VmId(0))];
                prop_assert_eq!(state.accumulator.history.rates(keys(), 20), expected.history.rates(keys(), 20));
                match &state.mode {
                    Mode::Replay(replay) => prop_assert_eq!(replay.at, at),
                    Mode::Live => prop_assert!(false),
                }
            }
            std::fs::remove_file(&path).unwrap();
        }
    }
}
