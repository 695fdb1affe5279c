//! Functions and tracepoints of KVM's modules that programs hang on.

use super::programs::vmx;
use libbpf_rs::OpenProgramMut;
use std::path::Path;

/// Tells libbpf in which of KVM's modules a program's target is, where KVM is made of modules.
///
/// By itself libbpf goes through the types of the whole kernel, and does so again for each module until one has the target:
/// most of what starting took. A target that no module of KVM has is left to it.
pub fn name_module(program: &mut OpenProgramMut<'_>) {
    let section = program.section().to_string_lossy().into_owned();
    for module in modules_of(&section) {
        let Some((_, target)) = section.split_once('/') else { return };
        let has_types = Path::new("/sys/kernel/btf").join(module).exists();
        if has_types && program.set_attach_target(0, Some(format!("{module}:{target}"))).is_ok() {
            return;
        }
    }
}

/// Returns the modules that may have what a section names, the likeliest first; none where that is the kernel's own.
fn modules_of(section: &str) -> &'static [&'static str] {
    match section.trim_start_matches('?').split_once('/') {
        Some(("tp_btf", event)) if event.starts_with("kvm_") => &["kvm"],
        Some(("fentry" | "fexit", _)) if vmx() => &["kvm", "kvm_intel"],
        Some(("fentry" | "fexit", _)) => &["kvm", "kvm_amd"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_targets_of_kvm_are_looked_for_in_its_modules() {
        assert_eq!(modules_of("?tp_btf/kvm_exit"), ["kvm"]);
        assert_eq!(modules_of("fentry/kvm_vcpu_block")[0], "kvm");
        assert_eq!(modules_of("?fexit/svm_leave_smm").len(), 2);
        assert!(modules_of("?fentry/shutdown_interception")[1].starts_with("kvm_"));
        for other in ["tp_btf/sched_wakeup_new", "raw_tp/sched_process_exit", "?tp/kvm/kvm_exit", "tc"] {
            assert!(modules_of(other).is_empty(), "{other}");
        }
    }
}
