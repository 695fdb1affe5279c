//! A line on the terminal that says how far a recording is.

use exitscope_view::unit;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Least time between two versions of the line.
const EVERY: Duration = Duration::from_millis(250);

/// The line; not shown if standard error is no terminal.
pub struct Progress {
    shown: bool,
    start: Instant,
    /// Time of the last version, and the number of exits in it.
    last: Option<(Instant, u64)>,
}

impl Progress {
    /// Starts the clock. With `quiet`, nothing is shown on a terminal either.
    pub fn start(quiet: bool) -> Progress {
        Progress { shown: !quiet && io::stderr().is_terminal(), start: Instant::now(), last: None }
    }

    /// Shows time, exits, their rate, and the size of the file (bytes), but not too often.
    pub fn tell(&mut self, exits: u64, size: impl FnOnce() -> u64) {
        let now = Instant::now();
        let (then, before) = self.last.unwrap_or((self.start, 0));
        if !self.shown || (self.last.is_some() && now - then < EVERY) {
            return;
        }
        self.last = Some((now, exits));
        #[allow(clippy::cast_precision_loss)]
        let rate = exits.saturating_sub(before) as f64 / (now - then).as_secs_f64().max(1e-9);
        let line = line(self.start.elapsed(), exits, rate, size());
        // A terminal that is gone is no reason to stop.
        let _ = write!(io::stderr(), "\r{line}\x1b[K");
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if self.last.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(time: Duration, exits: u64, rate: f64, size: u64) -> String {
    let seconds = time.as_secs();
    let clock = format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let (exits, rate) = (unit::counted(exits, "exit"), unit::rate(rate));
    format!("{clock}  {exits}  {rate}/s  {}", unit::bytes(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_time_exits_rate_and_size() {
        let line = line(Duration::from_secs(3725), 84_562, 1020.0, 1_204_000);
        assert_eq!(line, "1:02:05  84,562 exits  1,020/s  1.20 MB");
    }
}
