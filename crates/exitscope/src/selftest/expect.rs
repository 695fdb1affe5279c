//! Exits that a vCPU must have made once it has done its plan.

use exitscope_model::{ExitCode, Isa};
use exitscope_testguest::{Done, Kind, VcpuDone};
use std::collections::BTreeMap;

/// SVM's code of INVD.
pub const INVD: ExitCode = ExitCode { isa: Isa::Svm, code: 0x76 };
/// SVM's code of WBINVD.
pub const WBINVD: ExitCode = ExitCode { isa: Isa::Svm, code: 0x89 };

const NPF: ExitCode = ExitCode { isa: Isa::Svm, code: 0x400 };
const EXCEPTION_NMI: ExitCode = ExitCode { isa: Isa::Vmx, code: 0 };
const EPT_VIOLATION: ExitCode = ExitCode { isa: Isa::Vmx, code: 48 };
const EPT_MISCONFIG: ExitCode = ExitCode { isa: Isa::Vmx, code: 49 };

/// Number of exits that must be counted for one reason.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Kinds of operation that make them.
    pub kinds: Vec<Kind>,
    /// Exits that the guest made: the least number.
    pub done: u64,
    /// Page faults and first accesses among `done`.
    pub faults: u64,
    /// Exits that the host may add, at most.
    pub more: u64,
}

/// Returns the exits that a vCPU must have made, by reason.
pub fn of(vcpu: &VcpuDone, isa: Isa, done: &Done) -> BTreeMap<ExitCode, Expected> {
    let mut expected: BTreeMap<ExitCode, Expected> = BTreeMap::new();
    for (&kind, &count) in &vcpu.kinds {
        // A kind without an exit here that was done all the same must add none.
        if let Some(code) = kind.exit_code(isa) {
            let entry = expected.entry(code).or_default();
            entry.kinds.push(kind);
            entry.done += count;
        }
    }
    faults(&mut expected, vcpu, isa, done);
    if isa == Isa::Vmx
        && let Some(exceptions) = expected.get_mut(&EXCEPTION_NMI)
    {
        exceptions.more += done.host_nmis.unwrap_or(u64::MAX / 2);
    }
    expected
}

/// Adds the guest's page faults and its first loads from where there is no memory.
///
/// `pf_taken` are the faults that KVM looked into, `pf_emulate` those of them where it found no memory
/// (`kvm_mmu_do_page_fault()` in `arch/x86/kvm/mmu/mmu_internal.h`): the first access to a page without
/// memory is in both, a later one in neither, because KVM has marked the page and recognises the fault at once.
fn faults(expected: &mut BTreeMap<ExitCode, Expected>, vcpu: &VcpuDone, isa: Isa, done: &Done) {
    let loads = vcpu.first_loads;
    let known = vcpu.kvm.and_then(|kvm| kvm.faults);
    match (isa, known) {
        // Both kinds of access, and every fault, are NPF.
        (Isa::Svm, Some((taken, emulated))) => {
            let faults = loads + taken.saturating_sub(emulated);
            let npf = expected.entry(NPF).or_default();
            npf.done += faults;
            npf.faults += faults;
        }
        (Isa::Svm, None) => {
            let npf = expected.entry(NPF).or_default();
            npf.done += loads;
            npf.faults += loads;
            npf.more += done.pages;
        }
        // An access to a marked page is an EPT_MISCONFIG, everything else an EPT_VIOLATION. All are
        // EPT_VIOLATION where KVM does not mark (mmio_caching=N): then each is in `emulated`.
        (_, Some((taken, emulated))) => {
            let misconfig = expected.entry(EPT_MISCONFIG).or_default();
            misconfig.done = (misconfig.done + loads).saturating_sub(emulated);
            let violation = expected.entry(EPT_VIOLATION).or_default();
            violation.done += taken;
            violation.faults += taken;
        }
        (_, None) => {
            let violation = expected.entry(EPT_VIOLATION).or_default();
            violation.done += loads;
            violation.faults += loads;
            violation.more += done.pages;
        }
    }
    expected.retain(|_, expected| expected.done + expected.more > 0);
}

/// Returns true for exits that a host causes on its own, in any guest: interrupts and what becomes of
/// them, scheduling.
/// Nested page faults are not among them: those are expected to the exit.
pub fn hosts_own(code: ExitCode, isa: Isa) -> bool {
    code.isa == isa
        && match isa {
            // EXTERNAL_INTERRUPT, OTHER_SMI, INTERRUPT_WINDOW, NMI_WINDOW, PAUSE, PREEMPTION_TIMER; and
            // EXCEPTION_NMI, if the guest made none
            Isa::Vmx => matches!(code.code, 0 | 1 | 6 | 7 | 8 | 40 | 52),
            // INTR, NMI, SMI, VINTR, PAUSE
            Isa::Svm => matches!(code.code, 0x60 | 0x61 | 0x62 | 0x64 | 0x77),
            Isa::KvmStat => false,
        }
}
