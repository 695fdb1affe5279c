//! MSRs of Intel's and AMD's, and those of KVM's and Hyper-V's paravirtual interfaces.
//!
//! Intel's from SDM vol. 4, the x2APIC's from SDM vol. 3 ("x2APIC Register Address Space"), AMD's from APM vol. 2,
//! appendix A, and the processors' PPRs; names as arch/x86/include/asm/msr-index.h has them. KVM's from
//! arch/x86/include/uapi/asm/kvm_para.h and Documentation/virt/kvm/x86/msr.rst, Hyper-V's from the Hypervisor Top Level
//! Functional Specification, appendix "Hypervisor Synthetic MSRs".

use super::detail::{Known, table};

const DEADLINE: &str = "Each timer and each idle period arms it: fewer timers in the guest (a lower HZ, `nohz=on`), less idling \
     (`cpuidle_haltpoll`). On Intel, `kvm_intel.preemption_timer=1` makes its expiry cheap.";
const ICR: &str = "Interrupts that vCPUs send each other: `kvm_amd.avic=1` or APIC virtualization with IPI virtualization where \
     the CPU has it, fewer vCPUs, or threads that wake each other kept on one.";
const EOI: &str = "The end of each interrupt: `kvm_amd.avic=1`, `kvm_intel.enable_apicv=1`, or KVM's paravirtual EOI \
     (`kvm-pv-eoi=on`); and fewer interrupts.";
const TIMER: &str = "The local APIC's timer: let the guest have the TSC deadline timer (`tsc-deadline=on`), and fewer timers.";
const PMU: &str = "Performance counters: hide them (`-cpu host,pmu=off`) where the guest does not need them, or measure fewer \
     events; `nmi_watchdog=0` saves the watchdog's.";
const SPEC: &str = "The guest's mitigations switch it at context switches; newer CPUs (enhanced IBRS, automatic IBRS) need none.";
const HV_TIMER: &str = "Windows' timers and clock: `hv-time` and `hv-reenlightenment` for the clock, `hv-stimer-direct` for timers.";
const HV_APIC: &str =
    "Windows' interrupts by Hyper-V's interface: AVIC or APICv with `hv-avic` makes most of these go away.";
const POWER: &str =
    "Power management and monitoring have nothing to manage in a guest: stop the tool that reads these.";

