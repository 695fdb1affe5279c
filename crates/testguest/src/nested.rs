//! A guest that is a hypervisor: each of its vCPUs (L1) runs a guest of its own (L2) with SVM, and known numbers of exits
//! come from either.
//!
//! L2 does CPUIDs, which L1 intercepts, then writes to a port, which it does not, and at last a VMMCALL, which ends it. For
//! each CPUID L1 exits itself a known number of times, skips the instruction, and enters L2 again.

use super::asm::{self, Block, Code, Machine, Step};
use super::{Error, Kind, PATIENCE, Ran, go, host, make};
use exitscope_model::Isa;
use kvm_ioctls::Cap;
use serde::Serialize;
use std::time::Duration;

/// CPUIDs that L1 does for each of L2's.
pub const L1_CPUIDS: u32 = 2;
/// Writes to the port that L1 does for each CPUID of L2's.
pub const L1_PORTS: u32 = 1;
/// MSRs that L1 writes before it runs L2: EFER and VM_HSAVE_PA.
const L1_MSRS: u64 = 2;
/// Bytes of what L1 does for each CPUID.
const HANDLER_LEN: u8 = 26;

// Behind the program of L1, each at a page of its own.
const L2_PROGRAM: usize = 0x2000;
const VMCB: usize = 0x4000;
const HOST_SAVE: usize = 0x5000;
const L2_STACK_TOP: usize = 0x7000;

// MSRs (APM vol. 2, sections 3.1.7 and 15.30).
const EFER: u32 = 0xc000_0080;
const VM_HSAVE_PA: u32 = 0xc001_0117;
/// Long mode, enabled and active, and SVME.
const EFER_VALUE: u32 = 0x1500;

// Fields of the VMCB, and what they hold (APM vol. 2, appendix B; 15.9 for the intercepts).
const INTERCEPTS: u32 = 0x00c;
const INTERCEPT_CPUID: u32 = 1 << 18;
const INTERCEPT_HLT: u32 = 1 << 24;
const INTERCEPT_SHUTDOWN: u32 = 1 << 31;
const MORE_INTERCEPTS: u32 = 0x010;
const INTERCEPT_VMRUN: u32 = 1;
const INTERCEPT_VMMCALL: u32 = 1 << 1;
const ASID: u32 = 0x058;
const EXITCODE: u32 = 0x070;
const EXIT_CPUID: u32 = 0x72;
const EXIT_VMMCALL: u32 = 0x81;
const SAVE: u32 = 0x400;
const RIP: u32 = SAVE + 0x178;
/// Attributes of a 64-bit code segment and of a data segment, present and accessed, as a VMCB packs them.
const CODE_SEGMENT: u16 = 0xa9b;
const DATA_SEGMENT: u16 = 0xc93;

/// Actions of L2 on each vCPU.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// CPUIDs.
    pub cpuids: u32,
    /// Writes to the port.
    pub ports: u32,
}

/// Counts of one vCPU. Page faults and the host's interrupts come on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The vCPU.
    pub vcpu: u32,
    /// L2's CPUIDs. Each went to L1, which handled it.
    pub l2_cpuid: u64,
    /// L2's writes to the port. None went to L1.
    pub l2_port: u64,
    /// L2's VMMCALL, which went to L1; L2 was not entered again.
    pub l2_vmmcall: u64,
    /// L1's VMRUN.
    pub l1_vmrun: u64,
    /// L1's CPUIDs, all for those of L2.
    pub l1_cpuid: u64,
    /// L1's writes to the port, likewise.
    pub l1_port: u64,
    /// L1's writes to MSRs, all before L2 was entered.
    pub l1_msr: u64,
    /// L1's HLT at the end.
    pub l1_hlt: u64,
    /// Exits that L1 made between L2's CPUIDs and its entries, but for what the host added: VMRUN included.
    pub l1_exits: u64,
    /// KVM's own count of all exits.
    pub kvm_exits: Option<u64>,
}

