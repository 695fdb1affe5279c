//! Finds the phases that a machine goes through, from its console and from the mode that its guest exits in.
//!
//! A machine goes through phases in the order of the [`Rules`]; it goes back only where it begins again. A line of the console
//! begins the phase of its marker. The mode begins the phases that have the names of [`super::phase`]'s constants:
//!
//! - [`FIRMWARE`]: an exit in real or protected mode, before anything else is known.
//! - [`KERNEL`]: an exit in long mode, in the upper half of the addresses.
//! - [`DECOMPRESSION`]: one in the lower half before that. It is known afterwards, with the kernel; and not where lines of
//!   a firmware or a boot loader come in that mode, because theirs it is then (UEFI).
//! - [`USER`]: one in the lower half, of a vCPU that was in the upper half before. Once a line has told of the kernel, this is
//!   left to lines, because a kernel runs helpers in user space early on.
//! - A new beginning: vCPU 0 is in real or protected mode again, and no exit is in long mode. Other vCPUs are in real mode too
//!   where they begin.
//!
//! Exits whose mode is not known tell nothing, and neither do those of a guest's own guests.
//!
//! A marker that is not sure is kept back until another one or [`PATIENCE`] lines confirm it, and begins its phase at its own
//! time then; or until it is taken back.

use super::console::Line;
use super::outcome::{Evidence, Failure, Way};
use super::phase::{DECOMPRESSION, FAILED, FIRMWARE, KERNEL, LOGIN, Rules, SHUTDOWN, Sign, Target, USER};
use exitscope_model::{Interval, Level, Mode, VmId};
use std::collections::BTreeSet;
use std::time::Duration;

/// Number of phases that are told at most: a guest can reboot for ever.
const MOST: usize = 1000;
/// Number of lines after which a marker counts that was not taken back.
const PATIENCE: u64 = 40;

/// Start of a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseStart {
    /// Name of the phase.
    pub name: String,
    /// Time since the start: the beginning or the end of an interval.
    pub at: Duration,
}

/// Marker that was found on the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Place of the marker in the [`Rules`].
    pub marker: usize,
    /// The line.
    pub line: Line,
    /// Number of lines before it.
    pub lines: u64,
}

/// Marker that is not sure yet.
#[derive(Clone, Debug)]
struct Unsure {
    /// Its phase; `None` for a failure.
    place: Option<usize>,
    cause: String,
    at: Duration,
    hit: Hit,
}

/// Phases of one machine so far.
#[derive(Clone, Debug)]
pub struct PhaseDetector {
    rules: Rules,
    /// The login ends it: what follows is not looked at.
    ends_at_login: bool,
    over: bool,
    /// Place of the current phase, and of the one before a failure.
    current: Option<usize>,
    unsure: Option<Unsure>,
    /// The boot has failed; with `true` in a way that only a new beginning ends.
    failed: Option<bool>,
    /// A line has announced a new beginning.
    about_to_begin: bool,
    /// Markers of a beginning that came in this run.
    beginnings: BTreeSet<usize>,
    /// A line has told of the kernel, or of what comes after it.
    kernel_told: bool,
    /// vCPUs that were in the upper half before now.
    high: BTreeSet<(VmId, u32)>,
    /// Start of the time in long mode, in the lower half, before any was in the upper.
    low_since: Option<Duration>,
    /// That time was a firmware's or a boot loader's.
    low_is_firmware: bool,
    /// Number of phases that have begun, and time of the last.
    begun: usize,
    last: Duration,
    way: Way,
    /// Number of the evidence that earlier runs have left.
    earlier: usize,
}

/// Exits of an interval by mode.
#[derive(Default)]
struct ModeCounts {
    /// Exits in real or protected mode; those of vCPU 0 among them.
    early: u64,
    early_of_first: u64,
    low: u64,
    /// In the lower half, of vCPUs that were in the upper half before.
    low_after_high: u64,
    high: BTreeSet<(VmId, u32)>,
}

impl PhaseDetector {
    /// Detector that knows nothing yet.
    pub fn new(rules: Rules) -> PhaseDetector {
        PhaseDetector {
            rules,
            ends_at_login: false,
            over: false,
            current: None,
            unsure: None,
            failed: None,
            about_to_begin: false,
            beginnings: BTreeSet::new(),
            kernel_told: false,
            high: BTreeSet::new(),
            low_since: None,
            low_is_firmware: false,
            begun: 0,
            last: Duration::ZERO,
            way: Way::default(),
            earlier: 0,
        }
    }

    /// Ignores what follows the login.
    pub fn end_at_login(&mut self) {
        self.ends_at_login = true;
    }

