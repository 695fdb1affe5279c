//! What exits were about, and what KVM_RUN returned with, in few bytes.
//!
//! Each pair of a reason and such a thing is a *use*, which has a row in the table `uses` once. What a vCPU did in an interval is
//! one blob: first a byte, how many bytes a key has; then one, how many a count has; then for each use of which there were any
//! its key and its count, both with the highest byte first, in the order of keys.

use exitscope_model::{Counters, Detail, Mode, Modes, UserReason};
use std::collections::BTreeMap;

/// So many uses are told apart. What comes after that is not told: an exit for another port or MSR is one for *other*.
pub const MOST: usize = 65_535;

/// The most bytes of the counts of one vCPU in one interval: two for each key, eight for each count.
pub const MOST_BYTES: usize = 2 + MOST * 10;

/// What an exit was about, or what it led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// KVM_RUN returned with this.
    Return(UserReason),
    /// This port or MSR.
    Detail(Detail),
    /// A port or MSR that is not told apart.
    Other,
    /// The guest was in this mode.
    Mode(Mode),
}

/// All that is not zero.
pub fn of(counters: &Counters) -> impl Iterator<Item = (Use, u64)> {
    let returns = counters.returns.iter().map(|(&reason, &count)| (Use::Return(reason), count));
    let details = counters.details.counts.iter().map(|(&detail, &count)| (Use::Detail(detail), count));
    let modes = Mode::ALL.map(|mode| (Use::Mode(mode), counters.modes.get(mode)));
    let other = (Use::Other, counters.details.other);
    returns.chain(details).chain([other]).chain(modes).filter(|(_, count)| *count > 0)
}

/// Adds to the counters what was counted of a use.
pub fn add(counters: &mut Counters, what: Use, count: u64) {
    match what {
        Use::Return(reason) => *counters.returns.entry(reason).or_default() += count,
        Use::Detail(detail) => *counters.details.counts.entry(detail).or_default() += count,
        Use::Other => counters.details.other += count,
        Use::Mode(mode) => {
            let one = Mode::ALL.map(|other| if other == mode { count } else { 0 });
            counters.modes.add(&Modes::new(one));
        }
    }
}

/// The bytes of counts by key; none of no count.
pub fn encode(counts: &BTreeMap<u16, u64>) -> Vec<u8> {
    let bytes_of = |most: u64| (8 - most.leading_zeros() as usize / 8).max(1);
    let key = bytes_of(counts.last_key_value().map_or(0, |(key, _)| u64::from(*key)));
    let count = bytes_of(counts.values().copied().max().unwrap_or(0));
    let width = |bytes: usize| u8::try_from(bytes).unwrap_or(8);
    let mut bytes = vec![width(key), width(count)];
    for (&use_id, number) in counts {
        bytes.extend(&use_id.to_be_bytes()[2 - key..]);
        bytes.extend(&number.to_be_bytes()[8 - count..]);
    }
    if counts.is_empty() { Vec::new() } else { bytes }
}

/// The counts by key, ascending; or what is wrong with the bytes.
pub fn decode(bytes: &[u8]) -> Result<Vec<(u16, u64)>, &'static str> {
    let Some((&[key, count], entries)) = bytes.split_first_chunk() else {
        return if bytes.is_empty() { Ok(Vec::new()) } else { Err("it has one byte") };
    };
    let (key, count) = (usize::from(key), usize::from(count));
    if !(1..=2).contains(&key) || !(1..=8).contains(&count) || entries.len() % (key + count) != 0 {
        return Err("its entries have no length that they can have");
    }
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    let mut counts: Vec<(u16, u64)> = Vec::with_capacity(entries.len() / (key + count));
    for entry in entries.chunks_exact(key + count) {
        let (of, number) = (number(&entry[..key]), number(&entry[key..]));
        let of = u16::try_from(of).map_err(|_| "a key is too large")?;
        if counts.last().is_some_and(|(last, _)| *last >= of) {
            return Err("its keys are not in order");
        }
        counts.push((of, number));
    }
    Ok(counts)
}

/// The word of a use's kind, and its number, and whether it was written.
pub fn columns(what: Use) -> (&'static str, Option<i64>, Option<bool>) {
    match what {
        Use::Return(reason) => ("return", Some(reason.0.into()), None),
        Use::Detail(Detail::Port { port, write }) => ("port", Some(port.into()), Some(write)),
        Use::Detail(Detail::Msr { msr, write }) => ("msr", Some(msr.into()), Some(write)),
        Use::Other => ("other", None, None),
        Use::Mode(mode) => ("mode", i64::try_from(mode as usize).ok(), None),
    }
}

/// The same back; `None` if there is no such use.
pub fn from_columns(kind: &str, number: Option<i64>, write: Option<u64>) -> Option<Use> {
    let write = match write {
        None | Some(0) => false,
        Some(1) => true,
        Some(_) => return None,
    };
    Some(match (kind, number) {
        ("return", Some(number)) => Use::Return(UserReason(number.try_into().ok()?)),
        ("port", Some(number)) => Use::Detail(Detail::Port { port: number.try_into().ok()?, write }),
        ("msr", Some(number)) => Use::Detail(Detail::Msr { msr: number.try_into().ok()?, write }),
        ("other", None) => Use::Other,
        ("mode", Some(number)) => Use::Mode(*Mode::ALL.get(usize::try_from(number).ok()?)?),
        _ => return None,
    })
}

/// What a mode is called.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Unknown => "unknown",
        Mode::Real => "real",
        Mode::Protected => "protected",
        Mode::LongLow => "long, lower half",
        Mode::LongHigh => "long, upper half",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_as_documented() {
        assert_eq!(encode(&BTreeMap::from([(3, 300), (7, 1)])), [1, 2, 3, 1, 0x2c, 7, 0, 1]);
        assert_eq!(encode(&BTreeMap::from([(0x102, 9)])), [2, 1, 1, 2, 9]);
        assert!(encode(&BTreeMap::new()).is_empty());
        for wrong in
            [&[1][..], &[0, 1], &[1, 0, 5], &[3, 1, 0, 0, 1, 1], &[1, 9, 0], &[1, 1, 4], &[1, 1, 4, 1, 4, 1]]
        {
            assert!(decode(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn columns_are_uses() {
        let details =
            [Detail::Port { port: 0x3f8, write: true }, Detail::Msr { msr: u32::MAX, write: false }];
        let uses = details.map(Use::Detail).into_iter().chain(Mode::ALL.map(Use::Mode));
        for what in uses.chain([Use::Other, Use::Return(UserReason(-14))]) {
            let (kind, number, write) = columns(what);
            assert_eq!(from_columns(kind, number, write.map(u64::from)), Some(what));
        }
        for wrong in
            [("port", Some(65_536)), ("msr", Some(-1)), ("mode", Some(5)), ("port", None), ("x", Some(1))]
        {
            assert_eq!(from_columns(wrong.0, wrong.1, Some(0)), None);
        }
        assert_eq!(from_columns("port", Some(1), Some(2)), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(counts in proptest::collection::btree_map(any::<u16>(), prop_oneof![1u64..300, any::<u64>()], 0..40)) {
            prop_assert_eq!(decode(&encode(&counts)).unwrap().into_iter().collect::<BTreeMap<_, _>>(), counts);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
        }
    }
}
