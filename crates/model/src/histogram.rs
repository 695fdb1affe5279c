//! A histogram of host time with one bucket for each power of two of nanoseconds.

use smallvec::SmallVec;
use std::ops::RangeInclusive;

/// Number of buckets of a [`Histogram`].
pub const BUCKETS: usize = 38;

/// Counts of times by bucket. Bucket 0 holds 0 and 1 ns, bucket `b` holds 2^b up to and including
/// 2^(b+1)-1 ns, and the last also everything longer.
///
/// A host has one for each reason of each vCPU, and the times of one reason lie close together: so only
/// those buckets are kept that lie between the first and the last that hold something.
///
/// ```
/// use exitscope_model::Histogram;
///
/// // 90 exits of 1,024 to 2,047 ns, and 10 of 4,096 to 8,191 ns.
/// let mut histogram = Histogram::from_bucket(10, [90]);
/// histogram.add(&Histogram::from_bucket(12, [10]));
/// assert_eq!((histogram.count(), histogram.buckets()[12]), (100, 10));
/// // Half of them took at most about 1.6 µs; the shortest took 1,100 ns, the longest 5,000 ns.
/// let half = histogram.percentile(0.5, 1_100, 5_000).unwrap();
/// assert!((1_100..2_048).contains(&half));
/// assert_eq!(histogram.percentile(1.0, 1_100, 5_000), Some(5_000));
/// assert_eq!(histogram.since(&Histogram::from_bucket(10, [90])), Some(Histogram::from_bucket(12, [10])));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The first bucket that holds something; 0 where none does.
    first: u8,
    /// Counts of the buckets from that one to the last that holds something.
    counts: SmallVec<[u64; 6]>,
}

impl FromIterator<u64> for Histogram {
    /// Builds a histogram from the counts of all buckets, or of the first so many.
    ///
    /// # Panics
    /// If there are more than [`BUCKETS`].
    fn from_iter<T: IntoIterator<Item = u64>>(counts: T) -> Self {
        Histogram::from_bucket(0, counts)
    }
}

impl Histogram {
    /// Builds a histogram from the counts of bucket `first` and of those after it.
    ///
    /// # Panics
    /// If that goes beyond the last of [`BUCKETS`].
    pub fn from_bucket(first: usize, counts: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        for (bucket, entries) in (first..).zip(counts) {
            assert!(bucket < BUCKETS, "a histogram has {BUCKETS} buckets, found one more");
            if entries > 0 {
                if histogram.counts.is_empty() {
                    histogram.first = u8::try_from(bucket).unwrap_or(u8::MAX);
                }
                histogram.counts.resize(bucket - usize::from(histogram.first), 0);
                histogram.counts.push(entries);
            }
        }
        histogram
    }

    /// The counts of all buckets.
    pub fn buckets(&self) -> [u64; BUCKETS] {
        let mut buckets = [0; BUCKETS];
        let first = usize::from(self.first);
        buckets[first..first + self.counts.len()].copy_from_slice(&self.counts);
        buckets
    }

    /// The times that bucket `bucket` holds, in nanoseconds.
    ///
    /// # Panics
    /// If there is no such bucket.
    pub fn bounds(bucket: usize) -> RangeInclusive<u64> {
        assert!(bucket < BUCKETS, "a histogram has {BUCKETS} buckets, asked for number {bucket}");
        let low = if bucket == 0 { 0 } else { 1 << bucket };
        let high = if bucket + 1 == BUCKETS { u64::MAX } else { (1 << (bucket + 1)) - 1 };
        low..=high
    }

    /// Number of times that were entered.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds another histogram's counts to this one's.
    pub fn add(&mut self, other: &Histogram) {
        let at = other.first.wrapping_sub(self.first);
        if other.counts.is_empty() {
        } else if other.first >= self.first && usize::from(at) + other.counts.len() <= self.counts.len() {
            // As it is nearly always: no bucket is new.
            let mine = self.counts[usize::from(at)..].iter_mut();
            mine.zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        } else {
            let (mine, theirs) = (self.buckets(), other.buckets());
            *self = mine.into_iter().zip(theirs).map(|(mine, theirs)| mine + theirs).collect();
        }
    }

