//! Some intervals as columns.
//!
//! Rows of one reason and vCPU lie together, interval after interval, so that numbers of one column are alike. What can be told
//! from other columns is not told again: a time is written as the difference to what its histogram leads to expect.

use super::column::{Decoder, Encoder, from_zigzag, zigzag};
use super::content::{BreakdownRow, Content, ExitRow, SpanRow, WorkerRow};
use super::frame;
use exitscope_model::{
    BUCKETS, DetailCounters, Extremes, Histogram, Loss, Nested, Split, VcpuTime, WorkerFigure, WorkerTimes,
};

/// The most rows of a block, of all kinds together.
pub const MOST_ROWS: usize = 1 << 16;

/// The most intervals of a block.
pub const MOST_INTERVALS: usize = 1 << 12;

/// Bytes that a block has for each of its rows at least.
const LEAST_PER_ROW: usize = 8;

/// Columns of a row of exits, without those of its histogram's buckets.
const EXIT_COLUMNS: usize = 17;
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
    pub fn pack(contents: &[Content]) -> Result<Vec<u8>, String> {
        let mut encoder = Encoder::default();
        encoder.number(contents.len() as u64);
        encoder.number(contents.first().map_or(0, |first| first.interval));
        let lengths: Vec<u64> = contents.iter().map(|content| content.length_ns).collect();
        encoder.column(&lengths, &vec![true; lengths.len()]);
        for content in contents {
            let losses: Vec<_> = content.loss.figures().filter(|(_, count)| *count > 0).collect();
            encoder.number(losses.len() as u64);
            for (figure, count) in losses {
                encoder.text(figure.key);
                encoder.number(count);
            }
        }
        write_exits(&mut encoder, contents);
        write_spans(&mut encoder, contents);
        write_breakdowns(&mut encoder, contents);
        write_workers(&mut encoder, contents);
        let rows: usize = contents.iter().map(Content::len).sum();
        frame::pack(&encoder.finish(), rows * LEAST_PER_ROW)
    }

    /// Unpacks the intervals of a block.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub fn unpack(packed: &[u8]) -> Result<Vec<Content>, String> {
        let bytes = frame::unpack(packed)?;
        let mut decoder = Decoder::new(&bytes)?;
        let intervals = usize::try_from(decoder.number()?).unwrap_or(usize::MAX);
        if intervals > MOST_INTERVALS {
            return Err(format!("it has {intervals} intervals"));
        }
        let first = decoder.number()?;
        let lengths = decoder.column(&vec![true; intervals])?;
        let mut contents: Vec<Content> = Vec::with_capacity(intervals);
        for (number, length_ns) in (0_u64..).zip(lengths) {
            let interval = first.checked_add(number).ok_or("an interval's number is too large")?;
            let mut content = Content { interval, length_ns, ..Content::default() };
            for _ in 0..decoder.number()? {
                let (figure, count) = (decoder.text()?, decoder.number()?);
                let known = Loss::FIGURES.iter().find(|known| known.key == figure);
                let known =
                    known.ok_or_else(|| format!("it tells of the loss {figure:?}, which is not known"))?;
                *known.get_mut(&mut content.loss) = count;
            }
            contents.push(content);
        }
        let mut room = (packed.len() / LEAST_PER_ROW).min(MOST_ROWS);
        read_exits(&mut decoder, &mut contents, &mut room)?;
        read_spans(&mut decoder, &mut contents, &mut room)?;
        read_breakdowns(&mut decoder, &mut contents, &mut room)?;
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

/// Returns for each place if it is the one before in a later interval.
fn follows(places: &[Place]) -> Vec<bool> {
    let pairs = places.windows(2).map(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1));
    [false].into_iter().chain(pairs).take(places.len()).collect()
}

/// Writes places, which are ascending, as differences.
fn write_places(encoder: &mut Encoder, places: &[Place]) -> Vec<bool> {
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
    let none = vec![false; places.len()];
    columns.iter().for_each(|column| encoder.column(column, &none));
    follows(places)
}

/// Reads places. Each is greater than the one before.
fn read_places(decoder: &mut Decoder<'_>, intervals: usize, room: &mut usize) -> Result<Vec<Place>, String> {
    let count = usize::try_from(decoder.number()?).unwrap_or(usize::MAX);
    *room = room.checked_sub(count).ok_or("it has more rows than its bytes allow")?;
    let none = vec![false; count];
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
    follows: &[bool],
    columns: impl Fn(&T) -> [u64; N],
) {
    let mut all = [const { Vec::new() }; N];
    all.iter_mut().for_each(|column| column.reserve_exact(rows.len()));
    for row in rows {
        all.iter_mut().zip(columns(row)).for_each(|(column, number)| column.push(number));
    }
    all.iter().for_each(|column| encoder.column(column, follows));
}

