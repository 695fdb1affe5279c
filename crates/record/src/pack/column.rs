//! Columns of numbers in few bytes.
//!
//! A column is a mode, for each number how many bits it has, and these bits without the highest, which is 1. The lengths of all
//! columns lie together, a byte each, before all bits: lengths repeat and are compressed well by what comes after this, bits
//! are as good as random. The numbers of a column lie in groups, the lengths of which are alike: a byte says what is usual in
//! a group, and others say how far each length is from that.

/// Column of zeros, of which nothing else is written.
const ZERO: u8 = 0;
/// Numbers as they are.
const PLAIN: u8 = 1;
/// Differences to the number before where that is of the same series, as [`zigzag`] has them.
const DIFFERENCES: u8 = 2;
/// Added to the mode where all numbers are even: they are halved.
const HALVED: u8 = 4;

/// Bytes of lengths from which on a column is worth a table of its own in compression.
const CUT: usize = 512;

/// Order of the numbers of a column.
#[derive(Clone, Default)]
pub struct Runs {
    /// True where a number is likely to be near the one before, which is of the same series.
    pub follows: Vec<bool>,
    /// Places at which groups begin whose numbers are about as large, ascending; the first group begins at 0.
    pub groups: Vec<usize>,
}

impl Runs {
    /// Order of so many numbers of which nothing is known.
    pub fn plain(count: usize) -> Runs {
        Runs { follows: vec![false; count], groups: vec![0] }
    }

    /// Order of so many numbers of one series.
    pub fn series(count: usize) -> Runs {
        Runs { follows: vec![true; count], groups: vec![0] }
    }

    /// Number of numbers.
    fn len(&self) -> usize {
        self.follows.len()
    }

    /// Begin and end of each group.
    fn groups(&self) -> impl Iterator<Item = (usize, usize)> {
        let ends = self.groups.iter().skip(1).copied().chain([self.len()]);
        self.groups.iter().copied().zip(ends)
    }
}

/// Numbers of a column that was read. One of zeros keeps none of them.
#[derive(Clone, Default)]
pub struct Column {
    numbers: Vec<u64>,
    len: usize,
}

impl Column {
    /// The number at a place; 0 where there is none.
    pub fn get(&self, at: usize) -> u64 {
        self.numbers.get(at).copied().unwrap_or(0)
    }

    /// All numbers.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        (0..self.len).map(|at| self.get(at))
    }
}

/// A signed number as an unsigned one that is small where that is near zero: 0, -1, 1, -2, 2 are 0, 1, 2, 3, 4.
pub fn zigzag(number: u64) -> u64 {
    let number = number.cast_signed();
    (number << 1 ^ number >> 63).cast_unsigned()
}

/// The number whose [`zigzag`] this is.
pub fn from_zigzag(number: u64) -> u64 {
    number >> 1 ^ (number & 1).wrapping_neg()
}

/// Columns that are being written.
#[derive(Default)]
pub struct Encoder {
    head: Vec<u8>,
    lengths: Vec<u8>,
    /// Places in `lengths` at which something else begins.
    cuts: Vec<usize>,
    bits: Vec<u8>,
    /// Bits that are no whole byte yet, the lowest first, and how many.
    rest: u64,
    rest_bits: u32,
}

impl Encoder {
    /// Writes one number as LEB128: seven bits a byte, the lowest first, bit 7 set in all but the last.
    pub fn number(&mut self, number: u64) {
        push_number(&mut self.head, number);
    }

    /// Writes a text of at most 255 bytes.
    pub fn text(&mut self, text: &str) {
        let bytes = &text.as_bytes()[..text.len().min(255)];
        self.number(bytes.len() as u64);
        self.head.extend(bytes);
    }

