//! The built-in guest, which makes a known number of each exit.