fn read_columns<const N: usize>(
    decoder: &mut Decoder<'_>,
    follows: &[bool],
) -> Result<[Vec<u64>; N], &'static str> {
    let mut all = [const { Vec::new() }; N];
    for column in &mut all {
        *column = decoder.column(follows)?;
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
    let follows = write_places(encoder, &places);
    let spreads: Vec<(usize, Vec<u64>)> = rows.iter().map(|row| spread(&row.histogram)).collect();
    let both: Vec<(&ExitRow, &(usize, Vec<u64>))> = rows.iter().copied().zip(&spreads).collect();
    write_columns::<_, EXIT_COLUMNS>(encoder, &both, &follows, |(row, (first, counts))| {
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
            row.extremes.map_or(0, |extremes| apart(extremes.min_ns, low).wrapping_add(1)),
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
        ]
    });
    // Buckets of one row after another; each follows that of the row before if both rows have the same ones.
    let (mut buckets, mut alike) = (Vec::new(), Vec::new());
    for (at, (first, counts)) in spreads.iter().enumerate() {
        let skip = largest(counts);
        let before = at.checked_sub(1).filter(|_| follows[at]).map(|before| &spreads[before]);
        let is_alike = before.is_some_and(|before| {
            (before.0, before.1.len(), largest(&before.1)) == (*first, counts.len(), skip)
        });
        for (place, count) in counts.iter().enumerate().filter(|(place, _)| *place != skip) {
            // The difference is to the row before, which the column cannot know.
            let expected = before.filter(|_| is_alike).map_or(0, |before| before.1[place]);
            buckets.push(if is_alike { apart(*count, expected) } else { *count });
            alike.push(false);
        }
    }
    encoder.column(&buckets, &alike);
}

