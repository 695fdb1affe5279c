//! Machine code for the guest: a loop for each step of a plan, and the handlers of its exceptions.
//!
//! Every instruction is given as the bytes it assembles to with the text beside it, in Intel's order.
//! Registers that stay the same for the whole program: r15 is the vCPU's [`Block`], r14 the address without
//! memory. r13 counts a loop, r12 holds what goes to a control register; everything else is free.

use super::Kind;

/// The port that the guest uses.
pub const PORT: u16 = 0x0510;
/// A write to this port ends a turn.
pub const TURN_PORT: u16 = PORT + 4;
/// `IA32_MCG_STATUS`: KVM keeps it in software on both kinds of hardware (`set_msr_mce()`).
pub const MSR: u32 = 0x17a;
/// `KVM_HC_VAPIC_POLL_IRQ` of `linux/kvm_para.h`: returns 0 and does nothing.
const HYPERCALL: u32 = 1;
/// CR0 when the guest begins: PG, AM, WP, NE, ET, MP, PE.
pub const CR0: u32 = 0x8005_0033;
const CR0_AM: u32 = 1 << 18;
const CR4_MCE: u32 = 1 << 6;

/// A field of the page in which a vCPU notes what happened to it, by its offset. Each is 8 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub enum Block {
    /// 1 when every step is done; the next HLT is the last.
    Finished = 0x00,
    /// Vector + 1 of an exception that the program does not make.
    Fault = 0x08,
    /// Where that exception happened.
    FaultRip = 0x10,
    /// #UD that were handled.
    Ud = 0x18,
    /// #DB that were handled.
    Db = 0x20,
    /// #BP that were handled by the guest itself: not intercepted.
    Bp = 0x28,
    /// #GP of RDPMC that were handled.
    Gp = 0x30,
    /// Sum of what was read from the port.
    PortSum = 0x38,
    /// Sum of what was read from the address without memory.
    MmioSum = 0x40,
    /// All answers to hypercalls, OR'ed: 0 if all succeeded.
    HypercallAnswers = 0x48,
    /// Interrupts of the local APIC's timer that were handled.
    Ticks = 0x50,
    /// Code of the last exit of the guest's own guest.
    L2End = 0x58,
}

/// Instruction that calls the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Intel's.
    Vmcall,
    /// AMD's.
    Vmmcall,
}

/// Some of a kind, in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub kind: Kind,
    /// Number of them.
    pub count: u32,
}

/// Addresses and instructions that depend on the program's machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Where the [`Block`] is.
    pub block: u32,
    /// The address without memory.
    pub mmio: u32,
    /// CR4 when the guest begins.
    pub cr4: u32,
    /// Instruction that calls the hypervisor.
    pub call: Call,
}

/// Machine code as it is written.
#[derive(Default)]
pub(super) struct Code(pub(super) Vec<u8>);

