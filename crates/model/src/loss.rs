//! Figures of loss.

use super::VmId;
use super::accumulate::{Accumulate, accumulated};

/// Process that holds the most of a table that had no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// VM of the process that holds the most of it; it may be one that is not counted.
    pub vm: VmId,
    /// Process id on the host.
    pub pid: u32,
    /// Places that the process holds.
    pub held: u64,
    /// Places of the table.
    pub of: u64,
}

/// Largest holders of tables for want of whose places something was lost. In a sample they are those since the sample
/// before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Holder of rows.
    pub rows: Option<Holder>,
    /// Holder of slots for vCPUs.
    pub vcpus: Option<Holder>,
    /// Holder of places for returns to user space.
    pub returns: Option<Holder>,
    /// Holder of places for details.
    pub details: Option<Holder>,
}

impl Accumulate for Holders {
    fn add(&mut self, more: &Self) {
        let most = |mine: &mut Option<Holder>, more: Option<Holder>| {
            *mine = (*mine).into_iter().chain(more).max_by_key(|holder| holder.held);
        };
        most(&mut self.rows, more.rows);
        most(&mut self.vcpus, more.vcpus);
        most(&mut self.returns, more.returns);
        most(&mut self.details, more.details);
    }

    fn since(&self, _: &Self) -> Option<Self> {
        Some(*self)
    }
}

/// Numbers of a holder as a recording has them: name, and how they are read and written.
type Number = (&'static str, fn(&Holder) -> u64, fn(&mut Holder, u64));
const NUMBERS: [Number; 4] = [
    ("vm", |holder| holder.vm.0, |holder, number| holder.vm = VmId(number)),
    ("pid", |holder| holder.pid.into(), |holder, number| holder.pid = u32::try_from(number).unwrap_or(0)),
    ("held", |holder| holder.held, |holder, number| holder.held = number),
    ("of", |holder| holder.of, |holder, number| holder.of = number),
];

/// One figure of [`Loss`].
pub struct LossFigure {
    /// Name in JSON and in recordings.
    pub key: &'static str,
    /// Meaning, in words that follow its number.
    pub meaning: &'static str,
    /// Consequence for the other figures, and remedy.
    pub advice: &'static str,
    /// True if it was asked for, and is no loss.
    pub asked_for: bool,
    get: fn(&Loss) -> u64,
    get_mut: fn(&mut Loss) -> &mut u64,
    holder: Option<fn(&mut Loss) -> &mut Option<Holder>>,
}

impl LossFigure {
    /// Returns the largest holder of the table that was full, if that is the cause and known.
    pub fn holder(&self, mut loss: Loss) -> Option<Holder> {
        *self.holder?(&mut loss)
    }

    /// Returns its number.
    pub fn get(&self, loss: &Loss) -> u64 {
        (self.get)(loss)
    }

    /// Returns its place, to be written to.
    pub fn get_mut<'a>(&self, loss: &'a mut Loss) -> &'a mut u64 {
        (self.get_mut)(loss)
    }
}

/// Word in the names of a largest holder's numbers.
const HOLDER: &str = "holder";

