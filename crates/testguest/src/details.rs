//! A guest that uses many ports and many MSRs, each a known number of times.

use super::asm::{self, Block, Code};
use super::error::{RUN, kvm};
use super::vcpu::Vcpu;
use super::{Error, Made, make};
use kvm_ioctls::VcpuExit;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The guest's accesses, counted by number. For ports they are the VMM's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    /// OUTs by port.
    pub outs: BTreeMap<u16, u64>,
    /// INs by port.
    pub ins: BTreeMap<u16, u64>,
    /// RDMSRs by MSR.
    pub reads: BTreeMap<u32, u64>,
    /// WRMSRs by MSR.
    pub writes: BTreeMap<u32, u64>,
    /// KVM's own count of all exits; `None` where it keeps none.
    pub kvm_exits: Option<u64>,
}

/// Access to each of some numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Out,
    In,
    Read,
    Write,
}

/// Accesses to `numbers` numbers from `first` on, one after the other, and that `rounds` times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    what: What,
    first: u32,
    numbers: u32,
    rounds: u32,
}

pub(super) const fn sweep(what: What, first: u32, numbers: u32, rounds: u32) -> Sweep {
    Sweep { what, first, numbers, rounds }
}

/// The machine check banks' MSRs (SDM vol. 4, table 2-2): KVM keeps 32 banks of four in software for every guest, and
/// 0 may be written to all (`set_msr_mce()`, arch/x86/kvm/x86.c).
const BANKS: u32 = 0x400;
const BANK_MSRS: u32 = 128;
/// `IA32_MTRRCAP`, which KVM emulates.
const MTRR_CAP: u32 = 0xfe;

fn sweeps(ports: u32, rounds: u32) -> Vec<Sweep> {
    vec![
        sweep(What::Out, 0x3f8, 1, 29 * rounds),
        sweep(What::In, 0x3f8, 1, 17 * rounds),
        sweep(What::Out, 0x1000, ports, 3 * rounds),
        sweep(What::In, 0x3fd, 3, 13 * rounds),
        sweep(What::Read, asm::MSR, 1, 19 * rounds),
        sweep(What::Write, asm::MSR, 1, 23 * rounds),
        sweep(What::Read, MTRR_CAP, 1, 11 * rounds),
        sweep(What::Read, BANKS, BANK_MSRS, 2 * rounds),
        sweep(What::Write, BANKS, BANK_MSRS, 3 * rounds),
        // What was met first, once more.
        sweep(What::Out, 0x3f8, 1, 5 * rounds),
    ]
}

/// Runs a guest that uses 4 well-known ports, as many more from 0x1000 on as asked for, and 130 MSRs; everything so many
/// times more often.
///
/// # Errors
/// If KVM is not there or refuses, or if the guest did anything else.
pub fn run(ports: u16, rounds: u32) -> Result<Used, Error> {
    let Made { vm, memory, processor } = make(1)?;
    let fd = vm.create_vcpu(0).map_err(kvm("make a vCPU"))?;
    let sweeps = sweeps(ports.into(), rounds);
    let mut code = asm::begin(processor.machine(0));
    sweeps.iter().for_each(|sweep| write(&mut code, *sweep));
    asm::finish(&mut code);
    let mut vcpu = Vcpu::new(fd, 0, Arc::clone(&memory), &processor, &code.0)?.alone_in(&vm);
    let mut used = Used::default();
    loop {
        match vcpu.fd.run() {
            Ok(VcpuExit::IoOut(port, _)) => *used.outs.entry(port).or_default() += 1,
            Ok(VcpuExit::IoIn(port, data)) => {
                data.fill(0);
                *used.ins.entry(port).or_default() += 1;
            }
            Ok(VcpuExit::MmioRead(_, data)) => data.fill(0),
            Ok(VcpuExit::Hlt) => {
                vcpu.check()?;
                if vcpu.memory.note(0, Block::Finished) == 1 {
                    break;
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
    for Sweep { what, first, numbers, rounds } in sweeps {
        let into = match what {
            What::Read => &mut used.reads,
            What::Write => &mut used.writes,
            What::In | What::Out => continue,
        };
        (first..first + numbers).for_each(|msr| *into.entry(msr).or_default() += u64::from(rounds));
    }
    used.kvm_exits = vcpu.exits();
    Ok(used)
}

/// Two loops, one in the other.
pub(super) fn write(code: &mut Code, sweep: Sweep) {
    if sweep.numbers == 0 || sweep.rounds == 0 {
        return;
    }
    code.put(&[0x41, 0xbd]).imm(sweep.rounds); //    mov r13d, rounds
    let outer = code.0.len();
    code.put(&[0xbb]).imm(sweep.first); //           mov ebx, first
    let inner = code.0.len();
    match sweep.what {
        What::Out => code.put(&[0x89, 0xda, 0xee]), //      mov edx, ebx; out dx, al
        What::In => code.put(&[0x89, 0xda, 0xec]),  //      mov edx, ebx; in al, dx
        What::Read => code.put(&[0x89, 0xd9, 0x0f, 0x32]), //  mov ecx, ebx; rdmsr
        What::Write => {
            code.put(&[0x89, 0xd9]); //              mov ecx, ebx
            code.put(&[0x31, 0xc0, 0x31, 0xd2]); //  xor eax, eax; xor edx, edx
            code.put(&[0x0f, 0x30]) //               wrmsr
        }
    };
    code.put(&[0xff, 0xc3]); //                      inc ebx
    code.put(&[0x81, 0xfb]).imm(sweep.first + sweep.numbers); //  cmp ebx, first + numbers
    code.back(&[0x0f, 0x85], inner); //              jne inner
    code.put(&[0x41, 0xff, 0xcd]); //                dec r13d
    code.back(&[0x0f, 0x85], outer); //              jnz outer
}
