//! This machine in place of an outer VM, where it has VT-x or AMD-V: the command runs on its own KVM, at full speed.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Outer, Place, Started};
use crate::error::Error;

/// Runs the job in a control group, as the second part of the outer VM's init does, and says the same.
const SCRIPT: &str = r#"
echo up >"$3"
(echo 0 >"$1/cgroup.procs" && exec env -i sh "$2") >"$4" 2>"$5"
echo "exit $?" >"$3"
exec sleep 10 <&-"#;

/// Checks that KVM can run on this machine.
pub(super) fn check() -> Result<(), Error> {
    let advice = "; --machine svm and --machine vmx emulate a host that has it";
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flag = |wanted: &str| {
        let lines = flags.lines().filter(|line| line.starts_with("flags"));
        lines.take(1).any(|line| line.split_whitespace().any(|flag| flag == wanted))
    };
    let module = match (flag("vmx"), flag("svm")) {
        (true, _) => "kvm-intel",
        (_, true) => "kvm-amd",
        _ => return Err(Error::Usage(format!("this machine's CPU shows neither vmx nor svm{advice}"))),
    };
    if !Path::new("/dev/kvm").exists() {
        return Err(Error::Usage(format!("there is no /dev/kvm; as root, run: modprobe {module}")));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Usage("what runs on this machine's own KVM has to be started as root".into()));
    }
    Ok(())
}

pub(super) fn start(outer: &Outer, place: &Place, job: &[u8]) -> Result<Started, Error> {
    if outer.smp != 1 || outer.memory.is_some() || outer.icount {
        return Err(Error::Usage("this machine has the CPUs, the memory and the time that it has".into()));
    }
    let file = place.scratch.join("job");
    fs::write(&file, job).map_err(Error::io(&file))?;
    let group = Group::new()?;
    let mut script = Command::new("sh");
    script.args(["-c", SCRIPT, "sh"]).arg(&group.0).arg(&file);
    let (mut ports, mut inherited) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (ours, theirs) = std::io::pipe().map_err(Error::io("a pipe"))?;
        script.arg(format!("/proc/self/fd/{}", theirs.as_raw_fd()));
        ports.push(Box::new(ours));
        inherited.push(OwnedFd::from(theirs));
    }
    let input = if outer.stdin { Stdio::inherit() } else { Stdio::null() };
    let process = place.start(&mut script, input, inherited)?;
    let mut ports = ports.into_iter();
    let mut port = || ports.next().expect("as many ports as were made above");
    Ok(Started {
        process,
        emulator: "the shell",
        control: port(),
        stdout: port(),
        stderr: port(),
        held: Box::new(group),
        collect: None,
    })
}

/// A control group with all that the command starts, which ends with it.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Self, Error> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/exitscope-lab-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| {
            let what = format!("{} (it takes a unified control group hierarchy)", path.display());
            Error::io(what)(error)
        })?;
        Ok(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Fails only where nothing is left to be ended.
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        // Until the last of them has gone, the group cannot.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
