//! Guests that run guests of their own.

/// Whose exits they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The VM's own.
    #[default]
    L1,
    /// Those of guests that the VM's guest runs as a hypervisor, all of them together. KVM runs these on the same vCPU.
    L2,
}

impl Level {
    /// 1 or 2.
    pub fn number(self) -> u8 {
        match self {
            Level::L1 => 1,
            Level::L2 => 2,
        }
    }
}

/// What exits of L2 cost L1. All zero for exits of L1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nested {
    /// Exits of L2 after which KVM entered L1, to have it handle them; KVM handled the others alone.
    pub to_l1: u64,
    /// How many of those L1 has handled: it has entered an L2 again.
    pub l1_done: u64,
    /// Exits that L1 made itself until it had handled those; that with which it entered L2 is one of them.
    pub l1_exits: u64,
    /// How long it took for those, from the entry into L1 to that into L2 (ns), in L1 and in its exits. Zero where times
    /// are not measured.
    pub l1_ns: u64,
}

impl Nested {
    /// Adds other exits to these.
    pub fn add(&mut self, other: &Nested) {
        self.to_l1 += other.to_l1;
        self.l1_done += other.l1_done;
        self.l1_exits += other.l1_exits;
        self.l1_ns += other.l1_ns;
    }

    /// These less earlier ones of the same thing; `None` if any figure shrank.
    pub fn since(&self, earlier: &Nested) -> Option<Nested> {
        Some(Nested {
            to_l1: self.to_l1.checked_sub(earlier.to_l1)?,
            l1_done: self.l1_done.checked_sub(earlier.l1_done)?,
            l1_exits: self.l1_exits.checked_sub(earlier.l1_exits)?,
            l1_ns: self.l1_ns.checked_sub(earlier.l1_ns)?,
        })
    }
}
