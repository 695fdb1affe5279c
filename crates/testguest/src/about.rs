//! A guest whose exits are about known things of many kinds: leaves, hypercalls, addresses, ports of several sizes.

use super::asm::{self, Block, Call, Code};
use super::error::{RUN, kvm};
use super::memory::{HIGH_MMIO, HIGH_MMIO_AT};
use super::vcpu::Vcpu;
use super::{Error, Made, make};
use kvm_ioctls::VcpuExit;
use serde::Serialize;
use std::sync::Arc;

/// Exits that are about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// Word of the kind of detail.
    pub kind: &'static str,
    /// Its key.
    pub key: u64,
    /// True if it was written.
    pub write: bool,
    /// Size in bytes, 0 where it is not told.
    pub size: u8,
    /// Number of exits.
    pub count: u32,
}

/// Size of a page: behind the address that a vCPU has for itself.
const BEHIND: u8 = 0x10;

fn about(kind: &'static str, key: u64, write: bool, size: u8, count: u32) -> About {
    About { kind, key, write, size, count }
}

/// Returns what the guest does, `mmio` being an address without memory below 4 GiB.
fn planned(mmio: u32) -> Vec<About> {
    let mmio = u64::from(mmio);
    vec![
        about("cpuid", 0x1, false, 0, 31),
        about("cpuid", 0x4000_0001, false, 0, 37),
        about("cpuid", 0x1_0000_000d, false, 0, 41),
        about("cpuid", 0x2_0000_000d, false, 0, 43),
        about("hypercall", 1, false, 0, 47),
        about("hypercall", 11, false, 0, 53),
        about("hypercall", 4242, false, 0, 59),
        about("gpa", mmio + u64::from(BEHIND), true, 0, 61),
        about("gpa", mmio + u64::from(BEHIND), false, 0, 67),
        about("gpa", mmio + 2 * u64::from(BEHIND), false, 0, 71),
        about("gpa", HIGH_MMIO + u64::from(BEHIND), true, 0, 73),
        about("gpa", HIGH_MMIO + u64::from(BEHIND), false, 0, 79),
        about("port", 0x1000, true, 1, 83),
        about("port", 0x1000, true, 2, 89),
        about("port", 0x1000, true, 4, 97),
        about("port", 0x1000, false, 4, 101),
    ]
}

/// The body of a loop that makes one such exit.
fn body(what: &About, mmio: u32, call: Call) -> Vec<u8> {
    let mut code = Code::default();
    let [low, high] = [what.key, what.key >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or(0));
    match what.kind {
        "cpuid" => {
            code.put(&[0xb8]).imm(low); //              mov eax, leaf
            code.put(&[0xb9]).imm(high); //             mov ecx, subleaf
            code.put(&[0x0f, 0xa2]); //                 cpuid
        }
        "hypercall" => {
            code.put(&[0xb8]).imm(low); //              mov eax, number
            code.put(&[0x31, 0xdb]); //                 xor ebx, ebx
            match call {
                Call::Vmcall => code.put(&[0x0f, 0x01, 0xc1]),
                Call::Vmmcall => code.put(&[0x0f, 0x01, 0xd9]),
            };
        }
        "gpa" => {
            let (base, at) =
                if what.key >= HIGH_MMIO { (HIGH_MMIO, HIGH_MMIO_AT) } else { (mmio.into(), mmio) };
            let offset = u8::try_from(what.key - base).unwrap_or(0);
            code.put(&[0xbe]).imm(at); //               mov esi, at
            // mov [rsi + offset], eax; mov eax, [rsi + offset]
            code.put(&[if what.write { 0x89 } else { 0x8b }, 0x46, offset]);
        }
        _ => {
            code.put(&[0xba]).imm(low); //              mov edx, port
            match (what.write, what.size) {
                (true, 1) => code.put(&[0xee]),       // out dx, al
                (true, 2) => code.put(&[0x66, 0xef]), // out dx, ax
                (true, _) => code.put(&[0xef]),       // out dx, eax
                (false, _) => code.put(&[0xed]),      // in eax, dx
            };
        }
    }
    code.0
}

/// Runs the guest. Returns what it did.
///
/// # Errors
/// If KVM is not there or refuses, or if the guest did anything else.
pub fn run() -> Result<Vec<About>, Error> {
    let Made { vm, memory, processor } = make(1)?;
    let fd = vm.create_vcpu(0).map_err(kvm("make a vCPU"))?;
    let machine = processor.machine(0);
    let planned = planned(machine.mmio);
    let mut code = asm::begin(machine);
    // KVM learns that there is no memory there, as `begin` has it learn of the other.
    code.put(&[0xbe]).imm(HIGH_MMIO_AT); //             mov esi, at
    code.put(&[0x8b, 0x06]); //                         mov eax, [rsi]
    for what in &planned {
        code.put(&[0x41, 0xbd]).imm(what.count); //     mov r13d, count
        let top = code.0.len();
        code.put(&body(what, machine.mmio, machine.call));
        code.put(&[0x41, 0xff, 0xcd]); //               dec r13d
        code.back(&[0x0f, 0x85], top); //               jnz top
    }
    asm::finish(&mut code);
    let mut vcpu = Vcpu::new(fd, 0, Arc::clone(&memory), &processor, &code.0)?;
    loop {
        match vcpu.fd.run() {
            Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => {}
            Ok(VcpuExit::IoIn(_, data) | VcpuExit::MmioRead(_, data)) => data.fill(0),
            Ok(VcpuExit::Hlt) => {
                vcpu.check()?;
                if vcpu.memory.note(0, Block::Finished) == 1 {
                    return Ok(planned);
                }
            }
            Ok(other) => {
                let what = format!("{other:?}");
                return Err(vcpu.unexpected(what));
            }
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(kvm(RUN)(error)),
        }
    }
}
