//! Memory of a process.

use exitscope_model::Memory;
use std::fs;
use std::path::Path;

/// Returns the memory of a process; `None` if it has ended.
pub fn memory_of(pid: u32) -> Option<Memory> {
    parse(&fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?)
}

/// Reads `/proc/PID/status` (proc(5)), whose numbers are in KiB. A process that is ending has none of them.
fn parse(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { held: bytes("VmRSS")?, peak: bytes("VmHWM")?, swapped: bytes("VmSwap")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_file_tells_memory_and_one_of_an_ending_process_none() {
        let status = "Name:\tqemu\nVmPeak:\t  900 kB\nVmHWM:\t     512 kB\nVmRSS:\t     128 kB\nVmSwap:\t      64 kB\n";
        let memory = parse(status).unwrap();
        assert_eq!(memory, Memory { held: 128 << 10, peak: 512 << 10, swapped: 64 << 10 });
        assert_eq!(memory.given_back(), 320 << 10);
        assert_eq!(parse("Name:\tqemu\nState:\tZ (zombie)\n"), None);
        let ours = memory_of(std::process::id()).unwrap();
        assert!(ours.held > 0 && ours.peak >= ours.held, "{ours:?}");
        assert_eq!(memory_of(u32::MAX), None);
    }
}