/// Every MSR that has a name, by number.
pub const TABLE: &[Known] = table! {
    0x10 "IA32_TIME_STAMP_COUNTER";
    0x11 "KVM wall clock (old)";
    0x12 "KVM system time (old)";
    0x1b "IA32_APIC_BASE";
    0x34 "SMI_COUNT" => POWER;
    0x3a "IA32_FEATURE_CONTROL";
    0x3b "IA32_TSC_ADJUST";
    0x48 "IA32_SPEC_CTRL" => SPEC;
    0x49 "IA32_PRED_CMD" => SPEC;
    0x79 "IA32_BIOS_UPDT_TRIG";
    0x8b "IA32_BIOS_SIGN_ID";
    0xc1..=0xc8 "IA32_PMC0-7" => PMU;
    0xce "PLATFORM_INFO";
    0xe2 "PKG_CST_CONFIG_CONTROL" => POWER;
    0xe7 "IA32_MPERF" => POWER;
    0xe8 "IA32_APERF" => POWER;
    0xfe "IA32_MTRRCAP";
    0x10a "IA32_ARCH_CAPABILITIES";
    0x10b "IA32_FLUSH_CMD" => SPEC;
    0x122 "IA32_TSX_CTRL";
    0x140 "MISC_FEATURES_ENABLES";
    0x174..=0x176 "IA32_SYSENTER";
    0x179 "IA32_MCG_CAP";
    0x17a "IA32_MCG_STATUS";
    0x17b "IA32_MCG_CTL";
    0x186..=0x18d "IA32_PERFEVTSEL0-7" => PMU;
    0x198 "IA32_PERF_STATUS" => POWER;
    0x199 "IA32_PERF_CTL" => POWER;
    0x19a..=0x19c "IA32_THERM" => POWER;
    0x1a0 "IA32_MISC_ENABLE";
    0x1a2 "TEMPERATURE_TARGET" => POWER;
    0x1b0 "IA32_ENERGY_PERF_BIAS" => POWER;
    0x1b1..=0x1b2 "IA32_PACKAGE_THERM" => POWER;
    0x1c8 "LBR_SELECT" => PMU;
    0x1c9 "LASTBRANCH_TOS" => PMU;
    0x1d9 "IA32_DEBUGCTL";
    0x1db..=0x1de "last branch, last interrupt";
    0x200..=0x21f "MTRR, variable";
    0x250 "MTRR, fixed";
    0x258..=0x259 "MTRR, fixed";
    0x268..=0x26f "MTRR, fixed";
    0x277 "IA32_PAT";
    0x2ff "IA32_MTRR_DEF_TYPE";
    0x309..=0x30c "IA32_FIXED_CTR" => PMU;
    0x345 "IA32_PERF_CAPABILITIES" => PMU;
    0x38d..=0x390 "performance counters, global" => PMU;
    0x3f1 "IA32_PEBS_ENABLE" => PMU;
    0x400..=0x47f "machine check banks";
    0x480..=0x493 "VMX capabilities";
    0x4c1..=0x4c8 "IA32_A_PMC0-7" => PMU;
    0x600 "IA32_DS_AREA" => PMU;
    0x606..=0x64f "RAPL, power and energy" => POWER;
    0x6a0..=0x6a8 "IA32_CET";
    0x6e0 "IA32_TSC_DEADLINE" => DEADLINE;
    0x770..=0x777 "IA32_HWP" => POWER;
    0x802 "x2APIC ID";
    0x803 "x2APIC version";
    0x808 "x2APIC TPR";
    0x80a "x2APIC PPR";
    0x80b "x2APIC EOI" => EOI;
    0x80d "x2APIC LDR";
    0x80f "x2APIC SIVR";
    0x810..=0x817 "x2APIC ISR";
    0x818..=0x81f "x2APIC TMR";
    0x820..=0x827 "x2APIC IRR";
    0x828 "x2APIC ESR";
    0x82f "x2APIC LVT CMCI";
    0x830 "x2APIC ICR" => ICR;
    0x832 "x2APIC LVT timer" => TIMER;
    0x833 "x2APIC LVT thermal";
    0x834 "x2APIC LVT PMI" => PMU;
    0x835..=0x836 "x2APIC LVT LINT0-1";
    0x837 "x2APIC LVT error";
    0x838 "x2APIC timer, initial count" => TIMER;
    0x839 "x2APIC timer, current count" => TIMER;
    0x83e "x2APIC timer, divide" => TIMER;
    0x83f "x2APIC self IPI" => ICR;
    0xda0 "IA32_XSS";
    0x4000_0000 "Hyper-V guest OS ID";
    0x4000_0001 "Hyper-V hypercall page";
    0x4000_0002 "Hyper-V VP index";
    0x4000_0003 "Hyper-V reset";
    0x4000_0010 "Hyper-V VP runtime";
    0x4000_0020 "Hyper-V reference counter" => HV_TIMER;
    0x4000_0021 "Hyper-V reference TSC";
    0x4000_0022 "Hyper-V TSC frequency";
    0x4000_0023 "Hyper-V APIC frequency";
    0x4000_0070 "Hyper-V EOI" => HV_APIC;
    0x4000_0071 "Hyper-V ICR" => HV_APIC;
    0x4000_0072 "Hyper-V TPR" => HV_APIC;
    0x4000_0073 "Hyper-V VP assist page";
    0x4000_0080..=0x4000_0084 "Hyper-V SynIC";
    0x4000_0090..=0x4000_009f "Hyper-V SINT";
    0x4000_00b0..=0x4000_00b7 "Hyper-V synthetic timer" => HV_TIMER;
    0x4000_0100..=0x4000_0105 "Hyper-V crash";
    0x4000_0106..=0x4000_0108 "Hyper-V reenlightenment";
    0x4b56_4d00 "KVM wall clock";
    0x4b56_4d01 "KVM system time";
    0x4b56_4d02 "KVM async page fault";
    0x4b56_4d03 "KVM steal time";
    0x4b56_4d04 "KVM paravirtual EOI";
    0x4b56_4d05 "KVM poll control";
    0x4b56_4d06 "KVM async page fault vector";
    0x4b56_4d07 "KVM async page fault ack" => "Pages of the guest's come from the host's swap: give the host memory, or the guest less.";
    0x4b56_4d08 "KVM migration control";
    0xc000_0080 "EFER";
    0xc000_0081..=0xc000_0084 "STAR, LSTAR, CSTAR, SFMASK";
    0xc000_00e7..=0xc000_00e9 "AMD MPERF, APERF, IRPERF" => POWER;
    0xc000_0100 "FS_BASE";
    0xc000_0101 "GS_BASE";
    0xc000_0102 "KERNEL_GS_BASE";
    0xc000_0103 "TSC_AUX";
    0xc000_0104 "AMD64_TSC_RATIO";
    0xc000_0300..=0xc000_0303 "AMD performance counters, global" => PMU;
    0xc000_2000..=0xc000_2fff "AMD machine check banks";
    0xc001_0000..=0xc001_0007 "AMD performance counters" => PMU;
    0xc001_0010 "AMD SYSCFG";
    0xc001_0015 "AMD HWCR";
    0xc001_001a..=0xc001_001d "AMD TOP_MEM, IORR";
    0xc001_001f "AMD NB_CFG";
    0xc001_0030..=0xc001_0035 "AMD processor name";
    0xc001_0055 "AMD interrupt pending message";
    0xc001_0058 "AMD MMIO configuration base";
    0xc001_0061..=0xc001_006b "AMD P-states" => POWER;
    0xc001_0111..=0xc001_0113 "AMD SMM base and mask";
    0xc001_0114 "AMD VM_CR";
    0xc001_0117 "AMD VM_HSAVE_PA";
    0xc001_011f "AMD VIRT_SPEC_CTRL" => SPEC;
    0xc001_0130 "SEV-ES GHCB";
    0xc001_0131 "SEV status";
    0xc001_0140..=0xc001_0141 "AMD OSVW";
    0xc001_0200..=0xc001_020b "AMD performance counters" => PMU;
    0xc001_0299..=0xc001_029b "AMD RAPL, energy" => POWER;
    0xc001_02b0..=0xc001_02b4 "AMD CPPC" => POWER;
    0xc001_1020..=0xc001_1023 "AMD load-store, caches configuration";
    0xc001_1029 "AMD DE_CFG";
};
