//! Immediates of the compiled programs that only this host decides: see `within` in bpf/tables.bpf.h.

use super::wire;

/// `BPF_ALU64 | BPF_AND | BPF_K` (Documentation/bpf/standardization/instruction-set.rst).
const AND_IMMEDIATE: u8 = 0x57;

/// The object file with masks in place of the marks. Instructions are 8 bytes long and lie at multiples of 8 in it.
pub fn with_masks(image: &[u8], masks: &[(u32, u32)]) -> Vec<u8> {
    let mut image = image.to_vec();
    for instruction in image.chunks_exact_mut(8) {
        let (head, immediate) = instruction.split_at_mut(4);
        for (mark, mask) in masks {
            if head[0] == AND_IMMEDIATE && head[2..] == [0, 0] && *immediate == mark.to_le_bytes() {
                immediate.copy_from_slice(&mask.to_le_bytes());
            }
        }
    }
    image
}

/// Every mark with its mask, for tables of these lengths.
pub fn masks(rows: u32, vcpus: u32, returns: u32, details: u32) -> [(u32, u32); 4] {
    [
        (wire::ROW_MASK_MARK, rows - 1),
        (wire::VCPU_MASK_MARK, vcpus - 1),
        (wire::RETURN_MASK_MARK, returns - 1),
        (wire::DETAIL_MASK_MARK, details - 1),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_in_instructions_become_masks_and_nothing_else_changes() {
        let mark = wire::ROW_MASK_MARK.to_le_bytes();
        let instruction = |code: u8, offset: u8| {
            let mut bytes = vec![code, 3, offset, 0];
            bytes.extend(mark);
            bytes
        };
        let image = [instruction(0x57, 0), instruction(0x47, 0), instruction(0x57, 1), vec![1, 2]].concat();
        let patched = with_masks(&image, &masks(64, 8, 2, 4));
        assert_eq!(patched[4..8], 63u32.to_le_bytes());
        assert_eq!((&patched[..4], &patched[8..]), (&image[..4], &image[8..]));
    }
}
