//! Codes from 0x400 on: nested paging, AVIC, the calls of encrypted guests; and the failed entries
//! with their negative codes.

use super::{APM, APM_UAPI, GHCB, GHCB_UAPI};
use crate::Reason;
use crate::table::reasons;

const SNP_WHY: &str = "An SEV-SNP guest; mostly while it boots.";
const NORMAL: &str = "Normal for encrypted guests.";
const NOT_IN_KVM: &str = "KVM does not offer it in released kernels; hypervisors with restricted injection \
            do.";

pub(super) const TABLE: &[Reason] = reasons! { Svm, APM_UAPI;
    0x400 NPF []
        "The guest touched memory that the host has not mapped for it, not with that right, or that \
            belongs to an emulated device.",
        "The first touch of each page after the start; swapped, ballooned, merged or moved memory; write \
            protection for dirty logging; and every access to registers of emulated devices, virtio \
            doorbells among them.",
        "For memory: huge pages (`-object memory-backend-memfd,hugetlb=on`, or transparent ones), \
            `prealloc=on`, no swapping, pinned NUMA memory. For devices: virtio with ioeventfd and \
            vhost, `hpet=off`, x2APIC in the guest. A burst at start that ebbs away is normal.";
    0x401 AVIC_INCOMPLETE_IPI ["avic_ipi"]
        "The guest sent an IPI that AVIC could not deliver by itself.",
        "The target vCPU was not running (KVM must wake it), or the IPI was of a kind that AVIC leaves to \
            software.",
        "Normal with idle vCPUs; dedicated CPUs with `-overcommit cpu-pm=on` keep the targets running.";
    0x402 AVIC_UNACCELERATED_ACCESS ["avic_noaccel"]
        "The guest touched a register of its APIC that AVIC does not handle.",
        "Timer set-up, logical destinations, and the EOI of level-triggered interrupts.",
        "Use devices with MSI-X, and x2AVIC where the CPU has it. Some are normal.";
    0x403 VMGEXIT []
        "An encrypted guest (SEV-ES or SEV-SNP) called the hypervisor through its shared page.",
        "Everything the guest needs emulated: CPUID, ports, MSRs, devices; its own #VC handler makes the \
            call.",
        "As for the exit inside: virtio, fewer timers, no serial console. Normal for encrypted guests.";
    0x407 PML_FULL ["pml"]
        "The log of modified pages is full.",
        "Dirty logging during live migration or a snapshot while the guest writes much memory, on CPUs \
            with page-modification logging.",
        "Normal during a migration and over with it; throttle the guest (auto-converge, dirty \
            limit).", @ APM;
    0x8000_0001 VMGEXIT_MMIO_READ []
        "An encrypted guest read a register of an emulated device.",
        "Emulated devices, or virtio devices at set-up.", "Use virtio devices and few of \
            them.", @ GHCB_UAPI;
    0x8000_0002 VMGEXIT_MMIO_WRITE []
        "An encrypted guest wrote a register of an emulated device.",
        "Virtio doorbells and emulated devices.", "Use virtio with ioeventfd, event index and deeper \
            queues. Normal in step with I/O.", @ GHCB_UAPI;
    0x8000_0003 VMGEXIT_NMI_COMPLETE []
        "An encrypted guest finished its NMI handler.",
        "NMIs in the guest: its NMI watchdog or `perf` inside it.", "Boot the guest with \
            `nmi_watchdog=0`.", @ GHCB_UAPI;
    0x8000_0004 VMGEXIT_AP_HLT_LOOP ["vmgexit_ap_reset_hold"]
        "A vCPU of an encrypted guest waits to be started.",
        "Booting and taking vCPUs offline.", NORMAL, @ GHCB_UAPI;
    0x8000_0005 VMGEXIT_AP_JUMP_TABLE []
        "An encrypted guest set or asked for the address at which its vCPUs start.",
        "Booting an SEV-ES guest.", NORMAL, @ GHCB_UAPI;
    0x8000_0010 VMGEXIT_PSC ["vmgexit_page_state_change"]
        "An SEV-SNP guest asked to change pages between private and shared.",
        "Booting, accepting memory, and bounce buffers for devices.",
        "Raise `swiotlb=` in the guest, so that it need not convert pages later; huge pages lower the \
            number.", @ GHCB_UAPI;
    0x8000_0011 VMGEXIT_GUEST_REQUEST []
        "An SEV-SNP guest sent an encrypted message to the security processor.",
        "Attestation reports and derived keys.", "Ask for a report once and keep it; the host limits the \
            rate.", @ GHCB_UAPI;
    0x8000_0012 VMGEXIT_EXT_GUEST_REQUEST []
        "An SEV-SNP guest sent a message to the security processor and wants the certificates too.",
        "Attestation reports.", "Ask for a report once and keep it.", @ GHCB_UAPI;
    0x8000_0013 VMGEXIT_AP_CREATION []
        "An SEV-SNP guest created, started or destroyed a vCPU of its own.",
        "Booting and taking vCPUs on- or offline.", NORMAL, @ GHCB_UAPI;
    0x8000_0014 VMGEXIT_HVDB_PAGE ["vmgexit_hv_doorbell_page"]
        "An SEV-SNP guest set up the page on which the hypervisor announces events.",
        SNP_WHY, NOT_IN_KVM, @ GHCB;
    0x8000_0015 VMGEXIT_HV_IPI []
        "An SEV-SNP guest with restricted injection sent an IPI.",
        "Wake-ups between the guest's vCPUs.", NOT_IN_KVM, @ GHCB;
    0x8000_0016 VMGEXIT_HV_TIMER []
        "An SEV-SNP guest with restricted injection set its timer.",
        "Timers of the guest.", NOT_IN_KVM, @ GHCB;
    0x8000_0017 VMGEXIT_GET_APIC_IDS ["vmgexit_apic_id_list"]
        "An SEV-SNP guest asked for the APIC ids of its vCPUs.",
        SNP_WHY, NORMAL, @ GHCB;
    0x8000_0018 VMGEXIT_SNP_RUN_VMPL []
        "An SEV-SNP guest asked to run at another of its privilege levels.",
        "Calls of the guest's kernel to a secure module (SVSM), such as a virtual TPM.",
        "Normal for guests with an SVSM; many point at a program that uses the virtual TPM all the \
            time.", @ GHCB_UAPI;
    0x8000_001a VMGEXIT_SAVIC ["vmgexit_secure_avic"]
        "An SEV-SNP guest told the hypervisor where the backing page of its secure AVIC is.",
        SNP_WHY, NORMAL, @ GHCB_UAPI;
    0x8000_fffd VMGEXIT_HV_FEATURES ["vmgexit_hypervisor_feature"]
        "An encrypted guest asked which features the hypervisor offers.",
        SNP_WHY, NORMAL, @ GHCB_UAPI;
    0x8000_fffe VMGEXIT_TERM_REQUEST []
        "An encrypted guest asked to be ended.",
        "It met something it does not trust or support; the call carries a reason set and code.",
        "Read the guest's console and the host's kernel log for the reason code.", @ GHCB_UAPI;
    0x8000_ffff VMGEXIT_UNSUPPORTED_EVENT []
        "An encrypted guest met an exit that it cannot hand on.",
        "A device or instruction that the guest's #VC handler does not support.",
        "Read the guest's console; bring its kernel up to date.", @ GHCB_UAPI;
    0xf000_0000 SW []
        "The first of the codes left to software: no hardware exit, but one hypervisor's note to another.",
        "Hyper-V as the outer hypervisor reports a flush of the nested guest's TLB this way.",
        "Normal with KVM inside Hyper-V.";
    -4 INVALID_PMC []
        "The entry failed: the state of the performance counters was invalid. The guest did not run.",
        "A fault in the hypervisor's virtual counters.",
        "Even one is worth a bug report; `-cpu host,pmu=off` avoids it.", @ APM;
    -3 IDLE_REQUIRED []
        "The entry failed: the sibling thread was not idle, as the guest's protection demands. The guest \
            did not run.",
        "An SEV-SNP guest with SMT protection on a host that runs something else on the sibling.",
        "Use core scheduling, or turn SMT off (`nosmt`).", @ APM;
    -2 BUSY []
        "The entry failed: the save area of the encrypted vCPU is in use. The guest did not run.",
        "The vCPU is being run elsewhere, or its save area is being changed.",
        "A few are harmless, KVM tries again; many are worth a bug report.", @ APM;
    -1 ERR ["INVALID", "invalid_guest_state"]
        "The entry failed: the CPU refused the guest state or the controls in the VMCB (VMEXIT_INVALID). \
            The guest did not run.",
        "A fault in the hypervisor or the VMM, a damaged saved or migrated state, or a nested hypervisor \
            that builds a bad VMCB.",
        "Load kvm_amd with `dump_invalid_vmcb=1` and read the kernel log. Even one is worth a bug report.";
};