/// Runs one VM of so many vCPUs, each with an L2 that does this work, all at the same time, and ends the VM.
///
/// # Errors
/// If KVM is not there or refuses, offers guests no SVM, or if the guest did not do exactly what was planned.
pub fn run(vcpus: usize, work: Work) -> Result<Vec<Done>, Error> {
    require_nested_svm()?;
    host::require_nested_paging(Isa::Svm)?;
    let made = make(vcpus)?;
    let code = |vcpu: usize| {
        let machine = made.processor.machine(vcpu);
        code(machine, super::memory::Memory::area(vcpu), work)
    };
    let codes: Vec<Vec<u8>> = (0..vcpus).map(code).collect();
    let each = u64::from(2 + L1_CPUIDS + L1_PORTS);
    let exits = u64::from(work.cpuids) * each + u64::from(work.ports);
    let Ran { seen, held: _held } = go(made, &codes, PATIENCE + Duration::from_millis(exits))?;
    let mut all = Vec::with_capacity(vcpus);
    for (vcpu, seen) in (0..).zip(&seen) {
        let (cpuids, ports) = (u64::from(work.cpuids), u64::from(work.ports));
        let (l1_cpuid, l1_port) = (cpuids * u64::from(L1_CPUIDS), cpuids * u64::from(L1_PORTS));
        let checks = [
            ("exit that ended L2", u64::from(EXIT_VMMCALL), seen.l2_end),
            ("port writes", ports + l1_port, seen.port_out),
            ("HLTs", 1, seen.hlt),
        ];
        for (what, planned, seen) in checks {
            if planned != seen {
                return Err(Error::Disagrees { vcpu: vcpu as usize, what, planned, seen });
            }
        }
        all.push(Done {
            vcpu,
            l2_cpuid: cpuids,
            l2_port: ports,
            l2_vmmcall: 1,
            l1_vmrun: cpuids + 1,
            l1_cpuid,
            l1_port,
            l1_msr: L1_MSRS,
            l1_hlt: 1,
            l1_exits: l1_cpuid + l1_port + cpuids,
            kvm_exits: seen.kvm.map(|kvm| kvm.exits),
        });
    }
    Ok(all)
}

/// Checks that KVM lets its guests use SVM.
fn require_nested_svm() -> Result<(), Error> {
    let kvm = super::open()?;
    let offered = super::processor(&kvm)?
        .cpuid
        .as_slice()
        .iter()
        // SVM (APM vol. 3, appendix E.4.2).
        .any(|leaf| leaf.function == 0x8000_0001 && leaf.ecx & 1 << 2 != 0);
    if offered && kvm.check_extension(Cap::NestedState) {
        return Ok(());
    }
    Err(Error::NoNestedSvm { found: host::nested() })
}

/// All that a vCPU's area holds from its program on.
fn code(machine: Machine, area: super::memory::Area, work: Work) -> Vec<u8> {
    // Everything is below 1 GiB.
    let at = |offset: usize| area.program + offset as u64;
    let low = |offset: usize| u32::try_from(at(offset)).unwrap_or(u32::MAX);
    let mut all = l1(machine, low(VMCB), low(HOST_SAVE));
    let mut place = |offset: usize, bytes: &[u8]| {
        assert!(all.len() <= offset, "what stands before {offset:#x} is too long");
        all.resize(offset, 0);
        all.extend_from_slice(bytes);
    };
    place(L2_PROGRAM, &l2(machine, work));
    place(VMCB, &vmcb(machine, &area, at(L2_PROGRAM), at(L2_STACK_TOP)));
    place(L2_STACK_TOP, &[]);
    all
}

