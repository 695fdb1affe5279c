//! A histogram in few bytes.
//!
//! The first byte is the number of the first bucket that is written. Then come the counts of that one and those after it,
//! each as a LEB128 number: seven bits a byte, the lowest first, bit 7 set in all but the last. Buckets before and after are
//! empty. No bytes at all are the empty histogram.

use exitscope_model::{BUCKETS, Histogram};

/// The most bytes of a histogram: ten for each bucket of 64 bits.
pub const MOST: usize = 1 + 10 * BUCKETS;

/// The bytes of a histogram.
pub fn encode(histogram: &Histogram) -> Vec<u8> {
    let buckets = histogram.buckets();
    let holds = |count: &u64| *count > 0;
    let (Some(first), Some(last)) = (buckets.iter().position(holds), buckets.iter().rposition(holds)) else {
        return Vec::new();
    };
    let mut bytes = vec![u8::try_from(first).unwrap_or(u8::MAX)];
    for mut count in buckets[first..=last].iter().copied() {
        loop {
            let seven = u8::try_from(count & 0x7f).unwrap_or(0x7f);
            count >>= 7;
            if count == 0 {
                bytes.push(seven);
                break;
            }
            bytes.push(seven | 0x80);
        }
    }
    bytes
}

/// The counts of all buckets that these bytes say, or what is wrong with them.
pub fn decode(bytes: &[u8]) -> Result<[u64; BUCKETS], &'static str> {
    let mut buckets = [0; BUCKETS];
    let Some((&first, mut rest)) = bytes.split_first() else { return Ok(buckets) };
    let mut free = buckets.get_mut(usize::from(first)..).unwrap_or_default().iter_mut();
    while !rest.is_empty() {
        let bucket = free.next().ok_or("it has more buckets than there are")?;
        let mut shift = 0;
        loop {
            let (&byte, left) = rest.split_first().ok_or("its last number is cut off")?;
            rest = left;
            let seven = u64::from(byte & 0x7f);
            if shift >= 64 || seven << shift >> shift != seven {
                return Err("a number in it has more than 64 bits");
            }
            *bucket |= seven << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    Ok(buckets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_as_documented() {
        let histogram = Histogram::from_bucket(10, [1, 0, 300]);
        assert_eq!(encode(&histogram), [10, 1, 0, 0xac, 2]);
        assert!(encode(&Histogram::default()).is_empty());
        assert_eq!(decode(&[10, 1, 0, 0xac, 2]).unwrap().into_iter().collect::<Histogram>(), histogram);
        let long = [&[0][..], &[0xff; 9], &[2]].concat();
        for wrong in [&[37, 1, 1][..], &[38, 1], &[255, 0], &[3, 0x80], &[3, 1, 0xff], &long] {
            assert!(decode(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(counts in proptest::collection::vec(prop_oneof![Just(0), 0u64..300, any::<u64>()], 0..=BUCKETS)) {
            let histogram: Histogram = counts.iter().copied().collect();
            prop_assert_eq!(decode(&encode(&histogram)).unwrap().into_iter().collect::<Histogram>(), histogram);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
        }
    }
}