    /// Returns the phases that are now known to have begun: by the modes of an interval at its beginning `from`, by `hits` at
    /// its end `to`, and by what was not sure at an earlier one. `lines` is the number of lines so far.
    pub fn step(
        &mut self,
        (from, to): (Duration, Duration),
        interval: Option<&Interval>,
        hits: &[Hit],
        lines: u64,
    ) -> Vec<PhaseStart> {
        let mut begun = Vec::new();
        if self.over {
            return begun;
        }
        let was_low = self.low_since.is_some();
        if let Some(interval) = interval {
            let counts = self.count(interval);
            self.step_by_mode((from, to), &counts, &mut begun);
            self.high.extend(counts.high);
        }
        for hit in hits {
            self.expire(hit.lines, &mut begun);
            self.step_by_line(to, hit, was_low, &mut begun);
            if self.over {
                return begun;
            }
        }
        self.expire(lines, &mut begun);
        begun
    }

    /// Returns the phase that was not sure until now: nothing takes it back any more.
    pub fn finish(&mut self) -> Vec<PhaseStart> {
        let mut begun = Vec::new();
        self.confirm(&mut begun);
        begun
    }

    /// Returns true if there is a kernel.
    pub fn has_kernel(&self) -> bool {
        !self.high.is_empty() || self.kernel().is_some_and(|kernel| self.current >= Some(kernel))
    }

    /// Returns how the machine came to where it is.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Returns the name of the current phase.
    pub fn phase(&self) -> &str {
        self.rules.name(self.current)
    }

    fn kernel(&self) -> Option<usize> {
        self.rules.named(KERNEL)
    }

    fn count(&self, interval: &Interval) -> ModeCounts {
        let mut counts = ModeCounts::default();
        for row in interval.rows.iter().filter(|row| row.level == Level::L1) {
            let (modes, vcpu) = (&row.counters.modes, (row.vm, row.vcpu));
            let early = modes.get(Mode::Real) + modes.get(Mode::Protected);
            let low = modes.get(Mode::LongLow);
            counts.early += early;
            counts.early_of_first += if row.vcpu == 0 { early } else { 0 };
            counts.low += low;
            counts.low_after_high += if self.high.contains(&vcpu) { low } else { 0 };
            if modes.get(Mode::LongHigh) > 0 {
                counts.high.insert(vcpu);
            }
        }
        counts
    }

    fn step_by_mode(
        &mut self,
        (from, to): (Duration, Duration),
        counts: &ModeCounts,
        begun: &mut Vec<PhaseStart>,
    ) {
        if !self.high.is_empty() && counts.early_of_first > 0 && counts.low == 0 && counts.high.is_empty() {
            self.confirm(begun);
            self.begin_again(from);
        }
        if counts.early > 0 && self.current.is_none() {
            self.seen_by_mode(FIRMWARE, from, to);
            self.begin_by_mode(FIRMWARE, from, begun);
        }
        if counts.low > 0 && self.high.is_empty() && !self.kernel_told {
            self.low_since.get_or_insert(from);
        }
        if !counts.high.is_empty() && self.high.is_empty() {
            self.seen_by_mode(KERNEL, from, to);
            self.decompressed(begun);
            self.begin_by_mode(KERNEL, from, begun);
        }
        if counts.low_after_high > 0 {
            self.seen_by_mode(USER, from, to);
            if !self.kernel_told {
                self.begin_by_mode(USER, from, begun);
            }
        }
    }

    fn begin_by_mode(&mut self, name: &str, at: Duration, begun: &mut Vec<PhaseStart>) {
        let place = self.rules.named(name);
        if self.failed.is_some() || place <= self.current {
            return;
        }
        if self.unsure.as_ref().is_some_and(|unsure| unsure.place.is_some() && unsure.place <= place) {
            self.confirm(begun);
        }
        self.begin(place, at, begun);
        self.way.taken(self.earlier, name, false);
    }

    fn seen_by_mode(&mut self, name: &str, from: Duration, to: Duration) {
        if self.rules.named(name).is_some() {
            self.way.evidence(self.earlier, name, |evidence: &mut Evidence| {
                evidence.mode.get_or_insert((from, to));
            });
        }
    }

