//! From what was counted while a machine booted to when it did what, when it did much more than around then, and in words.
//!
//! [`console`] splits what the machine said into lines, [`phase`] knows from lines what it does, [`series`] keeps the exits
//! of short intervals, [`spike`] finds those that stand out, and [`answer`] says it.

pub mod answer;
pub mod console;
pub mod phase;
pub mod series;
pub mod spike;
