//! Some intervals as columns.
//!
//! Rows of one reason and vCPU lie together, interval after interval, so that numbers of one column are alike. What can be told
//! from other columns is not told again: a time is written as the difference to what its histogram leads to expect.

use super::column::{Decoder, Encoder, Runs, from_zigzag, zigzag};
use super::content::{BreakdownRow, Content, ExitRow, Kind, Of, SpanRow, WorkerRow};
use super::frame;
use exitscope_model::{
    BUCKETS, DetailCounters, Extremes, Histogram, Nested, Split, VcpuTime, WorkerFigure, WorkerTimes,
};

/// The most rows of a block, of all kinds together.
const MOST_ROWS: usize = 1 << 17;

/// The most intervals of a block.
const MOST_INTERVALS: usize = 1 << 12;

/// Bytes that a block has for each of its rows at least.
const LEAST_PER_ROW: usize = 8;

/// Columns of a row of exits, without those of its histogram's buckets.
const EXIT_COLUMNS: usize = 18;
/// Columns of a vCPU.
const SPAN_COLUMNS: usize = 9;
/// Columns of a breakdown.
const BREAKDOWN_COLUMNS: usize = 3;

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
        for (number, length_ns) in (0_u64..).zip(lengths) {
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

/// Place of a row in a block: the reason or breakdown, the vCPU, and which of the intervals.
type Place = (u32, u32, usize);

/// All rows of one kind by their places, in that order.
fn by_place<'a, T>(
    contents: &'a [Content],
    rows: impl Fn(&'a Content) -> &'a [T],
    key: impl Fn(&T) -> (u32, u32),
) -> (Vec<Place>, Vec<&'a T>) {
    let mut all: Vec<(Place, &T)> = Vec::new();
    for (at, content) in contents.iter().enumerate() {
        all.extend(rows(content).iter().map(|row| {
            let (of, vcpu) = key(row);
            ((of, vcpu, at), row)
        }));
    }
    all.sort_unstable_by_key(|(place, _)| *place);
    all.into_iter().unzip()
}

/// Order of the rows at these places: a series of a vCPU's intervals after another, in groups by reason or breakdown.
fn runs(places: &[Place]) -> Runs {
    let pairs = places.windows(2).map(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1));
    let follows = [false].into_iter().chain(pairs).take(places.len()).collect();
    let begins = (1..places.len()).filter(|at| places[*at].0 != places[at - 1].0);
    Runs { follows, groups: [0].into_iter().chain(begins).collect() }
}

/// Writes places, which are ascending, as differences.
fn write_places(encoder: &mut Encoder, places: &[Place]) -> Runs {
    encoder.number(places.len() as u64);
    let mut columns = [const { Vec::new() }; 3];
    let mut before: Place = (0, 0, 0);
    for (number, &(of, vcpu, at)) in places.iter().enumerate() {
        let same_of = number > 0 && of == before.0;
        let same_vcpu = same_of && vcpu == before.1;
        columns[0].push(u64::from(of - before.0));
        columns[1].push(u64::from(vcpu - if same_of { before.1 } else { 0 }));
        columns[2].push((at - if same_vcpu { before.2 } else { 0 }) as u64);
        before = (of, vcpu, at);
    }
    let none = Runs::plain(places.len());
    columns.iter().for_each(|column| encoder.column(column, &none));
    runs(places)
}

/// Reads places. Each is greater than the one before.
fn read_places(decoder: &mut Decoder<'_>, intervals: usize, room: &mut usize) -> Result<Vec<Place>, String> {
    let count = usize::try_from(decoder.number()?).unwrap_or(usize::MAX);
    *room = room.checked_sub(count).ok_or("it has more rows than its bytes allow")?;
    let none = Runs::plain(count);
    let columns = [decoder.column(&none)?, decoder.column(&none)?, decoder.column(&none)?];
    let wrong = || "its rows are not in order".to_owned();
    let mut places: Vec<Place> = Vec::with_capacity(count);
    let narrow = |number: u64| u32::try_from(number).map_err(|_| wrong());
    for number in 0..count {
        let [of, vcpu, at] = [&columns[0], &columns[1], &columns[2]].map(|column| column[number]);
        let before = places.last().copied();
        let (same_of, start) = match before {
            Some(before) => (of == 0, before),
            None => (false, (0, 0, 0)),
        };
        let same_vcpu = same_of && vcpu == 0;
        let add = |a: u32, b: u64| a.checked_add(narrow(b)?).ok_or_else(wrong);
        let of = add(start.0, of)?;
        let vcpu = add(if same_of { start.1 } else { 0 }, vcpu)?;
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let at = if same_vcpu { start.2.checked_add(at).ok_or_else(wrong)? } else { at };
        let place = (of, vcpu, at);
        if at >= intervals || before.is_some_and(|before| before >= place) {
            return Err(wrong());
        }
        places.push(place);
    }
    Ok(places)
}

