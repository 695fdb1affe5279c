//! Boots Linux in Bochs: the boot sector, and the data that it hands to the kernel.
//!
//! The BIOS would take a minute to read a kernel, and the kernel as long to unpack itself. So the boot sector goes to
//! protected mode at once, reads the unpacked kernel, the initramfs and the start info from the ATA disk that it came
//! from, and jumps to the kernel's PVH entry (Xen's docs/misc/pvh.pandoc, and include/xen/interface/hvm/start_info.h).

use std::arch::global_asm;

use crate::vmlinux::Flat;

/// Bytes of one transfer from the disk: 256 sectors, the most that one READ SECTORS takes (ATA-6, 8.27).
pub(super) const UNIT: usize = 256 * SECTOR;
const SECTOR: usize = 512;
/// Address of the start info.
const START_INFO: u32 = 0x10_0000;
/// Address of the initramfs: above any kernel.
const INITRAMFS: u32 = 0x800_0000;
/// Place of the table of loads in the boot sector. An entry of zeros ends the table.
const LOADS: usize = 0x160;
const MAX_LOADS: usize = 3;
const ENTRY: usize = 0x15c;
/// The partition table's place.
pub(super) const PARTITIONS: usize = 0x1be;

// The BIOS loads this to 0x7c00. Everything in it is addressed from there, for it runs nowhere else.
global_asm!(
    r#"
    .pushsection .rodata.lab_boot, "a"
    .globl lab_boot_begin, lab_boot_end
lab_boot_begin:
    .code16
    cli
    cld
    xor ax, ax
    mov ds, ax
    in al, 0x92                 /* the A20 gate */
    or al, 2
    out 0x92, al
    .byte 0x0f, 0x01, 0x16      /* lgdt [9f] */
    .word 0x7c00 + (9f - lab_boot_begin)
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0xea                  /* jmp 8:protected */
    .word 0x7c00 + (1f - lab_boot_begin), 8

    .code32
1:  mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    mov ax, 24                  /* PVH wants a task register */
    ltr ax
    mov esi, 0x7c00 + {loads}
2:  mov ebx, [esi]              /* first sector, units, address */
    cmp dword ptr [esi + 4], 0
    je 6f
    mov edi, [esi + 8]
3:  mov dx, 0x1f6               /* READ SECTORS, 256 of them, by LBA */
    mov eax, ebx
    shr eax, 24
    or al, 0xe0
    out dx, al
    mov dx, 0x1f2
    xor al, al
    out dx, al
    inc edx
    mov eax, ebx
    out dx, al
    inc edx
    shr eax, 8
    out dx, al
    inc edx
    shr eax, 8
    out dx, al
    mov dx, 0x1f7
    mov al, 0x20
    out dx, al
    mov ebp, 256
4:  mov dx, 0x1f7               /* until it is not busy and has data */
5:  in al, dx
    test al, 0x80
    jnz 5b
    test al, 8
    jz 5b
    mov dx, 0x1f0
    mov ecx, 256
    rep insw
    dec ebp
    jnz 4b
    add ebx, 256
    dec dword ptr [esi + 4]
    jnz 3b
    add esi, 12
    jmp 2b
6:  mov ebx, {start_info}
    jmp dword ptr [0x7c00 + {entry}]

    .balign 8
7:  .quad 0                     /* flat code, flat data, a task state of nothing */
    .quad 0x00cf9a000000ffff
    .quad 0x00cf92000000ffff
    .quad 0x0000890000000067
8:
9:  .word 8b - 7b - 1
    .long 0x7c00 + (7b - lab_boot_begin)
lab_boot_end:
    .code64
    .popsection
    "#,
    loads = const LOADS,
    entry = const ENTRY,
    start_info = const START_INFO,
);

unsafe extern "C" {
    static lab_boot_begin: u8;
    static lab_boot_end: u8;
}

fn code() -> &'static [u8] {
    let (begin, end) = (&raw const lab_boot_begin, &raw const lab_boot_end);
    // SAFETY: both labels are in one read-only section, the first before the second, and nothing writes there.
    unsafe { std::slice::from_raw_parts(begin, end.addr() - begin.addr()) }
}

