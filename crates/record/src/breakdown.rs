//! Counts by what exits were about and by what KVM_RUN returned with, in few bytes.
//!
//! Each pair of a reason and such a thing is a *breakdown*, which has a row in the table `breakdowns` once. What a vCPU did in an
//! interval are two blobs: one of returns and modes, with a count each, and one of details, which have host times too. A blob
//! is a table of numbers: first a byte for each of its columns, how many bytes a number has there; then its rows, in the order
//! of their first column, which is the breakdown. Numbers have the highest byte first.

use super::pack::Kind;
use exitscope_model::{Attributes, Counters, Detail, DetailCounters, DetailKind, Mode, Modes, UserReason};
#[cfg(test)]
use std::collections::BTreeMap;

/// Number of breakdowns that are told apart. What comes after that is not told: an exit for another port is one for *other*.
pub const MOST: usize = 65_535;
/// Greatest number of bytes of a blob: two for each key, eight for each of three numbers.
pub const MOST_BYTES: usize = 4 + MOST * 26;

/// Thing that an exit was about, or that it led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BreakdownKey {
    /// KVM_RUN returned with this.
    Return(UserReason),
    /// The exit was about this.
    Detail(Detail),
    /// The exit was about something that is not told apart.
    Other,
    /// The guest was in this mode.
    Mode(Mode),
}

impl BreakdownKey {
    /// Returns the kind, as blocks of rows know it.
    pub fn kind(self) -> Kind {
        match self {
            BreakdownKey::Return(_) => Kind::Return,
            BreakdownKey::Detail(_) | BreakdownKey::Other => Kind::Detail,
            BreakdownKey::Mode(_) => Kind::Mode,
        }
    }

    /// Returns true if host times are counted with it.
    #[cfg(test)]
    pub fn has_times(self) -> bool {
        matches!(self, BreakdownKey::Detail(_) | BreakdownKey::Other)
    }
}

/// Counts by breakdown, as the two blobs of a vCPU and an interval have them in schemas 3 and 4.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct Breakdown {
    counts: BTreeMap<u16, [u64; 1]>,
    details: BTreeMap<u16, [u64; 3]>,
}

#[cfg(test)]
impl Breakdown {
    /// Adds exits to those of a breakdown, whose number is `id`.
    pub fn add(&mut self, id: u16, key: BreakdownKey, more: DetailCounters) {
        if key.has_times() {
            let [count, time_ns, max_ns] = self.details.entry(id).or_default();
            let mut sum = DetailCounters { count: *count, time_ns: *time_ns, max_ns: *max_ns };
            sum.add(&more);
            (*count, *time_ns, *max_ns) = (sum.count, sum.time_ns, sum.max_ns);
        } else {
            self.counts.entry(id).or_default()[0] += more.count;
        }
    }

    /// Returns both blobs: of counts, and of details.
    pub fn encode(&self) -> [Vec<u8>; 2] {
        [encode(&self.counts), encode(&self.details)]
    }
}

/// Returns all counters that are not zero.
pub fn of(counters: &Counters) -> impl Iterator<Item = (BreakdownKey, DetailCounters)> {
    let only = |count| DetailCounters { count, ..DetailCounters::default() };
    let returns =
        counters.returns.iter().map(move |(&reason, &count)| (BreakdownKey::Return(reason), only(count)));
    let details = counters.details.counts.iter().map(|(&detail, &of)| (BreakdownKey::Detail(detail), of));
    let modes = Mode::ALL.map(|mode| (BreakdownKey::Mode(mode), only(counters.modes.get(mode))));
    let other = (BreakdownKey::Other, counters.details.other);
    returns.chain(details).chain([other]).chain(modes).filter(|(_, of)| of.count > 0)
}

/// Adds to the counters those of a breakdown.
pub fn add(counters: &mut Counters, key: BreakdownKey, more: DetailCounters) {
    match key {
        BreakdownKey::Return(reason) => *counters.returns.entry(reason).or_default() += more.count,
        BreakdownKey::Detail(detail) => counters.details.counts.entry(detail).or_default().add(&more),
        BreakdownKey::Other => counters.details.other.add(&more),
        BreakdownKey::Mode(mode) => {
            let one = Mode::ALL.map(|other| if other == mode { more.count } else { 0 });
            counters.modes.add(&Modes::new(one));
        }
    }
}