impl Code {
    pub(super) fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn imm(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    /// An instruction whose last operand is `[r15 + field]`.
    pub(super) fn block(&mut self, opcode: &[u8], field: Block) -> &mut Self {
        self.put(opcode).put(&(field as i32).to_le_bytes())
    }

    /// A jump, with a distance of four bytes, back to what stands at `top`.
    pub(super) fn back(&mut self, opcode: &[u8], top: usize) -> &mut Self {
        self.put(opcode);
        let after = self.0.len() + 4;
        // A program is a few thousand bytes.
        let back = u32::try_from(after - top).unwrap_or(u32::MAX);
        self.imm(back.wrapping_neg())
    }

    /// WRMSR of a number below 2^32.
    pub(super) fn wrmsr(&mut self, msr: u32, value: u32) -> &mut Self {
        self.put(&[0xb9]).imm(msr); //               mov ecx, msr
        self.put(&[0xb8]).imm(value); //             mov eax, value
        self.put(&[0x31, 0xd2]); //                  xor edx, edx
        self.put(&[0x0f, 0x30]) //                   wrmsr
    }
}

/// The program that does the steps in their order. With `marks` an HLT stands before each step, and
/// the last HLT stands after the last step in either case.
pub fn program(steps: &[Step], marks: bool, machine: Machine) -> Vec<u8> {
    let mut code = begin(machine);
    for &step in steps {
        if marks {
            code.put(&[0xf4]); //                   hlt
        }
        repeat(&mut code, step, machine);
    }
    finish(&mut code);
    code.0
}

/// Writes the end of a program: notes that it has finished, and halts.
pub(super) fn finish(code: &mut Code) {
    code.block(&[0x41, 0xc7, 0x87], Block::Finished).imm(1); //  mov dword [r15 + Finished], 1
    code.put(&[0xf4]); //                            hlt
    code.put(&[0xeb, 0xfd]); //                      jmp to the hlt, should anyone enter again
}

#[cfg(feature = "lab-tests")]
/// The program that does the steps in their order again and again: in turns, each of which ends with a write to
/// [`TURN_PORT`].
pub fn turns(steps: &[Step], machine: Machine) -> Vec<u8> {
    let mut code = begin(machine);
    let top = code.0.len();
    for &step in steps {
        repeat(&mut code, step, machine);
    }
    code.put(&[0xba]).imm(TURN_PORT.into()); //      mov edx, port
    code.put(&[0xef]); //                            out dx, eax
    code.back(&[0xe9], top); //                      jmp top
    code.0
}

/// Writes the beginning of a program of steps.
pub(super) fn begin(machine: Machine) -> Code {
    let mut code = Code::default();
    code.put(&[0x41, 0xbf]).imm(machine.block); //  mov r15d, block
    code.put(&[0x41, 0xbe]).imm(machine.mmio); //   mov r14d, mmio
    code.put(&[0x41, 0x8b, 0x06]); //               mov eax, [r14]: KVM learns that there is no memory
    code
}

/// A loop for one step.
pub(super) fn repeat(code: &mut Code, step: Step, machine: Machine) {
    if step.count == 0 {
        return;
    }
    match step.kind {
        Kind::Cr0Write => code.put(&[0x41, 0xbc]).imm(CR0), //          mov r12d, cr0
        Kind::Cr4Write => code.put(&[0x41, 0xbc]).imm(machine.cr4), //  mov r12d, cr4
        _ => &mut *code,
    };
    code.put(&[0x41, 0xbd]).imm(step.count); //      mov r13d, count
    let top = code.0.len();
    once(code, step.kind, machine.call);
    code.put(&[0x41, 0xff, 0xcd]); //                dec r13d
    code.back(&[0x0f, 0x85], top); //                jnz top
}

/// The body of a loop: one exit.
pub(super) fn once(code: &mut Code, kind: Kind, call: Call) {
    match kind {
        Kind::Cpuid => {
            code.put(&[0x31, 0xc0]); //              xor eax, eax
            code.put(&[0x0f, 0xa2]) //               cpuid
        }
        Kind::PortOut => {
            code.put(&[0xba]).imm(PORT.into()); //   mov edx, port
            code.put(&[0x44, 0x89, 0xe8]); //        mov eax, r13d
            code.put(&[0xef]) //                     out dx, eax
        }
        Kind::PortIn => {
            code.put(&[0xba]).imm(PORT.into()); //   mov edx, port
            code.put(&[0xed]); //                    in eax, dx
            code.block(&[0x49, 0x01, 0x87], Block::PortSum) //  add [r15 + PortSum], rax
        }
        Kind::MmioWrite => code.put(&[0x45, 0x89, 0x2e]), //    mov [r14], r13d
        Kind::MmioRead => {
            code.put(&[0x41, 0x8b, 0x06]); //        mov eax, [r14]
            code.block(&[0x49, 0x01, 0x87], Block::MmioSum) //  add [r15 + MmioSum], rax
        }
        Kind::MsrRead => {
            code.put(&[0xb9]).imm(MSR); //           mov ecx, msr
            code.put(&[0x0f, 0x32]) //               rdmsr
        }
        Kind::MsrWrite => {
            code.put(&[0xb9]).imm(MSR); //           mov ecx, msr
            code.put(&[0x44, 0x89, 0xe8]); //        mov eax, r13d
            code.put(&[0x31, 0xd2]); //              xor edx, edx
            code.put(&[0x0f, 0x30]) //               wrmsr
        }
        Kind::Hypercall => {
            code.put(&[0xb8]).imm(HYPERCALL); //     mov eax, hypercall
            match call {
                Call::Vmcall => code.put(&[0x0f, 0x01, 0xc1]),  // vmcall
                Call::Vmmcall => code.put(&[0x0f, 0x01, 0xd9]), // vmmcall
            };
            code.block(&[0x49, 0x09, 0x87], Block::HypercallAnswers) //  or [r15 + HypercallAnswers], rax
        }
        Kind::Hlt => code.put(&[0xf4]), //           hlt
        Kind::Cr0Write => {
            code.put(&[0x41, 0x81, 0xf4]).imm(CR0_AM); //  xor r12d, AM
            code.put(&[0x41, 0x0f, 0x22, 0xc4]) //   mov cr0, r12
        }
        Kind::Cr4Write => {
            code.put(&[0x41, 0x81, 0xf4]).imm(CR4_MCE); //  xor r12d, MCE
            code.put(&[0x41, 0x0f, 0x22, 0xe4]) //   mov cr4, r12
        }
        Kind::Cr8Write => {
            code.put(&[0x31, 0xc0]); //              xor eax, eax
            code.put(&[0x44, 0x0f, 0x22, 0xc0]) //   mov cr8, rax
        }
        Kind::Cr8Read => code.put(&[0x44, 0x0f, 0x20, 0xc0]), //  mov rax, cr8
        Kind::DrRead => code.put(&[0x0f, 0x21, 0xc0]),        //         mov rax, dr0
        Kind::DrWrite => {
            code.put(&[0x31, 0xc0]); //              xor eax, eax
            code.put(&[0x0f, 0x23, 0xd8]) //         mov dr3, rax
        }
        Kind::Xsetbv => {
            code.put(&[0x31, 0xc9]); //              xor ecx, ecx
            code.put(&[0x31, 0xd2]); //              xor edx, edx
            code.put(&[0xb8]).imm(1); //             mov eax, 1: the x87 state alone, always allowed
            code.put(&[0x0f, 0x01, 0xd1]) //         xsetbv
        }
        Kind::Wbinvd => code.put(&[0x0f, 0x09]), //  wbinvd
        Kind::Invd => code.put(&[0x0f, 0x08]),   //    invd
        Kind::Rdpmc => {
            code.put(&[0x31, 0xc9]); //              xor ecx, ecx
            code.put(&[0x0f, 0x33]) //               rdpmc
        }
        Kind::UndefinedOpcode => code.put(&[0x0f, 0x0b]), //  ud2
        Kind::DebugTrap => {
            code.put(&[0x9c]); //                    pushfq
            code.put(&[0x81, 0x0c, 0x24]).imm(0x100); //  or dword [rsp], TF
            code.put(&[0x9d]); //                    popfq
            code.put(&[0x90]) //                     nop, and behind it the trap
        }
        Kind::Breakpoint => code.put(&[0xcc]), //    int3
        Kind::Monitor => {
            code.put(&[0x4c, 0x89, 0xf8]); //        mov rax, r15
            code.put(&[0x31, 0xc9]); //              xor ecx, ecx
            code.put(&[0x31, 0xd2]); //              xor edx, edx
            code.put(&[0x0f, 0x01, 0xc8]) //         monitor
        }
        Kind::Mwait => {
            code.put(&[0xb8]).imm(MWAIT_HINT); //    mov eax, MWAIT_HINT
            code.put(&[0x31, 0xc9]); //              xor ecx, ecx
            code.put(&[0x0f, 0x01, 0xc9]) //         mwait
        }
    };
}

/// Hint of the guest's MWAITs: C2, in the processor's words (SDM vol. 2, MWAIT).
const MWAIT_HINT: u32 = 0x10;

/// Bytes between the handlers of two vectors.
pub const HANDLER_SIZE: usize = 64;
/// Vectors that have a handler: those of the processor itself, and the timer's.
pub const VECTORS: usize = 33;
#[cfg(feature = "lab-tests")]
/// Vector of the local APIC's timer, for the guests that use it.
pub const TIMER: u8 = 32;
/// Bytes from the code that sets the timer to its HLT. An interrupt between STI and HLT goes back by this, or the HLT would
/// never end. No processor allows such an interrupt, but QEMU's emulation does if it exits there.
pub(super) const BEFORE_HLT: u8 = 16;
/// End of interrupt, as a local APIC in x2APIC mode has it (SDM vol. 3, "x2APIC Register Address Space").
const X2APIC_EOI: u32 = 0x80b;

/// The handlers, [`HANDLER_SIZE`] bytes for each of the [`VECTORS`].
pub fn handlers() -> Vec<u8> {
    let mut all = Vec::with_capacity(VECTORS * HANDLER_SIZE);
    for vector in 0..VECTORS {
        let mut code = Code::default();
        match vector {
            1 => {
                code.block(&[0x49, 0xff, 0x87], Block::Db); //        inc qword [r15 + Db]
                code.put(&[0x81, 0x64, 0x24, 0x10]).imm(!0x100); //   and dword [rsp + 16], ~TF
                code.put(&[0x48, 0xcf]); //                           iretq
            }
            3 => {
                code.block(&[0x49, 0xff, 0x87], Block::Bp); //        inc qword [r15 + Bp]
                code.put(&[0x48, 0xcf]); //                           iretq
            }
            6 => {
                code.put(&[0x50]); //                                 push rax
                code.put(&[0x48, 0x8b, 0x44, 0x24, 0x08]); //         mov rax, [rsp + 8]: rip
                code.put(&[0x66, 0x81, 0x38, 0x0f, 0x0b]); //         cmp word [rax], ud2
                code.put(&[0x58]); //                                 pop rax
                code.put(&[0x75, 0x0e]); //                           jne to the fault
                code.block(&[0x49, 0xff, 0x87], Block::Ud); //        inc qword [r15 + Ud]
                code.put(&[0x48, 0x83, 0x04, 0x24, 0x02]); //         add qword [rsp], 2
                code.put(&[0x48, 0xcf]); //                           iretq
                fault(&mut code, vector, 0);
            }
            13 => {
                code.put(&[0x50]); //                                 push rax
                code.put(&[0x48, 0x8b, 0x44, 0x24, 0x10]); //         mov rax, [rsp + 16]: rip
                code.put(&[0x66, 0x81, 0x38, 0x0f, 0x33]); //         cmp word [rax], rdpmc
                code.put(&[0x58]); //                                 pop rax
                code.put(&[0x75, 0x13]); //                           jne to the fault
                code.block(&[0x49, 0xff, 0x87], Block::Gp); //        inc qword [r15 + Gp]
                code.put(&[0x48, 0x83, 0x44, 0x24, 0x08, 0x02]); //   add qword [rsp + 8], 2
                code.put(&[0x48, 0x83, 0xc4, 0x08]); //               add rsp, 8: the error code
                code.put(&[0x48, 0xcf]); //                           iretq
                fault(&mut code, vector, 8);
            }
            32 => {
                code.put(&[0x50, 0x51, 0x52]); //                     push rax, rcx, rdx
                code.block(&[0x49, 0xff, 0x87], Block::Ticks); //     inc qword [r15 + Ticks]
                code.put(&[0x48, 0x8b, 0x44, 0x24, 0x18]); //         mov rax, [rsp + 24]: rip
                code.put(&[0x80, 0x38, 0xf4]); //                     cmp byte [rax], hlt
                code.put(&[0x75, 0x06]); //                           jne over the next
                code.put(&[0x48, 0x83, 0x6c, 0x24, 0x18, BEFORE_HLT]); //  sub qword [rsp + 24], BEFORE_HLT
                code.wrmsr(X2APIC_EOI, 0);
                code.put(&[0x5a, 0x59, 0x58]); //                     pop rdx, rcx, rax
                code.put(&[0x48, 0xcf]); //                           iretq
            }
            8 | 10..=12 | 14 | 17 | 21 | 29 | 30 => fault(&mut code, vector, 8),
            _ => fault(&mut code, vector, 0),
        }
        assert!(code.0.len() <= HANDLER_SIZE, "the handler of vector {vector} is too long");
        code.0.resize(HANDLER_SIZE, 0xf4);
        all.extend(code.0);
    }
    all
}

/// Notes vector and instruction and halts for good. `error_code` is the size of what the processor
/// pushed below the instruction pointer.
fn fault(code: &mut Code, vector: usize, error_code: u8) {
    code.put(&[0x48, 0x8b, 0x44, 0x24, error_code]); //       mov rax, [rsp + error_code]
    code.block(&[0x49, 0x89, 0x87], Block::FaultRip); //      mov [r15 + FaultRip], rax
    code.block(&[0x41, 0xc7, 0x87], Block::Fault); //         mov dword [r15 + Fault], vector + 1
    code.imm(u32::try_from(vector).unwrap_or(u32::MAX).saturating_add(1));
    code.put(&[0xf4]); //                                     hlt
    code.put(&[0xeb, 0xfd]); //                               jmp to the hlt
}
