//! KVM's own statistics (`struct kvm_vcpu_stat`, and its generic part): the classes of the
//! fallback source. Classes overlap and do not add up to the total, `exits`.

use super::Reason;
use super::table::reasons;
use exitscope_model::{ExitCode, Isa};

/// Meaning of one count of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One exit of the hardware, by its kind.
    Exit,
    /// One return to the VMM's user space; the hardware exit before it may be counted elsewhere.
    UserExit,
    /// Something that happened while exits were handled, once, several times or not at all.
    Event,
}

impl Kind {
    /// Returns the meaning in words.
    pub fn describe(self) -> &'static str {
        match self {
            Kind::Exit => "an exit",
            Kind::UserExit => "a return to the VMM's user space",
            Kind::Event => "an event, not an exit",
        }
    }
}

const SOURCE: &str = "Linux struct kvm_vcpu_stat, arch/x86/include/asm/kvm_host.h";
const GENERIC: &str = "Linux struct kvm_vcpu_stat_generic, include/linux/kvm_types.h";

/// Returns the kind of a class; `None` if the code is no class of KVM's.
pub fn kind(code: i64) -> Option<Kind> {
    let known = super::get(ExitCode { isa: Isa::KvmStat, code }).is_some();
    known.then_some(match code {
        0 | 3..=5 | 7 | 8 | 11 => Kind::Exit,
        1 | 2 | 6 => Kind::UserExit,
        _ => Kind::Event,
    })
}

/// Returns the class with this name in debugfs and in the statistics file descriptor.
///
/// ```
/// use exitscope_reason::{kvm, name};
///
/// assert_eq!(name(kvm::code("io_exits").unwrap()), "io_exits");
/// assert_eq!(kvm::code("rhubarb"), None);
/// ```
pub fn code(name: &str) -> Option<ExitCode> {
    super::all(Isa::KvmStat).find(|class| class.name == name).map(|class| class.code)
}

