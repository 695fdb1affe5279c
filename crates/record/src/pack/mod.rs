//! Rows of intervals in packed blocks: by column and difference, then by zstd.
//!
//! `docs/recording.md` describes the bytes. [`content`] is what an interval has by the keys of a recording, [`block`] turns some
//! intervals into columns and back, a module for each kind of rows, [`column`] columns into bytes, and [`frame`] bytes into fewer.

mod block;
mod breakdowns;
mod column;
mod content;
mod exits;
mod frame;
mod place;
mod spans;
mod totals;
mod workers;

pub use block::Block;
pub use content::{BreakdownRow, Content, ExitRow, Kind, Of, SpanRow, WorkerRow};
pub use totals::{Total, pack as pack_totals, unpack as unpack_totals};
