//! Memory of a VMM.

/// Memory of a process (proc(5), `status`), in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Memory that it holds now (`VmRSS`).
    pub held: u64,
    /// The most that it ever held (`VmHWM`).
    pub peak: u64,
    /// Memory that is swapped out (`VmSwap`).
    pub swapped: u64,
}

impl Memory {
    /// Returns the memory that it held once, and that is neither held nor swapped out now: it gave it back.
    pub fn given_back(&self) -> u64 {
        self.peak.saturating_sub(self.held).saturating_sub(self.swapped)
    }
}
