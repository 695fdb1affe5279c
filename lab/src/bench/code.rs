//! The guest's memory: tables for 64-bit mode, and a loop of machine code for each kind of work.
//!
//! Every instruction stands as the bytes it assembles to, with the text beside it, in Intel's order. `esi` counts a
//! loop down; what `CPUID` destroys is free. A loop ends with a byte written to [`DONE`], which goes to user space.

/// The size of a guest's memory for tables and code.
pub(super) const SIZE: usize = 2 << 20;
/// Address of a device that nobody has: what is written there goes to user space.
const DEVICE: u32 = 0x20_0010;
/// Address of the memory whose pages are touched, and its size: a page for each exit of one measurement, and more.
pub(super) const PAGES: (u32, usize) = (0x40_0000, 64 << 20);
/// The port that tells user space that the work is done.
pub(super) const DONE: u16 = 0x10;
/// The vector of the interrupt that ends a halt.
pub(super) const VECTOR: u8 = 0x40;
/// Where the stack begins.
pub(super) const STACK: u64 = 0x1f_0000;
/// Address and limit of the global descriptor table.
pub(super) const GDT: (u64, u16) = (0x1000, 3 * 8 - 1);
/// Address and limit of the interrupt descriptor table.
pub(super) const IDT: (u64, u16) = (0x5000, (VECTOR as u16 + 1) * 16 - 1);
/// Topmost page table.
pub(super) const CR3: u64 = 0x2000;

const LARGE: u64 = 2 << 20;
const PDPT: u64 = 0x3000;
const DIRECTORY: u64 = 0x4000;
const HANDLER: u64 = 0x6000;
const LOOPS: u64 = 0x8000;
const LOOP: u64 = 0x1000;

/// Exits that a guest makes over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// CPUID: KVM answers it at once.
    Cpuid,
    /// One of each of [`MIXED`]: every exit has another reason than the one before.
    Mixed,
    /// A byte written to a port of nobody's: KVM_RUN returns to user space.
    PortWrite,
    /// A byte written to a device's memory: KVM emulates the instruction, and KVM_RUN returns to user space.
    MmioWrite,
    /// The first touch of a page of memory, which the host then maps.
    PageFault,
    /// A halt until another thread sends an interrupt, and the end of that interrupt: two exits.
    Halt,
}

/// Instructions of [`Work::Mixed`], each with an SVM exit code of its own (APM vol. 2, appendix C). KVM answers all of
/// them in the kernel. INVD is not among them: QEMU 7.2 takes it for WBINVD.
const MIXED: &[&[u8]] = &[
    &[0x31, 0xc0, 0x0f, 0xa2],                                     // xor eax, eax; cpuid
    &[0xb9, 0x7a, 0x01, 0x00, 0x00, 0x0f, 0x32],                   // mov ecx, 17ah; rdmsr (IA32_MCG_STATUS)
    &[0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0x01, 0xd9], // mov eax, 1; vmmcall (KVM_HC_VAPIC_POLL_IRQ)
    &[0x49, 0x81, 0xf4, 0, 0, 4, 0, 0x41, 0x0f, 0x22, 0xc4], // xor r12, 40000h; mov cr0, r12 (AM)
    &[0x0f, 0x20, 0xe0],                               // mov rax, cr4
    &[0x48, 0x83, 0xf0, 0x40, 0x0f, 0x22, 0xe0],       // xor rax, 40h; mov cr4, rax (MCE)
    &[0x31, 0xc0, 0x44, 0x0f, 0x22, 0xc0],             // xor eax, eax; mov cr8, rax
    &[0x0f, 0x09],                                     // wbinvd
    &[0x31, 0xc9, 0x31, 0xd2, 0x48, 0x89, 0xe0, 0x0f, 0x01, 0xc8], // xor ecx, ecx; xor edx, edx; mov rax, rsp; monitor
    &[0x31, 0xc0, 0x31, 0xc9, 0x0f, 0x01, 0xc9],                   // xor eax, eax; xor ecx, ecx; mwait
    &[0x0f, 0x21, 0xc0, 0x0f, 0x23, 0xc0], // mov rax, dr0; mov dr0, rax: two exits, as below
    &[0x0f, 0x21, 0xc8, 0x0f, 0x23, 0xc8], // dr1
    &[0x0f, 0x21, 0xd0, 0x0f, 0x23, 0xd0], // dr2
    &[0x0f, 0x21, 0xd8, 0x0f, 0x23, 0xd8], // dr3
    &[0x0f, 0x21, 0xe0, 0x0f, 0x23, 0xe0], // dr4: dr6 by another code
    &[0x0f, 0x21, 0xe8, 0x0f, 0x23, 0xe8], // dr5: dr7 by another code
    &[0x0f, 0x21, 0xf0, 0x0f, 0x23, 0xf0], // dr6
    &[0x0f, 0x21, 0xf8, 0x0f, 0x23, 0xf8], // dr7
];

/// Exits of one round of [`Work::Mixed`], each with another reason.
pub(super) const MIXED_EXITS: u32 = 26;

impl Work {
    pub(super) const ALL: [Work; 6] =
        [Work::Cpuid, Work::Mixed, Work::PortWrite, Work::MmioWrite, Work::PageFault, Work::Halt];

