//! Cost of exitscope's own processes, from /proc.

use std::fs;

/// CPU time (ns) and resident memory (bytes) of a process; `None` where they cannot be read.
pub fn cost(pid: u32) -> Option<(u64, u64)> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads fields 14, 15 and 24 of proc_pid_stat(5). The second one may have anything in it, and ends with the last `)`.
fn parse(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut number = |skip: usize| fields.nth(skip)?.parse::<u64>().ok();
    let ticks = number(0)? + number(0)?;
    let pages = number(8)?;
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    Some((ticks * tick, pages * rustix::param::page_size() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let (_, bytes) = cost(std::process::id()).unwrap();
        assert!(bytes > 100_000, "{bytes}");
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194304 9 0 0 0 100 50 0 0 20 0 1 0 1 4096 3 0";
        let (ns, bytes) = parse(stat).unwrap();
        let hertz = rustix::param::clock_ticks_per_second();
        assert_eq!((ns, bytes), (150 * (1_000_000_000 / hertz), 3 * rustix::param::page_size() as u64));
        assert_eq!(parse("7 (a"), None);
    }
}