/// Returns the beginning of a disk that boots: the boot sector with an empty partition table, and behind it everything that
/// it loads.
pub(super) fn disk(kernel: &Flat, initramfs: &[u8], command_line: &str, mib: u32) -> Vec<u8> {
    let info = start_info(initramfs.len(), command_line, mib);
    let loads = [(START_INFO, info.as_slice()), (kernel.address, &kernel.bytes), (INITRAMFS, initramfs)];
    let mut disk = code().to_vec();
    assert!(disk.len() <= ENTRY, "the boot sector's code and its data overlap");
    disk.resize(ENTRY, 0);
    disk.extend(kernel.entry.to_le_bytes());
    let mut first = 1;
    const { assert!(LOADS + (MAX_LOADS + 1) * 12 <= PARTITIONS) }
    for (address, bytes) in loads {
        let units = number(bytes.len().div_ceil(UNIT));
        for word in [first, units, address] {
            disk.extend(word.to_le_bytes());
        }
        first += units * 256;
    }
    disk.resize(SECTOR - 2, 0);
    disk.extend([0x55, 0xaa]);
    for (_, bytes) in loads {
        disk.extend(bytes);
        disk.resize(SECTOR + (disk.len() - SECTOR).next_multiple_of(UNIT), 0);
    }
    disk
}

/// `hvm_start_info`, version 1, and behind it what it points to: the initramfs' place, the memory map, and the command
/// line.
fn start_info(initramfs: usize, command_line: &str, mib: u32) -> Vec<u8> {
    const HEADER: u32 = 56;
    const MODULE: u32 = 32;
    const RAM: u32 = 1;
    const RESERVED: u32 = 2;
    const ACPI: u32 = 3;
    let end = u64::from(mib) << 20;
    // As Bochs' BIOS has it: the ACPI tables are in the last 64 KiB.
    let map = [
        (0, 0x9_f000, RAM),
        (0x9_f000, 0x6_1000, RESERVED),
        (0x10_0000, end - 0x11_0000, RAM),
        (end - 0x1_0000, 0x1_0000, ACPI),
        (0xfffc_0000, 0x4_0000, RESERVED),
    ];
    let modules = START_INFO + HEADER;
    let memory = modules + MODULE;
    let line = memory + 24 * number(map.len());
    let mut info = Vec::new();
    for word in [0x336e_c578, 1, 0, 1] {
        info.extend(u32::to_le_bytes(word));
    }
    // The modules, the command line, and no pointer to the ACPI tables: the kernel finds them where a BIOS puts them.
    for address in [modules, line, 0, memory] {
        info.extend(u64::from(address).to_le_bytes());
    }
    info.extend(number(map.len()).to_le_bytes());
    info.extend([0; 4]);
    for word in [u64::from(INITRAMFS), u64::try_from(initramfs).unwrap_or(u64::MAX), 0, 0] {
        info.extend(word.to_le_bytes());
    }
    for (start, length, kind) in map {
        info.extend(u64::to_le_bytes(start));
        info.extend(u64::to_le_bytes(length));
        info.extend(u32::to_le_bytes(kind));
        info.extend([0; 4]);
    }
    info.extend(command_line.as_bytes());
    info.push(0);
    info
}

/// Sizes here are those of files that fit in the guest's memory.
fn number(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_its_parts_where_the_code_looks_for_them() {
        let kernel = Flat { entry: 0x123_4567, address: 0x100_0000, bytes: vec![1; UNIT + 1] };
        let disk = disk(&kernel, &[2; 10], "a b", 256);
        assert_eq!(disk.len(), SECTOR + 4 * UNIT);
        assert_eq!(disk[..2], [0xfa, 0xfc], "it begins with cli and cld");
        assert_eq!(disk[510..512], [0x55, 0xaa]);
        assert_eq!(disk[PARTITIONS..510], [0; 64]);
        let word = |at: usize| u32::from_le_bytes(disk[at..at + 4].try_into().unwrap());
        assert_eq!(word(ENTRY), kernel.entry);
        let table: Vec<u32> = (0..12).map(|n| word(LOADS + 4 * n)).collect();
        let expected = [1, 1, START_INFO, 257, 2, 0x100_0000, 769, 1, INITRAMFS, 0, 0, 0];
        assert_eq!(table, expected);
        assert_eq!(disk[SECTOR + UNIT], 1);
        assert_eq!(disk[SECTOR + 3 * UNIT..][..11], [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0]);
        assert!(disk[SECTOR..].windows(4).any(|w| w == b"a b\0"));
    }
}
