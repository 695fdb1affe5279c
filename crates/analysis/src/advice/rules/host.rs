//! Rules about settings of the host that make each exit dearer.

use crate::advice::{Evidence, Finding, Rule};
use exitscope_model::unit;

/// Rules about the host.
pub static RULES: &[Rule] = &[Rule {
    name: "flush-at-each-entry",
    source: "Linux Documentation/admin-guide/hw-vuln/l1tf.rst, \"Mitigation control for KVM - module parameter\"",
    replaces: &[],
    check: flush,
}];

/// Fewest exits a second at which a flush at each entry costs a noticeable part of a CPU.
const PER_SECOND: f64 = 10_000.0;

fn flush(evidence: &Evidence<'_>) -> Option<Finding> {
    let all = evidence.all();
    let is_always = evidence.host.parameter("kvm_intel", "vmentry_l1d_flush") == Some("always");
    let often = evidence.rate(all.exits) >= PER_SECOND;
    if !evidence.is_vmx() || !is_always || !often {
        return None;
    }
    let by = match evidence.host.fact("mitigations") {
        Some(value) => format!(", and the host was booted with `mitigations={value}`"),
        None => String::new(),
    };
    Some(Finding {
        seen: format!(
            "{} a second, and KVM flushes the L1 data cache at each entry (`kvm_intel.vmentry_l1d_flush` is `always`{by}).",
            unit::rate(evidence.rate(all.exits))
        ),
        helps: "Flush only after exits that touched what others own, as is the default: `kvm-intel.vmentry_l1d_flush=cond` on the \
                host's command line; where the CPU is not affected (/sys/devices/system/cpu/vulnerabilities/l1tf), or all \
                guests are trusted, `never`."
            .to_owned(),
        about: all,
    })
}
