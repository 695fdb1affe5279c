//! Plans of a guest's exits, and the counts afterwards.

use super::Kind;
use exitscope_model::Isa;
use std::collections::BTreeMap;

/// Numbers of exits of each kind for one vCPU. The numbers of a kind that is listed twice are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Kind and count.
    pub counts: Vec<(Kind, u64)>,
}

impl Plan {
    /// The plan of the self-test for one vCPU: every kind, each with a number of its own that differs
    /// from every other vCPU's, beginning at another kind on every vCPU.
    pub fn standard(vcpu: u32) -> Plan {
        let mut counts: Vec<_> = Kind::ALL
            .into_iter()
            .zip(5..)
            .map(|(kind, step)| (kind, kind.standard_count() + u64::from(vcpu) * step))
            .collect();
        counts.rotate_left(5 * vcpu as usize % Kind::ALL.len());
        Plan { counts }
    }

    /// Some of one kind and nothing else.
    pub fn only(kind: Kind, count: u64) -> Plan {
        Plan { counts: vec![(kind, count)] }
    }

    /// This plan without those kinds.
    #[must_use]
    pub fn without(mut self, kinds: &[Kind]) -> Plan {
        self.counts.retain(|(kind, _)| !kinds.contains(kind));
        self
    }

    /// Each kind once, in the order of first mention.
    pub(super) fn merged(&self) -> Vec<(Kind, u64)> {
        let mut merged: Vec<(Kind, u64)> = Vec::new();
        for &(kind, count) in &self.counts {
            match merged.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, sum)) => *sum = sum.saturating_add(count),
                None => merged.push((kind, count)),
            }
        }
        merged
    }
}

/// A vCPU's exits as KVM itself has counted them, from the vCPU's creation to its last exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvmCount {
    /// Exits of all reasons (`exits`).
    pub exits: u64,
    /// Nested page faults that KVM resolved the long way, and those of them that turned out to have no
    /// memory behind them (`pf_taken`, `pf_emulate`); `None` from a kernel before 5.19. Accesses without
    /// memory that KVM recognised at once are in neither.
    pub faults: Option<(u64, u64)>,
}

/// Counts of one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuDone {
    /// Its number.
    pub vcpu: u32,
    /// Exits of each kind, verified inside the guest and by user space where either can see them.
    pub kinds: BTreeMap<Kind, u64>,
    /// Loads from the address without memory before the first step: they make KVM learn that there is none.
    pub first_loads: u64,
    /// KVM's own count; `None` from a kernel before 5.14.
    pub kvm: Option<KvmCount>,
}

/// Counts of the guest since its VM was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The ISA that KVM uses; `None` with a software backend.
    pub isa: Option<Isa>,
    /// Each vCPU, by number.
    pub vcpus: Vec<VcpuDone>,
    /// Non-maskable interrupts that the host's CPUs took meanwhile, in whatever they did: VMX counts
    /// those in a guest under the same code as exceptions. `None` where /proc/interrupts tells none.
    pub host_nmis: Option<u64>,
    /// The processor itself is QEMU's emulation (TCG), whose SVM differs from the hardware in places.
    pub emulated: bool,
    /// Pages of 4 KiB that the guest has: as often may each vCPU fault on first touch.
    pub pages: u64,
}

/// Result of a probe of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// KVM counted an exit for each.
    Exits,
    /// The hardware does it without an exit, and so KVM's sources have it.
    NotOnThisIsa,
    /// It should exit, and KVM's count says that it did not. Emulated hardware is like that: QEMU 7.2's, for
    /// one, does not intercept XSETBV and takes INT3 for a software interrupt.
    NotIntercepted,
    /// The guest may not do it: its processor has no such feature.
    NotOffered,
    /// The guest does not survive it here, for this reason.
    Fails(String),
    /// KVM keeps no count here: taken to exit.
    Unknown,
}

impl Found {
    /// Returns true if a plan should have this kind.
    pub fn usable(&self) -> bool {
        matches!(self, Found::Exits | Found::Unknown)
    }

    /// In words.
    pub fn what(&self) -> &str {
        match self {
            Found::Fails(why) => why,
            Found::Exits => "exits",
            Found::NotOnThisIsa => "needs no exit on this hardware",
            Found::NotIntercepted => "KVM counted no exit for it: this hardware does not intercept it",
            Found::NotOffered => "this KVM does not offer it to guests",
            Found::Unknown => "taken to exit: this kernel has no count to check it with",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_counts_of_the_standard_plans_are_alike_for_a_code() {
        for isa in [Isa::Vmx, Isa::Svm] {
            let mut by_code: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
            for vcpu in 0..8 {
                let mut sums = BTreeMap::new();
                for (kind, count) in Plan::standard(vcpu).merged() {
                    if let Some(code) = kind.exit_code(isa) {
                        *sums.entry(code).or_insert(0) += count;
                    }
                }
                let distinct: BTreeSet<u64> = sums.values().copied().collect();
                if vcpu == 0 {
                    assert_eq!(distinct.len(), sums.len(), "two codes of vCPU 0 have the same count");
                }
                for (code, sum) in sums {
                    assert!(by_code.entry(code).or_default().insert(sum), "{code:?}: {sum} on two vCPUs");
                }
            }
        }
    }

    #[test]
    fn every_kind_is_in_the_list_once_and_has_a_name_of_its_own() {
        let kinds: BTreeSet<Kind> = Kind::ALL.into_iter().collect();
        assert_eq!(kinds.len(), Kind::ALL.len());
        let names: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
