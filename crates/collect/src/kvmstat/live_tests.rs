//! Against a real guest, with KVM's own figures from debugfs beside ours. Run by `make test` in the lab; on a host, as root
//! with debugfs mounted and QEMU installed: `cargo test --features lab-tests --lib live_tests`.

use super::*;
use exitscope_model::{VcpuSample, Vm};
use exitscope_reason as reason;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const NAME: &str = "kvmstat,test";

/// A guest of two vCPUs that finds nothing to boot; killed when dropped.
struct Guest(Child);

impl Guest {
    fn start() -> Guest {
        let child = Command::new("qemu-system-x86_64")
            .args(["-accel", "kvm", "-m", "64", "-smp", "2", "-display", "none", "-net", "none"])
            .args(["-name", &format!("guest={},debug-threads=on", NAME.replace(',', ",,"))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64 starts (apt-get install qemu-system-x86)");
        Guest(child)
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the process is our child and not waited for yet, so the id is its own.
        assert_eq!(unsafe { libc::kill(self.0.id().cast_signed(), signal) }, 0);
    }

    /// Stops it, and waits until its threads have.
    fn freeze(&self) {
        self.signal(libc::SIGSTOP);
        let stopped = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
            tasks.flatten().all(|task| {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                // KVM's own thread in the process has no code of its to stop.
                status.contains("State:\tT") || status.contains("Name:\tkvm-nx-lpage")
            })
        };
        wait_until("the guest to stop", stopped);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        sleep(Duration::from_millis(20));
    }
    panic!("20 s were not enough for {what}");
}

/// `exits` and every class of a VM, by name, as debugfs has it: sums over its vCPUs.
fn by_debugfs(pid: u32) -> BTreeMap<String, u64> {
    let kvm = host::debugfs().expect("debugfs is mounted").join("kvm");
    let directory = kvm
        .read_dir()
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{pid}-")))
        .expect("KVM shows the VM in debugfs");
    let known = reason::all(exitscope_model::Isa::KvmStat).map(|class| class.name).chain(["exits"]);
    known
        .filter_map(|name| Some((name, fs::read_to_string(directory.path().join(name)).ok()?)))
        .map(|(name, text)| (name.to_owned(), text.trim().parse().unwrap()))
        .filter(|&(_, figure)| figure > 0)
        .collect()
}

fn by_sample(vcpus: &[&VcpuSample]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for vcpu in vcpus {
        *sums.entry("exits".to_owned()).or_insert(0) += vcpu.exits;
        for class in &vcpu.reasons {
            *sums.entry(reason::name(class.code).into_owned()).or_insert(0) += class.counters.count;
        }
    }
    sums
}

/// The guest's VM and figures in one sample, if it is there.
fn look(stat: &mut KvmStat, pid: u32) -> Option<(Vm, usize, BTreeMap<String, u64>)> {
    let sample = stat.sample().unwrap();
    let vm = sample.vms.iter().find(|vm| vm.pid == pid)?.clone();
    let vcpus: Vec<_> = sample.vcpus.iter().filter(|vcpu| vcpu.vm == vm.id).collect();
    Some((vm, vcpus.len(), by_sample(&vcpus)))
}

fn follows_a_guest(mut stat: KvmStat, vcpus: usize, final_figures: bool) {
    let mut guest = Guest::start();
    let pid = guest.0.id();
    wait_until("the guest to exit a few times", || {
        look(&mut stat, pid)
            .is_some_and(|(_, _, figures)| figures.get("exits").is_some_and(|&exits| exits > 50))
    });
    guest.freeze();
    let (vm, found, figures) = look(&mut stat, pid).unwrap();
    assert_eq!((vm.name.as_str(), vm.vmm.as_str(), vm.ended, found), (NAME, "qemu", false, vcpus));
    assert_eq!(figures, by_debugfs(pid));
    println!("{figures:?}");

    // Another observer, from here on: equal but for what was before it.
    let mut late = KvmStat::begin(layer_like(&stat.layer), Select::Pids(vec![pid]), host::backend()).unwrap();
    guest.signal(libc::SIGCONT);
    sleep(Duration::from_millis(300));
    guest.freeze();
    let (.., whole) = look(&mut stat, pid).unwrap();
    let (.., part) = look(&mut late, pid).unwrap();
    assert_eq!(whole, by_debugfs(pid));
    let since =
        whole.iter().map(|(name, &sum)| (name.clone(), sum - figures.get(name).copied().unwrap_or(0)));
    assert_eq!(part, since.filter(|&(_, figure)| figure > 0).collect());

    guest.0.kill().unwrap();
    guest.0.wait().unwrap();
    let (vm, _, last) = look(&mut stat, pid).expect("a VM that ended is in one more sample");
    assert!(vm.ended);
    assert!(last["exits"] >= whole["exits"]);
    assert!(look(&mut stat, pid).is_none());
    assert_eq!(stat.tracker.cut_off, u64::from(!final_figures));
}

fn layer_like(layer: &Layer) -> Layer {
    match layer {
        Layer::Walk(_) => Layer::Walk(Walk::load(false).unwrap()),
        Layer::Debugfs { .. } => {
            Layer::Debugfs { debugfs: Debugfs::open(false).unwrap(), cause: "this is a test".into() }
        }
    }
}

#[test]
fn the_walk_follows_a_guest() {
    let stat = KvmStat::start(&Options::default()).unwrap();
    assert!(matches!(stat.layer, Layer::Walk(_)));
    follows_a_guest(stat, 2, true);
}

#[test]
fn debugfs_follows_a_guest() {
    let layer = Layer::Debugfs { debugfs: Debugfs::open(true).unwrap(), cause: "this is a test".into() };
    let stat = KvmStat::begin(layer, Select::Descendants, host::backend()).unwrap();
    follows_a_guest(stat, 1, false);
}

#[test]
fn descendants_are_followed_until_told() {
    let mut stat = KvmStat::start(&Options { select: Select::Descendants, ..Options::default() }).unwrap();
    let ours = Guest::start();
    wait_until("our guest to be seen", || look(&mut stat, ours.0.id()).is_some());
    stat.stop_following().unwrap();
    let stranger = Guest::start();
    let mut all = KvmStat::start(&Options::default()).unwrap();
    wait_until("the other guest to be seen", || look(&mut all, stranger.0.id()).is_some());
    let sample = stat.sample().unwrap();
    assert_eq!(sample.vms.iter().map(|vm| vm.pid).collect::<Vec<_>>(), [ours.0.id()]);
    let holders = identity::vms_of_host().unwrap();
    for guest in [&ours, &stranger] {
        let found = holders.vms.iter().find(|vm| vm.pid == guest.0.id()).unwrap();
        assert_eq!((found.descriptors, found.identity.name.as_str()), (1, NAME));
    }
}

/// At the end of a process its descriptors are looked at only if it had a vCPU's.
#[test]
fn only_processes_with_vcpus_are_looked_at_when_they_end() {
    let walk = Walk::load(false).unwrap();
    assert!(walk.told, "this kernel tells of vCPUs that are made");
    for _ in 0..20 {
        assert!(Command::new("true").status().unwrap().success());
    }
    assert_eq!(walk.visits(), 0);
    let guest = Guest::start();
    wait_until("a vCPU", || walk.look().unwrap().iter().any(|reading| reading.process.pid == guest.0.id()));
    drop(guest);
    wait_until("its descriptors to be looked at", || walk.visits() > 0);
}
