//! Runs exitscope and reads what it says.

use libbpf_rs::query::ProgInfoIter;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A hang is a failure, not a wait; nothing here takes nearly as long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The program under test.
pub fn exitscope() -> Command {
    Command::new(env!("CARGO_BIN_EXE_exitscope"))
}

/// Returns the source that tells most on this kernel: programs with KVM's types, or raw ones where it has none.
pub fn best_source() -> &'static str {
    if std::path::Path::new("/sys/kernel/btf/kvm").exists() { "btf" } else { "raw" }
}

/// Another program of this build.
pub fn built(path: &str) -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_exitscope")).with_file_name("").join(path);
    assert!(program.exists(), "{} is not built: cargo build --workspace --examples", program.display());
    program
}

/// The self-test's guest as a program of its own.
pub fn guest_program() -> PathBuf {
    built("examples/guest")
}

/// Runs a program, which must succeed. Returns its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} ended with {}:\n{}", output.status, all(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns everything that a program printed.
pub fn all(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Name of a file that is removed when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("exitscope-test-{}-{name}", std::process::id())))
    }

    pub fn read(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap_or_else(|error| panic!("{}: {error}", self.0.display()))
    }
}

impl AsRef<OsStr> for Scratch {
    fn as_ref(&self) -> &OsStr {
        self.0.as_ref()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A report in JSON.
pub struct Report(pub Value);

impl Report {
    pub fn parse(text: &str) -> Report {
        Report(serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}")))
    }

    pub fn number(&self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {}", self.0))
    }

    /// Counts by process, VM, vCPU and reason; `L2 CPUID` is one of the guest's own guests.
    pub fn counts(&self) -> BTreeMap<(u64, u64, u64, String), u64> {
        let rows = self.0["rows"].as_array().expect("rows");
        let key = |row: &Value| {
            let whose = if row["level"] == 2 { "L2 " } else { "" };
            let reason = format!("{whose}{}", row["reason"].as_str().unwrap());
            let number = |key: &str| row[key].as_u64().unwrap();
            (number("pid"), number("vm_id"), number("vcpu"), reason)
        };
        let counts: BTreeMap<_, _> =
            rows.iter().map(|row| (key(row), row["count"].as_u64().unwrap())).collect();
        assert_eq!(counts.len(), rows.len(), "two rows of one vCPU and reason");
        counts
    }

    /// The same without regard to the VM. What a process runs one after the other is added up.
    pub fn counts_by_process(&self) -> BTreeMap<(u64, u64, String), u64> {
        let mut sums = BTreeMap::new();
        for ((pid, _, vcpu, reason), count) in self.counts() {
            *sums.entry((pid, vcpu, reason)).or_insert(0) += count;
        }
        sums
    }

    /// Returns the number of exits of one process for one reason.
    pub fn count(&self, pid: u32, reason: &str) -> u64 {
        let rows = self.counts().into_iter();
        rows.filter(|((of, _, _, name), _)| *of == u64::from(pid) && name == reason)
            .map(|(_, count)| count)
            .sum()
    }

    /// Asserts that nothing was lost, and that the rows add up to all that was counted.
    pub fn assert_whole(&self) {
        let total = self.number("total");
        assert!(total > 0, "nothing was counted: {}", self.0);
        assert_eq!(self.number("lost"), 0, "{}", self.0["loss"]);
        assert_eq!(self.counts().values().sum::<u64>(), total, "the rows do not add up");
    }

    /// Asserts the same, and that KVM's count equals ours.
    pub fn assert_proven(&self) {
        self.assert_whole();
        assert_eq!(self.number("kvm_exits"), self.number("total"), "KVM counted otherwise: {}", self.0);
        for vcpu in self.0["vcpus"].as_array().expect("vcpus") {
            assert_eq!(vcpu["exits"], vcpu["kvm_exits"], "a vCPU differs: {vcpu}");
        }
    }
}

/// A program in the background, which is no more when this is dropped.
pub struct Background(pub Child);

impl Background {
    pub fn start(command: &mut Command) -> Background {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Background(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.0.id()).unwrap();
        // SAFETY: a plain system call on a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Output {
        let child = std::mem::replace(&mut self.0, Command::new("true").spawn().unwrap());
        child.wait_with_output().unwrap()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is so.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Waits until an exitscope that was started is counting: its programs are attached then.
pub fn wait_until_counting(exitscope: &Background) {
    wait_until_process_counts(exitscope.pid());
}

/// The same by the process: all programs that it has loaded are attached, those on exits last. With one program an exit there
/// is one more, which waits for a need to see exits where they happen.
pub fn wait_until_process_counts(pid: u32) {
    wait_for("exitscope to count", || {
        let folder = format!("/proc/{pid}/fd");
        let names = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        // A program on a perf event, such as a kprobe, has a link to it too; before 5.15 it has the event alone.
        let (mut programs, mut linked, mut events) = (Vec::new(), Vec::new(), 0_usize);
        for name in names {
            let Ok(link) = std::fs::read_link(PathBuf::from(&folder).join(&name)) else { continue };
            let link = link.to_string_lossy();
            let told = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", name.display()));
            let told = told.unwrap_or_default();
            let program =
                told.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok());
            if link.contains("[perf_event]") {
                events += 1;
            } else if ["bpf_link", "bpf-link"].iter().any(|word| link.contains(word)) {
                linked.extend(program);
                events = events.saturating_sub(usize::from(told.contains("link_type:\tperf")));
            } else if ["bpf-prog", "bpf_prog"].iter().any(|word| link.contains(word)) {
                programs.extend(program);
            }
        }
        programs.len() >= 2 && {
            let waits = ProgInfoIter::default()
                .any(|info| programs.contains(&info.id) && info.name == "on_exit_noted");
            let alone = programs.iter().filter(|program| !linked.contains(program)).count();
            alone <= events + usize::from(waits)
        }
    });
}
