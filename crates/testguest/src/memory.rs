//! The guest's memory: for each vCPU an area with all that it uses, tables included, so that none waits for
//! another or sees what another does.

use super::asm::{self, Block};
use memmap2::{MmapOptions, MmapRaw};
use std::io;

/// Most vCPUs of a guest.
pub const MAX_VCPUS: usize = 64;

const AREAS: usize = 0x10_0000;
const AREA: usize = 0x1_0000;
// inside an area
const IDT: usize = 0;
const HANDLERS: usize = 0x1000;
const BLOCK: usize = 0x2000;
const STACK_TOP: usize = 0x4000;
const GDT: usize = 0x4000;
const PML4: usize = 0x5000;
const PDPT: usize = 0x6000;
const DIRECTORY: usize = 0x7000;
const PROGRAM: usize = 0x8000;

const LARGE_PAGE: usize = 2 << 20;
/// The last large page of the first GiB, behind which there is never memory.
const MMIO: usize = 511 * LARGE_PAGE;

/// A guest-physical address above 4 GiB without memory.
pub const HIGH_MMIO: u64 = 6 << 30;
/// The guest's own address of it: the last but one large page of the first GiB.
#[cfg(feature = "lab-tests")]
pub const HIGH_MMIO_AT: u32 = 510 << 21;

/// Memory of a guest beside its own: that whose writes are logged, and that which may only be read. A large page each.
#[cfg(feature = "lab-tests")]
pub const LOGGED: u32 = 508 << 21;
#[cfg(feature = "lab-tests")]
/// The second of these.
pub const READ_ONLY: u32 = 509 << 21;

#[cfg(feature = "lab-tests")]
/// Where the guest has the same memory once more: in the upper half of the addresses.
pub const HIGH: u64 = 0xffff_ff80_0000_0000;

/// Selector and descriptor of the 64-bit code segment: present, ring 0, accessed.
pub const CODE: (u16, u64) = (8, 0x00af_9b00_0000_ffff);
/// Selector and descriptor of the data segment: present, ring 0, writable, accessed.
pub const DATA: (u16, u64) = (16, 0x00cf_9300_0000_ffff);

// present, writable, accessed; the accessed and dirty bits are set so that the processor need not
const TABLE: u64 = 0x23;
const PAGE: u64 = 0xe3;

/// Memory that the guest and we share.
#[derive(Debug)]
pub struct Memory {
    map: MmapRaw,
}

/// Where things are for one vCPU, as the guest addresses them.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// Interrupt descriptor table.
    pub idt: u64,
    /// Global descriptor table.
    pub gdt: u64,
    /// Topmost page table.
    pub cr3: u64,
    /// The vCPU's own page of notes.
    pub block: u32,
    /// First byte of the program.
    pub program: u64,
    /// End of the stack.
    pub stack: u64,
    /// An address without memory, for this vCPU alone.
    pub mmio: u32,
}

/// Limit of the global descriptor table.
pub const GDT_LIMIT: u16 = 3 * 8 - 1;
/// Limit of the interrupt descriptor table.
pub const IDT_LIMIT: u16 = 33 * 16 - 1;
const _: () = assert!(IDT_LIMIT as usize == asm::VECTORS * 16 - 1);

impl Memory {
    /// Memory for that many vCPUs, with tables and handlers in place.
    ///
    /// # Errors
    /// The error of `mmap`.
    pub fn new(vcpus: usize) -> io::Result<Memory> {
        let size = (AREAS + vcpus.min(MAX_VCPUS) * AREA).next_multiple_of(LARGE_PAGE);
        let map = MmapRaw::from(MmapOptions::new().len(size).populate().map_anon()?);
        let memory = Memory { map };
        for vcpu in 0..vcpus {
            let area = Self::base(vcpu);
            memory.put(area + GDT + 8, &CODE.1.to_le_bytes());
            memory.put(area + GDT + 16, &DATA.1.to_le_bytes());
            memory.put(area + PML4, &((area + PDPT) as u64 | TABLE).to_le_bytes());
            // Bits 39 to 47 of HIGH choose the last one.
            memory.put(area + PML4 + 511 * 8, &((area + PDPT) as u64 | TABLE).to_le_bytes());
            memory.put(area + PDPT, &((area + DIRECTORY) as u64 | TABLE).to_le_bytes());
            for at in (0..size).step_by(LARGE_PAGE).chain([MMIO]) {
                memory.put(area + DIRECTORY + at / LARGE_PAGE * 8, &(at as u64 | PAGE).to_le_bytes());
            }
            memory.put(area + DIRECTORY + 510 * 8, &(HIGH_MMIO | PAGE).to_le_bytes());
            for page in [508, 509] {
                memory.put(area + DIRECTORY + page * 8, &((page * LARGE_PAGE) as u64 | PAGE).to_le_bytes());
            }
            memory.put(area + HANDLERS, &asm::handlers());
            for vector in 0..asm::VECTORS {
                let handler = (area + HANDLERS + vector * asm::HANDLER_SIZE) as u64;
                // A 64-bit interrupt gate: offset in three parts, selector, present and type 14.
                let low = handler & 0xffff | u64::from(CODE.0) << 16 | 0x8e00 << 32 | handler >> 16 << 48;
                memory.put(area + IDT + vector * 16, &low.to_le_bytes());
            }
        }
        Ok(memory)
    }

    fn base(vcpu: usize) -> usize {
        AREAS + vcpu * AREA
    }

    /// Where the things of a vCPU are.
    pub fn area(vcpu: usize) -> Area {
        let base = Self::base(vcpu);
        // Everything is below 1 GiB.
        let low = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Area {
            idt: (base + IDT) as u64,
            gdt: (base + GDT) as u64,
            cr3: (base + PML4) as u64,
            block: low(base + BLOCK),
            program: (base + PROGRAM) as u64,
            stack: (base + STACK_TOP) as u64,
            mmio: low(MMIO + vcpu * 0x1000),
        }
    }

    /// Places a vCPU's program. It must not be running.
    ///
    /// # Panics
    /// If the program does not fit, which none of ours comes near.
    pub fn load(&self, vcpu: usize, program: &[u8]) {
        assert!(program.len() <= AREA - PROGRAM, "a program of {} bytes does not fit", program.len());
        self.put(Self::base(vcpu) + PROGRAM, program);
    }

    #[cfg(feature = "lab-tests")]
    /// Places code below the vCPUs' areas. None that uses it must be running.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn load_at(&self, at: u64, code: &[u8]) {
        let at = usize::try_from(at).unwrap_or(AREAS);
        assert!(at + code.len() <= AREAS, "code of {} bytes does not fit at {at:#x}", code.len());
        self.put(at, code);
    }

    /// A field of a vCPU's page of notes, at this moment.
    pub fn note(&self, vcpu: usize, field: Block) -> u64 {
        let at = Self::base(vcpu) + BLOCK + field as usize;
        assert!(at + 8 <= self.map.len(), "vCPU {vcpu} has no memory");
        // SAFETY: inside the mapping, as just checked, and aligned, since every part of the sum is a
        // multiple of 8 and the mapping begins on a page. The guest may write at the same time: volatile.
        u64::from_le(unsafe { self.map.as_ptr().add(at).cast::<u64>().read_volatile() })
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.map.len(), "{at:#x} is outside the guest's memory");
        // SAFETY: inside the mapping, as just checked; no vCPU that uses these bytes runs now, and
        // `bytes` is a reference to other memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(at), bytes.len()) };
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.map.len()
    }

    /// Where it begins in this process.
    pub fn host_address(&self) -> u64 {
        self.map.as_ptr() as u64
    }
}
