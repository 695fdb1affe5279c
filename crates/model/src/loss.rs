//! Figures of loss.

use super::accumulate::accumulated;

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
}

impl LossFigure {
    /// Returns its number.
    pub fn get(&self, loss: &Loss) -> u64 {
        (self.get)(loss)
    }

    /// Returns its place, to be written to.
    pub fn get_mut<'a>(&self, loss: &'a mut Loss) -> &'a mut u64 {
        (self.get_mut)(loss)
    }
}

/// Defines [`Loss`] and the list of its figures.
macro_rules! losses {
    (@asked_for) => { false };
    (@asked_for asked_for) => { true };
    ($($(#[$doc:meta])* $field:ident: $meaning:literal, $advice:literal $(, $asked:ident)?;)*) => {
        accumulated! {
            /// Exits, and parts of them, that were not counted as they should be, or were not asked for. All zero is the
            /// rule; anything else is shown.
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            pub struct Loss {
                $($(#[$doc])* pub $field: u64,)*
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
            },)*];
        }
    };
}

losses! {
    /// Exits that were counted for their vCPU, but not by reason or time: the table of rows was full.
    no_row: "exits without a reason: the table of rows is full (--max-rows)",
        "Make it larger and count again.";
    /// Exits that were counted for no vCPU: the table of vCPUs was full, or only KVM's own sum tells of them.
    no_vcpu: "exits of vCPUs that are in no row: the table of vCPUs is full (--max-vcpus), or they are not found",
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
    no_return: "returns to user space without their reason: the table of them is full",
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
    /// Exits that were left out because others were asked for.
    filtered: "exits left out by --reason or --detail",
        "No other figure of exits has them; the vCPUs' times do.", asked_for;
}

impl Loss {
    /// Returns each figure with its number.
    pub fn figures(&self) -> impl Iterator<Item = (&'static LossFigure, u64)> {
        Loss::FIGURES.iter().map(|figure| (figure, figure.get(self)))
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
