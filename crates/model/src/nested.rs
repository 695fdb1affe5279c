//! Guests that run guests of their own.

/// Level of a guest: exits are its own, or those of guests that it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The VM's own.
    #[default]
    L1,
    /// Exits of guests that the VM's guest runs as a hypervisor, all of them together. KVM runs these on the
    /// same vCPU.
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
