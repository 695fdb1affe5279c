//! Through which phases a machine goes, known from what it says and from the mode that its guest exits in.
//!
//! A machine goes through phases in the order of the [`Rules`] and never back, but for a reboot. A line of the console tells
//! the phase that begins with it. The mode tells the phases that have the names of [`super::phase`]'s constants:
//!
//! - [`FIRMWARE`]: an exit in real or protected mode, before anything else is known.
//! - [`KERNEL`]: an exit in long mode, in the upper half of the addresses.
//! - [`DECOMPRESSION`]: one in the lower half before that. It is known afterwards, with the kernel; and not where lines of
//!   a firmware or a boot loader come in that mode, because theirs it is then (UEFI).
//! - [`USER`]: one in the lower half, of a vCPU that was in the upper half before. Once a line has told of the kernel, this is
//!   left to lines, because a kernel runs helpers in user space early on.
//! - A reboot: where vCPU 0 is in real or protected mode again, and no exit is in long mode. Other vCPUs are in real mode too where
//!   they begin.
//!
//! Exits whose mode is not known tell nothing, and neither do those of a guest's own guests.

use super::phase::{DECOMPRESSION, FIRMWARE, KERNEL, Rules, USER};
use exitscope_model::{Interval, Level, Mode, VmId};
use std::collections::BTreeSet;
use std::time::Duration;

/// The most phases that are told: a guest can reboot for ever.
const MOST: usize = 1000;

/// A phase that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseStart {
    /// Its name.
    pub name: String,
    /// Since when: the beginning or the end of an interval.
    pub at: Duration,
}

/// The way of a machine so far.
#[derive(Clone, Debug)]
pub struct PhaseDetector {
    rules: Rules,
    /// The phase that is on, by place.
    current: Option<usize>,
    /// A line has told of the kernel, or of what comes after it.
    kernel_told: bool,
    /// vCPUs that were in the upper half before now.
    high: BTreeSet<(VmId, u32)>,
    /// Since when it has been in long mode, in the lower half, before any was in the upper.
    low_since: Option<Duration>,
    /// That was a firmware's or a boot loader's.
    low_is_firmware: bool,
    /// How many have begun, and when the last one did.
    begun: usize,
    last: Duration,
}

/// What an interval says.
#[derive(Default)]
struct Seen {
    /// Exits in real or protected mode; those of vCPU 0 among them.
    early: u64,
    early_of_first: u64,
    low: u64,
    /// In the lower half, of vCPUs that were in the upper half before.
    low_after_high: u64,
    high: BTreeSet<(VmId, u32)>,
}

impl PhaseDetector {
    /// Nothing is known yet.
    pub fn new(rules: Rules) -> PhaseDetector {
        PhaseDetector {
            rules,
            current: None,
            kernel_told: false,
            high: BTreeSet::new(),
            low_since: None,
            low_is_firmware: false,
            begun: 0,
            last: Duration::ZERO,
        }
    }

    /// What began in an interval from `from` to `to`: by the modes of its exits with it, by what the lines that came in it
    /// tell, by place, after it. What `from` of an earlier one is told too, where only now is known that it began then.
    pub fn step(
        &mut self,
        from: Duration,
        to: Duration,
        interval: Option<&Interval>,
        told: &[usize],
    ) -> Vec<PhaseStart> {
        let mut begun = Vec::new();
        let was_low = self.low_since.is_some();
        if let Some(interval) = interval {
            let seen = self.look(interval);
            self.mode(from, &seen, &mut begun);
            self.high.extend(seen.high);
        }
        for &place in told {
            self.line(to, place, was_low, &mut begun);
        }
        begun
    }

    /// Whether a kernel is there.
    pub fn has_kernel(&self) -> bool {
        let kernel = self.rules.named(KERNEL);
        !self.high.is_empty() || kernel.is_some_and(|kernel| self.current >= Some(kernel))
    }

    fn look(&self, interval: &Interval) -> Seen {
        let mut seen = Seen::default();
        for row in interval.rows.iter().filter(|row| row.level == Level::L1) {
            let (modes, vcpu) = (&row.counters.modes, (row.vm, row.vcpu));
            let early = modes.get(Mode::Real) + modes.get(Mode::Protected);
            let low = modes.get(Mode::LongLow);
            seen.early += early;
            seen.early_of_first += if row.vcpu == 0 { early } else { 0 };
            seen.low += low;
            seen.low_after_high += if self.high.contains(&vcpu) { low } else { 0 };
            if modes.get(Mode::LongHigh) > 0 {
                seen.high.insert(vcpu);
            }
        }
        seen
    }

