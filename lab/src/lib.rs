//! Boots a KVM host on a machine that has no VT-x or AMD-V, and virtual machines on that host.
//!
//! QEMU's TCG emulates a machine with AMD SVM; a stock Debian kernel with KVM runs on it: the **outer
//! VM**. It has this machine's root file system inside, read-only with a tmpfs above, so that every
//! program of this machine runs there and nothing it does comes back. Virtual machines that run on it
//! are **inner VMs**.
//!
//! ```no_run
//! let finished = lab::Outer::suite("trixie")?.run(&["cat", "/proc/version"])?;
//! assert_eq!(finished.status, 0);
//! # Ok::<(), lab::Error>(())
//! ```

mod apt;
pub mod bench;
mod cache;
mod command;
mod cpio;
pub mod doctor;
mod error;
pub mod experiment;
mod initramfs;
pub mod inner;
mod kernel;
mod machine;
mod mbr;
mod outer;
pub mod patched;
mod process;
pub mod quote;
pub mod system;
mod thousands;
mod vmlinux;

pub use cache::{Cache, Flavour};
pub use error::{EXIT_LAB, EXIT_PANIC, EXIT_QEMU, EXIT_TIME_LIMIT, EXIT_WENT_DOWN, Error, Wreck};
pub use kernel::Kernel;
pub use machine::Machine;
pub use outer::{Finished, OUT, Outer};

/// The Debian suite of inner VMs, unless another one is chosen.
pub const INNER_SUITE: &str = "bookworm";