    /// A word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Work::Cpuid => "cpuid",
            Work::Mixed => "mixed",
            Work::PortWrite => "port-write",
            Work::MmioWrite => "mmio-write",
            Work::PageFault => "page-fault",
            Work::Halt => "halt",
        }
    }

    /// Returns the number of exits of one round.
    pub(super) fn exits(self) -> u32 {
        match self {
            Work::Cpuid | Work::PortWrite | Work::MmioWrite | Work::PageFault => 1,
            Work::Mixed => MIXED_EXITS,
            Work::Halt => 2,
        }
    }

    /// The address of the loop.
    pub(super) fn entry(self) -> u64 {
        LOOPS + LOOP * self as u64
    }

    fn code(self) -> Vec<u8> {
        let mov_rdi = |address: u32| [&[0x48, 0xc7, 0xc7][..], &address.to_le_bytes()].concat(); // mov rdi, address
        let (device, pages) = (mov_rdi(DEVICE), mov_rdi(PAGES.0));
        let (before, body): (&[u8], Vec<u8>) = match self {
            Work::Cpuid => (&[], vec![0x31, 0xc0, 0x0f, 0xa2]), // xor eax, eax; cpuid
            Work::Mixed => (&[0x41, 0x0f, 0x20, 0xc4], MIXED.concat()), // mov r12, cr0
            Work::PortWrite => (&[], vec![0xe6, 0xe0]),         // out 0e0h, al
            Work::MmioWrite => (&device, vec![0x88, 0x07]),     // mov [rdi], al
            // mov [rdi], al; add rdi, 1000h
            Work::PageFault => (&pages, vec![0x88, 0x07, 0x48, 0x81, 0xc7, 0x00, 0x10, 0, 0]),
            Work::Halt => (
                // mov ecx, 80fh; mov eax, 1ffh; xor edx, edx; wrmsr (x2APIC: on); sti
                &[0xb9, 0x0f, 0x08, 0, 0, 0xb8, 0xff, 0x01, 0, 0, 0x31, 0xd2, 0x0f, 0x30, 0xfb],
                vec![0xf4], // hlt
            ),
        };
        let mut code = before.to_vec();
        code.extend(&body);
        code.extend([0xff, 0xce, 0x0f, 0x85]); // dec esi; jnz back to the body
        let back = i32::try_from(body.len() + 8).unwrap_or(i32::MAX);
        code.extend((-back).to_le_bytes());
        code.extend([0xfa, 0xe6, DONE.to_le_bytes()[0], 0xf4]); // cli; out 10h, al; hlt
        code
    }
}

/// Lays tables and loops out in a guest's empty memory.
pub(super) fn lay_out(memory: &mut [u8]) {
    let mut put = |at: u64, bytes: &[u8]| {
        let at = usize::try_from(at).expect("the guest's memory is small");
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(GDT.0 + 8, &0x00af_9b00_0000_ffff_u64.to_le_bytes()); // code, 64 bits, ring 0
    put(GDT.0 + 16, &0x00cf_9300_0000_ffff_u64.to_le_bytes()); // data
    // present, writable, accessed, and for the large page dirty
    put(CR3, &(PDPT | 0x23).to_le_bytes());
    put(PDPT, &(DIRECTORY | 0x23).to_le_bytes());
    // Large pages, each mapped to itself: the program's, the device's, and the memory that is touched.
    for page in 0..(u64::from(PAGES.0) + PAGES.1 as u64) / LARGE {
        put(DIRECTORY + page * 8, &(page * LARGE + 0xe3).to_le_bytes());
    }
    // A 64-bit interrupt gate: offset in three parts, selector, present and type 14.
    let gate = HANDLER & 0xffff | 8 << 16 | 0x8e00 << 32 | HANDLER >> 16 << 48;
    put(IDT.0 + u64::from(VECTOR) * 16, &gate.to_le_bytes());
    // mov ecx, 80bh; xor eax, eax; xor edx, edx; wrmsr (x2APIC: end of interrupt); iretq. It comes only while the
    // loop is in its HLT, which needs none of these registers.
    put(HANDLER, &[0xb9, 0x0b, 0x08, 0, 0, 0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30, 0x48, 0xcf]);
    for work in Work::ALL {
        put(work.entry(), &work.code());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loop_jumps_back_to_its_body_and_fits() {
        for work in Work::ALL {
            let code = work.code();
            assert!(code.len() < usize::try_from(LOOP).unwrap());
            let after = code.len() - 4;
            let jump = i32::from_le_bytes(code[after - 4..after].try_into().unwrap());
            let target = i64::try_from(after).unwrap() + i64::from(jump);
            let body = usize::try_from(target).unwrap();
            let first: &[u8] = match work {
                Work::Cpuid | Work::Mixed => &[0x31, 0xc0, 0x0f, 0xa2],
                Work::PortWrite => &[0xe6, 0xe0],
                Work::MmioWrite | Work::PageFault => &[0x88, 0x07],
                Work::Halt => &[0xf4],
            };
            assert!(code[body..].starts_with(first), "{work:?}");
        }
    }
}
