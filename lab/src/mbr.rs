//! The partition table of a PC, which two kinds of disk image have.

/// Bochs wants a disk to consist of whole cylinders, of 16 heads and 63 sectors.
const CYLINDER: u64 = 16 * 63 * 512;

/// Returns the length of a disk with room for this many bytes.
pub(crate) fn whole_cylinders(bytes: u64) -> u64 {
    bytes.next_multiple_of(CYLINDER)
}

/// Returns the table's entry for a Linux partition; `start` and length are in bytes.
pub(crate) fn partition(bootable: bool, start: u64, length: u64) -> [u8; 16] {
    // From and to in cylinders mean nothing; 0x83 is Linux.
    let mut entry =
        [u8::from(bootable) << 7, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    for (bytes, at) in [(start, 8), (length, 12)] {
        let sectors = u32::try_from(bytes / 512).unwrap_or(u32::MAX);
        entry[at..at + 4].copy_from_slice(&sectors.to_le_bytes());
    }
    entry
}
