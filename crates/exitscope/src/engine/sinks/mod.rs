//! Outputs of a session.

mod boot;
pub mod file;
mod kernel_log;
mod output;
mod progress;
mod recording;
mod table;
mod whole;

pub use boot::BootLog;
pub use kernel_log::KernelLog;
pub use output::{Output, may_color, width};
pub use recording::Recording;
pub use table::Blocks;
pub use whole::Whole;
