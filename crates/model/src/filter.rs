//! Choice of exits by reason and by detail (`--reason`, `--detail`).

use super::{Counters, Detail, DetailKind, ExitCode, Interval, Isa, Source, VmId};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Details that are chosen: keys of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The kind.
    pub kind: DetailKind,
    /// The keys.
    pub keys: RangeInclusive<u64>,
}

impl Keys {
    /// Returns a range of keys, as exits have them, that has all that are meant, for who cannot tell more; `None` if there is
    /// no such range.
    pub fn read_as(&self) -> Option<RangeInclusive<u64>> {
        let info = self.kind.info();
        let block = info.block_of(super::Attributes(u32::MAX));
        let is_whole = info.named_key(u64::MAX) == u64::MAX;
        is_whole.then(|| (self.keys.start() & !(block - 1))..=*self.keys.end())
    }

    /// Returns true if exits about `detail` are meant. A block of memory is if it has one of the addresses, and a CPUID
    /// leaf with any subleaf.
    pub fn have(&self, detail: Detail) -> bool {
        let info = detail.info();
        let last = detail.key.saturating_add(info.block_of(detail.attributes) - 1);
        let overlaps = detail.key <= *self.keys.end() && last >= *self.keys.start();
        self.kind == detail.kind && (overlaps || self.keys.contains(&info.named_key(detail.key)))
    }
}

/// Choice of exits. What is empty chooses all.
///
/// ```
/// use exitscope_model::{ExitCode, Filter, Isa};
///
/// let cpuid = ExitCode { isa: Isa::Vmx, code: 10 };
/// let filter = Filter { reasons: vec![cpuid], ..Filter::default() };
/// assert!(filter.has_reason(cpuid));
/// assert!(!filter.has_reason(ExitCode { isa: Isa::Vmx, code: 12 }));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Reasons.
    pub reasons: Vec<ExitCode>,
    /// Details.
    pub details: Vec<Keys>,
}

impl Filter {
    /// Returns true if it leaves nothing out.
    pub fn is_all(&self) -> bool {
        self.reasons.is_empty() && self.details.is_empty()
    }

    /// Returns true if exits with this code are chosen. VMX's modifier bits (31 to 16) may be left out of the choice.
    pub fn has_reason(&self, code: ExitCode) -> bool {
        let basic = ExitCode { code: code.code & 0xffff, ..code };
        self.reasons.is_empty()
            || self.reasons.contains(&code)
            || (code.isa == Isa::Vmx && self.reasons.contains(&basic))
    }

    /// Takes the exits that are not chosen out of an interval: rows of other reasons, and those without any chosen
    /// detail. In the rows that stay, other details are not told apart. The exits that are gone are no longer those of
    /// their vCPU either, nor of KVM's count, and are in [`super::Loss::filtered`].
    pub fn apply(&self, interval: &mut Interval) {
        if self.is_all() {
            return;
        }
        let mut left_out: BTreeMap<(VmId, u32), u64> = BTreeMap::new();
        interval.rows.retain_mut(|row| {
            let stays = self.has_reason(row.code) && self.narrow(&mut row.counters);
            if !stays {
                *left_out.entry((row.vm, row.vcpu)).or_default() += row.counters.count;
            }
            stays
        });
        // Classes of KVM's statistics overlap, and are no parts of a vCPU's exits.
        if interval.source == Source::KvmStat {
            return;
        }
        for span in &mut interval.vcpus {
            let left_out = left_out.get(&(span.vm, span.vcpu)).copied().unwrap_or(0);
            span.exits = span.exits.saturating_sub(left_out);
            span.kvm_exits = span.kvm_exits.map(|exits| exits.saturating_sub(left_out));
            interval.loss.filtered += left_out;
        }
    }

    /// Leaves the chosen details alone told apart. Returns false if there is none.
    fn narrow(&self, counters: &mut Counters) -> bool {
        if self.details.is_empty() {
            return true;
        }
        let details = &mut counters.details;
        details.counts.retain(|detail, found| {
            let stays = self.details.iter().any(|keys| keys.have(*detail));
            if !stays {
                details.other.add(found);
            }
            stays
        });
        !details.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attributes, Group, fixture};

