//! The kinds of exit that the guest can make, and the code that each has on either hardware.

use exitscope_model::{ExitCode, Isa};

/// One thing that the guest does and that makes it exit once.
///
/// KVM has to intercept it unconditionally, so that one execution is one exit: instructions that KVM
/// intercepts now and then (RDTSCP, INVLPG, CR3) or handles several at a time (string I/O) are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// CPUID of leaf 0.
    Cpuid,
    /// A four-byte OUT to a port that nobody listens on.
    PortOut,
    /// A four-byte IN from the same port.
    PortIn,
    /// A four-byte store to an address without memory.
    MmioWrite,
    /// A four-byte load from an address without memory.
    MmioRead,
    /// RDMSR of `IA32_MCG_STATUS`, which KVM emulates and never passes through.
    MsrRead,
    /// WRMSR of the same.
    MsrWrite,
    /// `KVM_HC_VAPIC_POLL_IRQ`, a hypercall that does nothing, by VMCALL or VMMCALL.
    Hypercall,
    /// HLT; without an interrupt controller in the kernel it reaches user space.
    Hlt,
    /// MOV to CR0 that changes the AM bit.
    Cr0Write,
    /// MOV to CR4 that changes the MCE bit.
    Cr4Write,
    /// MOV to CR8.
    Cr8Write,
    /// MOV from CR8.
    Cr8Read,
    /// MOV from DR0.
    DrRead,
    /// MOV to DR3.
    DrWrite,
    /// XSETBV of XCR0.
    Xsetbv,
    /// WBINVD.
    Wbinvd,
    /// INVD, which KVM skips.
    Invd,
    /// RDPMC of counter 0; a guest without it gets a #GP.
    Rdpmc,
    /// UD2: KVM sees the #UD first and passes it on.
    UndefinedOpcode,
    /// A single step: KVM sees the #DB first and passes it on.
    DebugTrap,
    /// INT3, while user space has asked KVM for the guest's breakpoints.
    Breakpoint,
    /// MONITOR, which KVM skips.
    Monitor,
    /// MWAIT, which KVM skips.
    Mwait,
}

