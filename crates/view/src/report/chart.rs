//! Exits over time in as many columns as a drawing has room for.
//!
//! Where there are more slices than columns, a column has those that begin in it, and shows the busiest of
//! them: a drawing that showed their mean would lose the spikes that one looks for. The mean is kept beside
//! it. Slices that are much shorter than the others, as where a phase begins, are first joined with their
//! neighbours, because the rate of a moment is large by chance.

use super::theme::KINDS;
use crate::text;
use exitscope_analysis::series::{Series, Slice};
use exitscope_model::{ExitCode, Source, float};
use exitscope_reason as reason;
use std::time::Duration;

/// The longest name of a reason, in columns of text.
const NAME: usize = 28;

/// Something drawn in a colour of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name.
    pub name: String,
    /// The reason; `None` for all others together, or where classes overlap for all.
    pub code: Option<ExitCode>,
    /// Its exits in all.
    pub exits: u64,
    /// The number of its colour.
    pub color: usize,
}

/// A part of the time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// When it began.
    pub from: Duration,
    /// When it ended.
    pub to: Duration,
    /// The time that is in it; less than from begin to end where there is a gap.
    pub length: Duration,
    /// Its exits.
    pub exits: u64,
    /// The phase that it began in, by place.
    pub phase: usize,
    /// The rate of its busiest slice, in exits per second.
    pub highest: f64,
    /// The rates of the kinds in that slice.
    pub parts: Vec<f64>,
}

impl Column {
    /// Exits per second, on average.
    pub fn mean(&self) -> f64 {
        rate(self.exits, self.length)
    }
}

/// All that is drawn over time.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Reasons that have colours, the most frequent first.
    pub kinds: Vec<Kind>,
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// The begin of the time.
    pub start: Duration,
    /// The end of the time.
    pub end: Duration,
    /// The highest rate of any.
    pub highest: f64,
    /// Number of slices that make one column, where there are several.
    pub joined: Option<usize>,
}

fn rate(exits: u64, length: Duration) -> f64 {
    if length.is_zero() { 0.0 } else { float(exits) / length.as_secs_f64() }
}

impl Chart {
    /// Returns true if columns have so many slices that their mean differs from the highest.
    pub fn is_crowded(&self) -> bool {
        self.joined.is_some_and(|slices| slices > 12 * self.columns.len())
    }

    /// With at most about so many columns.
    pub fn new(series: &Series, source: Source, room: usize) -> Chart {
        let kinds = kinds(&series.whole(), source);
        let slices = series.slices();
        let start = slices.first().map_or(Duration::ZERO, |slice| slice.at);
        let end = slices.last().map_or(Duration::ZERO, Slice::end);
        let mut pieces: Vec<Column> = Vec::with_capacity(slices.len());
        let mut counts: Vec<Vec<u64>> = Vec::with_capacity(slices.len());
        let least = typical(slices) / 2;
        for slice in slices.iter().filter(|slice| !slice.length.is_zero()) {
            let of = by_kind(&kinds, slice);
            match pieces.last_mut().zip(counts.last_mut()).filter(|(last, _)| {
                last.length.min(slice.length) < least
                    && last.to == slice.at
                    && last.phase == slice.phase
                    && last.length < least * 3
            }) {
                Some((last, counts)) => {
                    last.to = slice.end();
                    last.length += slice.length;
                    last.exits += slice.exits;
                    counts.iter_mut().zip(of).for_each(|(mine, more)| *mine += more);
                }
                None => {
                    pieces.push(Column {
                        from: slice.at,
                        to: slice.end(),
                        length: slice.length,
                        exits: slice.exits,
                        phase: slice.phase,
                        ..Column::default()
                    });
                    counts.push(of);
                }
            }
        }
        for (piece, counts) in pieces.iter_mut().zip(counts) {
            piece.highest = piece.mean();
            piece.parts = counts.into_iter().map(|count| rate(count, piece.length)).collect();
        }
        let found = pieces.len();
        let columns = if found > room.max(1) { fit(pieces, end - start, room.max(1)) } else { pieces };
        Chart {
            kinds,
            highest: columns.iter().map(|column| column.highest).fold(0.0, f64::max),
            joined: (columns.len() < found).then_some(found),
            columns,
            start,
            end,
        }
    }
}

/// The median length of a slice.
fn typical(slices: &[Slice]) -> Duration {
    let mut lengths: Vec<Duration> = slices.iter().map(|slice| slice.length).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or_default()
}

