//! `exitscope doctor`: what this host offers for counting, one line each: fine, or what to do.

use exitscope_collect::host::{Backend, Device, Facts, ModuleBtf, capability};
use std::io::{self, Write};

/// How it stands with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Fine,
    /// Exits can be counted, with less to tell, or at a higher cost.
    Warning,
    /// Nothing can be counted before this is mended.
    Broken,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Fine => "fine",
            State::Warning => "warning",
            State::Broken => "broken",
        }
    }
}

/// One line of the doctor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do, with the exact command; empty if nothing.
    pub advice: String,
}

/// Looks at this host and writes a line for each thing, and one for what will be counted here. Whether anything can
/// be.
///
/// # Errors
/// If `out` cannot be written.
pub fn run(out: &mut impl Write) -> io::Result<bool> {
    report(&Facts::probe(), out)
}

fn report(facts: &Facts, out: &mut impl Write) -> io::Result<bool> {
    for Check { name, state, found, advice } in checks(facts) {
        let separator = if advice.is_empty() { "" } else { "; " };
        writeln!(out, "{:<8} {name:<13} {found}{separator}{advice}", state.word())?;
    }
    let (usable, sentence) = verdict(facts);
    writeln!(out, "\n{sentence}")?;
    Ok(usable)
}

/// Everything that is looked at, in the order it is shown.
pub fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![
        kvm(facts),
        device(facts),
        nesting(facts),
        types(facts),
        bpf(facts),
        capabilities(facts),
        tracefs(facts),
        debugfs(facts),
    ];
    checks.extend(counters(facts));
    checks.extend([bpf_stats(facts), memlock(facts)]);
    checks
}

fn fine(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, state: State::Fine, found: found.into(), advice: String::new() }
}

fn warning(name: &'static str, found: impl Into<String>, advice: &str) -> Check {
    Check { name, state: State::Warning, found: found.into(), advice: advice.into() }
}

fn broken(name: &'static str, found: impl Into<String>, advice: &str) -> Check {
    Check { name, state: State::Broken, found: found.into(), advice: advice.into() }
}

fn kvm(facts: &Facts) -> Check {
    let found = |what: &str| format!("{what}, kernel {}", facts.release);
    let load =
        "load it with: modprobe kvm_intel, or: modprobe kvm_amd (the firmware must allow VT-x or AMD-V)";
    match &facts.backend {
        Backend::Vendor(module) => fine("KVM", found(module)),
        Backend::Software(modules) => warning(
            "KVM",
            found(&modules.join(" and ")),
            "its exits never pass kvm_exit: for reasons and times a host with VT-x or AMD-V is needed",
        ),
        Backend::None => broken("KVM", found("no backend"), load),
        Backend::NoKvm => broken("KVM", found("not loaded"), load),
    }
}

fn device(facts: &Facts) -> Check {
    match &facts.device {
        Device::Open => fine("/dev/kvm", "opens"),
        Device::Missing => warning(
            "/dev/kvm",
            "missing",
            "no guest can start; once KVM's modules are loaded it is made by: mknod /dev/kvm c 10 232",
        ),
        Device::Refused(why) => warning(
            "/dev/kvm",
            why.clone(),
            "counting does not need it; to start guests, join its group: usermod -aG kvm $USER",
        ),
    }
}

fn nesting(facts: &Facts) -> Check {
    match facts.nested.as_deref() {
        Some("1" | "Y") => fine("nesting", "on"),
        Some(_) => fine("nesting", "off: guests cannot run KVM themselves"),
        None => fine("nesting", "does not apply: no vendor module"),
    }
}

fn types(facts: &Facts) -> Check {
    if !facts.vmlinux_btf {
        return warning(
            "types (BTF)",
            "no /sys/kernel/btf/vmlinux",
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions' are",
        );
    }
    let places = facts.module_btf.iter().map(|(module, place)| match place {
        ModuleBtf::Own => format!("{module} in its own"),
        ModuleBtf::BuiltIn => format!("{module} in vmlinux"),
        ModuleBtf::Missing => format!("{module} nowhere"),
    });
    let found = ["vmlinux".to_owned()].into_iter().chain(places).collect::<Vec<_>>().join(", ");
    if facts.kvm_types() {
        fine("types (BTF)", found)
    } else {
        warning(
            "types (BTF)",
            found,
            "use a kernel with CONFIG_DEBUG_INFO_BTF_MODULES=y, and modules that were built with it",
        )
    }
}