/// Writes the same columns of all rows.
fn write_columns<T, const N: usize>(
    encoder: &mut Encoder,
    rows: &[T],
    runs: &Runs,
    columns: impl Fn(&T) -> [u64; N],
) {
    let mut all = [const { Vec::new() }; N];
    all.iter_mut().for_each(|column| column.reserve_exact(rows.len()));
    for row in rows {
        all.iter_mut().zip(columns(row)).for_each(|(column, number)| column.push(number));
    }
    all.iter().for_each(|column| encoder.column(column, runs));
}

fn read_columns<const N: usize>(
    decoder: &mut Decoder<'_>,
    runs: &Runs,
) -> Result<[Vec<u64>; N], &'static str> {
    let mut all = [const { Vec::new() }; N];
    for column in &mut all {
        *column = decoder.column(runs)?;
    }
    Ok(all)
}

/// The difference of a number to one that is expected, as a small number.
fn apart(number: u64, expected: u64) -> u64 {
    zigzag(number.wrapping_sub(expected))
}

fn from_apart(apart: u64, expected: u64) -> u64 {
    expected.wrapping_add(from_zigzag(apart))
}

/// The same, with 0 for the number 0, which is frequent besides.
fn apart_or_zero(number: u64, expected: u64) -> u64 {
    if number == 0 { 0 } else { apart(number, expected).wrapping_add(1) }
}

fn from_apart_or_zero(apart: u64, expected: u64) -> u64 {
    if apart == 0 { 0 } else { from_apart(apart.wrapping_sub(1), expected) }
}

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

fn write_exits(encoder: &mut Encoder, contents: &[Content]) {
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

fn read_exits(decoder: &mut Decoder<'_>, contents: &mut [Content], room: &mut usize) -> Result<(), String> {
    let places = read_places(decoder, contents.len(), room)?;
    let runs = runs(&places);
    let columns = read_columns::<EXIT_COLUMNS>(decoder, &runs)?;
    let mut spreads: Vec<(usize, usize, Vec<u64>)> = Vec::with_capacity(places.len());
    for ((first, length), skip) in columns[0].iter().zip(&columns[1]).zip(&columns[2]) {
        if *first > BUCKETS as u64 || *length > BUCKETS as u64 - first || *skip >= (*length).max(1) {
            return Err("a histogram has more buckets than there are".into());
        }
        let narrow = |number: &u64| usize::try_from(*number).unwrap_or(BUCKETS);
        spreads.push((narrow(first), narrow(skip), vec![0; narrow(length)]));
    }
    let most = spreads.iter().map(|(.., counts)| counts.len()).max().unwrap_or(0);
    for bucket in 0..most {
        let has = |at: &usize| bucket < spreads[*at].2.len() && bucket != spreads[*at].1;
        let rows: Vec<usize> = (0..spreads.len()).filter(has).collect();
        let column = decoder.column(&runs_of(&places, &rows))?;
        for (at, count) in rows.into_iter().zip(column) {
            spreads[at].2[bucket] = count;
        }
    }
    for ((at, &(reason, vcpu, interval)), (first, skip, mut counts)) in places.iter().enumerate().zip(spreads)
    {
        let of = |column: usize| columns[column][at];
        let count = of(3);
        let all = count.wrapping_sub(from_zigzag(of(4)));
        let others = sum(&counts);
        match counts.get_mut(skip) {
            Some(largest) => *largest = all.wrapping_sub(others),
            None if all != 0 => return Err("a histogram without buckets has exits".into()),
            None => {}
        }
        if counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count)).is_none() {
            return Err("a histogram has too many exits".into());
        }
        let time_ns = from_apart(of(5), expected_time(first, &counts));
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
    contents.iter_mut().for_each(|content| content.rows.sort_unstable_by_key(|row| (row.vcpu, row.reason)));
    Ok(())
}

/// Exits and parts of their host time, as the rows of one vCPU tell them.
#[derive(Clone, Copy, Default)]
struct Told {
    exits: u64,
    time: VcpuTime,
}

/// Sums over the rows of an interval by vCPU, which are asked for in ascending order.
struct Teller<'a> {
    rows: std::iter::Peekable<std::slice::Iter<'a, ExitRow>>,
}