    fn step_by_line(&mut self, to: Duration, hit: &Hit, was_low: bool, begun: &mut Vec<PhaseStart>) {
        let Some(marker) = self.rules.marker(hit.marker) else { return };
        let (sign, target) = (marker.sign, marker.target.clone());
        let unsure = |place, cause| Unsure { place, cause, at: to, hit: hit.clone() };
        match (target, sign) {
            (Target::Nothing, Sign::Begins | Sign::BeginsAlways) => {
                self.confirm(begun);
                self.about_to_begin = true;
            }
            (Target::Nothing, _) => {}
            (Target::Failed(cause), Sign::Unsure) => {
                if self.failed.is_none() {
                    self.confirm(begun);
                    self.unsure = Some(unsure(None, cause));
                }
            }
            // The prompt of a boot loader.
            (Target::Failed(_), Sign::AtLeast) if self.has_kernel() => {}
            (Target::Failed(cause), _) => self.fail(&cause, to, hit, begun),
            (Target::Phase(place), Sign::TakesBack) => {
                self.unsure.take_if(|unsure| unsure.place > Some(place));
            }
            (Target::Phase(place), Sign::Unsure) => {
                if self.failed.is_some() || self.is_down() || Some(place) <= self.current {
                    return;
                }
                match self.unsure.as_ref().map(|unsure| unsure.place) {
                    Some(Some(other)) if other == place => {}
                    Some(Some(other)) if other < place => {
                        self.confirm(begun);
                        self.unsure = Some(unsure(Some(place), String::new()));
                    }
                    _ => self.unsure = Some(unsure(Some(place), String::new())),
                }
            }
            (Target::Phase(place), Sign::AtLeast) => {
                let is_later = match &self.unsure {
                    Some(Unsure { place: Some(other), .. }) => *other < place,
                    _ => Some(place) > self.current,
                };
                if self.failed.is_none() && !self.is_down() && is_later {
                    self.begin_by_line(place, to, hit, was_low, begun);
                }
            }
            (Target::Phase(place), _) => {
                let again = self.is_beginning(place, sign, hit.marker);
                self.beginnings.insert(hit.marker);
                if again {
                    self.confirm(begun);
                    self.begin_again(to);
                    self.beginnings.insert(hit.marker);
                } else if let Some(panic) = self.failed {
                    if panic || Some(place) <= self.current {
                        return;
                    }
                    self.failed = None;
                    self.way.failure = None;
                }
                self.begin_by_line(place, to, hit, was_low, begun);
            }
        }
    }

    /// Returns true if the machine goes down, or is about to begin again.
    fn is_down(&self) -> bool {
        let shutdown = self.rules.named(SHUTDOWN);
        self.about_to_begin || shutdown.is_some() && self.current == shutdown
    }

    /// Returns true if this marker says that the machine has begun again.
    fn is_beginning(&self, place: usize, sign: Sign, marker: usize) -> bool {
        let is_early = self.kernel().map_or(place == 0, |kernel| place <= kernel);
        let is_earlier = Some(place) < self.current;
        if self.is_down() || self.failed == Some(true) {
            return is_early;
        }
        let comes_again = is_earlier || Some(place) == self.current && self.beginnings.contains(&marker);
        match sign {
            Sign::BeginsAlways | Sign::Begins if self.failed.is_some() => is_early,
            Sign::BeginsAlways => comes_again,
            Sign::Begins => comes_again && self.current >= self.kernel(),
            _ => self.failed.is_some() && is_earlier && Some(place) == self.kernel(),
        }
    }

    fn begin_by_line(
        &mut self,
        place: usize,
        to: Duration,
        hit: &Hit,
        was_low: bool,
        begun: &mut Vec<PhaseStart>,
    ) {
        match &self.unsure {
            Some(unsure) if unsure.place.is_some_and(|other| other <= place) => self.confirm(begun),
            // It was none, but where a line only repeats what is long known.
            Some(_) if Some(place) >= self.current => self.unsure = None,
            _ => {}
        }
        if place_is(&self.rules, place, DECOMPRESSION, |place, decompression| place < decompression) {
            // What began with the line, or just before it, is the line's, and what follows may be another's.
            self.low_is_firmware |= was_low;
            self.low_since = self.low_since.filter(|_| was_low);
        }
        self.begin_told(place, to, begun);
        if self.rules.name(Some(place)) == LOGIN && self.current == Some(place) {
            self.way.login.get_or_insert_with(|| hit.line.clone());
            self.over = self.ends_at_login;
        }
    }

    /// Begins a phase that a line has told of.
    fn begin_told(&mut self, place: usize, at: Duration, begun: &mut Vec<PhaseStart>) {
        let kernel = self.kernel();
        if kernel.is_some_and(|kernel| place >= kernel) {
            self.kernel_told = true;
            if self.current < kernel {
                self.decompressed(begun);
            }
        }
        let name = self.rules.name(Some(place)).to_owned();
        if [FIRMWARE, KERNEL, USER].contains(&name.as_str()) && Some(place) >= self.current {
            self.way.evidence(self.earlier, &name, |evidence| {
                evidence.line.get_or_insert(at);
            });
        }
        if self.begin(Some(place), at, begun) {
            self.way.taken(self.earlier, &name, true);
        }
    }

