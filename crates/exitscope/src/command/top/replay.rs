//! A recording as a source of intervals, which can be gone through in either direction.

use crate::top::{Mode, Replay, Seen, State};
use exitscope_model::{Interval, Vm};
use exitscope_record::{self as record, Part, Recording};
use std::time::Duration;

/// How many states that were passed are kept, to go back quickly, and how many rows of them all together.
const MARKS: usize = 32;
const MARKED_ROWS: usize = 200_000;

/// A recording, and where in it we are.
pub struct Tape {
    recording: Recording,
    /// When each interval began, since the recording did, and how long it was.
    moments: Vec<(Duration, Duration)>,
    /// What of it is looked at.
    keep: Box<dyn Fn(&Vm) -> bool>,
    /// The interval that is shown.
    at: usize,
    /// What was seen up to some intervals, in their order.
    marks: Vec<(usize, Seen)>,
    /// How far marks are from each other.
    stride: usize,
}

impl Tape {
    /// From its beginning. Reads it all once, to know that it is whole, and how busy it was when.
    pub fn open(
        recording: Recording,
        keep: impl Fn(&Vm) -> bool + 'static,
    ) -> Result<(Tape, Vec<f64>), record::Error> {
        let moments: Vec<_> = recording.moments().collect();
        let mut rates = Vec::with_capacity(moments.len());
        recording.each(Part::default(), |mut interval| {
            interval.retain(|vm, _| keep(vm));
            #[allow(clippy::cast_precision_loss)]
            rates.push(interval.exits() as f64 / interval.length.as_secs_f64().max(1e-9));
            Ok::<_, record::Error>(())
        })?;
        let keep = Box::new(keep);
        Ok((Tape { recording, moments, keep, at: 0, marks: Vec::new(), stride: 16 }, rates))
    }

    /// How long the interval that is shown was when it was recorded.
    pub fn length(&self) -> Duration {
        self.moments.get(self.at).map_or(Duration::ZERO, |(_, length)| *length)
    }

    /// Shows the interval that is so many further, or back; false where there is none, and the first or last is shown.
    pub fn go(&mut self, by: isize, state: &mut State) -> Result<bool, record::Error> {
        let last = self.moments.len().saturating_sub(1);
        let wanted = self.at.checked_add_signed(by);
        let to = wanted.unwrap_or(0).min(last);
        let seen = state.seen.now.is_some();
        if to != self.at || !seen {
            // What was seen last, if we are behind it.
            let mark = self.marks.iter().rev().find(|(at, _)| *at <= to);
            let ahead = seen && to > self.at && mark.is_none_or(|(at, _)| *at <= self.at);
            let (from, mut now) = match mark {
                _ if ahead => (self.at + 1, std::mem::take(&mut state.seen)),
                Some((at, seen)) => (at + 1, seen.clone()),
                None => (0, Seen::default()),
            };
            let mut number = from;
            let (recording, keep) = (&self.recording, &self.keep);
            let (marks, stride) = (&mut self.marks, &mut self.stride);
            recording.each_of(from..to + 1, |mut interval: Interval| {
                interval.retain(|vm, _| keep(vm));
                now.take(interval);
                mark_here(marks, stride, number, &now);
                number += 1;
                Ok::<_, record::Error>(())
            })?;
            self.at = to;
            state.show(now);
        }
        if let Mode::Replay(replay) = &mut state.mode {
            self.tell(replay);
        }
        Ok(wanted == Some(to))
    }

    fn tell(&self, replay: &mut Replay) {
        let (offset, length) = self.moments.get(self.at).copied().unwrap_or_default();
        replay.at = self.at;
        replay.time = offset + length;
    }
}

/// Remembers what was seen up to this interval, if that is due; where it gets too much, every other one is forgotten.
fn mark_here(marks: &mut Vec<(usize, Seen)>, stride: &mut usize, number: usize, now: &Seen) {
    if !number.is_multiple_of(*stride) || marks.last().is_some_and(|(last, _)| *last >= number) {
        return;
    }
    marks.push((number, now.clone()));
    let rows: usize = marks.iter().filter_map(|(_, seen)| seen.all.as_ref()).map(|all| all.rows.len()).sum();
    if marks.len() > MARKS || rows > MARKED_ROWS {
        *stride *= 2;
        marks.retain(|(at, _)| at.is_multiple_of(*stride));
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
            let path = std::env::temp_dir().join(format!("exitscope-tape-{}", std::process::id()));
            let intervals = record(&path, seconds);
            let (mut tape, rates) = Tape::open(Recording::open(&path).unwrap(), |_| true).unwrap();
            prop_assert_eq!(rates.len(), intervals.len());
            let replay = Replay { name: "r".into(), count: intervals.len(), ..Replay::default() };
            let mut state = State::new(Mode::Replay(replay), Duration::from_secs(1));
            tape.go(0, &mut state).unwrap();
            let mut at = 0usize;
            for by in steps {
                let there = tape.go(by, &mut state).unwrap();
                let wanted = at.checked_add_signed(by);
                at = wanted.unwrap_or(0).min(intervals.len() - 1);
                prop_assert_eq!(there, wanted == Some(at));
                let mut expected = Seen::default();
                intervals[..=at].iter().for_each(|interval| expected.take(interval.clone()));
                prop_assert!(state.seen.now == expected.now, "interval {}", at);
                prop_assert!(state.seen.all == expected.all, "all up to {}", at);
                let keys = || [crate::top::Key::Vm(exitscope_model::VmId(0))];
                prop_assert_eq!(state.seen.history.rates(keys(), 20), expected.history.rates(keys(), 20));
                match &state.mode {
                    Mode::Replay(replay) => prop_assert_eq!(replay.at, at),
                    Mode::Live => prop_assert!(false),
                }
            }
            std::fs::remove_file(&path).unwrap();
        }
    }
}
