//! What `lab run` runs a command on, as the command line says it.

/// What a command runs on.
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
    /// As the command line says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Svm => "svm",
            Self::Vmx => "vmx",
            Self::Host => "host",
        }
    }
}
