//! Engine of every command that counts: it reads a source, runs the command beside it, listens to its console and to
//! marks, finds phases, and hands intervals to sinks.
//!
//! ```text
//! Collect (a source) ─▶ Sampler ─▶ Session ─▶ Sink: table, kernel log, recording, boot report, screen
//!                                   ▲  ▲  ▲
//!                       Events ─────┘  │  └──── Console, Inbox
//!       (time, signals, the child's end)  Child
//! ```
//!
//! The source is [`exitscope_collect::Collect`], which is what the collector's own sources implement: a second trait would
//! have the same methods. Nothing here needs KVM; the tests run on a made-up source.

mod child;
mod console;
mod events;
mod inbox;
mod marks;
mod sampler;
mod session;
mod sink;
pub mod sinks;
mod terminal;
#[cfg(test)]
mod tests;

pub use child::{CannotRun, End};
pub use events::{Event, Events, PollHandle};
pub use inbox::{Inbox, MAX_TEXT, Recorder, folder, recorders};
pub use sampler::Sampler;
pub use session::{Session, Times};
pub use sink::{Observed, Sink, Sinks};
pub use terminal::Terminal;
