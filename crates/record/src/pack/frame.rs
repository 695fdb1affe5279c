//! Bytes as a zstd frame with a checksum, which unpacks to no more than its length allows.

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, InBuffer, OutBuffer};

/// Bytes that a frame may unpack to for each of its own, and besides.
const RATIO: usize = 64;
const BESIDES: usize = 64 << 10;

/// The most bytes that a frame unpacks to.
const MOST: usize = 32 << 20;

/// Level of compression. Higher ones take more time, and find little in bits that are as good as random.
const LEVEL: i32 = 9;

/// Begin of a frame that unpacks to nothing (RFC 8878, section 3.1.2), and its length with the length of what follows.
const SKIPPED: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
const SKIPPED_HEADER: usize = 8;

/// Bytes that a repetition has at least to be worth telling.
const REPETITION: u32 = 7;

/// Packs bytes, with a table of its own for what lies between two of the `cuts`, which are ascending. A frame of at least `least`
/// bytes comes out: where it would be shorter, or unpack to more than is allowed, a frame of zeros follows that unpacks to
/// nothing.
///
/// # Errors
/// With the message of zstd, which only runs out of memory.
pub fn pack(bytes: &[u8], cuts: &[usize], least: usize) -> Result<Vec<u8>, String> {
    let said = |code| zstd_safe::get_error_name(code).to_owned();
    let mut context = CCtx::try_create().ok_or("out of memory")?;
    for parameter in [
        CParameter::CompressionLevel(LEVEL),
        CParameter::MinMatch(REPETITION),
        CParameter::ChecksumFlag(true),
        CParameter::ContentSizeFlag(true),
    ] {
        context.set_parameter(parameter).map_err(said)?;
    }
    context.set_pledged_src_size(Some(bytes.len() as u64)).map_err(said)?;
    let room = zstd_safe::compress_bound(bytes.len()) + 16 * (cuts.len() + 1);
    let mut packed = Vec::with_capacity(room);
    let mut output = OutBuffer::around(&mut packed);
    let mut begin = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let directive =
            if end == bytes.len() { ZSTD_EndDirective::ZSTD_e_end } else { ZSTD_EndDirective::ZSTD_e_flush };
        let mut input = InBuffer::around(&bytes[begin..end]);
        while context.compress_stream2(&mut output, &mut input, directive).map_err(said)? > 0 {}
        begin = end;
    }
    let least = least.max(bytes.len().saturating_sub(BESIDES).div_ceil(RATIO));
    if packed.len() < least {
        let zeros = least.saturating_sub(packed.len() + SKIPPED_HEADER);
        packed.extend(SKIPPED);
        packed.extend(u32::try_from(zeros).unwrap_or(u32::MAX).to_le_bytes());
        packed.resize(packed.len() + zeros, 0);
    }
    Ok(packed)
}

/// Unpacks bytes, once it is clear that they will not be too many.
///
/// # Errors
/// With what is wrong with them: no frame, too many bytes for its length, another checksum.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let length = match zstd_safe::get_frame_content_size(packed) {
        Ok(Some(length)) => usize::try_from(length).unwrap_or(usize::MAX),
        _ => return Err("it is no frame of zstd that says its length".into()),
    };
    if length > MOST.min(packed.len().saturating_mul(RATIO).saturating_add(BESIDES)) {
        return Err(format!("{} bytes say that they unpack to {length}", packed.len()));
    }
    // Where the frame ends: what follows unpacks to nothing.
    let frame = zstd_safe::find_frame_compressed_size(packed).map_err(|_| "its frame is cut off")?;
    let said = |code| format!("it does not unpack: {}", zstd_safe::get_error_name(code));
    // Bit 2 of the descriptor: a checksum follows (RFC 8878, section 3.1.1.1.1).
    if packed.get(4).is_none_or(|descriptor| descriptor & 4 == 0) {
        return Err("it has no checksum".into());
    }
    let mut bytes = Vec::with_capacity(length);
    let mut context = DCtx::try_create().ok_or("out of memory")?;
    context.decompress(&mut bytes, packed.get(..frame).unwrap_or_default()).map_err(said)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_never_unpacks_to_more_than_its_length_allows() {
        let zeros = vec![0; 10 << 20];
        let packed = pack(&zeros, &[], 0).unwrap();
        assert!(packed.len() * RATIO + BESIDES >= zeros.len() && packed.len() < 200_000, "{}", packed.len());
        assert_eq!(unpack(&packed).unwrap(), zeros);
        assert_eq!(zstd::decode_all(&packed[..]).unwrap(), zeros, "any zstd reads it");
        assert_eq!(pack(b"x", &[], 500).unwrap().len(), 500);
        // The same frame without the zeros after it.
        let frame = zstd_safe::find_frame_compressed_size(&packed).unwrap();
        let error = unpack(&packed[..frame]).unwrap_err();
        assert!(error.contains(&zeros.len().to_string()), "{error}");
        let bomb = zstd::bulk::compress(&vec![0; 1 << 30], 3).unwrap();
        assert!(unpack(&bomb).unwrap_err().contains("1073741824"));
    }

    #[test]
    fn a_flipped_bit_is_told() {
        let bytes: Vec<u8> = (0..300_u32).flat_map(|number| (number * number).to_le_bytes()).collect();
        let packed = pack(&bytes, &[400, 900], 0).unwrap();
        for bit in 0..8 * packed.len() {
            let mut flipped = packed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Some bits mean nothing, as those that fill up a byte.
            assert!(
                unpack(&flipped).is_ok_and(|found| found == bytes) || unpack(&flipped).is_err(),
                "bit {bit}"
            );
        }
        let unchecked = zstd::bulk::compress(&bytes, 3).unwrap();
        assert!(unpack(&unchecked).unwrap_err().contains("no checksum"));
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(bytes in proptest::collection::vec(any::<u8>(), 0..3000), least in 0_usize..100) {
            prop_assert_eq!(unpack(&pack(&bytes, &[], least).unwrap()).unwrap(), bytes);
        }

        #[test]
        fn any_bytes_are_unpacked_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut framed = vec![0x28, 0xb5, 0x2f, 0xfd];
            framed.extend(&bytes);
            let _ = (unpack(&bytes), unpack(&framed));
        }
    }
}
