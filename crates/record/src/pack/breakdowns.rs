//! Breakdowns as columns: compared with the row of exits that they are of.

use super::column::{Decoder, Encoder, from_zigzag};
use super::content::{BreakdownRow, Content, ExitRow, Kind, Of};
use super::place::{Place, apart, from_apart, read_columns, read_places, runs, write_by_place};
use exitscope_model::DetailCounters;

/// Columns of a breakdown.
const BREAKDOWN_COLUMNS: usize = 3;

/// Figures that the row of a reason leads to expect of its breakdowns, one after the other.
#[derive(Clone, Copy, Default)]
struct Expected {
    count: u64,
    time_ns: u64,
    max_ns: u64,
}

/// Breakdowns of one interval in the order in which they are expected.
struct Expecting<'a> {
    rows: &'a [ExitRow],
    /// The vCPU, reason and kind of the one before.
    before: Option<(u32, u32, Kind)>,
    left: Expected,
}

impl Expecting<'_> {
    /// Begins with the next breakdown, of this vCPU, reason and kind.
    fn begin(&mut self, key: (u32, u32, Kind)) {
        if self.before == Some(key) {
            return;
        }
        self.before = Some(key);
        let row = self.rows.binary_search_by_key(&(key.0, key.1), |row| (row.vcpu, row.reason));
        let Ok(row) = row.map(|at| &self.rows[at]) else {
            self.left = Expected::default();
            return;
        };
        self.left = match key.2 {
            Kind::Return => Expected { count: row.split.user_exits, ..Expected::default() },
            Kind::Mode => Expected { count: row.count, ..Expected::default() },
            Kind::Detail => Expected {
                count: row.count,
                time_ns: row.time_ns,
                max_ns: row.extremes.map_or(0, |extremes| extremes.max_ns),
            },
        };
    }

    /// The time of so many exits, if the others take as long.
    fn time_ns(&self, count: u64) -> u64 {
        if count == self.left.count || self.left.count == 0 {
            return self.left.time_ns;
        }
        let time = u128::from(self.left.time_ns) * u128::from(count) / u128::from(self.left.count);
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    fn columns(&mut self, of: &DetailCounters, is_last: bool) -> [u64; BREAKDOWN_COLUMNS] {
        let count = if is_last { apart(self.left.count, of.count) } else { apart(of.count, 0) };
        let time = apart(of.time_ns, self.time_ns(of.count));
        let columns = [count, time, apart(self.left.max_ns, of.max_ns)];
        self.take(of);
        columns
    }

    fn counters(&mut self, [count, time, max]: [u64; BREAKDOWN_COLUMNS], is_last: bool) -> DetailCounters {
        let expected = if is_last { self.left.count } else { 0 };
        let count = match is_last {
            true => expected.wrapping_sub(from_zigzag(count)),
            false => from_zigzag(count),
        };
        let time_ns = from_apart(time, self.time_ns(count));
        let of = DetailCounters { count, time_ns, max_ns: self.left.max_ns.wrapping_sub(from_zigzag(max)) };
        self.take(&of);
        of
    }

    fn take(&mut self, of: &DetailCounters) {
        self.left.count = self.left.count.saturating_sub(of.count);
        self.left.time_ns = self.left.time_ns.saturating_sub(of.time_ns);
    }
}

/// Breakdowns of one interval by vCPU, reason, kind and number, each with what stands for it elsewhere.
fn expect<T: Copy>(
    rows: &[ExitRow],
    mut all: Vec<((u32, u32, Kind), u32, T)>,
    mut take: impl FnMut(&mut Expecting<'_>, T, bool),
) {
    // What comes is in that order by breakdown, which this sorting makes use of.
    all.sort_by_key(|(key, breakdown, _)| (*key, *breakdown));
    let mut expecting = Expecting { rows, before: None, left: Expected::default() };
    for at in 0..all.len() {
        let (key, _, value) = all[at];
        expecting.begin(key);
        take(&mut expecting, value, all.get(at + 1).is_none_or(|next| next.0 != key));
    }
}

/// Writes the breakdowns of some intervals, whose rows are written already.
pub fn write_breakdowns(encoder: &mut Encoder, contents: &[Content], of: Of<'_>) {
    let mut all: Vec<(Place, [u64; BREAKDOWN_COLUMNS])> = Vec::new();
    for (at, content) in contents.iter().enumerate() {
        let key = |row: &BreakdownRow| {
            let (reason, kind) = of(row.breakdown).unwrap_or((u32::MAX, Kind::Mode));
            (row.vcpu, reason, kind)
        };
        let rows = content.breakdowns.iter().map(|row| (key(row), row.breakdown, row)).collect();
        expect(&content.rows, rows, |expecting, row, is_last| {
            all.push(((row.breakdown, row.vcpu, at), expecting.columns(&row.counters, is_last)));
        });
    }
    write_by_place(encoder, all);
}

/// Reads the breakdowns of some intervals, whose rows were read.
///
/// # Errors
/// With what is wrong with them.
pub fn read_breakdowns(
    decoder: &mut Decoder<'_>,
    contents: &mut [Content],
    room: &mut usize,
    of: Of<'_>,
) -> Result<(), String> {
    let places = read_places(decoder, contents.len(), room)?;
    let columns = read_columns::<BREAKDOWN_COLUMNS>(decoder, &runs(&places))?;
    let mut found = vec![Vec::new(); contents.len()];
    let mut last = None;
    for (number, &(breakdown, vcpu, at)) in places.iter().enumerate() {
        let (reason, kind) = match last {
            Some((before, known)) if before == breakdown => known,
            _ => {
                of(breakdown).ok_or_else(|| format!("it has a breakdown {breakdown}, which is not known"))?
            }
        };
        last = Some((breakdown, (reason, kind)));
        found[at].push(((vcpu, reason, kind), breakdown, (vcpu, breakdown, number)));
    }
    for (content, found) in contents.iter_mut().zip(found) {
        let mut rows = Vec::with_capacity(found.len());
        expect(&content.rows, found, |expecting, (vcpu, breakdown, number), is_last| {
            let columns = std::array::from_fn(|column| columns[column].get(number));
            rows.push(BreakdownRow { vcpu, breakdown, counters: expecting.counters(columns, is_last) });
        });
        rows.sort_by_key(|row| (row.vcpu, row.breakdown));
        content.breakdowns = rows;
    }
    Ok(())
}
