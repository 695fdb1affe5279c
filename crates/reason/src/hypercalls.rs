//! Hypercalls: KVM's, Hyper-V's (bit 32 of the key) and Xen's (bit 33).
//!
//! KVM's from include/uapi/linux/kvm_para.h and Documentation/virt/kvm/x86/hypercalls.rst, Hyper-V's from the Hypervisor Top
//! Level Functional Specification, appendix A, Xen's from xen/include/public/xen.h.

use super::detail::{Known, table};

const KICK: &str = "A vCPU wakes one that waits for a spin lock: more CPUs than vCPUs, or fewer vCPUs, so that lock holders run.";
const IPI: &str = "Interrupts that vCPUs send each other, several at once: fewer vCPUs, threads that wake each other kept on one, \
     or AVIC or IPI virtualization, which need no exit.";
const FLUSH: &str = "Windows flushes TLBs of other vCPUs by the hypervisor: fewer vCPUs, large pages, fewer changes of memory maps.";
const SPIN: &str =
    "Windows waits for a spin lock: its holder had no CPU. Fewer vCPUs than CPUs, or pin them.";

/// Every hypercall that has a name, by key.
pub const TABLE: &[Known] = table! {
    1 "KVM_HC_VAPIC_POLL_IRQ";
    2 "KVM_HC_MMU_OP";
    3 "KVM_HC_FEATURES";
    5 "KVM_HC_KICK_CPU" => KICK;
    9 "KVM_HC_CLOCK_PAIRING";
    10 "KVM_HC_SEND_IPI" => IPI;
    11 "KVM_HC_SCHED_YIELD" => KICK;
    12 "KVM_HC_MAP_GPA_RANGE";
    0x1_0000_0001 "HvSwitchVirtualAddressSpace";
    0x1_0000_0002 "HvFlushVirtualAddressSpace" => FLUSH;
    0x1_0000_0003 "HvFlushVirtualAddressList" => FLUSH;
    0x1_0000_0008 "HvNotifyLongSpinWait" => SPIN;
    0x1_0000_000b "HvSendSyntheticClusterIpi" => IPI;
    0x1_0000_0013 "HvFlushVirtualAddressSpaceEx" => FLUSH;
    0x1_0000_0014 "HvFlushVirtualAddressListEx" => FLUSH;
    0x1_0000_0015 "HvSendSyntheticClusterIpiEx" => IPI;
    0x1_0000_0050 "HvGetVpRegisters";
    0x1_0000_0051 "HvSetVpRegisters";
    0x1_0000_005c "HvPostMessage";
    0x1_0000_005d "HvSignalEvent";
    0x1_0000_0069 "HvPostDebugData";
    0x1_0000_006a "HvRetrieveDebugData";
    0x1_0000_006b "HvResetDebugSession";
    0x1_0000_00af "HvFlushGuestPhysicalAddressSpace";
    0x1_0000_00b0 "HvFlushGuestPhysicalAddressList";
    0x2_0000_000c "Xen memory_op";
    0x2_0000_000d "Xen multicall";
    0x2_0000_000f "Xen set_timer_op";
    0x2_0000_0011 "Xen xen_version";
    0x2_0000_0012 "Xen console_io";
    0x2_0000_0014 "Xen grant_table_op";
    0x2_0000_0018 "Xen vcpu_op";
    0x2_0000_001d "Xen sched_op";
    0x2_0000_0020 "Xen event_channel_op";
    0x2_0000_0021 "Xen physdev_op";
    0x2_0000_0022 "Xen hvm_op";
};