/// Defines [`Loss`] and the list of its figures.
macro_rules! losses {
    (@asked_for) => { false };
    (@asked_for asked_for) => { true };
    ($($(#[$doc:meta])* $field:ident $(($table:ident))?: $meaning:literal, $advice:literal $(, $asked:ident)?;)*) => {
        accumulated! {
            /// Exits, and parts of them, that were not counted as they should be, or were not asked for. All zero is the
            /// rule; anything else is shown.
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            pub struct Loss {
                $($(#[$doc])* pub $field: u64,)*
                /// Largest holders of the tables that were full.
                pub holders: Holders,
            }
        }

        impl Loss {
            /// All figures of loss.
            pub const FIGURES: &'static [LossFigure] = &[$(LossFigure {
                key: stringify!($field),
                meaning: $meaning,
                advice: $advice,
                asked_for: losses!(@asked_for $($asked)?),
                get: |loss| loss.$field,
                get_mut: |loss| &mut loss.$field,
                holder: const { let all: &[Option<fn(&mut Loss) -> &mut Option<Holder>>] = &[$(holder_of!($table),)? None]; all[0] },
            },)*];
        }
    };
}

/// Reads the place of a table's largest holder.
macro_rules! holder_of {
    ($table:ident) => {
        Some(|loss: &mut Loss| &mut loss.holders.$table)
    };
}

losses! {
    /// Exits that were counted for their vCPU, but not by reason or time: the table of rows was full.
    no_row (rows): "exits without a reason: no room in the table of rows (--max-rows)",
        "Make it larger and count again.";
    /// Exits that were counted for no vCPU: the table of vCPUs was full, or only KVM's own sum tells of them.
    no_vcpu (vcpus): "exits of vCPUs that are in no row: no room in the table of vCPUs (--max-vcpus), or they are not found",
        "Make it larger and count again; see what is said of the source.";
    /// Entries into a guest that had not exited: an entry failed without a VM exit.
    entry_without_exit: "entries that failed without a VM exit",
        "Counts are right; if there are many, look for KVM's messages in `dmesg`.";
    /// Exits of a guest that was out already: their predecessor has no host time.
    exit_without_entry: "exits without an entry before them",
        "Counts are right; the host time of as many exits is missing.";
    /// Exits whose moment is not known: KVM handled them on its fast path, or the kernel's clock was not the TSC.
    untimed: "exits whose moment is not known: handled on KVM's fast path, or the clock is no longer the TSC",
        "Counts are right; the host time of as many exits is missing (--probes pair has it).";
    /// Returns of KVM_RUN to the VMM whose reason found no place: it had too many.
    no_return (returns): "returns to user space without their reason: no room in the table of them",
        "Everything else is right; make the table of rows larger (--max-rows), and this one with it.";
    /// Runs of a program that the kernel skipped.
    skipped: "runs of a BPF program that the kernel skipped",
        "Counts may be too low by as many; stop other programs on KVM's tracepoints (`bpftool prog`).";
    /// Runs that the kernel skipped of the programs that tell apart where host time went.
    skipped_split: "runs that the kernel skipped of programs that watch exits on their way out of KVM",
        "Counts are right; as many times, what was not KVM's may have been taken for KVM's.";
    /// vCPUs that ran so fast while they were read that their figures may be of slightly different moments.
    torn: "vCPUs read in the middle of an exit",
        "Their figures may differ by the exit being handled; the next interval makes up for it.";
    /// Processes of the watched command that could not be followed.
    unfollowed: "forks of the command that could not be followed: too many processes at once",
        "Their VMs are not in these figures; watch the whole host, without a command.";
    /// vCPUs whose guests run guests of their own, where the exits of these cannot be told from its own.
    no_level: "vCPUs whose guest runs guests itself (L2): their exits are counted as its own",
        "Everything else is right; only the source btf tells them apart (`exitscope doctor`).";
    /// Exits whose detail found no place: one reason of a vCPU has too many, or the table of details was full.
    no_detail (details): "exits whose details found no place: too many for one reason of a vCPU, or for the table (--max-rows)",
        "They are counted, as other details; make the table of rows larger, and this one with it, or count fewer kinds (--details).";
    /// Details that made room for others, which were used more.
    moved_details: "details that made room for others: a guest uses more of them than one reason of a vCPU has room for",
        "Their exits are counted, as other details; what is used often stays.";
    /// Exits that were left out because others were asked for.
    filtered: "exits left out by --reason or --detail",
        "No other figure of exits has them; the vCPUs' times do.", asked_for;
}

impl Loss {
    /// Returns each figure with its number.
    pub fn figures(&self) -> impl Iterator<Item = (&'static LossFigure, u64)> {
        Loss::FIGURES.iter().map(|figure| (figure, figure.get(self)))
    }

    /// Returns all numbers by name, as recordings have them: the figures that are not 0, and the largest holders.
    pub fn numbers(self) -> impl Iterator<Item = (String, u64)> {
        Loss::FIGURES.iter().flat_map(move |figure| {
            let own = Some((figure.key.to_owned(), figure.get(&self))).filter(|(_, number)| *number > 0);
            let holder = figure.holder(self).into_iter().flat_map(|holder| {
                NUMBERS.map(|(name, get, _)| (format!("{}_{HOLDER}_{name}", figure.key), get(&holder)))
            });
            own.into_iter().chain(holder)
        })
    }

    /// Sets one of [`Loss::numbers`] by its name. Returns false if there is none of that name.
    pub fn set(&mut self, name: &str, number: u64) -> bool {
        let (key, of_holder) = match name.split_once(&format!("_{HOLDER}_")) {
            Some((key, of_holder)) => (key, Some(of_holder)),
            None => (name, None),
        };
        let Some(figure) = Loss::FIGURES.iter().find(|figure| figure.key == key) else { return false };
        match (of_holder, figure.holder) {
            (None, _) => *figure.get_mut(self) = number,
            (Some(word), Some(holder)) => {
                let Some((.., set)) = NUMBERS.iter().find(|(name, ..)| *name == word) else { return false };
                let nobody = Holder { vm: VmId(0), pid: 0, held: 0, of: 0 };
                set(holder(self).get_or_insert(nobody), number);
            }
            (Some(_), None) => return false,
        }
        true
    }

    /// Exits that happened and are missing from the rows.
    pub fn lost(&self) -> u64 {
        self.no_row + self.no_vcpu + self.skipped
    }

    /// Returns true if nothing was missed.
    pub fn is_none(&self) -> bool {
        self.figures().all(|(figure, number)| number == 0 || figure.asked_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_and_read_and_the_larger_holder_stays() {
        let holder = |held| Some(Holder { vm: VmId(3), pid: 77, held, of: 511 });
        let holders = Holders { vcpus: holder(400), ..Holders::default() };
        let loss = Loss { no_vcpu: 5, torn: 1, holders, ..Loss::default() };
        let numbers: Vec<_> = loss.numbers().collect();
        let names: Vec<&str> = numbers.iter().map(|(name, _)| name.as_str()).collect();
        let of_holder = [
            "no_vcpu",
            "no_vcpu_holder_vm",
            "no_vcpu_holder_pid",
            "no_vcpu_holder_held",
            "no_vcpu_holder_of",
        ];
        assert_eq!(names, [&of_holder[..], &["torn"]].concat());
        let mut read = Loss::default();
        assert!(numbers.iter().all(|(name, number)| read.set(name, *number)));
        assert_eq!(read, loss);
        for wrong in ["nothing", "torn_holder_pid", "no_row_holder_name"] {
            assert!(!read.set(wrong, 1), "{wrong}");
        }
        let mut sum =
            Loss { holders: Holders { vcpus: holder(300), ..Holders::default() }, ..Loss::default() };
        sum.add(&loss);
        sum.add(&Loss::default());
        assert_eq!(sum, loss);
        assert_eq!(sum.since(&loss).unwrap().holders, holders, "those of the last sample");
    }
}