    /// Writes a column.
    pub fn column(&mut self, numbers: &[u64], runs: &Runs) {
        if numbers.iter().all(|number| *number == 0) {
            self.head.push(ZERO);
            return;
        }
        let halved = if numbers.iter().all(|number| number & 1 == 0) { HALVED } else { 0 };
        let mut numbers: Vec<u64> = numbers.iter().map(|number| number >> (halved / HALVED)).collect();
        let apart = differences(&numbers, &runs.follows);
        let all_bits = |numbers: &[u64]| numbers.iter().map(|number| u64::from(bits(*number))).sum::<u64>();
        let mode = if all_bits(&apart) < all_bits(&numbers) { DIFFERENCES } else { PLAIN };
        if mode == DIFFERENCES {
            numbers = apart;
        }
        self.head.push(mode | halved);
        // What is usual in each group.
        let usual = |(begin, end): (usize, usize)| {
            let some = &numbers[begin..end];
            let sum: usize = some.iter().map(|number| usize::from(bits(*number))).sum();
            u8::try_from((sum + some.len() / 2) / some.len().max(1)).unwrap_or(64)
        };
        let usual: Vec<u8> = runs.groups().map(usual).collect();
        self.lengths.extend(&usual);
        for ((begin, end), usual) in runs.groups().zip(usual) {
            self.lengths.extend(numbers[begin..end].iter().map(|number| bits(*number).wrapping_sub(usual)));
        }
        if self.lengths.len() - self.cuts.last().unwrap_or(&0) >= CUT {
            self.cuts.push(self.lengths.len());
        }
        numbers.into_iter().for_each(|number| self.push(number));
    }

    /// Writes the bits of a number after the highest.
    fn push(&mut self, number: u64) {
        let Some(kept) = bits(number).checked_sub(1) else { return };
        let mut left = u32::from(kept);
        let mut number = number & !(1_u64 << kept);
        // At most 32 at once, so that nothing is shifted out.
        while left > 0 {
            let some = left.min(32);
            self.rest |= (number & ((1 << some) - 1)) << self.rest_bits;
            self.rest_bits += some;
            number >>= some;
            left -= some;
            while self.rest_bits >= 8 {
                let [byte, ..] = self.rest.to_le_bytes();
                self.bits.push(byte);
                self.rest >>= 8;
                self.rest_bits -= 8;
            }
        }
    }

    /// All that was written, and the places at which something of another kind begins.
    pub fn finish(mut self) -> (Vec<u8>, Vec<usize>) {
        if self.rest_bits > 0 {
            let [byte, ..] = self.rest.to_le_bytes();
            self.bits.push(byte);
        }
        let mut bytes = Vec::with_capacity(20 + self.head.len() + self.lengths.len() + self.bits.len());
        push_number(&mut bytes, self.head.len() as u64);
        push_number(&mut bytes, self.lengths.len() as u64);
        bytes.extend(self.head);
        let begin = bytes.len();
        let mut cuts: Vec<usize> = self.cuts.iter().map(|cut| begin + cut).collect();
        bytes.extend(self.lengths);
        if self.bits.len() >= CUT {
            cuts.push(bytes.len());
        }
        bytes.extend(self.bits);
        (bytes, cuts)
    }
}

/// Number of bits of a number.
fn bits(number: u64) -> u8 {
    u8::try_from(64 - number.leading_zeros()).unwrap_or(64)
}

/// Differences to the number before, where that is of the same series.
fn differences(numbers: &[u64], follows: &[bool]) -> Vec<u64> {
    let before = [0].into_iter().chain(numbers.iter().copied());
    let pairs = numbers.iter().zip(before).zip(follows);
    pairs
        .map(
            |((number, before), follows)| {
                if *follows { zigzag(number.wrapping_sub(before)) } else { *number }
            },
        )
        .collect()
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let seven = u8::try_from(number & 0x7f).unwrap_or(0x7f);
        number >>= 7;
        if number == 0 {
            bytes.push(seven);
            return;
        }
        bytes.push(seven | 0x80);
    }
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (&byte, rest) = bytes.split_first().ok_or("a number is cut off")?;
        *bytes = rest;
        let seven = u64::from(byte & 0x7f);
        if shift >= 64 || seven << shift >> shift != seven {
            return Err("a number has more than 64 bits");
        }
        number |= seven << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
}

