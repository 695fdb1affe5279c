//! Rows of exits as columns.

use super::column::{Column, Decoder, Encoder, Runs, from_zigzag};
use super::content::{Content, ExitRow};
use super::place::{
    Place, apart, apart_or_zero, by_place, from_apart, from_apart_or_zero, read_columns, read_places, runs,
    write_columns, write_places,
};
use exitscope_model::{BUCKETS, Extremes, Histogram, Nested, Split};

/// Columns of a row of exits, without those of its histogram's buckets.
const EXIT_COLUMNS: usize = 18;

/// A histogram: its first bucket, and the counts from that to the last.
fn spread(histogram: &Histogram) -> (usize, Vec<u64>) {
    let buckets = histogram.buckets();
    let holds = |count: &u64| *count > 0;
    match (buckets.iter().position(holds), buckets.iter().rposition(holds)) {
        (Some(first), Some(last)) => (first, buckets[first..=last].to_vec()),
        _ => (0, Vec::new()),
    }
}

/// The time that exits of these buckets take, if each bucket's take one and a half times its least (ns).
fn expected_time(first: usize, counts: &[u64]) -> u64 {
    let times = (first..).zip(counts).map(|(bucket, count)| ((u128::from(*count) * 3) << bucket) >> 1);
    u64::try_from(times.sum::<u128>()).unwrap_or(u64::MAX).min(u64::MAX / 2)
}

fn least(bucket: usize) -> u64 {
    if bucket == 0 { 0 } else { 1 << bucket.min(63) }
}

/// The bucket that has most: it is not written, because the others and the number of exits tell it.
fn largest(counts: &[u64]) -> usize {
    (0..counts.len()).rev().max_by_key(|at| counts[*at]).unwrap_or(0)
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
}

/// Writes the rows of some intervals.
pub fn write_exits(encoder: &mut Encoder, contents: &[Content]) {
    let (places, rows) = by_place(contents, |content| &content.rows, |row: &ExitRow| (row.reason, row.vcpu));
    let runs = write_places(encoder, &places);
    let spreads: Vec<(usize, Vec<u64>)> = rows.iter().map(|row| spread(&row.histogram)).collect();
    let both: Vec<(&ExitRow, &(usize, Vec<u64>))> = rows.iter().copied().zip(&spreads).collect();
    write_columns::<_, EXIT_COLUMNS>(encoder, &both, &runs, |(row, (first, counts))| {
        let (low, high) = (least(*first), least(first + counts.len().saturating_sub(1)));
        let Split { user_exits, user_ns, waiting_ns, halted_ns, polled_ns } = row.split;
        let Nested { to_l1, l1_done, l1_exits, l1_ns } = row.nested;
        [
            *first as u64,
            counts.len() as u64,
            largest(counts) as u64,
            row.count,
            apart(row.count, sum(counts)),
            apart(row.time_ns, expected_time(*first, counts)),
            row.extremes.map_or(0, |extremes| apart(extremes.min_ns, low)),
            row.extremes.map_or(0, |extremes| apart(extremes.max_ns, high)),
            apart_or_zero(user_exits, row.count),
            apart_or_zero(user_ns, row.time_ns),
            waiting_ns,
            apart_or_zero(halted_ns, row.time_ns),
            polled_ns,
            apart_or_zero(to_l1, row.count),
            apart_or_zero(l1_done, to_l1),
            l1_exits,
            l1_ns,
            u64::from(row.extremes.is_some()),
        ]
    });
    // A column for each bucket from a row's first on, of the rows that have it.
    let most = spreads.iter().map(|(_, counts)| counts.len()).max().unwrap_or(0);
    for bucket in 0..most {
        let has = |at: &usize| bucket < spreads[*at].1.len() && bucket != largest(&spreads[*at].1);
        let rows: Vec<usize> = (0..spreads.len()).filter(has).collect();
        let column: Vec<u64> = rows.iter().map(|at| spreads[*at].1[bucket]).collect();
        encoder.column(&column, &runs_of(&places, &rows));
    }
}

/// Order of some of the rows at these places.
fn runs_of(places: &[Place], rows: &[usize]) -> Runs {
    let some: Vec<Place> = rows.iter().map(|at| places[*at]).collect();
    runs(&some)
}

/// Counts of the histograms of all rows, one after the other.
struct Spreads {
    /// First bucket of each row, the one of its counts that is the largest, and the place at which these begin.
    rows: Vec<(usize, usize, usize)>,
    counts: Vec<u64>,
}