impl Kind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [Kind; 24] = [
        Kind::Cpuid,
        Kind::PortOut,
        Kind::PortIn,
        Kind::MmioWrite,
        Kind::MmioRead,
        Kind::MsrRead,
        Kind::MsrWrite,
        Kind::Hypercall,
        Kind::Hlt,
        Kind::Cr0Write,
        Kind::Cr4Write,
        Kind::Cr8Write,
        Kind::Cr8Read,
        Kind::DrRead,
        Kind::DrWrite,
        Kind::Xsetbv,
        Kind::Wbinvd,
        Kind::Invd,
        Kind::Rdpmc,
        Kind::UndefinedOpcode,
        Kind::DebugTrap,
        Kind::Breakpoint,
        Kind::Monitor,
        Kind::Mwait,
    ];

    /// A short name, lower case with dashes.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cpuid => "cpuid",
            Kind::PortOut => "port-out",
            Kind::PortIn => "port-in",
            Kind::MmioWrite => "mmio-write",
            Kind::MmioRead => "mmio-read",
            Kind::MsrRead => "msr-read",
            Kind::MsrWrite => "msr-write",
            Kind::Hypercall => "hypercall",
            Kind::Hlt => "hlt",
            Kind::Cr0Write => "cr0-write",
            Kind::Cr4Write => "cr4-write",
            Kind::Cr8Write => "cr8-write",
            Kind::Cr8Read => "cr8-read",
            Kind::DrRead => "dr-read",
            Kind::DrWrite => "dr-write",
            Kind::Xsetbv => "xsetbv",
            Kind::Wbinvd => "wbinvd",
            Kind::Invd => "invd",
            Kind::Rdpmc => "rdpmc",
            Kind::UndefinedOpcode => "undefined-opcode",
            Kind::DebugTrap => "debug-trap",
            Kind::Breakpoint => "breakpoint",
            Kind::Monitor => "monitor",
            Kind::Mwait => "mwait",
        }
    }

    /// Returns the guest's action in words.
    pub fn what(self) -> &'static str {
        match self {
            Kind::Cpuid => "CPUID",
            Kind::PortOut => "OUT to a port",
            Kind::PortIn => "IN from a port",
            Kind::MmioWrite => "store to an address without memory",
            Kind::MmioRead => "load from an address without memory",
            Kind::MsrRead => "RDMSR of an intercepted MSR",
            Kind::MsrWrite => "WRMSR of an intercepted MSR",
            Kind::Hypercall => "VMCALL or VMMCALL",
            Kind::Hlt => "HLT",
            Kind::Cr0Write => "MOV to CR0 that changes AM",
            Kind::Cr4Write => "MOV to CR4 that changes MCE",
            Kind::Cr8Write => "MOV to CR8",
            Kind::Cr8Read => "MOV from CR8",
            Kind::DrRead => "MOV from DR0",
            Kind::DrWrite => "MOV to DR3",
            Kind::Xsetbv => "XSETBV",
            Kind::Wbinvd => "WBINVD",
            Kind::Invd => "INVD",
            Kind::Rdpmc => "RDPMC",
            Kind::UndefinedOpcode => "UD2, a #UD",
            Kind::DebugTrap => "single step, a #DB",
            Kind::Breakpoint => "INT3, a #BP",
            Kind::Monitor => "MONITOR",
            Kind::Mwait => "MWAIT",
        }
    }

    /// The code of the exit that one of these makes under KVM with nested paging (EPT or NPT); `None`
    /// where that hardware's KVM lets the guest do it without an exit.
    ///
    /// VMX: SDM vol. 3, appendix C. SVM: APM vol. 2, appendix C. What KVM intercepts: `init_vmcb()` in
    /// `arch/x86/kvm/svm/svm.c`, `setup_vmcs_config()` and `vmx_exec_control()` in `arch/x86/kvm/vmx/vmx.c`.
    /// A memory-mapped access is an `EPT_MISCONFIG` only once KVM has cached that there is no memory (the
    /// first is an `EPT_VIOLATION`); the guest makes the first one before it begins to count.
    pub fn exit_code(self, isa: Isa) -> Option<ExitCode> {
        let code = match isa {
            Isa::Vmx => match self {
                // EXCEPTION_NMI, whatever the vector
                Kind::UndefinedOpcode | Kind::DebugTrap | Kind::Breakpoint => 0,
                Kind::Cpuid => 10,
                Kind::Hlt => 12,
                Kind::Invd => 13,
                Kind::Rdpmc => 15,
                Kind::Hypercall => 18,
                // CR_ACCESS; CR8 too, since without an APIC in the kernel there is no TPR shadow
                Kind::Cr0Write | Kind::Cr4Write | Kind::Cr8Write | Kind::Cr8Read => 28,
                Kind::DrRead | Kind::DrWrite => 29,
                Kind::PortOut | Kind::PortIn => 30,
                Kind::MsrRead => 31,
                Kind::MsrWrite => 32,
                Kind::Mwait => 36,
                Kind::Monitor => 39,
                Kind::MmioWrite | Kind::MmioRead => 49,
                Kind::Wbinvd => 54,
                Kind::Xsetbv => 55,
            },
            Isa::Svm => match self {
                Kind::Cr4Write => 0x14,
                Kind::Cr8Write => 0x18,
                // V_TPR answers it
                Kind::Cr8Read => return None,
                Kind::DrRead => 0x20,
                Kind::DrWrite => 0x33,
                Kind::DebugTrap => 0x41,
                Kind::Breakpoint => 0x43,
                Kind::UndefinedOpcode => 0x46,
                // CR0_SEL_WRITE: any bit but TS and MP
                Kind::Cr0Write => 0x65,
                Kind::Rdpmc => 0x6f,
                Kind::Cpuid => 0x72,
                Kind::Invd => 0x76,
                Kind::Hlt => 0x78,
                Kind::PortOut | Kind::PortIn => 0x7b,
                Kind::MsrRead | Kind::MsrWrite => 0x7c,
                Kind::Hypercall => 0x81,
                Kind::Wbinvd => 0x89,
                Kind::Monitor => 0x8a,
                Kind::Mwait => 0x8b,
                Kind::Xsetbv => 0x8d,
                Kind::MmioWrite | Kind::MmioRead => 0x400,
            },
            Isa::KvmStat => return None,
        };
        Some(ExitCode { isa, code })
    }

    /// Returns the number that [`Plan::standard`](super::Plan::standard) asks of vCPU 0: odd, and no two kinds alike,
    /// so that nothing matches by accident.
    pub(super) fn standard_count(self) -> u64 {
        match self {
            Kind::Cpuid => 2003,
            Kind::PortOut => 1301,
            Kind::PortIn => 1103,
            Kind::MmioWrite => 307,
            Kind::MmioRead => 211,
            Kind::MsrRead => 1009,
            Kind::MsrWrite => 907,
            Kind::Hypercall => 1201,
            Kind::Hlt => 23,
            Kind::Cr0Write => 167,
            Kind::Cr4Write => 173,
            Kind::Cr8Write => 179,
            Kind::Cr8Read => 181,
            Kind::DrRead => 191,
            Kind::DrWrite => 199,
            Kind::Xsetbv => 53,
            Kind::Wbinvd => 13,
            Kind::Invd => 17,
            Kind::Rdpmc => 31,
            Kind::UndefinedOpcode => 137,
            Kind::DebugTrap => 109,
            Kind::Breakpoint => 43,
            Kind::Monitor => 19,
            Kind::Mwait => 29,
        }
    }
}