/// Columns that are being read. Nothing is larger than the bytes say, but columns of zeros, whose number of rows the caller bounds.
pub struct Decoder<'a> {
    head: &'a [u8],
    lengths: &'a [u8],
    bits: &'a [u8],
    /// Bits of `bits` that have been read.
    at: usize,
}

impl<'a> Decoder<'a> {
    /// Begins with what [`Encoder::finish`] returned.
    ///
    /// # Errors
    /// With what is wrong with the bytes.
    pub fn new(mut bytes: &'a [u8]) -> Result<Decoder<'a>, &'static str> {
        let (head, lengths) = (take_number(&mut bytes)?, take_number(&mut bytes)?);
        let cut = |bytes: &mut &'a [u8], length: u64| {
            let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len());
            let (mine, rest) = bytes.split_at(length.ok_or("a part is longer than the whole")?);
            *bytes = rest;
            Ok::<_, &'static str>(mine)
        };
        let (head, lengths) = (cut(&mut bytes, head)?, cut(&mut bytes, lengths)?);
        Ok(Decoder { head, lengths, bits: bytes, at: 0 })
    }

    /// Reads one number.
    ///
    /// # Errors
    /// If there is none.
    pub fn number(&mut self) -> Result<u64, &'static str> {
        take_number(&mut self.head)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// If there is none.
    pub fn text(&mut self) -> Result<&'a str, &'static str> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let (text, rest) = self.head.split_at_checked(length).ok_or("a text is cut off")?;
        self.head = rest;
        std::str::from_utf8(text).map_err(|_| "a text is none")
    }

    /// Reads a column of numbers in this order.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn column(&mut self, runs: &Runs) -> Result<Column, &'static str> {
        let (&mode, rest) = self.head.split_first().ok_or("a column is missing")?;
        self.head = rest;
        if mode == ZERO {
            return Ok(Column { numbers: Vec::new(), len: runs.len() });
        }
        let (halved, mode) = (mode / HALVED, mode % HALVED);
        if halved > 1 || !(PLAIN..=DIFFERENCES).contains(&mode) {
            return Err("a column is of an unknown mode");
        }
        let cut = "a column is cut off";
        let (usual, rest) = self.lengths.split_at_checked(runs.groups.len()).ok_or(cut)?;
        let (lengths, rest) = rest.split_at_checked(runs.len()).ok_or(cut)?;
        self.lengths = rest;
        let mut numbers = Vec::with_capacity(runs.len());
        let mut before = 0_u64;
        for ((begin, end), usual) in runs.groups().zip(usual) {
            for (length, follows) in lengths[begin..end].iter().zip(&runs.follows[begin..end]) {
                let number = self.bits(length.wrapping_add(*usual))?;
                let number = match mode == DIFFERENCES && *follows {
                    true => before.wrapping_add(from_zigzag(number)),
                    false => number,
                };
                numbers.push(number << halved);
                before = number;
            }
        }
        Ok(Column { numbers, len: runs.len() })
    }

    #[inline]
    fn bits(&mut self, length: u8) -> Result<u64, &'static str> {
        let Some(kept) = length.checked_sub(1) else { return Ok(0) };
        if kept >= 64 {
            return Err("a number has more than 64 bits");
        }
        let (first, shift) = (self.at / 8, self.at % 8);
        let end = self.at + usize::from(kept);
        if end > 8 * self.bits.len() {
            return Err("its bits are cut off");
        }
        self.at = end;
        let above = 1_u64 << kept;
        // Nearly always eight bytes are there, and enough.
        if kept <= 56
            && let Some(window) = self.bits.get(first..).and_then(<[u8]>::first_chunk)
        {
            return Ok(u64::from_le_bytes(*window) >> shift & (above - 1) | above);
        }
        let mut window = [0; 16];
        let there = self.bits.get(first..).unwrap_or_default();
        let there = &there[..there.len().min(9)];
        window[..there.len()].copy_from_slice(there);
        let low = u128::from_le_bytes(window) >> shift & u128::from(above - 1);
        let number = u64::try_from(low).unwrap_or(u64::MAX);
        Ok(number | above)
    }

    /// Checks that all was read.
    ///
    /// # Errors
    /// If something is left.
    pub fn finish(self) -> Result<(), &'static str> {
        if self.head.is_empty() && self.lengths.is_empty() && self.bits.len() == self.at.div_ceil(8) {
            Ok(())
        } else {
            Err("it has more than it says")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_as_documented() {
        let mut encoder = Encoder::default();
        encoder.number(300);
        encoder.column(&[5, 0, 1], &Runs::plain(3));
        encoder.column(&[0, 0, 0], &Runs::plain(3));
        let runs = Runs { follows: vec![false, true, true], groups: vec![0, 1] };
        encoder.column(&[1000, 1001, 999], &runs);
        encoder.column(&[6, 4], &Runs::plain(2));
        let (bytes, cuts) = encoder.finish();
        // Head: 300, plain, zero, differences, plain and halved. Lengths: usually 1, then 3, 0, 1 less that; usually 10
        // and 2, then 10, 2, 2; usually 2, then 2, 2. Bits: 01; 111101000, 0, 1; 1, 0.
        let head = [6, 12, 0xac, 2, PLAIN, ZERO, DIFFERENCES, PLAIN | HALVED];
        let lengths = [1, 2, 255, 0, 10, 2, 0, 0, 0, 2, 0, 0];
        let parts = (&bytes[..8], &bytes[8..20], &bytes[20..]);
        assert_eq!(parts, (&head[..], &lengths[..], &[0b1010_0001, 0b011_0111][..]));
        assert!(cuts.is_empty());
        for number in [0, 1, u64::MAX, 5, 5_u64.wrapping_neg(), 1 << 63] {
            assert_eq!(from_zigzag(zigzag(number)), number);
        }
        assert_eq!([0, u64::MAX, 1, u64::MAX - 1, 2].map(zigzag), [0, 1, 2, 3, 4]);
    }

    fn numbers() -> impl Strategy<Value = Vec<(u64, bool)>> {
        let number = prop_oneof![Just(0), 0_u64..300, any::<u64>()];
        proptest::collection::vec((number, any::<bool>()), 0..40)
    }

    proptest! {
        #[test]
        fn columns_that_are_written_are_read(columns in proptest::collection::vec(numbers(), 0..6)) {
            let mut encoder = Encoder::default();
            let order = |one: Vec<(u64, bool)>| {
                let (numbers, follows): (Vec<u64>, Vec<bool>) = one.into_iter().unzip();
                let groups = [0].into_iter().chain((1..numbers.len()).filter(|at| !follows[*at])).collect();
                (numbers, Runs { follows, groups })
            };
            let columns: Vec<(Vec<u64>, Runs)> = columns.into_iter().map(order).collect();
            for (numbers, runs) in &columns {
                encoder.number(numbers.len() as u64);
                encoder.text("x");
                encoder.column(numbers, runs);
            }
            let (bytes, _) = encoder.finish();
            let mut decoder = Decoder::new(&bytes).unwrap();
            for (numbers, runs) in &columns {
                prop_assert_eq!(decoder.number(), Ok(numbers.len() as u64));
                prop_assert_eq!(decoder.text(), Ok("x"));
                prop_assert_eq!(&decoder.column(runs).unwrap().iter().collect::<Vec<_>>(), numbers);
            }
            prop_assert_eq!(decoder.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(mut decoder) = Decoder::new(&bytes) {
                let _ = decoder.text();
                while decoder.column(&Runs { follows: vec![false, true, true], groups: vec![0, 2] }).is_ok() && !decoder.head.is_empty() {}
            }
        }
    }
}
