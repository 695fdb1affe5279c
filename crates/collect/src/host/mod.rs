//! Facts about this host, each found by a probe.

mod facts;
mod machine;
mod memory;
mod source;
mod tracefs;

pub use facts::{Device, Facts, ModuleBtf, capability, lockdown};
pub use machine::Machine;
pub use memory::memory_of;
pub use source::{COUNTERS_SWITCH, SourceFacts, counters};
pub use tracefs::{TracefsError, debugfs, has_event, tracefs, tracepoint_field};

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Modules that drive KVM on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The vendor module for the CPU's own virtualisation: `kvm_intel` or `kvm_amd`.
    Vendor(String),
    /// Other modules that drive KVM, e.g. `kvm_pvm`.
    Software(Vec<String>),
    /// KVM is there, but no module that drives it.
    None,
    /// There is no KVM.
    NoKvm,
}

/// Finds the modules that drive KVM, by `/sys/module` and the CPU's flags.
pub fn backend() -> Backend {
    backend_of(&modules(), &first_cpu())
}

/// The part of `/proc/cpuinfo` up to the flags of the first CPU. The others have the same, and there may be hundreds.
fn first_cpu() -> String {
    let Ok(file) = File::open("/proc/cpuinfo") else { return String::new() };
    let mut text = String::new();
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        text += &line;
        text.push('\n');
        if line.starts_with("flags") {
            break;
        }
    }
    text
}

/// Returns true if this kernel's release is before `major.minor`. For words only: probes decide what is done.
pub fn kernel_is_before(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.trim().parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(a), Some(b)) if (a, b) < (major, minor))
}

/// Returns true if this process's numbers for processes are the kernel's own. If `/proc` does not tell, they are taken to be.
pub(crate) fn in_first_pid_namespace() -> bool {
    // PROC_PID_INIT_INO of include/linux/proc_ns.h (since 6.18 PID_NS_INIT_INO of include/uapi/linux/nsfs.h).
    const FIRST: u64 = 0xefff_fffc;
    fs::metadata("/proc/self/ns/pid").map_or(true, |namespace| namespace.ino() == FIRST)
}

/// Modules whose name begins with `kvm`: loaded, or built in (sysfs shows those that have parameters or a version;
/// KVM's have).
fn modules() -> Vec<String> {
    let Ok(entries) = Path::new("/sys/module").read_dir() else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with("kvm"));
    names.sort();
    names
}

fn backend_of(modules: &[String], cpuinfo: &str) -> Backend {
    if !modules.iter().any(|name| name == "kvm") {
        return Backend::NoKvm;
    }
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
    let has = |flag: &str| flags.split_ascii_whitespace().any(|found| found == flag);
    // A vendor module that is built in is there on the other vendor's CPU too.
    for (module, flag) in [("kvm_intel", "vmx"), ("kvm_amd", "svm")] {
        if has(flag) && modules.iter().any(|name| name == module) {
            return Backend::Vendor(module.to_owned());
        }
    }
    let others = modules.iter().filter(|name| !matches!(name.as_str(), "kvm" | "kvm_intel" | "kvm_amd"));
    let others: Vec<String> = others.filter(|name| name.starts_with("kvm_")).cloned().collect();
    if others.is_empty() { Backend::None } else { Backend::Software(others) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends() {
        let of = |modules: &[&str], flags: &str| {
            let modules: Vec<String> = modules.iter().map(|&name| name.to_owned()).collect();
            backend_of(&modules, &format!("processor\t: 0\nflags\t\t: fpu {flags} lm\nbugs\t: svm vmx\n"))
        };
        assert_eq!(of(&[], "vmx"), Backend::NoKvm);
        assert_eq!(of(&["kvm"], "vmx"), Backend::None);
        assert_eq!(of(&["kvm", "kvm_intel"], "vmx"), Backend::Vendor("kvm_intel".into()));
        assert_eq!(of(&["kvm", "kvm_amd", "kvm_intel"], "svm"), Backend::Vendor("kvm_amd".into()));
        assert_eq!(of(&["kvm", "kvm_intel"], ""), Backend::None);
        assert_eq!(of(&["kvm", "kvm_amd", "kvm_pvm"], ""), Backend::Software(vec!["kvm_pvm".into()]));
    }
}
