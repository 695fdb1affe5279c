//! One look at everything that decides what can be counted here.

use super::{Backend, SourceFacts, debugfs, tracefs};
use libbpf_rs::libbpf_sys;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Facts about a host, as a probe found them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The kernel's release.
    pub release: String,
    /// Facts that decide which sources are tried.
    pub source: SourceFacts,
    /// `/dev/kvm` as this process finds it. Counting does not need it; a guest does.
    pub device: Device,
    /// The vendor module's parameter `nested`, as it is written there.
    pub nested: Option<String>,
    /// `/sys/kernel/btf/vmlinux` is there.
    pub vmlinux_btf: bool,
    /// Types of KVM's modules: of `kvm` and, if there is one, of the vendor module.
    pub module_btf: Vec<(String, ModuleBtf)>,
    /// The kernel's answer to creating a map and loading a program of two instructions.
    pub bpf: Result<(), String>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<String>,
    /// See [`lockdown`].
    pub lockdown: Option<String>,
    /// The capabilities in effect, a bit each (capabilities(7)).
    pub capabilities: u64,
    /// Mount point of tracefs.
    pub tracefs: Option<PathBuf>,
    /// tracefs has KVM's events `kvm_exit` and `kvm_entry`, readable.
    pub kvm_events: bool,
    /// Mount point of debugfs.
    pub debugfs: Option<PathBuf>,
    /// KVM's statistics in debugfs can be read.
    pub kvm_debugfs: bool,
    /// `kernel.bpf_stats_enabled`: the kernel times each run of a BPF program, which costs time itself.
    pub bpf_stats: bool,
    /// Limit of locked memory in bytes; `None` for no limit. Kernels before 5.11 take BPF tables for locked
    /// memory.
    pub memlock: Option<u64>,
    /// The kernel is older than 5.11: `memlock` limits BPF tables.
    pub memlock_counts: bool,
}

/// A device as this process finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// It can be opened.
    Open,
    /// There is none.
    Missing,
    /// It is there, but cannot be opened, with the cause.
    Refused(String),
}

/// Where the types of a module are described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleBtf {
    /// In `/sys/kernel/btf/MODULE`.
    Own,
    /// The module is part of the kernel, and so are its types.
    BuiltIn,
    /// Nowhere.
    Missing,
}

/// A capability's number in linux/capability.h.
pub mod capability {
    /// Nearly everything; before 5.8 BPF too.
    pub const SYS_ADMIN: u32 = 21;
    /// Reading the kernel's memory from BPF programs.
    pub const PERFMON: u32 = 38;
    /// Loading BPF programs.
    pub const BPF: u32 = 39;
}

