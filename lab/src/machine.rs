//! The machines of `lab run --machine`.

/// A machine that runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Machine {
    /// QEMU, which emulates AMD's SVM, with all of this machine's files
    Svm,
    /// Bochs, which emulates Intel's VMX, with some of this machine's files; one CPU, and no standard input
    Vmx,
    /// This machine's own KVM, where it has one: no outer VM, and what the command changes stays changed
    Host,
}

impl Machine {
    /// Returns the machine's word on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Svm => "svm",
            Self::Vmx => "vmx",
            Self::Host => "host",
        }
    }
}