    /// This histogram less an earlier one of the same thing; `None` if any bucket shrank.
    pub fn since(&self, earlier: &Histogram) -> Option<Histogram> {
        if earlier.counts.is_empty() {
            return Some(self.clone());
        }
        // No bucket goes away, so that all of the earlier lie within these.
        let skipped = usize::from(earlier.first.checked_sub(self.first)?);
        if skipped + earlier.counts.len() > self.counts.len() {
            return None;
        }
        let mut counts = self.counts.clone();
        for (now, then) in counts[skipped..].iter_mut().zip(&earlier.counts) {
            *now = now.checked_sub(*then)?;
        }
        Some(Histogram::from_bucket(self.first.into(), counts))
    }

    /// The time in nanoseconds that a share `q` (0 to 1) of the entries did not exceed, as an
    /// estimate: exact to its bucket, evenly spread inside it, never outside `min..=max`, which
    /// are the true extremes. `None` when nothing was entered.
    pub fn percentile(&self, q: f64, min: u64, max: u64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut below = 0;
        for (bucket, &entries) in (usize::from(self.first)..).zip(&self.counts) {
            if below + entries >= rank {
                let bounds = Self::bounds(bucket);
                let low = (*bounds.start()).max(min);
                let high = (*bounds.end()).min(max).max(low);
                let within = u128::from(high - low) * u128::from(rank - below) / u128::from(entries);
                return Some(low + u64::try_from(within).unwrap_or(high - low));
            }
            below += entries;
        }
        Some(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_cover_every_time_once() {
        assert_eq!(Histogram::bounds(0), 0..=1);
        assert_eq!(*Histogram::bounds(BUCKETS - 1).end(), u64::MAX);
        for bucket in 1..BUCKETS {
            assert_eq!(Histogram::bounds(bucket - 1).end() + 1, *Histogram::bounds(bucket).start());
        }
    }

    fn bucket_of(ns: u64) -> usize {
        (0..BUCKETS).find(|&bucket| Histogram::bounds(bucket).contains(&ns)).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_an_array_would_hold(
            a in proptest::collection::vec(prop_oneof![3 => Just(0), 1 => 0u64..9], 0..=BUCKETS),
            b in proptest::collection::vec(prop_oneof![3 => Just(0), 1 => 0u64..9], 0..=BUCKETS),
        ) {
            let array = |counts: &[u64]| {
                let mut all = [0; BUCKETS];
                all[..counts.len()].copy_from_slice(counts);
                all
            };
            let histogram = |counts: &[u64]| counts.iter().copied().collect::<Histogram>();
            let (one, other) = (histogram(&a), histogram(&b));
            prop_assert_eq!(one.buckets(), array(&a));
            prop_assert_eq!(one.count(), a.iter().sum::<u64>());
            prop_assert_eq!(one == other, array(&a) == array(&b));

            let mut sum = one.clone();
            sum.add(&other);
            let sums: Vec<u64> = array(&a).iter().zip(array(&b)).map(|(a, b)| a + b).collect();
            prop_assert_eq!(&sum, &histogram(&sums));
            prop_assert_eq!(sum.since(&one), Some(other.clone()));
            let grown = array(&a).iter().zip(array(&b)).all(|(a, b)| b >= *a);
            prop_assert_eq!(other.since(&one).is_some(), grown);
        }

        #[test]
        fn a_percentile_lies_in_the_bucket_of_the_true_one(
            mut times in proptest::collection::vec(0u64..1 << 42, 1..200),
            q in 0.0f64..=1.0,
        ) {
            let mut histogram = Histogram::default();
            for &ns in &times {
                histogram.add(&Histogram::from_bucket(bucket_of(ns), [1]));
            }
            times.sort_unstable();
            let (min, max) = (times[0], times[times.len() - 1]);
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let rank = ((q * times.len() as f64).ceil() as usize).clamp(1, times.len());
            let estimate = histogram.percentile(q, min, max).unwrap();
            prop_assert_eq!(bucket_of(estimate), bucket_of(times[rank - 1]));
            prop_assert!((min..=max).contains(&estimate));
        }
    }
}