    fn keys(kind: DetailKind, keys: RangeInclusive<u64>) -> Keys {
        Keys { kind, keys }
    }

    #[test]
    fn what_is_left_out_is_counted_and_the_rest_is_as_it_was() {
        let all = fixture::busy();
        let code = all.rows[0].code;
        let mut chosen = all.clone();
        Filter { reasons: vec![code], details: vec![] }.apply(&mut chosen);
        assert!(!chosen.rows.is_empty() && chosen.rows.len() < all.rows.len());
        for row in &chosen.rows {
            assert!(row.code == code && all.rows.contains(row));
        }
        assert_eq!(chosen.exits() + chosen.loss.filtered, all.exits());
        assert_eq!(chosen.kvm_exits().unwrap() + chosen.loss.filtered, all.kvm_exits().unwrap());
        let rows: u64 = chosen.rows.iter().map(|row| row.counters.count).sum();
        assert_eq!((chosen.exits(), chosen.loss.lost()), (rows, 0));
        let mut same = all.clone();
        Filter::default().apply(&mut same);
        assert_eq!(same, all);
    }

    #[test]
    fn of_a_reason_that_has_the_detail_the_others_are_other() {
        let all = fixture::busy();
        let before = Group::total(&all).counters.details;
        let port = *before.counts.keys().find(|detail| detail.kind == DetailKind::Port).unwrap();
        let mut chosen = all.clone();
        let filter = Filter { reasons: vec![], details: vec![keys(DetailKind::Port, port.key..=port.key)] };
        filter.apply(&mut chosen);
        let after = Group::total(&chosen).counters.details;
        assert!(after.counts.keys().all(|detail| detail.key == port.key));
        assert_eq!(after.counts[&port], before.counts[&port]);
        for row in &chosen.rows {
            let was =
                all.rows.iter().find(|was| was.vm == row.vm && was.vcpu == row.vcpu && was.code == row.code);
            let (was, is) = (&was.unwrap().counters, &row.counters);
            assert_eq!((was.count, was.time_ns), (is.count, is.time_ns));
            assert_eq!(
                (was.details.count(), was.details.time_ns()),
                (is.details.count(), is.details.time_ns())
            );
        }
        assert_eq!(chosen.exits() + chosen.loss.filtered, all.exits());
    }

    #[test]
    fn an_address_means_its_block_of_memory_and_a_leaf_all_its_subleaves() {
        let memory = Attributes(DetailKind::Gpa.info().unnamed);
        let block = Detail { kind: DetailKind::Gpa, key: 0x20_0000, attributes: memory };
        let register = Detail { attributes: Attributes::default(), ..block };
        let has = |key: u64, detail| keys(DetailKind::Gpa, key..=key).have(detail);
        assert_eq!(
            [0x1f_ffff, 0x20_0000, 0x3f_ffff, 0x40_0000].map(|key| has(key, block)),
            [false, true, true, false]
        );
        assert_eq!([0x20_0000, 0x20_0001].map(|key| has(key, register)), [true, false]);
        let leaf = Detail::new(DetailKind::Cpuid, 0x1_0000_000d, false);
        let has = |key: u64| keys(DetailKind::Cpuid, key..=key).have(leaf);
        assert_eq!([0xd, 0x1_0000_000d, 0x2_0000_000d, 1].map(has), [true, true, false, false]);
        assert!(!keys(DetailKind::Port, 0..=u64::MAX).have(leaf));
    }

    #[test]
    fn modifiers_of_a_reason_need_not_be_named() {
        let code = |code| ExitCode { isa: Isa::Vmx, code };
        let filter = Filter { reasons: vec![code(33)], details: vec![] };
        assert!(filter.has_reason(code(0x8000_0021)) && !filter.has_reason(code(34)));
        assert!(!filter.has_reason(ExitCode { isa: Isa::Svm, code: 33 }));
    }
}
