//! Machine code of the guests whose time goes to a known place.
//!
//! Registers as in [`super::super::asm`]; r12 counts the rounds.

use super::Work;
use crate::asm::{self, Code, Machine};

// Registers of a local APIC in x2APIC mode (SDM vol. 3, "x2APIC Register Address Space").
const SPURIOUS: u32 = 0x80f;
const TIMER: u32 = 0x832;
const TIMER_COUNT: u32 = 0x838;
const TIMER_DIVIDER: u32 = 0x83e;
/// Enables the APIC; spurious interrupts, which there are none of, have vector 255.
const ENABLED: u32 = 0x1ff;
/// One tick of the timer for each of the bus, and KVM's bus ticks once a nanosecond (`APIC_BUS_CYCLE_NS`,
/// arch/x86/kvm/lapic.h).
const BY_ONE: u32 = 0xb;

const TSC: u32 = 0x10;
const TSC_ADJUST: u32 = 0x3b;
/// `MSR_KVM_SYSTEM_TIME_NEW` of `asm/kvm_para.h`: the address of a clock, and in bit 0 that KVM is to keep it.
const KVM_CLOCK: u32 = 0x4b56_4d01;
/// The clock's place after the beginning of the block, whose fields end before that.
const CLOCK: u32 = 0x800;

/// Rounds without end: the work, `each` times, then one write of the round's number, from 1 on, to the port.
pub fn program(work: Work, each: u32, machine: Machine) -> Vec<u8> {
    let mut code = Code::default();
    code.put(&[0x41, 0xbf]).imm(machine.block); //   mov r15d, block
    if let Work::Halt { .. } = work {
        code.wrmsr(SPURIOUS, ENABLED);
        code.wrmsr(TIMER_DIVIDER, BY_ONE);
        code.wrmsr(TIMER, asm::TIMER.into()); //     one shot
    }
    code.put(&[0x45, 0x31, 0xe4]); //                xor r12d, r12d
    let round = code.0.len();
    code.put(&[0x41, 0xff, 0xc4]); //                inc r12d
    if work != Work::Nothing {
        code.put(&[0x41, 0xbd]).imm(each); //        mov r13d, each
        let top = code.0.len();
        match work {
            Work::Halt { timer_ns, .. } => {
                code.put(&[0xfa]); //                cli: the interrupt waits for the HLT
                code.wrmsr(TIMER_COUNT, timer_ns);
                code.put(&[0xfb]); //                sti: after the next instruction
                debug_assert_eq!(code.0.len() - top, usize::from(asm::BEFORE_HLT));
                code.put(&[0xf4]) //                 hlt
            }
            Work::Tsc => {
                code.wrmsr(TSC, 0x1234_5678);
                code.wrmsr(TSC_ADJUST, 0x7654_3210);
                code.wrmsr(KVM_CLOCK, machine.block + CLOCK + 1)
            }
            _ => {
                code.put(&[0x31, 0xc0]); //          xor eax, eax
                code.put(&[0x0f, 0xa2]) //           cpuid
            }
        };
        code.put(&[0x41, 0xff, 0xcd]); //            dec r13d
        code.back(&[0x0f, 0x85], top); //            jnz top
    }
    code.put(&[0xba]).imm(asm::PORT.into()); //      mov edx, port
    code.put(&[0x44, 0x89, 0xe0]); //                mov eax, r12d
    code.put(&[0xef]); //                            out dx, eax
    code.back(&[0xe9], round); //                    jmp round
    code.0
}
