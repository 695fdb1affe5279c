//! `exitscope serve`: counts all the time, and answers scrapes.
//!
//! ```text
//! collector (root, no network)            HTTP process (own user, no capabilities, seccomp)
//! Feed ─▶ Ledger ─▶ view::metrics ─▶ channel ─▶ Desk ─▶ Pool of threads ─▶ scrapers
//!                        └─▶ textfile (no HTTP process then)
//! ```
//!
//! The HTTP process gets no more than finished text. The collector reads one byte of it: which formats are asked for.

pub mod channel;
pub mod collector;
pub mod confine;
pub mod http;
pub mod ledger;
mod own;
mod textfile;

pub use textfile::Textfile;