/// L1: runs L2, and handles its CPUIDs, until it exits for anything else.
fn l1(machine: Machine, vmcb: u32, host_save: u32) -> Vec<u8> {
    let mut code = asm::begin(machine);
    code.wrmsr(EFER, EFER_VALUE);
    code.wrmsr(VM_HSAVE_PA, host_save);
    code.put(&[0xeb, HANDLER_LEN]); //                       jmp over the handler
    let handler = code.0.len();
    for _ in 0..L1_CPUIDS {
        asm::once(&mut code, Kind::Cpuid, machine.call);
    }
    for _ in 0..L1_PORTS {
        asm::once(&mut code, Kind::PortOut, machine.call);
    }
    code.put(&[0x48, 0x83, 0x04, 0x25]).imm(vmcb + RIP).put(&[2]); //  add qword [RIP], 2: behind the CPUID
    assert_eq!(code.0.len() - handler, usize::from(HANDLER_LEN), "the length of the handler");
    code.put(&[0xb8]).imm(vmcb); //                          mov eax, vmcb
    code.put(&[0x0f, 0x01, 0xd8]); //                        vmrun
    code.put(&[0x81, 0x3c, 0x25]).imm(vmcb + EXITCODE).imm(EXIT_CPUID); //  cmp dword [EXITCODE], CPUID
    code.back(&[0x0f, 0x84], handler); //                    je to the handler
    code.put(&[0x8b, 0x04, 0x25]).imm(vmcb + EXITCODE); //  mov eax, [EXITCODE]
    code.block(&[0x49, 0x89, 0x87], Block::L2End); //        mov [r15 + L2End], rax
    asm::finish(&mut code);
    code.0
}

/// L2, which shares L1's memory and page tables, and its registers but for rax and rsp.
fn l2(machine: Machine, work: Work) -> Vec<u8> {
    let mut code = Code::default();
    for (kind, count) in [(Kind::Cpuid, work.cpuids), (Kind::PortOut, work.ports)] {
        asm::repeat(&mut code, Step { kind, count }, machine);
    }
    code.put(&[0x0f, 0x01, 0xd9]); //                        vmmcall
    code.put(&[0xf4, 0xeb, 0xfd]); //                        hlt, for ever
    code.0
}

/// L2's state when it begins: L1's own, but for where it runs.
fn vmcb(machine: Machine, area: &super::memory::Area, rip: u64, rsp: u64) -> Vec<u8> {
    let mut vmcb = vec![0; 0x1000];
    let mut put = |at: u32, bytes: &[u8]| vmcb[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    put(INTERCEPTS, &(INTERCEPT_CPUID | INTERCEPT_HLT | INTERCEPT_SHUTDOWN).to_le_bytes());
    put(MORE_INTERCEPTS, &(INTERCEPT_VMRUN | INTERCEPT_VMMCALL).to_le_bytes());
    put(ASID, &1u32.to_le_bytes());
    let mut segment = |at: u32, selector: u16, attributes: u16, limit: u32, base: u64| {
        put(SAVE + at, &selector.to_le_bytes());
        put(SAVE + at + 2, &attributes.to_le_bytes());
        put(SAVE + at + 4, &limit.to_le_bytes());
        put(SAVE + at + 8, &base.to_le_bytes());
    };
    let (code, data) = (super::memory::CODE.0, super::memory::DATA.0);
    // ES, CS, SS, DS
    for (at, selector, attributes) in [
        (0x00, data, DATA_SEGMENT),
        (0x10, code, CODE_SEGMENT),
        (0x20, data, DATA_SEGMENT),
        (0x30, data, DATA_SEGMENT),
    ] {
        segment(at, selector, attributes, u32::MAX, 0);
    }
    segment(0x60, 0, 0, super::memory::GDT_LIMIT.into(), area.gdt);
    segment(0x80, 0, 0, super::memory::IDT_LIMIT.into(), area.idt);
    for (at, value) in [
        (0x0d0, EFER_VALUE.into()),
        (0x148, machine.cr4.into()),
        (0x150, area.cr3),
        (0x158, asm::CR0.into()),
        (0x160, 0x400),       // DR7 as it is after a reset
        (0x168, 0xffff_0ff0), // DR6, likewise
        (0x170, 2),           // RFLAGS
        (RIP - SAVE, rip),
        (0x1d8, rsp),
        (0x268, 0x0007_0406_0007_0406), // PAT, likewise
    ] {
        let value: u64 = value;
        put(SAVE + at, &value.to_le_bytes());
    }
    vmcb
}
