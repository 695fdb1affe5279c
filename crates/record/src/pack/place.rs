//! Places of rows in a block, and columns in that order.

use super::column::{Column, Decoder, Encoder, Runs, from_zigzag, zigzag};
use super::content::Content;

/// Place of a row in a block: the reason or breakdown, the vCPU, and which of the intervals.
pub type Place = (u32, u32, usize);

/// All rows of one kind by their places, in that order.
pub fn by_place<'a, T>(
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
pub fn runs(places: &[Place]) -> Runs {
    let pairs = places.windows(2).map(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1));
    let follows = [false].into_iter().chain(pairs).take(places.len()).collect();
    let begins = (1..places.len()).filter(|at| places[*at].0 != places[at - 1].0);
    Runs { follows, groups: [0].into_iter().chain(begins).collect() }
}

/// Writes places, which are ascending, as differences.
pub fn write_places(encoder: &mut Encoder, places: &[Place]) -> Runs {
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
///
/// # Errors
/// With what is wrong with them; there may be no more than there is `room` for.
pub fn read_places(
    decoder: &mut Decoder<'_>,
    intervals: usize,
    room: &mut usize,
) -> Result<Vec<Place>, String> {
    let count = usize::try_from(decoder.number()?).unwrap_or(usize::MAX);
    *room = room.checked_sub(count).ok_or("it has more rows than its bytes allow")?;
    let none = Runs::plain(count);
    let columns = [decoder.column(&none)?, decoder.column(&none)?, decoder.column(&none)?];
    let wrong = || "its rows are not in order".to_owned();
    let mut places: Vec<Place> = Vec::with_capacity(count);
    let narrow = |number: u64| u32::try_from(number).map_err(|_| wrong());
    for number in 0..count {
        let [of, vcpu, at] = [&columns[0], &columns[1], &columns[2]].map(|column| column.get(number));
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
pub fn write_columns<T, const N: usize>(
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

/// Writes the columns of rows and their places, in the order of these.
pub fn write_by_place<const N: usize>(encoder: &mut Encoder, mut all: Vec<(Place, [u64; N])>) {
    all.sort_unstable_by_key(|(place, _)| *place);
    let (places, columns): (Vec<Place>, Vec<_>) = all.into_iter().unzip();
    let runs = write_places(encoder, &places);
    write_columns(encoder, &columns, &runs, |columns| *columns);
}

/// Reads as many columns.
///
/// # Errors
/// If there are fewer.
pub fn read_columns<const N: usize>(
    decoder: &mut Decoder<'_>,
    runs: &Runs,
) -> Result<[Column; N], &'static str> {
    let mut all = std::array::from_fn(|_| Column::default());
    for column in &mut all {
        *column = decoder.column(runs)?;
    }
    Ok(all)
}

/// The difference of a number to one that is expected, as a small number.
pub fn apart(number: u64, expected: u64) -> u64 {
    zigzag(number.wrapping_sub(expected))
}

/// The number that is [`apart`] like this.
pub fn from_apart(apart: u64, expected: u64) -> u64 {
    expected.wrapping_add(from_zigzag(apart))
}

/// The same, with 0 for the number 0, which is frequent besides.
pub fn apart_or_zero(number: u64, expected: u64) -> u64 {
    if number == 0 { 0 } else { apart(number, expected).wrapping_add(1) }
}

/// The number that is [`apart_or_zero`] like this.
pub fn from_apart_or_zero(apart: u64, expected: u64) -> u64 {
    if apart == 0 { 0 } else { from_apart(apart.wrapping_sub(1), expected) }
}
