//! Workers on a made-up `/proc`, and on this process.

use super::task::{is_io_thread, list};
use super::*;
use exitscope_model::Labels;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

/// Number that no process of this machine has: PID_MAX_LIMIT is 4,194,304 (include/linux/threads.h).
const VMM: u32 = 5_000_050;

/// A `/proc` with what is written to it.
struct Proc(PathBuf);

impl Proc {
    fn new() -> Proc {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("exitscope-workers-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Proc(path)
    }

    /// A thread with these flags and this parent, and its times in microseconds.
    fn task(&self, folder: &str, comm: &str, (flags, parent): (u64, u32), (cpu, waiting): (u64, u64)) {
        let folder = self.0.join(folder);
        fs::create_dir_all(&folder).unwrap();
        let tid = folder.file_name().unwrap().to_str().unwrap();
        let rest = ["0"; 12].join(" ");
        let stat = format!("{tid} ({comm}) S {parent} 0 0 0 0 {flags} {rest} 1000 {}\n", ["0"; 30].join(" "));
        fs::write(folder.join("stat"), stat).unwrap();
        fs::write(folder.join("comm"), format!("{comm}\n")).unwrap();
        fs::write(folder.join("schedstat"), format!("{} {} 5\n", cpu * 1000, waiting * 1000)).unwrap();
    }

    /// A thread of the process [`VMM`].
    fn of_vmm(&self, tid: u32, comm: &str, flags: u64, times: (u64, u64)) {
        self.task(&format!("5000050/task/{tid}"), comm, (flags, 1), times);
    }

    /// Threads of the kernel.
    fn of_kernel(&self, threads: &[(u32, &str, u64)]) {
        for (tid, comm, cpu) in threads {
            self.task(&tid.to_string(), comm, (0x20_0000, 2), (*cpu, 1));
        }
        let children: Vec<String> = threads.iter().map(|(tid, ..)| tid.to_string()).collect();
        fs::create_dir_all(self.0.join("2/task/2")).unwrap();
        fs::write(self.0.join("2/task/2/children"), children.join(" ")).unwrap();
    }

    fn workers(&self) -> Workers {
        Workers::at(Some(self.0.clone()))
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn vm(id: u64, pid: u32) -> Vm {
    Vm {
        id: VmId(id),
        pid,
        name: "web".into(),
        vmm: "qemu".into(),
        command: "".into(),
        labels: Labels::default().into(),
        ended: false,
    }
}

fn us(us: u64) -> u64 {
    us * 1000
}

#[test]
fn threads_are_told_apart_and_vcpus_are_none() {
    let proc = Proc::new();
    proc.task("5000050", "qemu", (0, 1), (0, 0));
    let fill = |more: u64| {
        proc.of_vmm(VMM, "qemu", 0, (100 + more, 10 + more));
        proc.of_vmm(51, "CPU 0/KVM", 0, (9000 + 5 * more, 0));
        proc.of_vmm(52, "IO disk", 0, (200 + 2 * more, 20));
        proc.of_vmm(53, "SPICE Worker", 0, (300, 30 + more));
        proc.of_vmm(54, "vhost-5000050", 0x4000, (400 + 3 * more, 40));
        proc.of_vmm(55, "kvm-nx-lpage-re", 0x4000, (500 + 4 * more, 50));
        // A thread may call itself so, and is the VMM's all the same.
        proc.of_vmm(56, "vhost-5000050", 0, (600 + more, 0));
        proc.of_kernel(&[
            (61, "vhost-52", 10 + 7 * more),
            (62, "kvm-pit/5000050", 20 + 8 * more),
            (63, "vhost-99", 30 + more),
            (64, "kworker/0:1", more),
        ]);
        // Nobody's: a process with such a name, whose parent is another.
        proc.task("65", "kvm-pit/5000050", (0, 7), (40 + more, 0));
        fs::write(proc.0.join("2/task/2/children"), "61 62 63 64 65 x").unwrap();
    };
    fill(0);
    let vcpus = HashSet::from([51]);
    let mut workers = proc.workers();
    let first = workers.look(&[vm(1, VMM)], Some(&vcpus));
    assert_eq!(first, [WorkerSpan { vm: VmId(1), times: WorkerTimes::default() }], "it began before us");
    fill(1);
    let second = workers.look(&[vm(1, VMM)], Some(&vcpus));
    let WorkerSpan { times, .. } = second[0];
    let expected = WorkerTimes {
        span_ns: times.span_ns,
        main_cpu_ns: us(1),
        main_waiting_ns: us(1),
        io_cpu_ns: us(2),
        other_cpu_ns: us(1),
        other_waiting_ns: us(1),
        vhost_cpu_ns: us(3 + 7),
        kvm_cpu_ns: us(4 + 8),
        ..WorkerTimes::default()
    };
    assert_eq!(times, expected);
    assert!(times.span_ns > 0);
    // One that came since then did all that it has done since then; one that ended took nothing along.
    proc.of_vmm(57, "IO net", 0, (70, 7));
    fs::remove_dir_all(proc.0.join("5000050/task/52")).unwrap();
    let third = workers.look(&[vm(1, VMM)], Some(&vcpus))[0].times;
    assert_eq!((third.io_cpu_ns, third.io_waiting_ns), (us(2 + 70), us(7)));
    assert_eq!((third.main_cpu_ns, third.vhost_cpu_ns), (us(1), us(3 + 7)));
    // A number that is used again is another thread's.
    proc.of_vmm(57, "IO net", 0, (5, 0));
    assert_eq!(workers.look(&[vm(1, VMM)], Some(&vcpus))[0].times.io_cpu_ns, us(2 + 70 + 5));
}

#[test]
fn without_a_source_that_knows_them_names_and_guest_time_tell_vcpus() {
    let proc = Proc::new();
    proc.task("5000050", "qemu", (0, 1), (0, 0));
    let fill = |more: u64| {
        proc.of_vmm(VMM, "qemu", 0, (more, 0));
        proc.of_vmm(51, "CPU 0/KVM", 0, (more, 0));
        proc.of_vmm(52, "qemu", 0, (more, 0));
    };
    fill(0);
    // It has run a guest for 7 ticks.
    let stat = proc.0.join("5000050/task/52/stat");
    let run = |ticks: u64| {
        let text = fs::read_to_string(&stat).unwrap();
        let mut fields: Vec<String> = text.split(' ').map(Into::into).collect();
        fields[42] = ticks.to_string();
        fs::write(&stat, fields.join(" ")).unwrap();
    };
    run(7);
    let mut workers = proc.workers();
    workers.look(&[vm(1, VMM)], None);
    fill(9);
    run(8);
    let times = workers.look(&[vm(1, VMM)], None)[0].times;
    assert_eq!((times.cpu_ns(), times.main_cpu_ns), (us(9), us(9)));
}

#[test]
fn a_process_that_is_another_by_now_begins_again() {
    let proc = Proc::new();
    proc.task("5000050", "qemu", (0, 1), (0, 0));
    proc.of_vmm(VMM, "qemu", 0, (100, 0));
    let mut workers = proc.workers();
    workers.look(&[vm(1, VMM)], None);
    let stat = proc.0.join("5000050/stat");
    let text = fs::read_to_string(&stat).unwrap().replace(" 1000 ", " 2000 ");
    fs::write(&stat, text).unwrap();
    proc.of_vmm(VMM, "qemu", 0, (900, 0));
    assert_eq!(
        workers.look(&[vm(2, VMM)], None),
        [WorkerSpan { vm: VmId(2), times: WorkerTimes::default() }]
    );
    // Gone, and still in this sample.
    fs::remove_dir_all(proc.0.join("5000050")).unwrap();
    assert_eq!(workers.look(&[vm(2, VMM)], None).len(), 1);
    assert_eq!(workers.look(&[], None), []);
}

#[test]
fn of_a_process_with_several_vms_the_first_has_the_threads() {
    let proc = Proc::new();
    proc.task("5000050", "qemu", (0, 1), (0, 0));
    proc.of_vmm(VMM, "qemu", 0, (100, 0));
    let mut workers = proc.workers();
    let vms = [vm(1, VMM), vm(2, VMM), vm(3, 77)];
    assert_eq!(workers.look(&vms, None).iter().map(|span| span.vm).collect::<Vec<_>>(), [VmId(1)]);
    proc.of_vmm(VMM, "qemu", 0, (130, 0));
    assert_eq!(workers.look(&vms, None)[0].times.main_cpu_ns, us(30));
    // The first ends, and the second has what comes.
    let mut vms = vms;
    vms[0].ended = true;
    proc.of_vmm(VMM, "qemu", 0, (170, 0));
    let spans = workers.look(&vms, None);
    let cpu: Vec<(u64, u64)> = spans.iter().map(|span| (span.vm.0, span.times.main_cpu_ns)).collect();
    assert_eq!(cpu, [(1, us(30)), (2, us(40))]);
}

#[test]
fn a_process_with_too_many_threads_is_left_out() {
    let proc = Proc::new();
    proc.task("5000050", "qemu", (0, 1), (0, 0));
    for tid in VMM..=VMM + 3 {
        fs::create_dir_all(proc.0.join(format!("5000050/task/{tid}"))).unwrap();
    }
    assert_eq!(list(&proc.0.join("5000050"), 3), Err(()));
    assert_eq!(list(&proc.0.join("5000050"), 4).map(|tids| tids.len()), Ok(4));
    assert_eq!(list(Path::new("/proc/0"), 4), Ok(Vec::new()));
    assert_eq!(Workers::at(None).look(&[vm(1, VMM)], None), [], "another PID namespace");
}

#[test]
fn names_of_threads_for_devices() {
    for (vmm, name, is) in [
        ("qemu", "IO iothread1", true),
        ("qemu", "worker", false),
        ("cloud-hypervisor", "_disk0_q0", true),
        ("cloud-hypervisor", "_net1_qp2", true),
        ("cloud-hypervisor", "vmm", false),
        ("cloud-hypervisor", "a_q", false),
        ("firecracker", "IO x", false),
    ] {
        assert_eq!(is_io_thread(vmm, name), is, "{vmm} {name}");
    }
}

/// Two threads of this process: one for devices, which waits while it is looked at; and one that comes and ends in between.
#[test]
fn threads_of_this_process_have_the_schedulers_figures() {
    fn spin(ms: u64) -> u64 {
        let now = || super::task::thread_clock_ns();
        let begin = now();
        while now() < begin + ms * 1_000_000 {
            std::hint::spin_loop();
        }
        now() - begin
    }
    let (go, work) = mpsc::channel::<()>();
    let (done, finished) = mpsc::channel::<u32>();
    let worker = std::thread::spawn(move || {
        // SAFETY: a name with an end, and a system call without arguments.
        let tid = unsafe {
            libc::prctl(libc::PR_SET_NAME, c"IO test".as_ptr());
            libc::gettid()
        };
        done.send(tid.unsigned_abs()).unwrap();
        while work.recv().is_ok() {
            spin(30);
            done.send(tid.unsigned_abs()).unwrap();
        }
    });
    let tid = finished.recv().unwrap();
    let folder = PathBuf::from(format!("/proc/self/task/{tid}"));
    // It has done what it was to do once it sleeps.
    let times = || loop {
        let text = fs::read(folder.join("stat")).unwrap();
        if text[text.iter().rposition(|byte| *byte == b')').unwrap() + 2] == b'S' {
            let task = Task::of_process(Path::new("/proc/self"), tid);
            return task.times().unwrap();
        }
        std::thread::yield_now();
    };
    let mut workers = Workers::at(Some("/proc".into()));
    let vms = [vm(1, std::process::id())];
    let none = HashSet::new();
    let before = times();
    workers.look(&vms, Some(&none));
    go.send(()).unwrap();
    finished.recv().unwrap();
    let short = std::thread::spawn(|| spin(40)).join().unwrap();
    let after = times();
    let spans = workers.look(&vms, Some(&none));
    let times = spans[0].times;
    assert_eq!(times.io_cpu_ns, after.cpu_ns - before.cpu_ns);
    assert_eq!(times.io_waiting_ns, after.waiting_ns - before.waiting_ns);
    assert!(times.io_cpu_ns >= 30_000_000 && times.other_cpu_ns >= short * 9 / 10, "{times:?} {short}");
    drop(go);
    worker.join().unwrap();
}
