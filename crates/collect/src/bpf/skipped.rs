//! Runs of programs that the kernel skipped, of those that are attached once and twice.

use super::programs::{AGAIN, ON_MARK, is_split};
use std::collections::BTreeMap;

/// Runs of programs that the kernel skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Runs of programs that count.
    pub counting: u64,
    /// Runs of programs that only tell apart where host time goes, or what an exit was about.
    pub split: u64,
    /// Runs of the program that hears marks.
    pub marks: u64,
}

/// Runs that the second of two equal programs did because the first was skipped: `is_done()` in bpf/split.bpf.h. To be read
/// before the kernel is asked for what it skipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoodIn {
    /// Runs of programs that only tell apart where host time goes, or what an exit was about.
    pub split: u64,
    /// Runs of the program that hears marks.
    pub marks: u64,
}

impl Skipped {
    /// Adds up the runs that were skipped of each program, by its name: of two equal ones, those that were skipped of both.
    /// Returns `None` if the second stood in more often than the first was skipped: then it is not the second.
    pub fn add_up(runs: &BTreeMap<String, u64>, stood_in: StoodIn) -> Option<Skipped> {
        let mut sum = Skipped::default();
        for (program, skipped) in runs.iter().filter(|(program, _)| !program.ends_with(AGAIN)) {
            if program == ON_MARK {
                sum.marks += skipped;
            } else if is_split(program) {
                sum.split += skipped;
            } else {
                // What these do, the second finds to be done, if it is: no telling who did it, and no more than this was lost.
                let again = runs.get(&format!("{program}{AGAIN}")).unwrap_or(skipped);
                sum.counting += skipped.min(again);
            }
        }
        sum.split = sum.split.checked_sub(stood_in.split)?;
        sum.marks = sum.marks.checked_sub(stood_in.marks)?;
        Some(sum)
    }

    /// Returns true if these are as many as others, or more, of each kind.
    pub fn covers(self, others: Skipped) -> bool {
        self.max(others) == self
    }

    /// Returns the greater number of each kind.
    pub fn max(self, others: Skipped) -> Skipped {
        Skipped {
            counting: self.counting.max(others.counting),
            split: self.split.max(others.split),
            marks: self.marks.max(others.marks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add_up(runs: &[(&str, u64)], stood_in: StoodIn) -> Option<Skipped> {
        let runs = runs.iter().map(|(program, skipped)| ((*program).to_owned(), *skipped)).collect();
        Skipped::add_up(&runs, stood_in)
    }

    #[test]
    fn what_the_second_did_was_not_skipped() {
        let runs = [
            ("on_exit_svm", 1),
            ("on_destroy", 3),
            ("on_destroy_again", 2),
            ("on_return", 10),
            ("on_return_again", 50),
            ("hook_cpuid", 4),
            ("on_pio", 5),
            ("on_pio_again", 7),
        ];
        let stood_in = StoodIn { split: 12, marks: 5 };
        assert_eq!(add_up(&runs, stood_in), Some(Skipped { counting: 3, split: 2, marks: 0 }));
        assert_eq!(add_up(&runs, StoodIn { split: 15, marks: 0 }), None);
        assert_eq!(add_up(&runs, StoodIn { split: 0, marks: 6 }), None);
        let (some, none) = (Skipped { split: 2, ..Skipped::default() }, Skipped::default());
        assert!(some.covers(none) && some.covers(some) && !none.covers(some));
    }
}
