//! The host: the hardware that KVM uses, and KVM's parameters.

use super::Error;
use super::asm::Call;
use exitscope_model::Isa;
use kvm_bindings::CpuId;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the ISA that KVM uses, by the vendor module that is loaded; `None` if neither is, for example with a
/// software backend.
pub fn isa() -> Option<Isa> {
    let loaded = |module: &str| {
        let path = Path::new("/sys/module").join(module);
        // A module built into the kernel has no initstate, and its folder is there even on the other
        // vendor's hardware.
        match fs::read_to_string(path.join("initstate")) {
            Ok(state) => state.trim() == "live",
            Err(_) => path.exists(),
        }
    };
    match (loaded("kvm_intel"), loaded("kvm_amd")) {
        (true, false) => Some(Isa::Vmx),
        (false, true) => Some(Isa::Svm),
        (false, false) => None,
        (true, true) => {
            let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
            let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
            flags.split_ascii_whitespace().find_map(|flag| match flag {
                "vmx" => Some(Isa::Vmx),
                "svm" => Some(Isa::Svm),
                _ => None,
            })
        }
    }
}

/// The instruction that calls this hypervisor: KVM patches the other vendor's into its own, which costs
/// an exit more. `cpuid` decides where no vendor module does.
pub(super) fn call(isa: Option<Isa>, cpuid: &CpuId) -> Call {
    let amd = match isa {
        Some(isa) => isa == Isa::Svm,
        None => cpuid.as_slice().iter().any(|leaf| {
            // ebx of leaf 0 begins the vendor's name: "Auth"enticAMD, "Hygo"nGenuine
            leaf.function == 0 && [*b"Auth", *b"Hygo"].contains(&leaf.ebx.to_le_bytes())
        }),
    };
    if amd { Call::Vmmcall } else { Call::Vmcall }
}

/// Returns true if this processor is QEMU's emulation, by its name in CPUID leaf 0x4000_0000.
pub fn emulated() -> bool {
    // Newer compilers have this function safe.
    #[allow(unused_unsafe)]
    // SAFETY: every 64-bit processor has CPUID, and no leaf does harm.
    let leaf = unsafe { std::arch::x86_64::__cpuid(0x4000_0000) };
    [leaf.ebx, leaf.ecx, leaf.edx] == [*b"TCGT", *b"CGTC", *b"GTCG"].map(u32::from_le_bytes)
}

/// Checks that KVM runs with EPT or NPT.
pub(super) fn require_nested_paging(isa: Isa) -> Result<(), Error> {
    let (module, parameter) = match isa {
        Isa::Svm => ("kvm_amd", "npt"),
        _ => ("kvm_intel", "ept"),
    };
    let file = PathBuf::from(format!("/sys/module/{module}/parameters/{parameter}"));
    match fs::read_to_string(&file) {
        Ok(value) if matches!(value.trim(), "N" | "0") => {
            Err(Error::NoNestedPaging { file, parameter, found: value.trim().to_owned() })
        }
        _ => Ok(()),
    }
}

#[cfg(feature = "lab-tests")]
/// Returns the reason why KVM may offer its guests no SVM, and what to do.
pub(super) fn nested() -> String {
    match isa() {
        Some(Isa::Svm) => {
            let file = "/sys/module/kvm_amd/parameters/nested";
            let found = fs::read_to_string(file).unwrap_or_else(|error| error.to_string());
            format!("{file} says {:?}; load the module with nested=1", found.trim())
        }
        Some(Isa::Vmx) => "KVM uses VMX here; run this on AMD".into(),
        _ => "neither kvm_amd nor kvm_intel drives KVM here; run this on AMD".into(),
    }
}

/// Non-maskable interrupts of all CPUs since boot, by `/proc/interrupts`.
pub(super) fn nmis() -> Option<u64> {
    let interrupts = fs::read_to_string("/proc/interrupts").ok()?;
    let line = interrupts.lines().find_map(|line| line.trim_start().strip_prefix("NMI:"))?;
    line.split_ascii_whitespace().map_while(|word| word.parse::<u64>().ok()).reduce(|a, b| a + b)
}

#[cfg(feature = "lab-tests")]
/// Returns `CLOCK_MONOTONIC`, in nanoseconds.
pub(super) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
