//! A guest that goes through the modes of a processor, and makes a known number of exits in each.

use super::error::{RUN, kvm};
use super::memory::{CODE, HIGH, Memory};
use super::vcpu::{Vcpu, segment};
use super::{Error, Made, asm, make};
use exitscope_model::Mode;
use kvm_bindings::kvm_sregs;
use kvm_ioctls::VcpuExit;
use std::sync::Arc;

/// The guest's actions in one mode, in this order; then it halts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// The mode, which must not be [`Mode::Unknown`].
    pub mode: Mode,
    /// CPUIDs, at least one.
    pub cpuids: u32,
    /// Bytes written to ports: port, value, and how often, at least once.
    pub writes: Vec<(u16, u8, u32)>,
}

/// The guest's actions that the VMM saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes written to ports, in their order: port and value. What was written in a row is there as often as it came.
    pub writes: Vec<(u16, u8)>,
    /// HLTs: one for each act.
    pub halts: u64,
    /// KVM's own count of all exits; `None` where it keeps none.
    pub kvm_exits: Option<u64>,
}

/// Where code for real mode is, below the first MiB.
const LOW: u64 = 0x8000;

/// Runs a guest of one vCPU that does all of these. The VMM puts it into each mode.
///
/// # Errors
/// If KVM is not there or refuses, or if the guest did anything else.
pub fn run(acts: &[Act]) -> Result<Seen, Error> {
    let Made { vm, memory, processor } = make(1)?;
    let fd = vm.create_vcpu(0).map_err(kvm("make a vCPU"))?;
    let mut vcpu = Vcpu::new(fd, 0, Arc::clone(&memory), &processor, &[])?.alone_in(&vm);
    let long = vcpu.fd.get_sregs().map_err(kvm("read a vCPU's registers"))?;
    let mut seen = Seen::default();
    for act in acts {
        let code = code(act);
        let rip = match act.mode {
            Mode::Real => {
                memory.load_at(LOW, &code);
                LOW
            }
            mode => {
                memory.load(0, &code);
                let program = Memory::area(0).program;
                if mode == Mode::LongHigh { HIGH + program } else { program }
            }
        };
        vcpu.fd.set_sregs(&registers(act.mode, &long)).map_err(kvm("set a vCPU's registers"))?;
        let mut regs = vcpu.fd.get_regs().map_err(kvm("read a vCPU's registers"))?;
        regs.rip = rip;
        vcpu.fd.set_regs(&regs).map_err(kvm("set a vCPU's registers"))?;
        loop {
            match vcpu.fd.run() {
                Ok(VcpuExit::IoOut(port, &[value])) => seen.writes.push((port, value)),
                Ok(VcpuExit::Hlt) => break,
                Ok(other) => {
                    let what = format!("{other:?} in {:?}", act.mode);
                    return Err(vcpu.unexpected(what));
                }
                Err(error) if error.errno() == libc::EINTR => {}
                Err(error) => return Err(kvm(RUN)(error)),
            }
        }
        seen.halts += 1;
    }
    seen.kvm_exits = vcpu.exits();
    Ok(seen)
}

/// The registers of a mode, `long` being those of long mode.
fn registers(mode: Mode, long: &kvm_sregs) -> kvm_sregs {
    const PE: u64 = 1;
    const ET: u64 = 1 << 4;
    let mut sregs = *long;
    let protected = match mode {
        Mode::LongLow | Mode::LongHigh | Mode::Unknown => return sregs,
        Mode::Protected => true,
        Mode::Real => false,
    };
    sregs.cr0 = if protected { PE | ET } else { ET };
    (sregs.cr3, sregs.cr4, sregs.efer) = (0, 0, 0);
    sregs.cs = segment(CODE.0, 11, false);
    if !protected {
        // What a write to a segment register makes in real mode.
        for segment in
            [&mut sregs.cs, &mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss]
        {
            (segment.base, segment.selector, segment.limit) = (0, 0, 0xffff);
            (segment.type_, segment.g, segment.db) = (3, 0, 0);
        }
        sregs.cs.type_ = 11;
    }
    sregs
}

/// The same instructions mean the same in every mode but for their prefixes, which say that an operand has another size than
/// is usual there: 16 bits in real mode, 32 in the others.
fn code(act: &Act) -> Vec<u8> {
    let real = act.mode == Mode::Real;
    let wide = |bytes: &[u8]| [if real { &[0x66][..] } else { &[] }, bytes].concat();
    let narrow = |bytes: &[u8]| [if real { &[][..] } else { &[0x66] }, bytes].concat();
    let mut code = asm::Code::default();
    let mut repeat = |count: u32, body: &[u8]| {
        code.put(&wide(&[0xbe])).imm(count); //                mov esi, count
        let distance = body.len() + wide(&[0xff, 0xce]).len() + 2;
        code.put(body).put(&wide(&[0xff, 0xce])); //           dec esi
        let back = u8::try_from(distance).unwrap_or(0).wrapping_neg();
        code.put(&[0x75, back]); //                            jnz to the body
    };
    repeat(act.cpuids, &[0x31, 0xc0, 0x0f, 0xa2]); //          xor eax, eax; cpuid
    for &(port, value, times) in &act.writes {
        let [low, high] = port.to_le_bytes();
        let write = [narrow(&[0xba, low, high]), vec![0xb0, value, 0xee]].concat();
        repeat(times, &write); //                              mov dx, port; mov al, value; out dx, al
    }
    code.put(&[0xf4]); //                                      hlt
    code.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_go_back_to_the_body() {
        for mode in [Mode::Real, Mode::LongHigh] {
            let code = code(&Act { mode, cpuids: 7, writes: vec![(0x80, 1, 2)] });
            let prefix = usize::from(mode == Mode::Real);
            let body = prefix + 5;
            assert_eq!(code[prefix + 1..body], 7u32.to_le_bytes(), "{mode:?}");
            let jump = code.iter().position(|&byte| byte == 0x75).unwrap();
            assert_eq!(jump + 2 - usize::from(code[jump + 1].wrapping_neg()), body, "{mode:?}");
            assert_eq!(code.last(), Some(&0xf4));
        }
    }
}
