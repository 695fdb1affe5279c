//! From [`crate::model::Interval`] to people and machines.

pub mod reasons;