impl Facts {
    /// Looks at everything. Nothing is changed; a BPF map and a program are made and dropped.
    pub fn probe() -> Facts {
        let source = SourceFacts::probe();
        let vendor = if let Backend::Vendor(name) = &source.backend { Some(name.clone()) } else { None };
        let vmlinux_btf = Path::new("/sys/kernel/btf/vmlinux").exists();
        let nested = vendor.as_ref().and_then(|name| line(format!("/sys/module/{name}/parameters/nested")));
        let modules =
            ["kvm".to_owned()].into_iter().filter(|_| source.backend != Backend::NoKvm).chain(vendor);
        let module_btf = modules.map(|name| (name.clone(), module_btf(&name, vmlinux_btf))).collect();
        let tracefs = tracefs();
        let debugfs = debugfs();
        let events = tracefs.as_ref().map(|place| place.join("events/kvm"));
        let release = line("/proc/sys/kernel/osrelease").unwrap_or_default();
        Facts {
            source,
            device: device(),
            nested,
            vmlinux_btf,
            module_btf,
            bpf: try_bpf(),
            unprivileged_bpf_disabled: line("/proc/sys/kernel/unprivileged_bpf_disabled"),
            lockdown: lockdown(),
            capabilities: effective(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
            kvm_events: events.is_some_and(|events| {
                ["kvm_exit", "kvm_entry"]
                    .iter()
                    .all(|event| fs::read(events.join(event).join("format")).is_ok())
            }),
            kvm_debugfs: debugfs.as_ref().is_some_and(|place| fs::read(place.join("kvm/exits")).is_ok()),
            tracefs,
            debugfs,
            bpf_stats: line("/proc/sys/kernel/bpf_stats_enabled").is_some_and(|value| value != "0"),
            memlock: memlock(),
            memlock_counts: before(&release, (5, 11)),
            release,
        }
    }

    /// Returns true if a capability is in effect; `CAP_SYS_ADMIN` contains the two others.
    pub fn can(&self, capability: u32) -> bool {
        [capability, capability::SYS_ADMIN].iter().any(|bit| self.capabilities >> bit & 1 == 1)
    }

    /// Returns true if the types of all of KVM are known.
    pub fn kvm_types(&self) -> bool {
        self.vmlinux_btf && self.module_btf.iter().all(|&(_, btf)| btf != ModuleBtf::Missing)
    }
}

/// The kernel's lockdown, `none` included (kernel_lockdown(7)); `None` where it has none, or securityfs is not mounted
/// and does not tell.
pub fn lockdown() -> Option<String> {
    line("/sys/kernel/security/lockdown").map(|text| chosen(&text))
}

fn line(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn device() -> Device {
    match fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Device::Open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Device::Missing,
        Err(error) => Device::Refused(error.to_string()),
    }
}

fn module_btf(module: &str, vmlinux: bool) -> ModuleBtf {
    // Only what was loaded has a state.
    let loaded = Path::new("/sys/module").join(module).join("initstate").exists();
    match (loaded, Path::new("/sys/kernel/btf").join(module).exists()) {
        (true, true) => ModuleBtf::Own,
        (false, _) if vmlinux => ModuleBtf::BuiltIn,
        _ => ModuleBtf::Missing,
    }
}

/// Makes a map, and a program that may be attached to a tracepoint.
fn try_bpf() -> Result<(), String> {
    let name: &CStr = c"exitscope_probe";
    // SAFETY: the name is a C string, and no options are given.
    let map = unsafe {
        libbpf_sys::bpf_map_create(libbpf_sys::BPF_MAP_TYPE_ARRAY, name.as_ptr(), 4, 8, 1, std::ptr::null())
    };
    close("creating a BPF map", map)?;
    // r0 = 0; exit
    let mut program = [libbpf_sys::bpf_insn::default(); 2];
    program[0].code = 0xb7;
    program[1].code = 0x95;
    // SAFETY: names and licence are C strings, the instructions are two, and no options are given.
    let program = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_RAW_TRACEPOINT,
            name.as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            2,
            std::ptr::null_mut(),
        )
    };
    close("loading a BPF program", program)
}

fn close(what: &str, descriptor: i32) -> Result<(), String> {
    if descriptor < 0 {
        return Err(format!("{what}: {}", io::Error::from_raw_os_error(-descriptor)));
    }
    // SAFETY: the kernel just gave it to us, and nobody else has it.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok(())
}

/// The choice in brackets: `none [integrity] confidentiality`.
fn chosen(text: &str) -> String {
    text.split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or(text, |(chosen, _)| chosen)
        .to_owned()
}

fn effective(status: &str) -> u64 {
    let found = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    found.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn memlock() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writing.
    let refused = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (refused == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

fn before(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < version,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsers() {
        assert_eq!(chosen("none [integrity] confidentiality"), "integrity");
        assert_eq!(chosen("strange"), "strange");
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), 0x1ff_ffff_ffff);
        assert_eq!(effective(""), 0);
        assert!(before("5.10.0-28-amd64", (5, 11)));
        assert!(!before("6.1.0", (5, 11)));
        assert!(!before("", (5, 11)));
    }

    #[test]
    fn this_host() {
        let facts = Facts::probe();
        assert!(!facts.release.is_empty());
        assert_eq!(facts.module_btf.is_empty(), facts.source.backend == Backend::NoKvm);
        assert_eq!(facts.device == Device::Missing, !Path::new("/dev/kvm").exists());
    }
}
