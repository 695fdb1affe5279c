//! Analysis of a boot: phases, rates over time and spikes, from intervals of counts and the lines of a console.
//!
//! [`console`] splits a console into lines, [`phase`] has the table of markers, and [`phase_detector`] finds the phases
//! from both lines and the guest's mode. [`series`] keeps the exits of short intervals, [`spike`] finds those that stand
//! out, and [`boot_report`] holds the result. [`advice`] says what would help.

pub mod advice;
pub mod boot_report;
pub mod console;
pub mod outcome;
pub mod phase;
pub mod phase_detector;
pub mod scanner;
pub mod series;
pub mod spike;