impl<'a> Teller<'a> {
    fn new(content: &'a Content) -> Teller<'a> {
        Teller { rows: content.rows.iter().peekable() }
    }

    fn tell(&mut self, vcpu: u32) -> Told {
        let mut told = Told::default();
        while let Some(row) = self.rows.next_if(|row| row.vcpu <= vcpu) {
            if row.vcpu < vcpu {
                continue;
            }
            let Split { user_ns, waiting_ns, halted_ns, polled_ns, .. } = row.split;
            let others = user_ns.wrapping_add(waiting_ns).wrapping_add(halted_ns);
            let add = |sum: &mut u64, more: u64| *sum = sum.wrapping_add(more);
            add(&mut told.exits, row.count);
            add(&mut told.time.kernel_ns, row.time_ns.wrapping_sub(others));
            add(&mut told.time.user_ns, user_ns);
            add(&mut told.time.waiting_ns, waiting_ns);
            add(&mut told.time.halted_ns, halted_ns);
            add(&mut told.time.polled_ns, polled_ns);
        }
        told
    }
}

/// Host time with wrapping, for figures that nobody has checked yet.
fn host_ns(time: &VcpuTime) -> u64 {
    time.kernel_ns.wrapping_add(time.user_ns).wrapping_add(time.halted_ns).wrapping_add(time.waiting_ns)
}

fn span_columns(span: &SpanRow, told: Told, length_ns: u64) -> [u64; SPAN_COLUMNS] {
    let kvm = span.kvm_exits.map_or(0, |exits| apart(exits, span.exits).wrapping_add(1));
    let Some(time) = span.time else {
        return [apart(span.exits, told.exits), kvm, 0, 0, 0, 0, 0, 0, 0];
    };
    [
        apart(span.exits, told.exits),
        kvm,
        1,
        apart(time.guest_ns, length_ns.wrapping_sub(host_ns(&time))),
        apart(time.kernel_ns, told.time.kernel_ns),
        apart(time.user_ns, told.time.user_ns),
        apart(time.waiting_ns, told.time.waiting_ns),
        apart(time.halted_ns, told.time.halted_ns),
        apart(time.polled_ns, told.time.polled_ns),
    ]
}

fn span(vcpu: u32, columns: [u64; SPAN_COLUMNS], told: Told, length_ns: u64) -> SpanRow {
    let [exits, kvm, has_time, guest, kernel, user, waiting, halted, polled] = columns;
    let exits = from_apart(exits, told.exits);
    let kvm_exits = (kvm != 0).then(|| from_apart(kvm.wrapping_sub(1), exits));
    let time = (has_time != 0).then(|| {
        let mut time = VcpuTime {
            guest_ns: 0,
            kernel_ns: from_apart(kernel, told.time.kernel_ns),
            user_ns: from_apart(user, told.time.user_ns),
            waiting_ns: from_apart(waiting, told.time.waiting_ns),
            halted_ns: from_apart(halted, told.time.halted_ns),
            polled_ns: from_apart(polled, told.time.polled_ns),
        };
        time.guest_ns = from_apart(guest, length_ns.wrapping_sub(host_ns(&time)));
        time
    });
    SpanRow { vcpu, exits, kvm_exits, time }
}

fn write_spans(encoder: &mut Encoder, contents: &[Content]) {
    let mut all: Vec<(Place, [u64; SPAN_COLUMNS])> = Vec::new();
    for (at, content) in contents.iter().enumerate() {
        let mut teller = Teller::new(content);
        for row in &content.spans {
            let told = teller.tell(row.vcpu);
            all.push(((0, row.vcpu, at), span_columns(row, told, content.length_ns)));
        }
    }
    all.sort_unstable_by_key(|(place, _)| *place);
    let (places, columns): (Vec<Place>, Vec<_>) = all.into_iter().unzip();
    let runs = write_places(encoder, &places);
    write_columns(encoder, &columns, &runs, |columns| *columns);
}

fn read_spans(decoder: &mut Decoder<'_>, contents: &mut [Content], room: &mut usize) -> Result<(), String> {
    let places = read_places(decoder, contents.len(), room)?;
    let columns = read_columns::<SPAN_COLUMNS>(decoder, &runs(&places))?;
    let mut found: Vec<Vec<(u32, usize)>> = vec![Vec::new(); contents.len()];
    for (number, &(_, vcpu, at)) in places.iter().enumerate() {
        found[at].push((vcpu, number));
    }
    for (content, mut found) in contents.iter_mut().zip(found) {
        found.sort_unstable();
        if found.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err("a vCPU is there twice".into());
        }
        let mut teller = Teller::new(content);
        let spans = found.into_iter().map(|(vcpu, number)| {
            let columns = std::array::from_fn(|column| columns[column][number]);
            span(vcpu, columns, teller.tell(vcpu), content.length_ns)
        });
        content.spans = spans.collect();
    }
    Ok(())
}

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
    all.sort_unstable_by_key(|(key, breakdown, _)| (*key, *breakdown));
    let mut expecting = Expecting { rows, before: None, left: Expected::default() };
    for at in 0..all.len() {
        let (key, _, value) = all[at];
        expecting.begin(key);
        take(&mut expecting, value, all.get(at + 1).is_none_or(|next| next.0 != key));
    }
}