fn read_exits(decoder: &mut Decoder<'_>, contents: &mut [Content], room: &mut usize) -> Result<(), String> {
    let places = read_places(decoder, contents.len(), room)?;
    let follows = follows(&places);
    let columns = read_columns::<EXIT_COLUMNS>(decoder, &follows)?;
    let mut buckets = 0;
    for (first, length) in columns[0].iter().zip(&columns[1]) {
        if *first > BUCKETS as u64 || *length > BUCKETS as u64 - first {
            return Err("a histogram has more buckets than there are".into());
        }
        buckets += usize::try_from(length.saturating_sub(1)).unwrap_or(0);
    }
    let buckets = decoder.column(&vec![false; buckets])?;
    let mut left = buckets.as_slice();
    let mut before: (usize, usize, Vec<u64>) = (0, 0, Vec::new());
    for (at, &(reason, vcpu, interval)) in places.iter().enumerate() {
        let of = |column: usize| columns[column][at];
        let place = |column: usize| usize::try_from(of(column)).unwrap_or(usize::MAX);
        let (first, length, skip) = (place(0), place(1), place(2));
        if skip >= length.max(1) {
            return Err("a histogram has no such bucket".into());
        }
        let (mine, rest) = left.split_at(length.saturating_sub(1));
        left = rest;
        let alike = follows[at] && (before.0, before.2.len(), before.1) == (first, length, skip);
        let mut counts = Vec::with_capacity(length);
        let mut next = mine.iter();
        for place in 0..length {
            let count = if place == skip { Some(&0) } else { next.next() };
            let count = *count.ok_or("a histogram is cut off")?;
            let is_apart = alike && place != skip;
            counts.push(if is_apart { from_apart(count, before.2[place]) } else { count });
        }
        let count = of(3);
        if let Some(largest) = counts.get_mut(skip) {
            // The sum is so far from the count.
            *largest = 0;
        }
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
        let extremes = match of(6) {
            0 => None,
            min => {
                let (min_ns, max_ns) = (from_apart(min.wrapping_sub(1), low), from_apart(of(7), high));
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
        before = (first, skip, counts);
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
    let follows = write_places(encoder, &places);
    write_columns(encoder, &columns, &follows, |columns| *columns);
}

fn read_spans(decoder: &mut Decoder<'_>, contents: &mut [Content], room: &mut usize) -> Result<(), String> {
    let places = read_places(decoder, contents.len(), room)?;
    let columns = read_columns::<SPAN_COLUMNS>(decoder, &follows(&places))?;
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

fn write_breakdowns(encoder: &mut Encoder, contents: &[Content]) {
    let (places, rows) =
        by_place(contents, |content| &content.breakdowns, |row: &BreakdownRow| (row.breakdown, row.vcpu));
    let follows = write_places(encoder, &places);
    write_columns::<_, BREAKDOWN_COLUMNS>(encoder, &rows, &follows, |row| {
        [row.counters.count, row.counters.time_ns, row.counters.max_ns]
    });
}

fn read_breakdowns(
    decoder: &mut Decoder<'_>,
    contents: &mut [Content],
    room: &mut usize,
) -> Result<(), String> {
    let places = read_places(decoder, contents.len(), room)?;
    let columns = read_columns::<BREAKDOWN_COLUMNS>(decoder, &follows(&places))?;
    for (number, &(breakdown, vcpu, at)) in places.iter().enumerate() {
        let [count, time_ns, max_ns] = std::array::from_fn(|column| columns[column][number]);
        let counters = DetailCounters { count, time_ns, max_ns };
        contents[at].breakdowns.push(BreakdownRow { vcpu, breakdown, counters });
    }
    let key = |row: &BreakdownRow| (row.vcpu, row.breakdown);
    contents.iter_mut().for_each(|content| content.breakdowns.sort_unstable_by_key(key));
    Ok(())
}

/// Writes the VMs whose workers were looked at, then their times; of figures, by their names, those that are not 0 throughout.
fn write_workers(encoder: &mut Encoder, contents: &[Content]) {
    let mut vms: Vec<u64> = contents.iter().flat_map(|content| &content.workers).map(|row| row.vm).collect();
    vms.sort_unstable();
    vms.dedup();
    encoder.number(vms.len() as u64);
    encoder.column(&vms, &vec![true; vms.len()]);
    let key =
        |row: &WorkerRow| (0, u32::try_from(vms.partition_point(|vm| *vm < row.vm)).unwrap_or(u32::MAX));
    let (places, rows) = by_place(contents, |content| &content.workers, key);
    let follows = write_places(encoder, &places);
    let holds = |figure: &&WorkerFigure| rows.iter().any(|row| figure.ns(&row.times) != 0);
    let figures: Vec<&WorkerFigure> = WorkerTimes::FIGURES.iter().filter(holds).collect();
    encoder.number(figures.len() as u64);
    for figure in figures {
        encoder.text(figure.key);
        let column: Vec<u64> = rows.iter().map(|row| figure.ns(&row.times)).collect();
        encoder.column(&column, &follows);
    }
}

fn read_workers(decoder: &mut Decoder<'_>, contents: &mut [Content], room: &mut usize) -> Result<(), String> {
    let count = usize::try_from(decoder.number()?).unwrap_or(usize::MAX);
    if count > *room {
        return Err("it has more VMs than its bytes allow".into());
    }
    let vms = decoder.column(&vec![true; count])?;
    if !vms.is_sorted_by(|a, b| a < b) {
        return Err("its VMs are not in order".into());
    }
    let places = read_places(decoder, contents.len(), room)?;
    let follows = follows(&places);
    let mut times = vec![WorkerTimes::default(); places.len()];
    for _ in 0..decoder.number()? {
        let key = decoder.text()?;
        let figure = WorkerTimes::FIGURES.iter().find(|figure| figure.key == key);
        let figure = figure.ok_or_else(|| format!("it tells of workers' {key:?}, which is not known"))?;
        for (times, ns) in times.iter_mut().zip(decoder.column(&follows)?) {
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

    proptest! {
        #[test]
        fn intervals_that_are_packed_are_unpacked(
            contents in (content(40), content(41), content(42)).prop_map(|(a, b, c)| [a, b, c]),
        ) {
            let packed = Block::pack(&contents).unwrap();
            prop_assert_eq!(Block::unpack(&packed).unwrap(), contents);
        }

        #[test]
        fn any_columns_are_read_or_refused(
            contents in (content(40), content(41)).prop_map(|(a, b)| [a, b]),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = frame::unpack(&Block::pack(&contents).unwrap()).unwrap();
            for (at, flip) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
            let least = 8 * contents.iter().map(Content::len).sum::<usize>();
            if let Ok(found) = Block::unpack(&frame::pack(&bytes, least).unwrap()) {
                prop_assert!(found.iter().map(Content::len).sum::<usize>() <= 2 * least.max(bytes.len()));
            }
        }
    }
}