/// Indices are part of the interface: new classes go to the end.
pub(super) const TABLES: &[&[Reason]] = &[reasons! { KvmStat, SOURCE;
    0 io_exits []
        "An exit for an I/O port (IO_INSTRUCTION, IOIO).",
        "Serial consoles, emulated devices, firmware.", "See `exitscope reasons vmx IO_INSTRUCTION`.";
    1 mmio_exits []
        "An access to an emulated device's memory that user space must handle.",
        "Devices emulated by the VMM; what the kernel handles (ioeventfd, in-kernel APIC) is not counted \
            here.",
        "Use virtio with ioeventfd and vhost instead of emulated devices.";
    2 signal_exits []
        "The vCPU returned to user space because its thread had a signal.",
        "The VMM kicks its vCPUs: timers and I/O completions in its main loop, and the start and stop of \
            the VM.",
        "Give devices their own I/O threads (`iothread`); normal at starts and stops.";
    3 irq_window_exits []
        "The guest became able to take an interrupt that was held for it.",
        "Interrupts without APICv or AVIC.", "See `exitscope reasons vmx INTERRUPT_WINDOW`.";
    4 nmi_window_exits []
        "The guest became able to take an NMI that was held for it.",
        "The guest's NMI watchdog or `perf` inside it.", "Boot the guest with `nmi_watchdog=0`.";
    5 halt_exits []
        "The guest halted the vCPU (HLT).",
        "An idle guest.", "Normal. See `exitscope reasons vmx HLT`.";
    6 request_irq_exits []
        "The vCPU returned to user space because the VMM asked to know when it can inject an interrupt.",
        "An interrupt controller in user space.", "`-machine kernel_irqchip=on`.";
    7 irq_exits []
        "An interrupt for the host arrived while the guest ran (EXTERNAL_INTERRUPT, INTR).",
        "The host's timer tick, IPIs and devices.", "See `exitscope reasons vmx EXTERNAL_INTERRUPT`.";
    8 notify_window_exits []
        "The guest left no moment for an event within the notify window (since Linux 6.0, Intel).",
        "A guest, perhaps hostile, that holds the CPU.", "See `exitscope reasons vmx NOTIFY`.";
    9 insn_emulation []
        "KVM's instruction emulator ran.",
        "Accesses to emulated devices' memory, string I/O, real mode on old CPUs, and page tables under \
            shadow paging.",
        "Fewer emulated devices; EPT or nested paging on.";
    10 insn_emulation_fail []
        "KVM's instruction emulator met an instruction that it cannot do.",
        "The guest uses unusual instructions on a device's memory, or its page tables changed meanwhile.",
        "Look at the host's kernel log and the VMM's; the guest may have been stopped with an internal \
            error.";
    11 hypercalls []
        "The guest called KVM (VMCALL, VMMCALL); Hyper-V's and Xen's calls are not counted here.",
        "Paravirtual locks, IPIs and yields.", "Usually a gain. See `exitscope reasons vmx VMCALL`.";
    12 invlpg []
        "KVM invalidated one page's translation on the guest's behalf.",
        "Shadow paging.", "Turn EPT or nested paging on.";
    13 pf_taken []
        "KVM began to handle a fault of the guest's memory (since Linux 5.19).",
        "First touches of memory; devices' memory.", "Huge pages, `prealloc=on`. See EPT_VIOLATION and \
            NPF.";
    14 pf_fixed []
        "KVM mapped a page for the guest.",
        "First touches of memory.", "Huge pages, `prealloc=on`. A burst at start is normal.";
    15 pf_emulate []
        "A fault of the guest's memory led to emulation of the instruction (since Linux 5.19).",
        "Emulated devices' memory.", "Virtio instead of emulated devices.";
    16 pf_spurious []
        "A fault of the guest's memory found the page mapped already (since Linux 5.19).",
        "Several vCPUs touch the same new page at once.", "Normal.";
    17 pf_fast []
        "A fault was mended without KVM's memory lock (since Linux 5.19).",
        "Write protection for dirty logging, access tracking.", "Normal during a migration.";
    18 pf_mmio_spte_created []
        "KVM marked a page as a device's memory (since Linux 5.19).",
        "The first access to each page of an emulated device.", "Normal in small numbers.";
    19 pf_guest []
        "KVM passed a page fault on to the guest.",
        "Shadow paging, and emulated instructions that fault.", "Turn EPT or nested paging on.";
    20 irq_injections []
        "KVM injected an interrupt into the guest; posted interrupts of APICv are not counted.",
        "Timers and devices.", "Normal; fewer with APICv or AVIC.";
    21 nmi_injections []
        "KVM injected an NMI into the guest.",
        "The guest's NMI watchdog or `perf` inside it.", "Boot the guest with `nmi_watchdog=0`.";
    22 req_event []
        "KVM looked for events to deliver before an entry.",
        "Interrupts, and each exit that might have changed what can be delivered.", "Normal.";
    23 nested_run []
        "The guest, a hypervisor, entered its own guest.",
        "Nested virtualisation.", "See `exitscope reasons vmx VMRESUME`.";
    24 tlb_flush []
        "KVM flushed the guest's TLB.",
        "Changes of mappings: swapping, ballooning, KSM, dirty logging.", "Pinned memory in huge pages.";
    25 l1d_flush []
        "KVM flushed the first-level data cache before an entry.",
        "The mitigation of L1TF on affected Intel CPUs.", "`kvm_intel.vmentry_l1d_flush=` chooses when; \
            unaffected CPUs never do it.";
    26 host_state_reload []
        "KVM put the host's segment and MSR state back.",
        "Each switch to another thread or to user space.", "Fewer returns to user space; dedicated CPUs.";
    27 fpu_reload []
        "KVM loaded the guest's FPU state.",
        "Each run of the vCPU from user space.", "Fewer returns to user space.";
    28 directed_yield_attempted []
        "A vCPU that spins tried to give its CPU to another (since Linux 5.14).",
        "More vCPUs than CPUs.", "Overcommit less.";
    29 directed_yield_successful []
        "A vCPU that spun gave its CPU to another (since Linux 5.14).",
        "More vCPUs than CPUs.", "Overcommit less.";
    30 preemption_reported []
        "The vCPU lost its CPU between two instructions and KVM told the guest (since Linux 5.19).",
        "Other threads on the vCPU's CPU.", "Pin vCPUs and isolate their CPUs.";
    31 preemption_other []
        "The vCPU lost its CPU at another moment (since Linux 5.19).",
        "Other threads on the vCPU's CPU.", "Pin vCPUs and isolate their CPUs.";
    32 halt_attempted_poll []
        "KVM began to poll for a wake-up before it let a halted vCPU sleep.",
        "An idle guest with short sleeps.", "`kvm.halt_poll_ns` sets for how long.", @ GENERIC;
    33 halt_successful_poll []
        "A halted vCPU was woken while KVM polled.",
        "An idle guest with short sleeps.", "Good for latency; polling costs the host CPU time.", @ GENERIC;
    34 halt_poll_invalid []
        "A poll ended early, or its success was not counted.",
        "Wake-ups by the host's own work.", "Normal.", @ GENERIC;
    35 halt_wakeup []
        "A halted vCPU was woken from sleep.",
        "Interrupts for an idle guest.", "Normal.", @ GENERIC;
}];