    fn mode(&mut self, from: Duration, seen: &Seen, begun: &mut Vec<PhaseStart>) {
        if !self.high.is_empty() && seen.early_of_first > 0 && seen.low == 0 && seen.high.is_empty() {
            self.reboot();
            self.current = None;
        }
        if seen.early > 0 && self.current.is_none() {
            self.begin(self.rules.named(FIRMWARE), from, begun);
        }
        if seen.low > 0 && self.high.is_empty() && !self.kernel_told {
            self.low_since.get_or_insert(from);
        }
        if !seen.high.is_empty() && self.high.is_empty() {
            self.decompressed(begun);
            self.begin(self.rules.named(KERNEL), from, begun);
        }
        if seen.low_after_high > 0 && !self.kernel_told {
            self.begin(self.rules.named(USER), from, begun);
        }
    }

    fn line(&mut self, to: Duration, place: usize, was_low: bool, begun: &mut Vec<PhaseStart>) {
        let kernel = self.rules.named(KERNEL);
        if place == 0 && self.current > Some(0) {
            self.reboot();
            self.current = None;
        }
        if kernel.is_some_and(|kernel| place >= kernel) {
            self.kernel_told = true;
            if self.current < kernel {
                self.decompressed(begun);
            }
        } else if self.rules.named(DECOMPRESSION).is_some_and(|decompression| place < decompression) {
            // What began with the line, or just before it, is the line's, and what follows may be another's.
            self.low_is_firmware |= was_low;
            self.low_since = self.low_since.filter(|_| was_low);
        }
        self.begin(Some(place), to, begun);
    }

    /// There is a kernel now: what was in the lower half before was its decompression.
    fn decompressed(&mut self, begun: &mut Vec<PhaseStart>) {
        if let Some(since) = self.low_since.take().filter(|_| !self.low_is_firmware) {
            self.begin(self.rules.named(DECOMPRESSION), since, begun);
        }
    }

    /// Everything is as in the beginning, but for the phase that is on.
    fn reboot(&mut self) {
        self.kernel_told = false;
        self.high.clear();
        self.low_since = None;
        self.low_is_firmware = false;
    }

