//! The whole exercise: boots every system on every machine from every disk, several times, and puts the figures into a
//! document.
//!
//! Each run's report is kept as a file, so that an experiment that was interrupted goes on where it stopped.

mod cell;
mod document;
mod figures;
mod groups;
mod report;
mod run;
mod table;

pub use cell::{Cell, cells};
pub use document::fill;
pub use figures::Figures;
pub use report::{Boot, Exits, Stretch};
pub use run::{Attempt, Experiment, Run, load};
