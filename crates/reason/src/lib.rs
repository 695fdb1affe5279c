//! Every exit reason that the hardware manuals define: code, name, meaning, usual causes, remedy.
//!
//! The tables are `&'static str` and plain numbers, so that they need no allocation. [`get`] looks up
//! a code, [`find`] a name or number that somebody typed, and [`name()`] names any code.

mod addresses;
mod control;
mod detail;
mod find;
#[cfg(test)]
mod headers;
mod hypercalls;
pub mod kvm;
mod leaves;
mod msrs;
mod name;
mod ports;
mod rust;
mod svm;
mod table;
#[cfg(test)]
mod tests;
pub mod user;
mod vectors;
mod vmx;

pub use detail::{Known, known, names};
pub use find::{Found, codes, find, nearest, neighbours, number};
pub use name::{modifiers, name};
pub use rust::names as kernel_names;
pub use svm::code_from_low_half as svm_code_from_low_half;
pub use table::{Reason, all, get};