    fn begin(&mut self, place: Option<usize>, at: Duration, begun: &mut Vec<PhaseStart>) {
        if place <= self.current || self.begun == MOST {
            return;
        }
        self.current = place;
        self.begun += 1;
        self.last = self.last.max(at);
        begun.push(PhaseStart { name: self.rules.name(place).to_owned(), at: self.last });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::Modes;
    use exitscope_model::fixture;

    /// What a slice of 100 ms has: exits in real, protected, long low, long high, by vCPU; and then lines.
    type Slice<'a> = (&'a [(u32, [u64; 4])], &'a [&'a str]);

    fn phases(rules: &Rules, slices: &[Slice<'_>]) -> Vec<(String, u128)> {
        let mut detector = PhaseDetector::new(rules.clone());
        let mut all = Vec::new();
        for (number, (vcpus, lines)) in (0u64..).zip(slices) {
            let mut interval = fixture::single();
            let row = interval.rows[0].clone();
            interval.rows.clear();
            for &(vcpu, [real, protected, low, high]) in *vcpus {
                let mut row = row.clone();
                row.vcpu = vcpu;
                row.counters.modes = Modes::new([5, real, protected, low, high]);
                interval.rows.push(row);
                // Whatever its own guests do.
                let mut nested = interval.rows[interval.rows.len() - 1].clone();
                nested.level = Level::L2;
                nested.counters.modes = Modes::new([0, 1, 1, 1, 1]);
                interval.rows.push(nested);
            }
            let told: Vec<usize> = lines.iter().filter_map(|line| rules.told(line, true)).collect();
            let at = |number| Duration::from_millis(100 * number);
            all.extend(detector.step(at(number), at(number + 1), Some(&interval), &told));
        }
        all.into_iter().map(|begun| (begun.name, begun.at.as_millis())).collect()
    }

    fn said(slices: &[Slice<'_>]) -> String {
        let phases = phases(&Rules::default(), slices);
        phases.iter().map(|(name, at)| format!("{name} {at}")).collect::<Vec<_>>().join(", ")
    }

    const REAL: &[(u32, [u64; 4])] = &[(0, [9, 0, 0, 0])];
    const PROTECTED: &[(u32, [u64; 4])] = &[(0, [0, 9, 0, 0])];
    const LOW: &[(u32, [u64; 4])] = &[(0, [0, 0, 9, 0])];
    const HIGH: &[(u32, [u64; 4])] = &[(0, [0, 0, 0, 9])];
    const NONE: &[(u32, [u64; 4])] = &[(0, [0; 4])];

    #[test]
    fn a_silent_machine_is_known_by_its_mode() {
        let boot: [Slice<'_>; 10] = [
            (NONE, &[]),
            (REAL, &[]),
            (PROTECTED, &[]),
            (LOW, &[]),
            (LOW, &[]),
            (HIGH, &[]),
            // Another vCPU begins: in real mode, and in the lower half before it is in the upper.
            (&[(0, [0, 0, 0, 9]), (1, [3, 3, 3, 3])], &[]),
            (LOW, &[]),
            (HIGH, &[]),
            (NONE, &[]),
        ];
        let once = "firmware 100, kernel decompression 300, kernel 500, user space 700";
        assert_eq!(said(&boot), once);
        // Once more: vCPU 0 is where it began, and nothing else is anywhere.
        let twice: Vec<Slice<'_>> = boot.iter().chain(&boot).copied().collect();
        assert_eq!(
            said(&twice),
            format!("{once}, firmware 1100, kernel decompression 1300, kernel 1500, user space 1700")
        );
        // Another vCPU's start while nothing else exits is none.
        assert_eq!(said(&[(HIGH, &[]), (&[(1, [9, 9, 0, 0])], &[])]), "kernel 0");
        // A kernel of 32 bits is never in the upper half: each of its exits would be a reboot.
        assert_eq!(
            said(&[(REAL, &["Linux version 6"]), (PROTECTED, &[]), (REAL, &[])]),
            "firmware 0, kernel 100"
        );
    }

    #[test]
    fn lines_win_where_they_are_clearer() {
        let seabios = "SeaBIOS (version 1)";
        let boot: [Slice<'_>; 8] = [
            (REAL, &[]),
            (PROTECTED, &[seabios]),
            (PROTECTED, &["Welcome to GRUB!"]),
            (LOW, &[]),
            (HIGH, &["[    0.0] Linux version 6.1.0"]),
            // A helper in user space, long before there is more of it.
            (LOW, &[]),
            (HIGH, &["[    1.0] Run /init as init process"]),
            (LOW, &["login: "]),
        ];
        let expected =
            "firmware 0, boot loader 300, kernel decompression 300, kernel 400, initramfs 700, login 800";
        assert_eq!(said(&boot), expected);
        // The firmware's line comes when its first exits have been seen, or before; one reboot is one.
        for second in [[(REAL, &[][..]), (REAL, &[seabios])], [(HIGH, &[seabios]), (REAL, &[])]] {
            let again: Vec<Slice<'_>> = boot.iter().copied().chain(second).collect();
            assert_eq!(said(&again).matches("firmware").count(), 2, "{}", said(&again));
        }
        // UEFI is in long mode, and says so.
        let uefi: [Slice<'_>; 6] = [
            (REAL, &[]),
            (LOW, &[]),
            (LOW, &["BdsDxe: loading Boot0001"]),
            (LOW, &["Welcome to GRUB!"]),
            (LOW, &[]),
            (HIGH, &[]),
        ];
        assert_eq!(said(&uefi), "firmware 0, boot loader 400, kernel 500");
    }

    #[test]
    fn a_table_of_ones_own_has_the_phases_by_mode_that_it_names() {
        let file = std::env::temp_dir().join(format!("exitscope-detector-{}", std::process::id()));
        std::fs::write(&file, "boot ^boot\nkernel a^\nwork ^work\n").unwrap();
        let rules = Rules::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let slices: [Slice<'_>; 4] = [(REAL, &["boot"]), (LOW, &[]), (HIGH, &[]), (LOW, &["work"])];
        let names: Vec<_> = phases(&rules, &slices).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["boot", "kernel", "work"]);
    }

    #[test]
    fn a_machine_that_reboots_for_ever_is_bounded() {
        let mut slices: Vec<Slice<'_>> = Vec::new();
        for _ in 0..MOST {
            slices.extend([(REAL, &[][..]), (HIGH, &[])]);
        }
        assert_eq!(phases(&Rules::default(), &slices).len(), MOST);
    }
}
