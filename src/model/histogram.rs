//! A histogram of host time with one bucket for each power of two of nanoseconds.

use std::ops::RangeInclusive;

/// How many buckets a [`Histogram`] has.
pub const BUCKETS: usize = 38;

/// Bucket 0 holds 0 and 1 ns, bucket `b` holds `2^b` up to and including `2^(b+1) - 1` ns, and the
/// last also everything longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram(pub [u64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Histogram([0; BUCKETS])
    }
}

impl Histogram {
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

    /// How many times were entered.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds another histogram's counts to this one's.
    pub fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// This histogram less an earlier one of the same thing; `None` if any bucket shrank.
    pub fn since(&self, earlier: &Histogram) -> Option<Histogram> {
        let mut out = Histogram::default();
        for (bucket, slot) in out.0.iter_mut().enumerate() {
            *slot = self.0[bucket].checked_sub(earlier.0[bucket])?;
        }
        Some(out)
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
        for (bucket, &entries) in self.0.iter().enumerate() {
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
        fn a_percentile_lies_in_the_bucket_of_the_true_one(
            mut times in proptest::collection::vec(0u64..1 << 42, 1..200),
            q in 0.0f64..=1.0,
        ) {
            let mut histogram = Histogram::default();
            for &ns in &times {
                histogram.0[bucket_of(ns)] += 1;
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
