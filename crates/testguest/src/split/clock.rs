//! The clocks that a VMM has itself.

use crate::Error;
use serde::Serialize;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A reading of the VMM thread's clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// `CLOCK_MONOTONIC` (ns).
    pub at_ns: u64,
    /// Time for which the thread was runnable without a CPU, since it began (ns).
    pub delay_ns: u64,
}

/// The clocks of one thread.
pub struct Clock {
    schedstat: File,
}

impl Clock {
    /// Those of the calling thread.
    pub fn here() -> Result<Clock, Error> {
        let what = "open /proc/thread-self/schedstat";
        let schedstat =
            File::open("/proc/thread-self/schedstat").map_err(|source| Error::System { what, source })?;
        Ok(Clock { schedstat })
    }

    /// The time first: for the end of something.
    pub fn after(&self) -> Result<Moment, Error> {
        let at_ns = crate::host::monotonic_ns();
        Ok(Moment { at_ns, delay_ns: self.delay()? })
    }

    /// The time last: for the begin of something.
    pub fn before(&self) -> Result<Moment, Error> {
        let delay_ns = self.delay()?;
        Ok(Moment { at_ns: crate::host::monotonic_ns(), delay_ns })
    }

    /// The second number of three is the run delay (Documentation/scheduler/sched-stats.rst).
    fn delay(&self) -> Result<u64, Error> {
        let wrong = |source| Error::System { what: "read /proc/thread-self/schedstat", source };
        let mut bytes = [0; 80];
        let size = self.schedstat.read_at(&mut bytes, 0).map_err(wrong)?;
        let text = String::from_utf8_lossy(&bytes[..size]);
        let delay = text.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
        delay.ok_or_else(|| wrong(std::io::Error::other(format!("three numbers expected, found {text:?}"))))
    }
}