fn write_breakdowns(encoder: &mut Encoder, contents: &[Content], of: Of<'_>) {
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
    all.sort_unstable_by_key(|(place, _)| *place);
    let (places, columns): (Vec<Place>, Vec<_>) = all.into_iter().unzip();
    let runs = write_places(encoder, &places);
    write_columns(encoder, &columns, &runs, |columns| *columns);
}

fn read_breakdowns(
    decoder: &mut Decoder<'_>,
    contents: &mut [Content],
    room: &mut usize,
    of: Of<'_>,
) -> Result<(), String> {
    let places = read_places(decoder, contents.len(), room)?;
    let columns = read_columns::<BREAKDOWN_COLUMNS>(decoder, &runs(&places))?;
    let mut found = vec![Vec::new(); contents.len()];
    for (number, &(breakdown, vcpu, at)) in places.iter().enumerate() {
        let (reason, kind) = of(breakdown).unwrap_or((u32::MAX, Kind::Mode));
        found[at].push(((vcpu, reason, kind), breakdown, (vcpu, breakdown, number)));
    }
    for (content, found) in contents.iter_mut().zip(found) {
        let mut rows = Vec::with_capacity(found.len());
        expect(&content.rows, found, |expecting, (vcpu, breakdown, number), is_last| {
            let columns = std::array::from_fn(|column| columns[column][number]);
            rows.push(BreakdownRow { vcpu, breakdown, counters: expecting.counters(columns, is_last) });
        });
        rows.sort_unstable_by_key(|row| (row.vcpu, row.breakdown));
        content.breakdowns = rows;
    }
    Ok(())
}

/// Writes the VMs whose workers were looked at, then their times; of figures, by their names, those that are not 0 throughout.
fn write_workers(encoder: &mut Encoder, contents: &[Content]) {
    let mut vms: Vec<u64> = contents.iter().flat_map(|content| &content.workers).map(|row| row.vm).collect();
    vms.sort_unstable();
    vms.dedup();
    encoder.number(vms.len() as u64);
    encoder.column(&vms, &Runs::series(vms.len()));
    let key =
        |row: &WorkerRow| (0, u32::try_from(vms.partition_point(|vm| *vm < row.vm)).unwrap_or(u32::MAX));
    let (places, rows) = by_place(contents, |content| &content.workers, key);
    let runs = write_places(encoder, &places);
    let holds = |figure: &&WorkerFigure| rows.iter().any(|row| figure.ns(&row.times) != 0);
    let figures: Vec<&WorkerFigure> = WorkerTimes::FIGURES.iter().filter(holds).collect();
    encoder.number(figures.len() as u64);
    for figure in figures {
        encoder.text(figure.key);
        let column: Vec<u64> = rows.iter().map(|row| figure.ns(&row.times)).collect();
        encoder.column(&column, &runs);
    }
}

fn read_workers(decoder: &mut Decoder<'_>, contents: &mut [Content], room: &mut usize) -> Result<(), String> {
    let count = usize::try_from(decoder.number()?).unwrap_or(usize::MAX);
    if count > *room {
        return Err("it has more VMs than its bytes allow".into());
    }
    let vms = decoder.column(&Runs::series(count))?;
    if !vms.is_sorted_by(|a, b| a < b) {
        return Err("its VMs are not in order".into());
    }
    let places = read_places(decoder, contents.len(), room)?;
    let runs = runs(&places);
    let mut times = vec![WorkerTimes::default(); places.len()];
    for _ in 0..decoder.number()? {
        let key = decoder.text()?;
        let figure = WorkerTimes::FIGURES.iter().find(|figure| figure.key == key);
        let figure = figure.ok_or_else(|| format!("it tells of workers' {key:?}, which is not known"))?;
        for (times, ns) in times.iter_mut().zip(decoder.column(&runs)?) {
            *figure.ns_mut(times) = ns;
        }
    }
    for (&(_, vm, at), times) in places.iter().zip(times) {
        let vm = usize::try_from(vm).ok().and_then(|vm| vms.get(vm));
        let vm = *vm.ok_or("it has workers of a VM that it does not name")?;
        contents[at].workers.push(WorkerRow { vm, times });
    }
    contents.iter_mut().for_each(|content| content.workers.sort_unstable_by_key(|row| row.vm));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::content::tests::content;
    use super::*;
    use proptest::prelude::*;

    /// Some breakdowns are of reasons, one of none.
    fn of(breakdown: u32) -> Option<(u32, Kind)> {
        let kinds = [Kind::Return, Kind::Detail, Kind::Detail, Kind::Mode];
        (breakdown < 8).then(|| (breakdown % 3, kinds[breakdown as usize % 4]))
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
