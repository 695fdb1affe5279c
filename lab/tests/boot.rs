//! Boots real machines: `cargo test -p lab --features lab-tests`. Needs what `lab doctor` says, and on the
//! first run a Debian mirror.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::{Error, Outer};

fn outer() -> Outer {
    Outer::suite("bookworm").unwrap()
}

/// Some bytes of every value and no order, more than any buffer on their way holds.
fn noise() -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..3_000_000).map(|_| next()).collect()
}

#[test]
fn output_status_directory_and_files_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().canonicalize().unwrap();
    std::fs::write(at.join("noise"), noise()).unwrap();
    std::fs::write(at.join("doomed"), "").unwrap();
    // Leaves a daemon behind that holds its output open; writes to and removes files of the machine.
    let script = "set -e; pwd >&2; cat noise; cp noise \"$LAB_OUT/it's here\"; mkdir $LAB_OUT/sub
        echo x >noise; rm doomed; echo x >new; [ ! -e doomed ]; ulimit -l >&2; echo \"$1\" >&2
        sleep 100000 & kill -9 $$";
    let finished = outer().directory(&at).run(&["sh", "-c", script, "sh", "two  words '\" $x"]).unwrap();
    assert_eq!(finished.status, 128 + 9);
    assert!(finished.stdout == noise(), "{} bytes of other output", finished.stdout.len());
    let expected = format!("{}\nunlimited\ntwo  words '\" $x\n", at.display());
    assert_eq!(String::from_utf8(finished.stderr).unwrap(), expected);
    assert!(std::fs::read(finished.out.join("it's here")).unwrap() == noise());
    assert!(finished.out.join("sub").is_dir());
    assert!(std::fs::read(at.join("noise")).unwrap() == noise(), "the machine's own file has changed");
    assert!(at.join("doomed").exists() && !at.join("new").exists());
}

#[test]
fn commands_that_cannot_run_have_the_shells_status() {
    assert_eq!(outer().run(&["/no/such/program"]).unwrap().status, 127);
    assert_eq!(outer().run(&["/etc/passwd"]).unwrap().status, 126);
}

