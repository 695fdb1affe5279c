//! Exits of vCPUs that nobody is known to have: their descriptors were closed while they run, and before they were met.
//!
//! KVM's directory in debugfs has the sum of `exits` over all VMs that there are. What it says more than all vCPUs
//! together that a walk finds is somebody's whom nobody knows. Both are read one after the other while guests run, so that
//! only a least number can be told: read before a walk the sum is too small, and read after one too large.

use super::track::{Event, Reading};
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

/// Compares what the walks find with KVM's own sum.
pub struct Unknown {
    /// The sum of all VMs' exits; `None` where debugfs is not there.
    file: Option<PathBuf>,
    /// At most so many were of unknown vCPUs at the start.
    at_start: u64,
    /// At least so many have been since.
    exits: u64,
    /// There were more at the last comparison than ever before.
    grows: bool,
}

impl Unknown {
    /// Begins to compare: `found` was read just now.
    pub fn start(debugfs: Option<PathBuf>, found: &[Reading]) -> Unknown {
        let file = debugfs.map(|mounted| mounted.join("kvm/exits"));
        let mut unknown = Unknown { file, at_start: 0, exits: 0, grows: false };
        unknown.at_start = unknown.sum().unwrap_or(0).saturating_sub(known(found));
        unknown
    }

    /// KVM's sum at this moment.
    pub fn sum(&self) -> Option<u64> {
        fs::read_to_string(self.file.as_ref()?).ok()?.trim().parse().ok()
    }

    /// Compares the sum that was read before with what was found after it.
    pub fn compare(&mut self, sum: Option<u64>, found: &[Reading]) {
        let Some(sum) = sum else { return };
        let more = sum.saturating_sub(known(found)).saturating_sub(self.at_start);
        // Their VMs end, and take their exits out of the sum.
        self.grows = more > self.exits;
        self.exits = self.exits.max(more);
    }

    /// Returns true if there are vCPUs to be met: more exits have come of some that nobody is known to have.
    pub fn grows(&self) -> bool {
        self.grows
    }

    /// Returns true if KVM's sum can be read.
    pub fn is_compared(&self) -> bool {
        self.sum().is_some()
    }

    /// Exits of vCPUs that nobody knows, since the start: at least so many.
    pub fn exits(&self) -> u64 {
        self.exits
    }
}

/// Exits of all vCPUs that were found, also by who is not asked about; one that several processes have counts once.
fn known(found: &[Reading]) -> u64 {
    let mut exits: HashMap<u64, u64> = HashMap::new();
    for reading in found.iter().filter(|reading| reading.event != Event::Born) {
        let most = exits.entry(reading.vcpu).or_default();
        *most = reading.figures.exits.max(*most);
    }
    exits.values().sum()
}

#[cfg(test)]
mod tests {
    use super::super::track::{Figures, Process};
    use super::*;

    fn found(vcpu: u64, exits: u64) -> Reading {
        let process = Process { pid: 1, started_ns: 1, comm: String::new(), args: Vec::new() };
        let figures = Figures { exits, ..Figures::default() };
        Reading {
            time_ns: 0,
            event: Event::Seen,
            vcpu,
            kvm: 1,
            vcpu_id: 0,
            process,
            followed: false,
            figures,
        }
    }

    #[test]
    fn exits_of_nobody_are_told_and_those_of_busy_vms_are_not() {
        let folder = std::env::temp_dir().join(format!("exitscope-unknown-{}", std::process::id()));
        fs::create_dir_all(folder.join("kvm")).unwrap();
        let say = |sum: u64| fs::write(folder.join("kvm/exits"), format!("{sum}\n")).unwrap();
        say(1500);
        // 500 of somebody unknown were there before.
        let mut unknown = Unknown::start(Some(folder.clone()), &[found(1, 900), found(1, 1000)]);
        for (sum, exits, expected) in [
            (2500, 2000, 0), // the known one alone has exited
            (2500, 5000, 0), // it has between the two
            (9500, 5000, 4000),
            (5500, 5000, 4000), // the unknown one has ended
        ] {
            say(sum);
            let sum = unknown.sum();
            unknown.compare(sum, &[found(1, exits)]);
            assert_eq!((unknown.exits(), unknown.grows()), (expected, sum == Some(9500)), "{sum:?} {exits}");
        }
        fs::remove_dir_all(&folder).unwrap();
        unknown.compare(unknown.sum(), &[]);
        assert_eq!(unknown.exits(), 4000);
        let without = Unknown::start(None, &[]);
        assert_eq!((without.sum(), without.exits()), (None, 0));
    }
}