fn bpf(facts: &Facts) -> Check {
    let mut settings = Vec::new();
    if let Some(value) = &facts.unprivileged_bpf_disabled {
        settings.push(format!("kernel.unprivileged_bpf_disabled={value}"));
    }
    if let Some(value) = &facts.lockdown {
        settings.push(format!("lockdown={value}"));
    }
    let settings = if settings.is_empty() { String::new() } else { format!(" ({})", settings.join(", ")) };
    let refuse = |found: String, advice: &str| {
        // debugfs tells something without BPF.
        let check = if facts.kvm_debugfs { warning } else { broken };
        check("BPF", format!("{found}{settings}"), advice)
    };
    // Lockdown of that degree lets programs load, and read nothing.
    if facts.lockdown.as_deref() == Some("confidentiality") {
        return refuse("programs cannot read the kernel's memory".into(), "boot with lockdown=integrity");
    }
    match &facts.bpf {
        Ok(()) => fine("BPF", format!("maps and programs load{settings}")),
        Err(why) if facts.can(capability::BPF) && facts.can(capability::PERFMON) => refuse(
            why.clone(),
            "the kernel or a container's seccomp filter forbids it: run this on the host itself",
        ),
        Err(why) => refuse(why.clone(), "run this as root: sudo exitscope doctor"),
    }
}

fn capabilities(facts: &Facts) -> Check {
    let wanted = [("CAP_BPF", capability::BPF), ("CAP_PERFMON", capability::PERFMON)];
    let missing: Vec<&str> =
        wanted.iter().filter(|(_, bit)| !facts.can(*bit)).map(|(name, _)| *name).collect();
    let admin = facts.capabilities >> capability::SYS_ADMIN & 1 == 1;
    if !missing.is_empty() {
        let found = format!("{} missing", missing.join(" and "));
        return warning("capabilities", found, "run this as root: sudo exitscope doctor");
    }
    if !admin {
        return warning(
            "capabilities",
            "CAP_SYS_ADMIN missing, without which the types of KVM's modules cannot be read",
            "run this as root: sudo exitscope doctor",
        );
    }
    fine("capabilities", "CAP_SYS_ADMIN, which contains CAP_BPF and CAP_PERFMON")
}

fn tracefs(facts: &Facts) -> Check {
    match &facts.tracefs {
        Some(place) if facts.kvm_events => fine("tracefs", format!("{} has KVM's events", place.display())),
        Some(place) => warning(
            "tracefs",
            format!("{}: KVM's events cannot be read", place.display()),
            "load KVM's modules and run this as root; only the source `tracepoint` needs it",
        ),
        None if facts.kvm_types() => fine("tracefs", "not mounted; only the source `tracepoint` needs it"),
        None => warning(
            "tracefs",
            "not mounted",
            "without types it is needed: mount -t tracefs tracefs /sys/kernel/tracing",
        ),
    }
}

fn debugfs(facts: &Facts) -> Check {
    match &facts.debugfs {
        Some(place) if facts.kvm_debugfs => fine("debugfs", format!("{}/kvm is there", place.display())),
        _ if facts.bpf.is_ok() => fine("debugfs", "not there; only needed where BPF is forbidden"),
        Some(place) => warning(
            "debugfs",
            format!("{}/kvm/exits cannot be read", place.display()),
            "run this as root, on a kernel that is not locked down",
        ),
        None => warning(
            "debugfs",
            "not mounted",
            "where BPF is forbidden it is needed: mount -t debugfs debugfs /sys/kernel/debug",
        ),
    }
}

/// Nothing to say of Debian's KVM, which has none.
fn counters(facts: &Facts) -> Option<Check> {
    Some(match facts.counters? {
        true => fine("counters", "KVM counts its own exits, for the source `kernel`"),
        false => warning(
            "counters",
            "KVM can count its own exits and does not",
            "for the source `kernel`: echo 1 >/sys/module/kvm/parameters/exitscope",
        ),
    })
}

fn bpf_stats(facts: &Facts) -> Check {
    if facts.bpf_stats {
        warning(
            "BPF timing",
            "on: each run of a BPF program costs more",
            "switch it off with: sysctl kernel.bpf_stats_enabled=0",
        )
    } else {
        fine("BPF timing", "off")
    }
}

fn memlock(facts: &Facts) -> Check {
    match facts.memlock {
        _ if !facts.memlock_counts => fine("memory lock", "not counted for BPF by this kernel"),
        Some(bytes) if bytes < 256 << 20 => {
            warning("memory lock", format!("at most {bytes} bytes"), "raise it with: ulimit -l unlimited")
        }
        Some(bytes) => fine("memory lock", format!("at most {bytes} bytes")),
        None => fine("memory lock", "unlimited"),
    }
}

