//! Look-up of functions in the type information of the kernel and of KVM's modules: a program can call or hang on those that
//! are there.

use std::cell::OnceCell;
use std::fs;

/// The kernel's own types.
const KERNEL: &str = "vmlinux";

/// Returns true if the kernel's own types have a function of this name, by the names that are in them.
pub fn kernel_has(function: &str) -> bool {
    has(&types(KERNEL), function)
}

/// Functions of KVM: the vendor's module, the common one, and the kernel itself, where KVM may be built in and whose names its
/// modules do not repeat. Each is read when it is first needed, and once.
pub struct Functions([(&'static str, OnceCell<Vec<u8>>); 3]);

impl Functions {
    /// Returns those of KVM on Intel's processors with `vmx`, else on AMD's.
    pub fn of_kvm(vmx: bool) -> Functions {
        let vendor = if vmx { "kvm_intel" } else { "kvm_amd" };
        Functions([vendor, "kvm", KERNEL].map(|name| (name, OnceCell::new())))
    }

    /// Returns true if there is a function of this name.
    pub fn has(&self, function: &str) -> bool {
        self.0.iter().any(|(name, read)| has(read.get_or_init(|| types(name)), function))
    }
}

/// Reads the type information of a module, or of the kernel; empty where there is none.
fn types(name: &str) -> Vec<u8> {
    fs::read(format!("/sys/kernel/btf/{name}")).unwrap_or_default()
}

fn has(types: &[u8], function: &str) -> bool {
    contains(types, format!("\0{function}\0").as_bytes())
}

/// Returns true if `needle` is somewhere in `text`, which has some megabytes.
fn contains(text: &[u8], needle: &[u8]) -> bool {
    // SAFETY: both are valid for reading over their lengths.
    let found =
        unsafe { libc::memmem(text.as_ptr().cast(), text.len(), needle.as_ptr().cast(), needle.len()) };
    !found.is_null()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whole() {
        let types = b"\0int\0old_bpf_rdonly_cast\0bpf_rdonly_cast_more\0u32\0";
        assert!(contains(types, b"\0u32\0") && !contains(types, b"\0bpf_rdonly_cast\0"));
        assert!(!contains(b"", b"\0u32\0"));
    }
}