/// The reasons with colours, and the others.
fn kinds(whole: &Slice, source: Source) -> Vec<Kind> {
    if source == Source::KvmStat {
        return vec![Kind { name: "exits".into(), code: None, exits: whole.exits, color: 0 }];
    }
    let all = whole.by_frequency();
    let mut kinds: Vec<Kind> = (0..KINDS)
        .zip(&all)
        .map(|(color, &(code, exits))| Kind {
            name: text::clean(&reason::name(code), NAME),
            code: Some(code),
            exits,
            color,
        })
        .collect();
    let named: u64 = kinds.iter().map(|kind| kind.exits).sum();
    if whole.exits > named {
        kinds.push(Kind { name: "other".into(), code: None, exits: whole.exits - named, color: KINDS });
    }
    kinds
}

fn by_kind(kinds: &[Kind], slice: &Slice) -> Vec<u64> {
    let of = |kind: &Kind| kind.code.map_or(0, |code| slice.by_reason.get(&code).copied().unwrap_or(0));
    let mut counts: Vec<u64> = kinds.iter().map(of).collect();
    let named: u64 = counts.iter().sum();
    if let Some((rest, _)) = counts.iter_mut().zip(kinds).find(|(_, kind)| kind.code.is_none()) {
        *rest = slice.exits.saturating_sub(named);
    }
    counts
}

/// Pieces that begin in the same of so many equal parts of the time become one.
fn fit(pieces: Vec<Column>, whole: Duration, room: usize) -> Vec<Column> {
    let part = whole.as_nanos() / room as u128 + 1;
    let start = pieces.first().map_or(Duration::ZERO, |piece| piece.from);
    let mut columns: Vec<Column> = Vec::with_capacity(room);
    let mut place = None;
    for piece in pieces {
        let at = (piece.from - start).as_nanos() / part;
        match columns.last_mut().filter(|_| place == Some(at)) {
            Some(last) => {
                last.to = piece.to;
                last.length += piece.length;
                last.exits += piece.exits;
                if piece.highest > last.highest {
                    (last.highest, last.parts) = (piece.highest, piece.parts);
                }
            }
            None => columns.push(piece),
        }
        place = Some(at);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_analysis::series;
    use proptest::prelude::*;

    #[test]
    fn statistics_are_not_stacked_and_the_rare_are_together() {
        let counts: Vec<(i64, u64)> = (0..10u8).map(|n| (i64::from(n), 100 - u64::from(n))).collect();
        let series = series::fixture(&[&counts, &counts]);
        let chart = Chart::new(&series, Source::Btf, 100);
        assert_eq!(chart.kinds.len(), KINDS + 1);
        assert_eq!(
            (chart.kinds[KINDS].name.as_str(), chart.kinds[KINDS].exits),
            ("other", 2 * (93 + 92 + 91))
        );
        let chart = Chart::new(&series, Source::KvmStat, 100);
        assert_eq!(chart.kinds.len(), 1);
        assert_eq!(chart.columns[0].parts, [chart.columns[0].mean()]);
    }

    proptest! {
        #[test]
        fn columns_keep_the_sum_and_the_highest_rate(
            counts in proptest::collection::vec(proptest::collection::vec((0i64..12, 0u64..1000), 0..5), 1..300),
            room in 1usize..80,
        ) {
            let counts: Vec<Vec<(i64, u64)>> = counts
                .into_iter()
                .map(|slice| slice.into_iter().collect::<std::collections::BTreeMap<_, _>>().into_iter().collect())
                .collect();
            let slices: Vec<&[(i64, u64)]> = counts.iter().map(Vec::as_slice).collect();
            let series = series::fixture(&slices);
            let chart = Chart::new(&series, Source::Btf, room);
            prop_assert!(chart.columns.len() <= room.max(1));
            prop_assert_eq!(chart.columns.iter().map(|c| c.exits).sum::<u64>(), series.whole().exits);
            prop_assert_eq!(chart.kinds.iter().map(|kind| kind.exits).sum::<u64>(), series.whole().exits);
            let most = series.slices().iter().map(Slice::rate).fold(0.0, f64::max);
            prop_assert!((chart.highest - most).abs() < 1e-6);
            for column in &chart.columns {
                prop_assert!((column.parts.iter().sum::<f64>() - column.highest).abs() < 1e-6);
                prop_assert!(column.mean() <= column.highest + 1e-6);
            }
            for (one, next) in chart.columns.iter().zip(chart.columns.iter().skip(1)) {
                prop_assert_eq!(one.to, next.from);
            }
        }
    }
}