/// Returns a blob of numbers by breakdown; no byte where there is none.
#[cfg(test)]
pub fn encode<const N: usize>(rows: &BTreeMap<u16, [u64; N]>) -> Vec<u8> {
    let bytes_of = |most: u64| (8 - most.leading_zeros() as usize / 8).max(1);
    let key = bytes_of(rows.last_key_value().map_or(0, |(key, _)| u64::from(*key)));
    let most = |column: usize| rows.values().map(|row| row[column]).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(|column| bytes_of(most(column)));
    let width = |bytes: usize| u8::try_from(bytes).unwrap_or(8);
    let mut bytes: Vec<u8> = [key].into_iter().chain(widths).map(width).collect();
    for (&id, row) in rows {
        bytes.extend(&id.to_be_bytes()[2 - key..]);
        for (number, width) in row.iter().zip(widths) {
            bytes.extend(&number.to_be_bytes()[8 - width..]);
        }
    }
    if rows.is_empty() { Vec::new() } else { bytes }
}

/// Returns what a blob of counts has, ascending; or what is wrong with the bytes.
pub fn decode_counts(bytes: &[u8]) -> Result<Vec<(u16, DetailCounters)>, &'static str> {
    let only = |(id, [count]): (u16, [u64; 1])| (id, DetailCounters { count, ..DetailCounters::default() });
    Ok(decode(bytes)?.into_iter().map(only).collect())
}

/// Returns what a blob of details has, likewise.
pub fn decode_details(bytes: &[u8]) -> Result<Vec<(u16, DetailCounters)>, &'static str> {
    let whole =
        |(id, [count, time_ns, max_ns]): (u16, [u64; 3])| (id, DetailCounters { count, time_ns, max_ns });
    Ok(decode(bytes)?.into_iter().map(whole).collect())
}

fn decode<const N: usize>(bytes: &[u8]) -> Result<Vec<(u16, [u64; N])>, &'static str> {
    let Some((&key, rest)) = bytes.split_first() else { return Ok(Vec::new()) };
    let Some((widths, entries)) = rest.split_first_chunk::<N>() else { return Err("it is too short") };
    let (key, widths) = (usize::from(key), widths.map(usize::from));
    let length = key + widths.iter().sum::<usize>();
    let fits = (1..=2).contains(&key) && widths.iter().all(|width| (1..=8).contains(width));
    if !fits || entries.len() % length != 0 {
        return Err("its entries have no length that they can have");
    }
    let mut rows: Vec<(u16, [u64; N])> = Vec::with_capacity(entries.len() / length);
    for entry in entries.chunks_exact(length) {
        let mut rest = entry;
        let mut number = |width: usize| {
            let (mine, others) = rest.split_at(width);
            rest = others;
            mine.iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte))
        };
        let id = u16::try_from(number(key)).map_err(|_| "a key is too large")?;
        if rows.last().is_some_and(|(last, _)| *last >= id) {
            return Err("its keys are not in order");
        }
        rows.push((id, widths.map(&mut number)));
    }
    Ok(rows)
}

/// Columns `kind`, `key` and `attributes` of a breakdown. A key of 2^63 or more is negative there.
pub fn columns(key: BreakdownKey) -> (&'static str, Option<i64>, Option<u32>) {
    match key {
        BreakdownKey::Return(reason) => ("return", Some(reason.0.into()), None),
        BreakdownKey::Detail(detail) => {
            (detail.info().word, Some(detail.key.cast_signed()), Some(detail.attributes.0))
        }
        BreakdownKey::Other => ("other", None, None),
        BreakdownKey::Mode(mode) => ("mode", i64::try_from(mode as usize).ok(), None),
    }
}