impl Spreads {
    /// Reads them, but for the counts of those buckets that have most, which are 0 as yet.
    fn read(
        decoder: &mut Decoder<'_>,
        places: &[Place],
        [first, length, largest]: [&Column; 3],
    ) -> Result<Spreads, String> {
        let narrow = |number: u64| usize::try_from(number).unwrap_or(BUCKETS);
        let mut rows = Vec::with_capacity(places.len() + 1);
        let (mut begin, mut most) = (0, 0);
        for at in 0..places.len() {
            let (first, length, largest) = (first.get(at), length.get(at), largest.get(at));
            if first > BUCKETS as u64 || length > BUCKETS as u64 - first || largest >= length.max(1) {
                return Err("a histogram has more buckets than there are".into());
            }
            rows.push((narrow(first), narrow(largest), begin));
            begin += narrow(length);
            most = most.max(narrow(length));
        }
        rows.push((0, 0, begin));
        let mut spreads = Spreads { rows, counts: vec![0; begin] };
        for bucket in 0..most {
            let has = |at: &usize| bucket < spreads.len(*at) && bucket != spreads.rows[*at].1;
            let some: Vec<usize> = (0..places.len()).filter(has).collect();
            let column = decoder.column(&runs_of(places, &some))?;
            for (at, count) in some.into_iter().zip(column.iter()) {
                spreads.counts[spreads.rows[at].2 + bucket] = count;
            }
        }
        Ok(spreads)
    }

    fn len(&self, row: usize) -> usize {
        self.rows[row + 1].2 - self.rows[row].2
    }

    /// Makes the histogram of a row, which has so many exits. Returns its first bucket and its counts.
    fn finish(&mut self, row: usize, exits: u64) -> Result<(usize, &[u64]), &'static str> {
        let (first, largest, begin) = self.rows[row];
        let counts = &mut self.counts[begin..self.rows[row + 1].2];
        let others = sum(counts);
        match counts.get_mut(largest) {
            Some(largest) => *largest = exits.wrapping_sub(others),
            None if exits != 0 => return Err("a histogram without buckets has exits"),
            None => {}
        }
        match counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count)) {
            Some(_) => Ok((first, counts)),
            None => Err("a histogram has too many exits"),
        }
    }
}

/// Reads the rows of some intervals.
///
/// # Errors
/// With what is wrong with them.
pub fn read_exits(
    decoder: &mut Decoder<'_>,
    contents: &mut [Content],
    room: &mut usize,
) -> Result<(), String> {
    let places = read_places(decoder, contents.len(), room)?;
    let columns = read_columns::<EXIT_COLUMNS>(decoder, &runs(&places))?;
    let mut spreads = Spreads::read(decoder, &places, [&columns[0], &columns[1], &columns[2]])?;
    // By interval, vCPU and reason. Rows of a reason are in that order already, which this sorting makes use of.
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|at| (places[*at].2, places[*at].1));
    for of_one in order.chunk_by(|a, b| places[*a].2 == places[*b].2) {
        contents[places[of_one[0]].2].rows.reserve_exact(of_one.len());
    }
    for at in order {
        let (reason, vcpu, interval) = places[at];
        let of = |column: usize| columns[column].get(at);
        let count = of(3);
        let (first, counts) = spreads.finish(at, count.wrapping_sub(from_zigzag(of(4))))?;
        let time_ns = from_apart(of(5), expected_time(first, counts));
        let (low, high) = (least(first), least(first + counts.len().saturating_sub(1)));
        let extremes = match of(17) {
            0 => None,
            _ => {
                let (min_ns, max_ns) = (from_apart(of(6), low), from_apart(of(7), high));
                if min_ns > max_ns {
                    return Err("a shortest time is not the shortest".into());
                }
                Some(Extremes { min_ns, max_ns })
            }
        };
        let to_l1 = from_apart_or_zero(of(13), count);
        contents[interval].rows.push(ExitRow {
            vcpu,
            reason,
            count,
            time_ns,
            extremes,
            histogram: Histogram::from_bucket(first, counts.iter().copied()),
            split: Split {
                user_exits: from_apart_or_zero(of(8), count),
                user_ns: from_apart_or_zero(of(9), time_ns),
                waiting_ns: of(10),
                halted_ns: from_apart_or_zero(of(11), time_ns),
                polled_ns: of(12),
            },
            nested: Nested {
                to_l1,
                l1_done: from_apart_or_zero(of(14), to_l1),
                l1_exits: of(15),
                l1_ns: of(16),
            },
        });
    }
    Ok(())
}
