//! Recordings: intervals in a file, to be looked at later.
//!
//! A recording is an SQLite database, described in `docs/recording.md`. [`Writer`] writes one [`exitscope_model::Interval`]
//! at a time, [`Recording`] gives them back as they were: what is replayed and what is live come to the views
//! in the same form. Whatever is in a file that is read is untrusted.

mod about;
mod assembly;
mod blocks;
mod boot_report;
mod bounds;
mod breakdown;
mod columns;
mod error;
mod files;
mod histogram;
pub mod input;
mod keys;
mod metadata;
mod open;
mod pack;
mod packed;
mod present;
mod reader;
mod rows;
mod schema;
mod sql;
mod text;
mod thin;
mod timeline;
mod total;
mod writer;

#[cfg(test)]
mod older;
#[cfg(test)]
mod packed_tests;
#[cfg(test)]
mod size_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod thin_tests;
#[cfg(test)]
mod timeline_tests;

pub use about::Notes;
pub use error::Error;
pub use exitscope_model::About;
pub use reader::{Part, Recording, Resolution, When};
pub use rusqlite::types::ValueRef;
pub use schema::VERSION;
pub use sql::Sql;
pub use thin::{Keep, LEAST_SIZE};
pub use writer::Writer;
