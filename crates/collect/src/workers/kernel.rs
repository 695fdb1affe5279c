//! The kernel's own threads that work for a process: vhost's before 6.4, and KVM's before 6.13.

use super::Kind;
use super::task::Task;
use crate::identity;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Parent of all threads of the kernel (kthreadd).
const PARENT: u32 = 2;
/// Most bytes of the list of its children that are read.
const MAX_LIST: u64 = 1 << 20;
/// Most entries of `/proc` that are looked at where there is no such list.
const MAX_ENTRIES: usize = 1 << 16;

/// Names of threads, with the number of the thread that they work for behind it: drivers/vhost/vhost.c,
/// arch/x86/kvm/i8254.c, arch/x86/kvm/mmu/mmu.c.
const NAMES: [(&str, Kind); 3] =
    [("vhost-", Kind::Vhost), ("kvm-pit/", Kind::Kvm), ("kvm-nx-lpage-recovery-", Kind::Kvm)];

/// Threads of the kernel that were seen.
#[derive(Default)]
pub struct KernelThreads {
    /// Each with the thread that it works for, if it works for one.
    known: HashMap<u32, Option<(u32, Kind)>>,
}

impl KernelThreads {
    /// Looks for new ones, and forgets those that have ended.
    pub fn look(&mut self, proc: &Path) {
        let tids = children(proc).unwrap_or_else(|| entries(proc));
        let mut known = HashMap::with_capacity(tids.len());
        for tid in tids {
            let of = self.known.remove(&tid).unwrap_or_else(|| works_for(proc, tid));
            known.insert(tid, of);
        }
        self.known = known;
    }

    /// Returns those that work for a process with these threads.
    pub fn of(&self, pid: u32, threads: &[u32]) -> Vec<(u32, Kind)> {
        let mine = |of: u32| of == pid || threads.contains(&of);
        let known = self.known.iter().filter_map(|(tid, of)| of.map(|(of, kind)| (*tid, of, kind)));
        known.filter(|(_, of, _)| mine(*of)).map(|(tid, _, kind)| (tid, kind)).collect()
    }
}

/// Returns the children of kthreadd; `None` where the kernel does not list them (`CONFIG_PROC_CHILDREN`).
fn children(proc: &Path) -> Option<Vec<u32>> {
    let path = proc.join(format!("{PARENT}/task/{PARENT}/children"));
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_LIST).read_to_string(&mut text).ok()?;
    Some(text.split_ascii_whitespace().filter_map(|tid| tid.parse().ok()).collect())
}

fn entries(proc: &Path) -> Vec<u32> {
    let Ok(entries) = proc.read_dir() else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).take(MAX_ENTRIES).collect()
}

/// Returns the thread that a thread of the kernel works for. A user's process may have such a name, and another parent.
fn works_for(proc: &Path, tid: u32) -> Option<(u32, Kind)> {
    let task = Task::of_kernel(proc, tid);
    let (of, kind) = of_name(&task.comm())?;
    let stat = fs::read(proc.join(tid.to_string()).join("stat")).ok()?;
    (identity::parent(&stat) == Some(PARENT)).then_some((of, kind))
}

/// Reads a name, as `vhost-4242`.
fn of_name(name: &str) -> Option<(u32, Kind)> {
    NAMES.iter().find_map(|(begin, kind)| Some((name.strip_prefix(begin)?.parse().ok()?, *kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(of_name("vhost-4242"), Some((4242, Kind::Vhost)));
        assert_eq!(of_name("kvm-pit/17"), Some((17, Kind::Kvm)));
        assert_eq!(of_name("kvm-nx-lpage-recovery-17"), Some((17, Kind::Kvm)));
        for other in ["vhost-", "vhost-x", "kvm-nx-lpage-re", "kworker/0:1", "vhost-99999999999"] {
            assert_eq!(of_name(other), None, "{other}");
        }
    }
}
