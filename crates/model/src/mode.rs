//! Mode of a guest's vCPU when it exited.

/// Kind of code that a vCPU executed when it exited, by the mode of its CPU and by its instruction pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Not known. On VMX this is long mode where KVM did not read the guest's instruction pointer to handle
    /// the exit, which it only does when it needs it. And everywhere it is a guest whose registers are
    /// encrypted (SEV-ES, TDX).
    Unknown,
    /// Real mode (CR0.PE is 0): from the reset vector on, and what firmware and boot loaders do there.
    Real,
    /// Protected mode without long mode (EFER.LMA is 0): firmware, boot loaders, and kernels of 32 bits.
    Protected,
    /// Long mode in the lower half of the addresses: before there was a kernel UEFI, or a kernel that
    /// unpacks itself; later programs in user space.
    LongLow,
    /// Long mode in the upper half of the addresses: a kernel.
    LongHigh,
}

impl Mode {
    /// All of them, each at the place that it has in [`Modes`].
    pub const ALL: [Mode; 5] = [Mode::Unknown, Mode::Real, Mode::Protected, Mode::LongLow, Mode::LongHigh];
}

/// Exits by [`Mode`], of those that have been handled. All zero where it is not asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes([u64; Mode::ALL.len()]);

impl Modes {
    /// Builds counts from the exits of each mode, in the order of [`Mode::ALL`].
    pub fn new(exits: [u64; Mode::ALL.len()]) -> Modes {
        Modes(exits)
    }

    /// The exits of one mode.
    pub fn get(&self, mode: Mode) -> u64 {
        self.0[mode as usize]
    }

    /// All exits that are in here.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds other exits to these.
    pub fn add(&mut self, more: &Modes) {
        self.0.iter_mut().zip(more.0).for_each(|(mine, more)| *mine += more);
    }

    /// These less earlier ones; `None` if any count shrank.
    pub fn since(&self, earlier: &Modes) -> Option<Modes> {
        let mut since = *self;
        for (mine, earlier) in since.0.iter_mut().zip(earlier.0) {
            *mine = mine.checked_sub(earlier)?;
        }
        Some(since)
    }
}
