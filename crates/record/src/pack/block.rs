//! Some intervals as columns.
//!
//! Rows of one reason and vCPU lie together, interval after interval, so that numbers of one column are alike. What can be told
//! from other columns is not told again: a time is written as the difference to what its histogram leads to expect.

use super::breakdowns::{read_breakdowns, write_breakdowns};
use super::column::{Decoder, Encoder, Runs};
use super::content::{Content, Of};
use super::exits::{read_exits, write_exits};
use super::frame;
use super::spans::{read_spans, write_spans};
use super::workers::{read_workers, write_workers};

/// The most rows of a block, of all kinds together.
const MOST_ROWS: usize = 1 << 17;

/// The most intervals of a block.
const MOST_INTERVALS: usize = 1 << 12;

/// Bytes that a block has for each of its rows at least.
const LEAST_PER_ROW: usize = 8;

/// Some consecutive intervals.
pub struct Block;

impl Block {
    /// Packs intervals, whose numbers follow one another.
    ///
    /// # Errors
    /// Those of zstd.
    pub fn pack(contents: &[Content], of: Of<'_>) -> Result<Vec<u8>, String> {
        let mut encoder = Encoder::default();
        encoder.number(contents.len() as u64);
        encoder.number(contents.first().map_or(0, |first| first.interval));
        let lengths: Vec<u64> = contents.iter().map(|content| content.length_ns).collect();
        encoder.column(&lengths, &Runs::series(lengths.len()));
        for content in contents {
            let losses: Vec<_> = content.loss.numbers().collect();
            encoder.number(losses.len() as u64);
            for (name, number) in losses {
                encoder.text(&name);
                encoder.number(number);
            }
        }
        write_exits(&mut encoder, contents);
        write_spans(&mut encoder, contents);
        write_breakdowns(&mut encoder, contents, of);
        write_workers(&mut encoder, contents);
        let rows: usize = contents.iter().map(Content::len).sum();
        let (bytes, cuts) = encoder.finish();
        frame::pack(&bytes, &cuts, rows * LEAST_PER_ROW)
    }

    /// Unpacks the intervals of a block.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub fn unpack(packed: &[u8], of: Of<'_>) -> Result<Vec<Content>, String> {
        let bytes = frame::unpack(packed)?;
        let mut decoder = Decoder::new(&bytes)?;
        let intervals = usize::try_from(decoder.number()?).unwrap_or(usize::MAX);
        if intervals > MOST_INTERVALS {
            return Err(format!("it has {intervals} intervals"));
        }
        let first = decoder.number()?;
        let lengths = decoder.column(&Runs::series(intervals))?;
        let mut contents: Vec<Content> = Vec::with_capacity(intervals);
        for (number, length_ns) in (0_u64..).zip(lengths.iter()) {
            let interval = first.checked_add(number).ok_or("an interval's number is too large")?;
            let mut content = Content { interval, length_ns, ..Content::default() };
            for _ in 0..decoder.number()? {
                let (name, number) = (decoder.text()?, decoder.number()?);
                if !content.loss.set(name, number) {
                    return Err(format!("it tells of the loss {name:?}, which is not known"));
                }
            }
            contents.push(content);
        }
        let mut room = (packed.len() / LEAST_PER_ROW).min(MOST_ROWS);
        read_exits(&mut decoder, &mut contents, &mut room)?;
        read_spans(&mut decoder, &mut contents, &mut room)?;
        read_breakdowns(&mut decoder, &mut contents, &mut room, of)?;
        read_workers(&mut decoder, &mut contents, &mut room)?;
        decoder.finish()?;
        Ok(contents)
    }
}

#[cfg(test)]
mod tests {
    use super::super::content::Kind;
    use super::super::content::tests::content;
    use super::*;
    use proptest::prelude::*;

    fn of(breakdown: u32) -> Option<(u32, Kind)> {
        let kinds = [Kind::Return, Kind::Detail, Kind::Detail, Kind::Mode];
        (breakdown < 9).then(|| (breakdown % 3, kinds[breakdown as usize % 4]))
    }

    proptest! {
        #[test]
        fn intervals_that_are_packed_are_unpacked(
            contents in (content(40), content(41), content(42)).prop_map(|(a, b, c)| [a, b, c]),
        ) {
            let packed = Block::pack(&contents, &of).unwrap();
            prop_assert_eq!(Block::unpack(&packed, &of).unwrap(), contents);
        }

        #[test]
        fn any_columns_are_read_or_refused(
            contents in (content(40), content(41)).prop_map(|(a, b)| [a, b]),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = frame::unpack(&Block::pack(&contents, &of).unwrap()).unwrap();
            for (at, flip) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
            let least = 8 * contents.iter().map(Content::len).sum::<usize>();
            if let Ok(found) = Block::unpack(&frame::pack(&bytes, &[], least).unwrap(), &of) {
                prop_assert!(found.iter().map(Content::len).sum::<usize>() <= 2 * least.max(bytes.len()));
            }
        }
    }
}
