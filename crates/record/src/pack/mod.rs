//! Rows of intervals in packed blocks: by column and difference, then by zstd.
//!
//! `docs/recording.md` describes the bytes. [`content`] is what an interval has by the keys of a recording, [`block`] turns some
//! intervals into columns and back, [`column`] columns into bytes, and [`frame`] bytes into fewer.

mod block;
mod column;
mod content;
mod frame;
mod totals;

pub use block::Block;
pub use content::{BreakdownRow, Content, ExitRow, Kind, Of, SpanRow, WorkerRow};
pub use totals::{Total, pack as pack_totals, unpack as unpack_totals};