/// Returns the breakdown of these columns; `None` if there is none. A kind of detail that this program does not know is
/// one that a later one knows: its exits are not told apart.
pub fn from_columns(kind: &str, key: Option<i64>, attributes: Option<u32>) -> Option<BreakdownKey> {
    Some(match (kind, key, attributes) {
        ("return", Some(number), None) => BreakdownKey::Return(UserReason(number.try_into().ok()?)),
        ("other", None, None) => BreakdownKey::Other,
        ("mode", Some(number), None) => BreakdownKey::Mode(*Mode::ALL.get(usize::try_from(number).ok()?)?),
        (word, Some(key), Some(attributes)) => match DetailKind::from_word(word) {
            Some(kind) => {
                let key = Some(key.cast_unsigned()).filter(|key| *key <= kind.info().max_key)?;
                BreakdownKey::Detail(Detail { kind, key, attributes: Attributes(attributes) })
            }
            None => BreakdownKey::Other,
        },
        _ => return None,
    })
}

/// Returns the breakdown of the columns that schema 2 has, where a detail is a port or an MSR that was written or not.
pub fn from_second(kind: &str, number: Option<i64>, write: Option<u64>) -> Option<BreakdownKey> {
    match (DetailKind::from_word(kind), write) {
        (Some(_), Some(write @ 0..=1)) => from_columns(kind, number, u32::try_from(write).ok()),
        (None, None) => from_columns(kind, number, None),
        _ => None,
    }
}

/// Returns a mode's name.
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
        assert_eq!(encode(&BTreeMap::from([(3, [300]), (7, [1])])), [1, 2, 3, 1, 0x2c, 7, 0, 1]);
        assert_eq!(encode(&BTreeMap::from([(0x102, [9])])), [2, 1, 1, 2, 9]);
        assert_eq!(encode(&BTreeMap::from([(4, [9, 300, 7])])), [1, 1, 2, 1, 4, 9, 1, 0x2c, 7]);
        assert!(encode(&BTreeMap::<u16, [u64; 3]>::new()).is_empty());
        for wrong in
            [&[1][..], &[0, 1], &[1, 0, 5], &[3, 1, 0, 0, 1, 1], &[1, 9, 0], &[1, 1, 4], &[1, 1, 4, 1, 4, 1]]
        {
            assert!(decode_counts(wrong).is_err(), "{wrong:?}");
        }
        assert!(decode_details(&[1, 1, 1]).is_err());
    }

    #[test]
    fn columns_are_breakdowns() {
        let details = [
            Detail::new(DetailKind::Port, 0x3f8, true),
            Detail::new(DetailKind::Msr, u32::MAX.into(), false),
        ];
        let keys = details.map(BreakdownKey::Detail).into_iter().chain(Mode::ALL.map(BreakdownKey::Mode));
        for what in keys.chain([BreakdownKey::Other, BreakdownKey::Return(UserReason(-14))]) {
            let (kind, key, attributes) = columns(what);
            assert_eq!(from_columns(kind, key, attributes), Some(what));
            assert_eq!(from_second(kind, key, attributes.map(u64::from)), Some(what));
        }
        for wrong in [("port", Some(65_536)), ("msr", Some(-1)), ("port", None)] {
            assert_eq!(from_columns(wrong.0, wrong.1, Some(0)), None);
            assert_eq!(from_second(wrong.0, wrong.1, Some(0)), None);
        }
        assert_eq!(from_columns("mode", Some(5), None), None);
        assert_eq!(from_columns("of-a-later-program", Some(1), Some(0)), Some(BreakdownKey::Other));
        for (kind, write) in [("port", Some(2)), ("port", None), ("of-a-later-program", Some(0))] {
            assert_eq!(from_second(kind, Some(1), write), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(rows in proptest::collection::btree_map(any::<u16>(), prop_oneof![
            prop::array::uniform3(0u64..300), prop::array::uniform3(any::<u64>())
        ], 0..40)) {
            prop_assert_eq!(decode(&encode(&rows)).unwrap().into_iter().collect::<BTreeMap<_, _>>(), rows);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode_counts(&bytes);
            let _ = decode_details(&bytes);
        }
    }
}
