//! What the commands that count have in common: a source, the command that runs beside it, its console, marks, and outputs.

pub mod console;
pub mod counting;
pub mod events;
pub mod inbox;
pub mod output;
pub mod progress;
pub mod session;
pub mod terminal;
pub mod watch;