#[test]
fn a_panic_is_told_apart() {
    let command = ["sh", "-c", "echo before; echo c >/proc/sysrq-trigger"];
    match outer().run(&command) {
        Err(error @ Error::Panic { .. }) => {
            assert_eq!(error.exit_code(), 121);
            let Error::Panic { line, wreck } = error else { unreachable!() };
            assert!(line.contains("sysrq triggered crash"), "{line}");
            assert_eq!(wreck.stdout, b"before\n");
            assert!(std::fs::read_to_string(wreck.console).unwrap().contains(&line));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_time_limit_a_power_off_and_a_dead_qemu_are_told_apart() {
    let error = outer().time_limit(Duration::from_secs(20)).run(&["sleep", "100000"]).unwrap_err();
    assert!(matches!(&error, Error::TimeLimit { wreck, .. } if wreck.console.exists()), "{error:?}");
    assert!(error.to_string().contains("console.log"), "{error}");
    let error = outer().run(&["busybox", "poweroff", "-f"]).unwrap_err();
    assert!(matches!(&error, Error::WentDown { .. }), "{error:?}");
    let error = outer().smp(100_000).run(&["true"]).unwrap_err();
    assert!(matches!(&error, Error::EmulatorDied { stderr, .. } if stderr.contains("100000")), "{error:?}");
    assert_eq!(error.exit_code(), 122);
}

#[test]
fn a_machine_that_will_never_wake_is_given_up_and_an_idle_one_is_not() {
    let idle = std::thread::spawn(|| outer().run(&["sleep", "45"]).unwrap().status);
    let error = outer().time_limit(Duration::from_secs(100_000)).run(&["busybox", "halt", "-f"]).unwrap_err();
    assert!(matches!(&error, Error::Stalled { wreck, .. } if wreck.console.exists()), "{error:?}");
    assert_eq!(error.exit_code(), 124);
    assert_eq!(idle.join().unwrap(), 0);
}

/// KVM with SVM, BTF of kernel and module, BPF and tracing file systems, loadable modules, and a big file
/// of the machine read without a fault.
fn is_a_kvm_host(suite: &str, release: &str) {
    let me = std::env::current_exe().unwrap();
    let script = "set -e; uname -r; test -c /dev/kvm; cat /sys/module/kvm_amd/parameters/nested
        test -s /sys/kernel/btf/vmlinux; test -s /sys/kernel/btf/kvm_amd; test -d /sys/fs/bpf
        test -d /sys/kernel/tracing/events/kvm/kvm_exit; test -d /sys/kernel/debug/kvm
        modprobe tun; test -c /dev/net/tun; cat /sys/class/net/lo/carrier; : >/dev/stderr; sha256sum <\"$1\"";
    let finished =
        Outer::suite(suite).unwrap().run(&["sh", "-c", script, "sh", me.to_str().unwrap()]).unwrap();
    let here = Command::new("sh").arg("-c").arg("sha256sum <\"$1\"").arg("sh").arg(&me).output().unwrap();
    let said = String::from_utf8(finished.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(finished.status, 0, "{said}{}", String::from_utf8_lossy(&finished.stderr));
    assert!(lines[0].starts_with(release), "{said}");
    assert_eq!(lines[1..], ["1", "1", String::from_utf8(here.stdout).unwrap().trim_end()]);
}

#[test]
fn bookworm_is_a_kvm_host() {
    is_a_kvm_host("bookworm", "6.1.");
}

#[test]
fn trixie_is_a_kvm_host() {
    is_a_kvm_host("trixie", "6.12.");
}

#[test]
fn trixie_backports_is_a_kvm_host() {
    is_a_kvm_host("trixie-backports", "7.");
}

fn vmx() -> Outer {
    let cache = lab::Cache::open().unwrap();
    let kernel = cache.kernel("bookworm", lab::Flavour::Plain, &|_| {}).unwrap();
    Outer::vmx(cache, kernel).unwrap()
}

/// On Bochs too: KVM with VMX, output, status, and files in both directions.
#[test]
fn bochs_is_a_kvm_host_with_vmx() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().canonicalize().unwrap();
    std::fs::write(at.join("noise"), noise()).unwrap();
    std::fs::write(at.join("brought"), "brought\n").unwrap();
    let script = "set -e; uname -r; test -c /dev/kvm; cat /sys/module/kvm_intel/parameters/ept
        test -s /sys/kernel/btf/kvm_intel; test -d /sys/kernel/tracing/events/kvm/kvm_exit
        modprobe tun; test -c /dev/net/tun; cat; cat brought; pwd >&2
        mkdir $LAB_OUT/sub; cp \"$1\" \"$LAB_OUT/sub/it's here\"; rm \"$1\"; sleep 100000 & kill -9 $$";
    let outer = vmx().directory(&at).bring(at.join("brought"));
    let finished = outer.run(&["sh", "-c", script, "sh", "noise"]).unwrap();
    let said = String::from_utf8(finished.stdout).unwrap();
    assert_eq!(finished.status, 128 + 9, "{said}{}", String::from_utf8_lossy(&finished.stderr));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("6.1."), "{said}");
    assert_eq!(lines[1..], ["Y", "brought"]);
    assert_eq!(String::from_utf8(finished.stderr).unwrap(), format!("{}\n", at.display()));
    assert!(std::fs::read(finished.out.join("sub/it's here")).unwrap() == noise());
    assert!(std::fs::read(at.join("noise")).unwrap() == noise(), "the machine's own file has changed");
}

/// Bochs goes on when its guest panics, reboots or powers off, each in a way of its own.
#[test]
fn a_panic_on_bochs_and_a_power_off_are_told_apart() {
    match vmx().run(&["sh", "-c", "echo before; echo c >/proc/sysrq-trigger"]) {
        Err(Error::Panic { line, wreck }) => {
            assert!(line.contains("sysrq triggered crash"), "{line}");
            assert_eq!(wreck.stdout, b"before\n");
        }
        other => panic!("{other:?}"),
    }
    let error = vmx().run(&["busybox", "poweroff", "-f"]).unwrap_err();
    assert!(matches!(&error, Error::WentDown { .. }), "{error:?}");
    let error = vmx().smp(2).run(&["true"]).unwrap_err();
    assert_eq!(error.exit_code(), 125, "{error}");
}

/// The same commands on a machine's own KVM: here an outer VM's.
#[test]
fn a_host_with_kvm_is_a_machine_too() {
    let lab = env!("CARGO_BIN_EXE_lab");
    let script = r#"
        echo input | "$1" run --machine host --out /tmp/o -- sh -c 'cat; ls /dev/kvm; echo x >$LAB_OUT/f; sleep 5000 & exit 9'
        echo $?; cat /tmp/o/f; pgrep -x sleep; ls /sys/fs/cgroup | grep exitscope
        "$1" run --machine host --time-limit 2 -- sleep 6000; echo $?; pgrep -x sleep
        "$1" run --machine host --suite trixie -- true; echo $?
        "$1" run --machine host -- /no/such/program; echo $?
        "$1" run --machine host -- "$1" inner --ping >/tmp/inner; echo $?"#;
    let finished =
        outer().time_limit(Duration::from_secs(280)).run(&["sh", "-c", script, "sh", lab]).unwrap();
    let said = String::from_utf8_lossy(&finished.stderr).into_owned();
    let expected = "input\n/dev/kvm\n9\nx\n124\n125\n127\n0\n";
    assert_eq!(String::from_utf8(finished.stdout).unwrap(), expected, "{said}");
    // Where there is none, it says what there is instead.
    if !Path::new("/dev/kvm").exists() {
        let output = Command::new(lab).args(["run", "--machine", "host", "--", "true"]).output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        assert!(String::from_utf8_lossy(&output.stderr).contains("--machine vmx"));
    }
}

#[test]
fn a_kernel_given_by_path_boots() {
    let cache = lab::Cache::open().unwrap();
    let kernel = cache.kernel("bookworm", lab::Flavour::Plain, &|_| {}).unwrap();
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
    lab.args(["run", "--icount", "--kernel"]).arg(&kernel.image).arg("--modules").arg(&kernel.modules);
    let output = lab.args(["--", "uname", "-r"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), kernel.release);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn inner_vms_run_side_by_side_and_answer_pings() {
    let lab = env!("CARGO_BIN_EXE_lab");
    let fetched = Command::new(lab).args(["fetch", "bookworm"]).status().unwrap();
    assert!(fetched.success());
    let script = r#"
        "$1" inner --ping --name 'a,b "c"' --exec 'cat /proc/sys/kernel/osrelease; exit 5' >$LAB_OUT/first &
        first=$!
        "$1" inner --ping >$LAB_OUT/second; echo $?
        wait $first; echo $?; ls /sys/class/net"#;
    let finished =
        outer().time_limit(Duration::from_secs(280)).run(&["sh", "-c", script, "sh", lab]).unwrap();
    let said = String::from_utf8_lossy(&finished.stderr).into_owned();
    // The tap devices are gone again.
    assert_eq!(String::from_utf8(finished.stdout).unwrap(), "0\n5\nlo\n", "{said}");
    assert!(said.contains("guest=a,,b \"c\""), "{said}");
    assert!(said.contains("lab: ping 10.77.0.2: ok") && said.contains("lab: ping 10.77.1.2: ok"), "{said}");
    let first = std::fs::read_to_string(finished.out.join("first")).unwrap();
    assert!(first.contains("cloud-amd64\r\n"), "{first}");
    assert!(first.contains("lab: guest a,b \"c\": exec: exit 5"), "{first}");
}

#[test]
fn guests_share_a_disk_and_leave_it_as_it_was() {
    let lab = env!("CARGO_BIN_EXE_lab");
    let fetched = Command::new(lab).args(["fetch", "--system", "busybox"]).output().unwrap();
    let said = String::from_utf8(fetched.stderr).unwrap();
    assert!(fetched.status.success(), "{said}");
    let (_, disk) = said.lines().last().unwrap().rsplit_once(' ').unwrap();
    // One has the file, the other one the same as a block device.
    let script = r#"
        before=$(sha256sum <"$2")
        "$1" inner --system busybox --bus virtio --exec 'echo x >/y; sync' >$LAB_OUT/first 2>&1 &
        first=$!
        modprobe loop; busybox losetup -r /dev/loop0 "$2"
        LAB_SYSTEM_BUSYBOX=/dev/loop0 "$1" inner --system busybox --bus ide --exec 'ls /' >$LAB_OUT/second 2>&1; echo $?
        wait $first; echo $?
        [ "$before" = "$(sha256sum <"$2")" ]; echo $?
        LAB_SYSTEM_BUSYBOX=/dev/sdz "$1" inner --system busybox --bus ide; echo $?
        LAB_CACHE=/tmp "$1" inner --system debian; echo $?"#;
    let finished =
        outer().time_limit(Duration::from_secs(280)).run(&["sh", "-c", script, "sh", lab, disk]).unwrap();
    let said = String::from_utf8_lossy(&finished.stderr).into_owned();
    let read = |name: &str| std::fs::read_to_string(finished.out.join(name)).unwrap();
    let (first, second) = (read("first"), read("second"));
    let expected = "0\n0\n0\n125\n125\n";
    assert_eq!(String::from_utf8(finished.stdout).unwrap(), expected, "{said}{first}{second}");
    assert!(first.contains("disk vda1: ok") && second.contains("disk sda1: ok"), "{first}{second}");
    assert!(second.contains("file=/dev/loop0") && !second.contains("\ny\r\n"), "{second}");
    assert!(said.contains("/dev/sdz, named by LAB_SYSTEM_BUSYBOX: "), "{said}");
    assert!(said.contains("run: lab fetch --system debian bookworm"), "{said}");
}

/// A `lab run` that has started its command, and its QEMU's process id.
fn started(command: &[&str]) -> (Child, u32) {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
    lab.args(["run", "--no-stdin", "--"]).args(command).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut lab = lab.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(lab.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let children = format!("/proc/{0}/task/{0}/children", lab.id());
    let qemu = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    assert!(runs(qemu));
    (lab, qemu)
}

fn runs(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.contains("qemu") && !status.contains("State:\tZ")
}

fn wait_until_gone(process: u32) {
    while runs(process) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn no_qemu_is_left_behind() {
    let ready = ["sh", "-c", "echo ready; sleep 100000"];
    let (mut lab, qemu) = started(&ready);
    assert!(Command::new("kill").args(["-INT", &lab.id().to_string()]).status().unwrap().success());
    assert_eq!(lab.wait().unwrap().code(), Some(130));
    assert!(!runs(qemu));
    let (mut lab, qemu) = started(&ready);
    lab.kill().unwrap();
    assert_eq!(lab.wait().unwrap().signal(), Some(9));
    // The kernel kills it, in its own time; a QEMU that stays makes this wait for ever.
    wait_until_gone(qemu);
    let (mut lab, qemu) = started(&ready);
    assert!(Command::new("kill").arg(qemu.to_string()).status().unwrap().success());
    assert_eq!(lab.wait().unwrap().code(), Some(122));
    let (mut lab, qemu) = started(&["sh", "-c", "echo ready; while :; do echo; done"]);
    drop(lab.stdout.take());
    assert_eq!(lab.wait().unwrap().code(), Some(141));
    assert!(!runs(qemu));
}

#[test]
fn standard_input_goes_in_and_ends() {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
    lab.args(["run", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut lab = lab.spawn().unwrap();
    let mut input = lab.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&noise()).unwrap());
    let mut output = Vec::new();
    lab.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    writer.join().unwrap();
    assert!(output == noise(), "{} bytes", output.len());
    assert_eq!(lab.wait().unwrap().code(), Some(0));
}

#[test]
fn a_directory_given_keeps_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let (out, console) = (directory.path().join("a/b"), directory.path().join("console"));
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
    lab.arg("run").arg("--out").arg(&out).arg("--console").arg(&console).env("SEEN", "by name");
    let script = "echo $SEEN-$OTHER >$LAB_OUT/x; cd /etc; exec 2>/dev/kmsg; echo from the test >&2";
    lab.args(["--env", "SEEN", "--env", "OTHER=1", "--", "sh", "-c", script]);
    assert_eq!(lab.status().unwrap().code(), Some(0));
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(out.join("x")), "by name-1\n");
    assert!(Path::new(&console).exists());
}
