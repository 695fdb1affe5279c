//! Spikes: times at which a machine exited much more often than in the slices around.
//!
//! The method is Hampel's identifier in a moving window (Davies and Gather, "The identification of multiple outliers",
//! 1993; Pearson, "Outliers in process modeling and identification", 2002): a slice's rate stands out where it exceeds the
//! median of the slices around it by more than so many standard deviations, these being estimated by the median of the
//! absolute deviations from the median, times 1.4826 (which makes it the standard deviation of a normal distribution).
//! Neither is moved by the spikes themselves. As exits that come one by one at random scatter by the root of their number
//! (Poisson), the deviation is taken to be no less than that, so that quiet times do not make spikes of single exits.

use super::series::{Series, Slice};
use exitscope_model::{ExitCode, Summary, float};
use std::collections::BTreeMap;
use std::time::Duration;

/// Number of slices on either side that a slice is compared with.
pub const AROUND: usize = 20;

/// Number of standard deviations above the median from which a slice is a spike: three, as is usual for Hampel's
/// identifier.
pub const DEVIATIONS: f64 = 3.0;

/// Consecutive slices whose rate stands out.
#[derive(Clone, Debug, PartialEq)]
pub struct Spike {
    /// Time since the start at which it began.
    pub at: Duration,
    /// Duration.
    pub length: Duration,
    /// Number of exits.
    pub exits: u64,
    /// Exits above those that the usual rate would have made.
    pub excess: f64,
    /// Usual rate: the median of the slices around, in exits per second.
    pub usual: f64,
    /// Index of the phase that it began in.
    pub phase: usize,
    /// Reasons that were more frequent than usual, with the excess of each; the largest first.
    pub reasons: Vec<(ExitCode, f64)>,
}

/// Finds all spikes, in the order of time.
pub fn find(series: &Series) -> Vec<Spike> {
    let slices = series.slices();
    let mut spikes: Vec<Spike> = Vec::new();
    for (place, slice) in slices.iter().enumerate() {
        let Some(found) = look(slices, place) else { continue };
        match spikes.last_mut().filter(|last| last.at + last.length == slice.at) {
            Some(last) => last.join(found),
            None => spikes.push(found),
        }
    }
    for spike in &mut spikes {
        spike.reasons.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }
    spikes
}

fn look(slices: &[Slice], place: usize) -> Option<Spike> {
    let slice = &slices[place];
    let around = &slices[place.saturating_sub(AROUND)..(place + AROUND + 1).min(slices.len())];
    let seconds = slice.length.as_secs_f64();
    // With fewer around it than on one side, nothing says what is usual.
    if seconds == 0.0 || around.len() <= AROUND {
        return None;
    }
    let usual = median(around.iter().map(Slice::rate));
    let deviation = 1.4826 * median(around.iter().map(|slice| (slice.rate() - usual).abs()));
    let random = (usual * seconds).max(1.0).sqrt() / seconds;
    if slice.rate() <= usual + DEVIATIONS * deviation.max(random) {
        return None;
    }
    let reasons = slice.by_reason.keys().filter_map(|&code| {
        let rate = |slice: &Slice| match slice.length.as_secs_f64() {
            0.0 => 0.0,
            seconds => float(slice.by_reason.get(&code).copied().unwrap_or(0)) / seconds,
        };
        let more = (rate(slice) - median(around.iter().map(rate))) * seconds;
        (more > 0.0).then_some((code, more))
    });
    Some(Spike {
        at: slice.at,
        length: slice.length,
        exits: slice.exits,
        excess: float(slice.exits) - usual * seconds,
        usual,
        phase: slice.phase,
        reasons: reasons.collect(),
    })
}

impl Spike {
    /// Adds the next slice, which stands out as well.
    fn join(&mut self, next: Spike) {
        let (mine, its) = (self.length.as_secs_f64(), next.length.as_secs_f64());
        self.usual = (self.usual * mine + next.usual * its) / (mine + its);
        self.length += next.length;
        self.exits += next.exits;
        self.excess += next.excess;
        // By code, because a stranger's recording may have as many of them as there are rows.
        let mut sums: BTreeMap<ExitCode, f64> = std::mem::take(&mut self.reasons).into_iter().collect();
        for (code, more) in next.reasons {
            *sums.entry(code).or_default() += more;
        }
        self.reasons = sums.into_iter().collect();
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    Summary::of(values).unwrap_or_default().median
}

#[cfg(test)]
mod tests {
    use super::super::series::fixture;
    use super::*;
    use exitscope_model::Isa;
    use proptest::prelude::*;

    const CPUID: i64 = 0x72;
    const IOIO: i64 = 0x7b;

    #[test]
    fn a_burst_is_found_with_its_reason() {
        let quiet: &[(i64, u64)] = &[(CPUID, 100), (IOIO, 10)];
        let mut slices = vec![quiet; 60];
        slices[30] = &[(CPUID, 110), (IOIO, 1010)];
        slices[31] = &[(CPUID, 100), (IOIO, 510)];
        let spikes = find(&fixture(&slices));
        let [spike] = &spikes[..] else { panic!("{spikes:?}") };
        assert_eq!((spike.at, spike.length), (Duration::from_secs(3), Duration::from_millis(200)));
        assert_eq!(spike.exits, 1730);
        assert!((spike.excess - 1510.0).abs() < 0.001 && (spike.usual - 1100.0).abs() < 0.001);
        let code = |code| ExitCode { isa: Isa::Svm, code };
        assert_eq!(spike.reasons.iter().map(|(of, _)| *of).collect::<Vec<_>>(), [code(IOIO), code(CPUID)]);
        assert!((spike.reasons[0].1 - 1500.0).abs() < 0.001);
    }

    #[test]
    fn single_exits_of_a_quiet_machine_a_step_and_a_short_run_are_no_spikes() {
        let mut slices: Vec<&[(i64, u64)]> = vec![&[]; 60];
        slices[30] = &[(CPUID, 3)];
        assert_eq!(find(&fixture(&slices)), []);
        let mut slices: Vec<&[(i64, u64)]> = vec![&[(CPUID, 10)]; 30];
        slices.extend(vec![&[(CPUID, 5000)][..]; 30]);
        let step = find(&fixture(&slices));
        assert!(step.iter().all(|spike| spike.at >= Duration::from_secs(3)), "{step:?}");
        assert_eq!(find(&fixture(&[&[(CPUID, 1)], &[(CPUID, 100_000)], &[]])), []);
    }

    proptest! {
        /// Whatever was counted, spikes lie in it, apart from each other and in order, and hold no more than it.
        #[test]
        fn spikes_are_parts_of_the_whole(counts in prop::collection::vec(0u64..2000, 0..120)) {
            let slices: Vec<[(i64, u64); 1]> = counts.iter().map(|&count| [(CPUID, count)]).collect();
            let slices: Vec<&[(i64, u64)]> = slices.iter().map(|slice| &slice[..]).collect();
            let series = fixture(&slices);
            let spikes = find(&series);
            prop_assert!(spikes.windows(2).all(|two| two[0].at + two[0].length < two[1].at));
            prop_assert!(spikes.iter().map(|spike| spike.exits).sum::<u64>() <= series.whole().exits);
            prop_assert!(spikes.iter().all(|spike| spike.excess > 0.0));
        }
    }
}
