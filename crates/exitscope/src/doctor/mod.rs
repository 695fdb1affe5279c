//! `exitscope doctor`: facts about this host, one line each, and the source that `stat` would use, which is tried.

mod trial;

use exitscope_collect::host::{Backend, Device, Facts, ModuleBtf, capability};
use exitscope_collect::{Probes, Programs};
use std::io::{self, Write};
use trial::Trial;

/// Result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is to be mended.
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

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    /// Subject.
    name: &'static str,
    /// Result.
    state: State,
    /// Finding.
    found: String,
    /// Remedy, with the exact command; empty if none is needed.
    advice: String,
}

/// Writes a line for each fact about this host, a line for each source that was tried, and a sentence that says which
/// one counts here. Returns true if one does.
///
/// # Errors
/// If `out` cannot be written.
pub fn run(out: &mut impl Write) -> io::Result<bool> {
    report(&Facts::probe(), &Trial::run(), out)
}

fn report(facts: &Facts, trial: &Trial, out: &mut impl Write) -> io::Result<bool> {
    for Check { name, state, found, advice } in checks(facts).into_iter().chain(tried(trial)) {
        let separator = if advice.is_empty() { "" } else { "; " };
        writeln!(out, "{:<8} {name:<13} {found}{separator}{advice}", state.word())?;
    }
    match &trial.result {
        Ok(works) => {
            writeln!(out, "\nexitscope will use the source `{}`: {}.", works.source.word(), works.figures())?;
            if let Some(note) = &works.note {
                writeln!(out, "Note: {note}.")?;
            }
        }
        Err(error) => writeln!(out, "\nexitscope can count nothing here yet: {error}.")?,
    }
    Ok(trial.result.is_ok())
}

/// Checks for the sources that were tried; those that fail alike are in one line.
fn tried(trial: &Trial) -> Vec<Check> {
    let refuse = if trial.result.is_ok() { warning } else { broken };
    let alike = trial.refused.chunk_by(|(_, one), (_, other)| one == other).map(|alike| {
        let words: Vec<&str> = alike.iter().map(|(source, _)| source.word()).collect();
        refuse("source", format!("{} refused: {}", words.join(", "), alike[0].1), "")
    });
    let works = trial.result.iter().map(|works| fine("source", format!("{} counts", works.source.word())));
    let programs = trial.result.iter().filter_map(|works| works.programs.as_ref().map(programs));
    alike.chain(works).chain(programs).collect()
}

/// Check of the programs that see an exit; the note of the source says why it has to be two.
fn programs(programs: &Programs) -> Check {
    const NAME: &str = "programs";
    match programs.probes {
        Probes::One => fine(NAME, "one for each exit, where the vCPU enters its guest again"),
        Probes::Pair if programs.because.is_some() => {
            warning(NAME, "two for each exit", "one would cost less; the note below says what is in its way")
        }
        Probes::Pair | Probes::Auto => fine(NAME, "two for each exit"),
    }
}

/// Checks of all facts, in the order in which they are shown.
fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![
        kvm(facts),
        device(facts),
        nesting(facts),
        processes(facts),
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
    match &facts.source.backend {
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

fn processes(facts: &Facts) -> Check {
    if facts.source.host_pids {
        fine("processes", "have the host's numbers")
    } else {
        warning(
            "processes",
            "a PID namespace (a container) of its own numbers them, and not the host",
            "this counts all VMs, and names them by the first KiB of their command lines; it cannot choose VMs (-p, -g), \
             count those of a command, run selftest, or look at threads beside vCPUs: for these run it on the host, or \
             in its PID namespace (docker run --pid=host, podman run --pid=host, in Kubernetes hostPID: true)",
        )
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

/// Checks the counters of a KVM that counts its own exits; `None` for Debian's KVM, which has none.
fn counters(facts: &Facts) -> Option<Check> {
    Some(match facts.source.counters? {
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

#[cfg(test)]
mod tests;