    /// Counts what was not sure, at its own time.
    fn confirm(&mut self, begun: &mut Vec<PhaseStart>) {
        let Some(unsure) = self.unsure.take() else { return };
        match unsure.place {
            Some(place) => self.begin_told(place, unsure.at, begun),
            None => self.fail(&unsure.cause, unsure.at, &unsure.hit, begun),
        }
    }

    /// Counts what was not sure and has not been taken back for long. What comes before a kernel may wait: a menu has time.
    fn expire(&mut self, lines: u64, begun: &mut Vec<PhaseStart>) {
        let has_kernel = self.current >= self.kernel();
        let is_over =
            |unsure: &Unsure| unsure.place.is_some() && has_kernel && lines > unsure.hit.lines + PATIENCE;
        if self.unsure.as_ref().is_some_and(is_over) {
            self.confirm(begun);
        }
    }

    fn fail(&mut self, cause: &str, at: Duration, hit: &Hit, begun: &mut Vec<PhaseStart>) {
        let panic = cause.contains("panic");
        if let Some(failed) = &mut self.failed {
            *failed |= panic;
            return;
        }
        let (mut at, mut line) = (at, hit.line.clone());
        match self.unsure.take() {
            Some(Unsure { place: Some(place), at, .. }) => self.begin_told(place, at, begun),
            Some(unsure) => (at, line) = (unsure.at, unsure.hit.line),
            None => {}
        }
        self.failed = Some(panic);
        let phase = self.rules.name(self.current).to_owned();
        self.way.failures += 1;
        self.way.failure = Some(Failure { cause: cause.to_owned(), phase, line });
        self.push(FAILED, at, begun);
    }

    /// There is a kernel now: what was in the lower half before was its decompression.
    fn decompressed(&mut self, begun: &mut Vec<PhaseStart>) {
        if let Some(since) = self.low_since.take().filter(|_| !self.low_is_firmware && self.failed.is_none())
        {
            let place = self.rules.named(DECOMPRESSION);
            // Of a boot loader that is not sure, this is the end.
            if self.unsure.as_ref().is_some_and(|unsure| unsure.place.is_some() && unsure.place < place) {
                self.confirm(begun);
            }
            self.begin(place, since, begun);
        }
    }

    /// Forgets the run that is over.
    fn begin_again(&mut self, at: Duration) {
        self.kernel_told = false;
        self.high.clear();
        self.low_since = None;
        self.low_is_firmware = false;
        self.current = None;
        self.unsure = None;
        self.failed = None;
        self.about_to_begin = false;
        self.beginnings.clear();
        self.way.failure = None;
        self.way.login = None;
        self.way.began_again += 1;
        self.way.last_began = at;
        self.earlier = self.way.evidence.len();
    }

    fn begin(&mut self, place: Option<usize>, at: Duration, begun: &mut Vec<PhaseStart>) -> bool {
        if place <= self.current || self.begun == MOST {
            return false;
        }
        self.current = place;
        let name = self.rules.name(place).to_owned();
        self.push(&name, at, begun);
        true
    }

    fn push(&mut self, name: &str, at: Duration, begun: &mut Vec<PhaseStart>) {
        if self.begun == MOST {
            return;
        }
        self.begun += 1;
        self.last = self.last.max(at);
        begun.push(PhaseStart { name: name.to_owned(), at: self.last });
    }
}

/// Compares a place with that of a phase by its name, if the table has it.
fn place_is(rules: &Rules, place: usize, name: &str, compare: fn(usize, usize) -> bool) -> bool {
    rules.named(name).is_some_and(|other| compare(place, other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::Modes;
    use exitscope_model::fixture;

    /// Slice of 100 ms: exits in real mode, protected mode, long mode low and long mode high, by vCPU; and
    /// lines of the console.
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
            let hit = |line: &&str, marker| Hit {
                marker,
                line: Line { at: Duration::ZERO, text: (*line).to_owned() },
                lines: 0,
            };
            let hits: Vec<Hit> = lines
                .iter()
                .flat_map(|line| rules.find(line, true).into_iter().map(move |marker| hit(line, marker)))
                .collect();
            let at = |number| Duration::from_millis(100 * number);
            all.extend(detector.step((at(number), at(number + 1)), Some(&interval), &hits, 0));
        }
        all.extend(detector.finish());
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
        let rules = Rules::parse(&std::fs::read_to_string(&file).unwrap(), &file).unwrap();
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
