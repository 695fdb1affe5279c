//! From what was counted while a machine booted to when it did what, and when it exited much more than around then.
//!
//! [`console`] splits what the machine said into lines, [`phase`] knows from lines what it does, and [`course`] from these and from the
//! mode of its guest through which phases it goes; [`series`] keeps the exits
//! of short intervals, [`spike`] finds those that stand out, and [`life`] is all of it together.

pub mod console;
pub mod course;
pub mod life;
pub mod phase;
pub mod series;
pub mod spike;
