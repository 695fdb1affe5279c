//! KVM's statistics out of debugfs, where BPF is forbidden: figures of whole VMs, by polling.

use super::track::{CLASSES, Event, Figures, Process, Reading};
use crate::{host, identity};
use exitscope_model::{ExitCode, Isa};
use exitscope_reason as reason;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A look-out on KVM's directory in debugfs.
pub struct Debugfs {
    directory: PathBuf,
    family: Option<Family>,
}

impl Debugfs {
    /// Finds the directory; `follow` looks for descendants of this process.
    pub fn open(follow: bool) -> Result<Debugfs, String> {
        let mounted = host::debugfs()
            .ok_or("debugfs is not mounted; mount it with: mount -t debugfs debugfs /sys/kernel/debug")?;
        let directory = mounted.join("kvm");
        // The sum over all VMs. Lockdown lets the directory be listed, and no file be opened.
        let exits = directory.join("exits");
        fs::read(&exits).map_err(|error| match host::lockdown().as_deref() {
            Some(degree @ ("integrity" | "confidentiality")) => {
                format!("{}: {error}, because of the kernel's lockdown={degree}", exits.display())
            }
            _ => format!("{}: {error}", exits.display()),
        })?;
        let family =
            if follow { Some(Family::new().map_err(|error| format!("/proc: {error}"))?) } else { None };
        Ok(Debugfs { directory, family })
    }

    /// Every VM that exists, with one reading for all its vCPUs.
    pub fn look(&mut self) -> Result<Vec<Reading>, String> {
        let followed = match &mut self.family {
            Some(family) => family.look().map_err(|error| format!("/proc: {error}"))?,
            None => &HashSet::new(),
        };
        let failed = |error: io::Error| format!("{}: {error}", self.directory.display());
        let mut readings = Vec::new();
        for entry in self.directory.read_dir().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some((thread, descriptor)) = entry.file_name().to_str().and_then(vm_of) else { continue };
            // A VM that ended meanwhile is none.
            let (Some(figures), Some((pid, stat))) = (figures(&entry.path()), process_of(thread)) else {
                continue;
            };
            let Some(started_ns) = identity::start_ns(&stat) else { continue };
            readings.push(Reading {
                time_ns: 0,
                event: Event::Seen,
                vcpu: u64::from(thread) << 32 | u64::from(descriptor),
                kvm: u64::from(thread) << 32 | u64::from(descriptor),
                vcpu_id: 0,
                process: Process {
                    pid,
                    started_ns,
                    comm: fs::read_to_string(format!("/proc/{pid}/comm"))
                        .unwrap_or_default()
                        .trim_end()
                        .to_owned(),
                    args: Vec::new(),
                },
                followed: followed.contains(&(pid, started_ns)),
                figures,
            });
        }
        Ok(readings)
    }

    /// Stops following processes that this process starts from now on.
    pub fn unfollow(&mut self) -> Result<(), String> {
        match &mut self.family {
            Some(family) => family.close().map_err(|error| format!("/proc: {error}")),
            None => Ok(()),
        }
    }
}

/// A VM's directory is called by the thread that created it and its descriptor (`kvm_create_vm_debugfs`,
/// virt/kvm/kvm_main.c).
fn vm_of(name: &str) -> Option<(u32, u32)> {
    let (thread, descriptor) = name.split_once('-')?;
    Some((thread.parse().ok()?, descriptor.parse().ok()?))
}

/// A thread's process, and its `/proc/PID/stat`.
fn process_of(thread: u32) -> Option<(u32, Vec<u8>)> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let pid = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()?;
    Some((pid, fs::read(format!("/proc/{pid}/stat")).ok()?))
}

fn figures(directory: &Path) -> Option<Figures> {
    let figure = |name: &str| fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok();
    let class = |class: usize| {
        figure(&reason::name(ExitCode { isa: Isa::KvmStat, code: i64::try_from(class).ok()? }))
    };
    Some(Figures { exits: figure("exits")?, classes: std::array::from_fn::<_, CLASSES, _>(class) })
}

/// This process's descendants, by looking at everybody's parent now and then. One whose parents have all ended
/// between two looks is missed.
struct Family {
    /// Process id and start of each.
    members: HashSet<(u32, u64)>,
    /// Children that are none of the family.
    strangers: HashSet<(u32, u64)>,
    closed: bool,
}

impl Family {
    fn new() -> io::Result<Family> {
        let mut family = Family { members: HashSet::new(), strangers: HashSet::new(), closed: false };
        family.look()?;
        family.strangers = std::mem::take(&mut family.members);
        Ok(family)
    }

    fn look(&mut self) -> io::Result<&HashSet<(u32, u64)>> {
        let mut living = Vec::new();
        for entry in Path::new("/proc").read_dir()? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else { continue };
            if let (Some(parent), Some(started)) = (identity::parent(&stat), identity::start_ns(&stat)) {
                living.push((pid, parent, started));
            }
        }
        self.adopt(std::process::id(), &living);
        Ok(&self.members)
    }

    fn close(&mut self) -> io::Result<()> {
        self.look()?;
        self.closed = true;
        Ok(())
    }

    /// Takes in the children of members until there are no more.
    fn adopt(&mut self, root: u32, living: &[(u32, u32, u64)]) {
        let there: HashSet<(u32, u64)> = living.iter().map(|&(pid, _, started)| (pid, started)).collect();
        self.members.retain(|member| there.contains(member));
        self.strangers.retain(|stranger| there.contains(stranger));
        loop {
            let known = self.members.len();
            for &(pid, parent, started) in living {
                let by_root = parent == root && !self.closed;
                let by_member = self.members.iter().any(|&(member, _)| member == parent);
                if (by_root || by_member) && !self.strangers.contains(&(pid, started)) {
                    self.members.insert((pid, started));
                }
            }
            if self.members.len() == known {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories() {
        assert_eq!(vm_of("4711-12"), Some((4711, 12)));
        assert_eq!(vm_of("exits"), None);
        assert_eq!(vm_of("4711-12-x"), None);
    }

    #[test]
    fn figures_of_a_directory() {
        let directory = std::env::temp_dir().join(format!("exitscope-figures-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(figures(&directory), None);
        fs::write(directory.join("exits"), "1234\n").unwrap();
        fs::write(directory.join("halt_exits"), "7\n").unwrap();
        let found = figures(&directory).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(found.exits, 1234);
        assert_eq!(found.classes.iter().flatten().copied().collect::<Vec<_>>(), [7]);
        assert_eq!(found.classes[5], Some(7));
    }

    #[test]
    fn family() {
        let mut family =
            Family { members: HashSet::new(), strangers: HashSet::from([(9, 90)]), closed: false };
        // 13 is the child of 12, which is the child of 11; 9 and its child were there before.
        let living = [(13, 12, 130), (12, 11, 120), (11, 1, 110), (9, 1, 90), (8, 9, 80), (20, 2, 200)];
        family.adopt(1, &living);
        assert_eq!(family.members, HashSet::from([(11, 110), (12, 120), (13, 130)]));
        // 11 and 12 end, init takes 13 in; a new process has the id 12. What is started now is not ours.
        family.closed = true;
        family.adopt(1, &[(13, 99, 130), (12, 99, 125), (14, 13, 140), (15, 1, 150)]);
        assert_eq!(family.members, HashSet::from([(13, 130), (14, 140)]));
    }
}
