//! Numbers and moments as people read them.

pub use exitscope_model::unit::*;

use std::time::{Duration, SystemTime};

/// A moment to the second, in UTC: `2026-11-05T14:30:00Z`.
pub fn moment(time: SystemTime) -> String {
    // The years that RFC 3339 can write; beyond them the clock is wrong anyway.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(time.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
}
