//! KVM's own statistics (`struct kvm_vcpu_stat`): the classes of the fallback source.

/// The debugfs names; a class's code is its index here, so the order is part of the interface.
const NAMES: [&str; 28] = [
    "io_exits",
    "mmio_exits",
    "signal_exits",
    "irq_window_exits",
    "nmi_window_exits",
    "halt_exits",
    "request_irq_exits",
    "irq_exits",
    "notify_window_exits",
    "insn_emulation",
    "insn_emulation_fail",
    "hypercalls",
    "invlpg",
    "pf_taken",
    "pf_fixed",
    "pf_emulate",
    "pf_spurious",
    "pf_fast",
    "pf_mmio_spte_created",
    "pf_guest",
    "irq_injections",
    "nmi_injections",
    "req_event",
    "nested_run",
    "tlb_flush",
    "l1d_flush",
    "host_state_reload",
    "fpu_reload",
];

pub(super) fn name(code: i64) -> Option<&'static str> {
    NAMES.get(usize::try_from(code).ok()?).copied()
}
