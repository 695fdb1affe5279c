//! Facts about a process from `/proc`.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Number of bytes of a command line that are read; libvirt's reach some ten thousand.
const MAX_CMDLINE: u64 = 256 << 10;
/// Number of bytes of a list of control groups that are read.
const MAX_CGROUP: u64 = 64 << 10;
/// A command line that still changes after so many readings is taken as it was last.
const READINGS: usize = 4;

/// A process, as it is.
pub struct Living {
    /// Its command line, NUL-separated, at most 256 KiB of it.
    pub cmdline: Vec<u8>,
    /// The file that it runs.
    pub exe: Option<Vec<u8>>,
    /// Its working directory.
    pub cwd: Option<Vec<u8>>,
    /// Its control groups.
    pub cgroup: String,
}

/// A process, if it is the one that started then and has a command line (a zombie has none). What may not be read of it
/// is left out.
pub fn living(pid: u32, started_ns: Option<u64>) -> Option<Living> {
    let cmdline = settled(|| head(&format!("/proc/{pid}/cmdline"), MAX_CMDLINE).ok())?;
    let link = |name: &str| {
        std::fs::read_link(format!("/proc/{pid}/{name}")).ok().map(|path| path.into_os_string().into_vec())
    };
    let (exe, cwd) = (link("exe"), link("cwd"));
    let cgroup = head(&format!("/proc/{pid}/cgroup"), MAX_CGROUP).unwrap_or_default();
    // Looked at afterwards: if it still is the same process now, it was when all of this was read.
    if let Some(started_ns) = started_ns {
        let tick = ns_per_tick()?;
        if start_ns(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)? / tick != started_ns / tick {
            return None;
        }
    }
    let cgroup = String::from_utf8_lossy(&cgroup).into_owned();
    (!cmdline.is_empty()).then_some(Living { cmdline, exe, cwd, cgroup })
}

/// A reading that two in a row agree on: a process may rewrite its command line while it is read, and half of one with
/// half of another is nobody's.
fn settled(mut read: impl FnMut() -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut last = read()?;
    for _ in 1..READINGS {
        let again = read()?;
        if again == last {
            break;
        }
        last = again;
    }
    Some(last)
}

fn head(path: &str, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Counts the descriptors of VMs that a process holds.
pub fn vm_descriptors(pid: u32) -> io::Result<usize> {
    let mut count = 0;
    for entry in Path::new(&format!("/proc/{pid}/fd")).read_dir()? {
        // A descriptor that was closed meanwhile is none.
        let Ok(target) = std::fs::read_link(entry?.path()) else { continue };
        count += usize::from(target.as_os_str() == "anon_inode:kvm-vm");
    }
    Ok(count)
}

/// Returns the start of a process after boot by its `/proc/PID/stat` (proc(5), field 22), in nanoseconds,
/// to the tick.
pub fn start_ns(stat: &[u8]) -> Option<u64> {
    field_of_stat(stat, 22)?.checked_mul(ns_per_tick()?)
}

/// A process's parent by its `/proc/PID/stat` (proc(5), field 4).
pub fn parent(stat: &[u8]) -> Option<u32> {
    field_of_stat(stat, 4)?.try_into().ok()
}

/// A number of `/proc/PID/stat` (proc(5)), from the third field on.
pub fn field_of_stat(stat: &[u8], number: usize) -> Option<u64> {
    // Field 2 is the command's name in parentheses, and may hold spaces and parentheses itself.
    let after_name = &stat[stat.iter().rposition(|&byte| byte == b')')? + 1..];
    std::str::from_utf8(after_name).ok()?.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

fn ns_per_tick() -> Option<u64> {
    // SAFETY: sysconf only returns a number.
    let hertz = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    1_000_000_000u64.checked_div(hertz)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_of_a_process() {
        let mut stat = b"12 (a) R 1 (b) S 1".to_vec();
        stat.extend(" 0".repeat(17).bytes());
        stat.extend(b" 4711 0 0\n");
        assert_eq!(field_of_stat(&stat, 22), Some(4711));
        assert_eq!(parent(&stat), Some(1));
        assert_eq!(field_of_stat(b"12 (a) S 1", 22), None);
        assert_eq!(field_of_stat(b"", 22), None);
    }

    #[test]
    fn a_command_line_that_changes_is_read_again() {
        let mut texts = ["a", "ab", "b", "b", "never"].into_iter();
        assert_eq!(settled(|| texts.next().map(Into::into)), Some(b"b".to_vec()));
        assert_eq!(texts.next(), Some("never"));
        // One that never settles ends all the same.
        let mut number = 0u8;
        let mut count = || {
            number += 1;
            Some(vec![number])
        };
        assert_eq!(settled(&mut count), Some(vec![4]));
        assert_eq!(settled(|| None), None);
    }
}
