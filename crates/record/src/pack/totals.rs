//! Exits of intervals in all and by reason: what a timeline needs, without the rows of each vCPU.

use super::column::{Decoder, Encoder, Runs};
use super::content::Content;
use super::frame;
use std::collections::BTreeMap;

/// Exits of one interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Exits of all vCPUs.
    pub exits: u64,
    /// By the key of the reason, without those that have none.
    pub by_reason: BTreeMap<u32, u64>,
}

impl Total {
    /// The total of an interval.
    pub fn of(content: &Content) -> Total {
        let mut total =
            Total { exits: content.spans.iter().map(|span| span.exits).sum(), ..Total::default() };
        for row in content.rows.iter().filter(|row| row.count > 0) {
            *total.by_reason.entry(row.reason).or_default() += row.count;
        }
        total
    }

    /// Adds the total of the interval that follows.
    pub fn add(&mut self, next: &Total) {
        self.exits += next.exits;
        for (reason, count) in &next.by_reason {
            *self.by_reason.entry(*reason).or_default() += count;
        }
    }
}

/// Bytes of the totals of some intervals, one after the other.
///
/// # Errors
/// Those of zstd.
pub fn pack(totals: &[Total]) -> Result<Vec<u8>, String> {
    let mut encoder = Encoder::default();
    encoder.number(totals.len() as u64);
    let series = Runs::series(totals.len());
    let column = |of: fn(&Total) -> u64| totals.iter().map(of).collect::<Vec<u64>>();
    encoder.column(&column(|total| total.exits), &series);
    encoder.column(&column(|total| total.by_reason.len() as u64), &series);
    // A reason's counts lie together: (reason, interval, count).
    let mut entries: Vec<(u32, usize, u64)> = Vec::new();
    for (at, total) in totals.iter().enumerate() {
        entries.extend(total.by_reason.iter().map(|(reason, count)| (*reason, at, *count)));
    }
    entries.sort_unstable();
    let same = |at: usize| at > 0 && entries[at].0 == entries[at - 1].0;
    let follows: Vec<bool> = (0..entries.len()).map(same).collect();
    let runs = Runs { follows, ..Runs::plain(0) };
    let (mut reasons, mut places) = (Vec::new(), Vec::new());
    let mut before = (0, 0);
    for &(reason, at, _) in &entries {
        let step = reason - before.0;
        reasons.push(u64::from(step));
        places.push((at - if step == 0 { before.1 } else { 0 }) as u64);
        before = (reason, at);
    }
    let none = Runs::plain(entries.len());
    encoder.number(entries.len() as u64);
    encoder.column(&reasons, &none);
    encoder.column(&places, &none);
    encoder.column(&entries.iter().map(|entry| entry.2).collect::<Vec<_>>(), &runs);
    let (bytes, cuts) = encoder.finish();
    frame::pack(&bytes, &cuts, entries.len() / 2 + totals.len() / 2)
}

/// The totals that these bytes have.
///
/// # Errors
/// With what is wrong with them.
pub fn unpack(packed: &[u8]) -> Result<Vec<Total>, String> {
    let bytes = frame::unpack(packed)?;
    let mut decoder = Decoder::new(&bytes)?;
    let most = 2 * packed.len() as u64 + 16;
    let number = |decoder: &mut Decoder<'_>| {
        let number = decoder.number()?;
        usize::try_from(number).ok().filter(|_| number <= most).ok_or("it has more rows than its bytes allow")
    };
    let intervals = number(&mut decoder)?;
    let exits = decoder.column(&Runs::series(intervals))?;
    let lengths = decoder.column(&Runs::series(intervals))?;
    let entries = number(&mut decoder)?;
    let none = Runs::plain(entries);
    let (steps, places) = (decoder.column(&none)?, decoder.column(&none)?);
    let follows: Vec<bool> = steps.iter().enumerate().map(|(at, step)| at > 0 && step == 0).collect();
    let counts = decoder.column(&Runs { follows, ..Runs::plain(0) })?;
    decoder.finish()?;
    let mut totals: Vec<Total> = exits.iter().map(|exits| Total { exits, ..Total::default() }).collect();
    let (mut reason, mut at) = (0_u32, 0_usize);
    for ((step, place), count) in steps.iter().zip(places.iter()).zip(counts.iter()) {
        let wrong = "its reasons are not in order";
        let (before, first) = (at, step != 0);
        reason = u32::try_from(step).ok().and_then(|step| reason.checked_add(step)).ok_or(wrong)?;
        let place = usize::try_from(place).map_err(|_| wrong)?;
        at = if first { place } else { before.checked_add(place).ok_or(wrong)? };
        let total = totals.get_mut(at).ok_or(wrong)?;
        if total.by_reason.insert(reason, count).is_some() {
            return Err(wrong.into());
        }
    }
    if totals.iter().zip(lengths.iter()).any(|(total, length)| total.by_reason.len() as u64 != length) {
        return Err("its intervals have other reasons than they say".into());
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn totals_that_are_packed_are_unpacked(totals in proptest::collection::vec(
            (0_u64..1 << 40, proptest::collection::btree_map(0_u32..9, 0_u64..5000, 0..5)), 0..20,
        )) {
            let totals: Vec<Total> =
                totals.into_iter().map(|(exits, by_reason)| Total { exits, by_reason }).collect();
            prop_assert_eq!(unpack(&pack(&totals).unwrap()).unwrap(), totals);
        }
    }
}
