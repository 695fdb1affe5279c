//! The whole exercise: boots every system on every machine from every disk, several times, and puts the figures into a
//! document.
//!
//! Each run leaves a recording of `exitscope record`; an experiment that was interrupted goes on where it stopped. The
//! document's tables are SQL queries over these recordings (`tables.sql`).

mod cell;
mod document;
mod make;
mod results;
mod run;
#[cfg(test)]
mod tests;

pub use cell::{Cell, cells};
pub use document::fill;
pub use make::Experiment;
pub use results::{Counted, Results};
pub use run::{Attempt, Run, load};
