//! What this host offers, each fact found by a probe.

mod tracefs;

pub use tracefs::{TracefsError, debugfs, tracefs, tracepoint_field};