/// Whether anything can be counted here, and what by which source.
fn verdict(facts: &Facts) -> (bool, String) {
    let bpf = facts.bpf.is_ok()
        && facts.can(capability::BPF)
        && facts.can(capability::PERFMON)
        && facts.lockdown.as_deref() != Some("confidentiality");
    let vendor = matches!(facts.backend, Backend::Vendor(_));
    let none = matches!(facts.backend, Backend::None | Backend::NoKvm);
    let source = if none {
        None
    } else if bpf && vendor && facts.kvm_types() {
        Some("the source `btf`: every exit with its reason and host time, checked against KVM's own count")
    } else if bpf && vendor && facts.kvm_events {
        Some("the source `tracepoint`: every exit with its reason and host time, at a higher cost for each")
    } else if vendor && facts.counters == Some(true) && facts.debugfs.is_some() {
        Some("the source `kernel`: every exit with its reason, counted by KVM itself; no times")
    } else if bpf && facts.kvm_types() {
        Some("the source `kvmstat`: exits of each vCPU in total and by KVM's classes; no reasons, no times")
    } else if facts.kvm_debugfs {
        Some(
            "the source `kvmstat` by debugfs: exits of each VM in total and by KVM's classes; no vCPUs, no reasons, no times",
        )
    } else {
        None
    };
    match source {
        Some(source) => (true, format!("exitscope will use {source}.")),
        None => (
            false,
            "exitscope can count nothing here yet: mend what is broken or warned of above.".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            release: "6.12.48+deb13-amd64".into(),
            backend: Backend::Vendor("kvm_intel".into()),
            device: Device::Open,
            nested: Some("Y".into()),
            vmlinux_btf: true,
            module_btf: vec![("kvm".into(), ModuleBtf::Own), ("kvm_intel".into(), ModuleBtf::Own)],
            bpf: Ok(()),
            unprivileged_bpf_disabled: Some("2".into()),
            lockdown: Some("none".into()),
            capabilities: 0x1ff_ffff_ffff,
            tracefs: Some("/sys/kernel/tracing".into()),
            kvm_events: true,
            debugfs: Some("/sys/kernel/debug".into()),
            kvm_debugfs: true,
            counters: None,
            bpf_stats: false,
            memlock: Some(8 << 20),
            memlock_counts: false,
        }
    }

    fn told(facts: &Facts, usable: bool) -> String {
        let mut out = Vec::new();
        assert_eq!(report(facts, &mut out).unwrap(), usable);
        String::from_utf8(out).unwrap()
    }

    fn last(facts: &Facts, usable: bool) -> String {
        told(facts, usable).lines().last().unwrap().to_owned()
    }

    #[test]
    fn a_good_host() {
        insta::assert_snapshot!(told(&good(), true), @r"
        fine     KVM           kvm_intel, kernel 6.12.48+deb13-amd64
        fine     /dev/kvm      opens
        fine     nesting       on
        fine     types (BTF)   vmlinux, kvm in its own, kvm_intel in its own
        fine     BPF           maps and programs load (kernel.unprivileged_bpf_disabled=2, lockdown=none)
        fine     capabilities  CAP_SYS_ADMIN, which contains CAP_BPF and CAP_PERFMON
        fine     tracefs       /sys/kernel/tracing has KVM's events
        fine     debugfs       /sys/kernel/debug/kvm is there
        fine     BPF timing    off
        fine     memory lock   not counted for BPF by this kernel

        exitscope will use the source `btf`: every exit with its reason and host time, checked against KVM's own count.
        ");
    }

    #[test]
    fn no_kvm() {
        let facts = Facts {
            backend: Backend::NoKvm,
            device: Device::Missing,
            nested: None,
            module_btf: Vec::new(),
            kvm_events: false,
            kvm_debugfs: false,
            ..good()
        };
        insta::assert_snapshot!(told(&facts, false), @r"
        broken   KVM           not loaded, kernel 6.12.48+deb13-amd64; load it with: modprobe kvm_intel, or: modprobe kvm_amd (the firmware must allow VT-x or AMD-V)
        warning  /dev/kvm      missing; no guest can start; once KVM's modules are loaded it is made by: mknod /dev/kvm c 10 232
        fine     nesting       does not apply: no vendor module
        fine     types (BTF)   vmlinux
        fine     BPF           maps and programs load (kernel.unprivileged_bpf_disabled=2, lockdown=none)
        fine     capabilities  CAP_SYS_ADMIN, which contains CAP_BPF and CAP_PERFMON
        warning  tracefs       /sys/kernel/tracing: KVM's events cannot be read; load KVM's modules and run this as root; only the source `tracepoint` needs it
        fine     debugfs       not there; only needed where BPF is forbidden
        fine     BPF timing    off
        fine     memory lock   not counted for BPF by this kernel

        exitscope can count nothing here yet: mend what is broken or warned of above.
        ");
    }

    #[test]
    fn no_root() {
        let facts = Facts {
            device: Device::Refused("Permission denied (os error 13)".into()),
            bpf: Err("creating a BPF map: Operation not permitted (os error 1)".into()),
            capabilities: 0,
            kvm_events: false,
            kvm_debugfs: false,
            ..good()
        };
        insta::assert_snapshot!(told(&facts, false), @r"
        fine     KVM           kvm_intel, kernel 6.12.48+deb13-amd64
        warning  /dev/kvm      Permission denied (os error 13); counting does not need it; to start guests, join its group: usermod -aG kvm $USER
        fine     nesting       on
        fine     types (BTF)   vmlinux, kvm in its own, kvm_intel in its own
        broken   BPF           creating a BPF map: Operation not permitted (os error 1) (kernel.unprivileged_bpf_disabled=2, lockdown=none); run this as root: sudo exitscope doctor
        warning  capabilities  CAP_BPF and CAP_PERFMON missing; run this as root: sudo exitscope doctor
        warning  tracefs       /sys/kernel/tracing: KVM's events cannot be read; load KVM's modules and run this as root; only the source `tracepoint` needs it
        warning  debugfs       /sys/kernel/debug/kvm/exits cannot be read; run this as root, on a kernel that is not locked down
        fine     BPF timing    off
        fine     memory lock   not counted for BPF by this kernel

        exitscope can count nothing here yet: mend what is broken or warned of above.
        ");
    }

    #[test]
    fn a_software_backend() {
        let facts = Facts {
            release: "6.18.44".into(),
            backend: Backend::Software(vec!["kvm_pvm".into()]),
            nested: None,
            module_btf: vec![("kvm".into(), ModuleBtf::BuiltIn)],
            unprivileged_bpf_disabled: None,
            lockdown: None,
            tracefs: None,
            kvm_events: false,
            debugfs: None,
            kvm_debugfs: false,
            bpf_stats: true,
            ..good()
        };
        insta::assert_snapshot!(told(&facts, true), @r"
        warning  KVM           kvm_pvm, kernel 6.18.44; its exits never pass kvm_exit: for reasons and times a host with VT-x or AMD-V is needed
        fine     /dev/kvm      opens
        fine     nesting       does not apply: no vendor module
        fine     types (BTF)   vmlinux, kvm in vmlinux
        fine     BPF           maps and programs load
        fine     capabilities  CAP_SYS_ADMIN, which contains CAP_BPF and CAP_PERFMON
        fine     tracefs       not mounted; only the source `tracepoint` needs it
        fine     debugfs       not there; only needed where BPF is forbidden
        warning  BPF timing    on: each run of a BPF program costs more; switch it off with: sysctl kernel.bpf_stats_enabled=0
        fine     memory lock   not counted for BPF by this kernel

        exitscope will use the source `kvmstat`: exits of each vCPU in total and by KVM's classes; no reasons, no times.
        ");
    }

    #[test]
    fn which_source() {
        let no_types = Facts { module_btf: vec![("kvm".into(), ModuleBtf::Missing)], ..good() };
        insta::assert_snapshot!(last(&no_types, true), @"exitscope will use the source `tracepoint`: every exit with its reason and host time, at a higher cost for each.");
        let locked = Facts { lockdown: Some("confidentiality".into()), ..good() };
        insta::assert_snapshot!(last(&locked, true), @"exitscope will use the source `kvmstat` by debugfs: exits of each VM in total and by KVM's classes; no vCPUs, no reasons, no times.");
        let counting = Facts { counters: Some(true), ..locked.clone() };
        insta::assert_snapshot!(last(&counting, true), @"exitscope will use the source `kernel`: every exit with its reason, counted by KVM itself; no times.");
        assert!(told(&counting, true).contains("fine     counters      KVM counts its own exits"));
        let off = Facts { counters: Some(false), ..locked };
        assert!(last(&off, true).contains("`kvmstat`"));
        assert!(told(&off, true).contains("warning  counters"));
        let nothing = Facts { kvm_debugfs: false, bpf: Err("no".into()), ..good() };
        insta::assert_snapshot!(last(&nothing, false), @"exitscope can count nothing here yet: mend what is broken or warned of above.");
        let unloaded = Facts { backend: Backend::None, ..good() };
        insta::assert_snapshot!(last(&unloaded, false), @"exitscope can count nothing here yet: mend what is broken or warned of above.");
    }
}
