//! Look-up of functions in the type information of the kernel and of KVM's modules: a program can call or hang on those that
//! are there.

use libbpf_rs::libbpf_sys;
use std::ffi::CString;
use std::fs;

/// Returns true if the kernel's own types have a function of this name, by the names that are in them.
pub fn kernel_has(function: &str) -> bool {
    has("vmlinux", function)
}

/// Returns true if the types of a module of KVM, or the kernel's where it is built in, have a function of this name.
pub fn module_has(module: &str, function: &str) -> bool {
    has(module, function) || kernel_has(function)
}

fn has(types: &str, function: &str) -> bool {
    fs::read(format!("/sys/kernel/btf/{types}"))
        .is_ok_and(|types| contains(&types, format!("\0{function}\0").as_bytes()))
}

/// Returns true if `needle` is somewhere in `text`, which has some megabytes.
fn contains(text: &[u8], needle: &[u8]) -> bool {
    // SAFETY: both are valid for reading over their lengths.
    let found =
        unsafe { libc::memmem(text.as_ptr().cast(), text.len(), needle.as_ptr().cast(), needle.len()) };
    !found.is_null()
}

/// Returns those of `programs`, pairs of a program and the function that it hangs on, whose function KVM's modules have: with
/// `vmx` Intel's, else AMD's.
pub fn among(programs: &[(&'static str, &str)], vmx: bool) -> Vec<&'static str> {
    let modules = if vmx { [c"kvm", c"kvm_intel"] } else { [c"kvm", c"kvm_amd"] };
    let mut there = Vec::new();
    // SAFETY: each function takes what another one gave, and strings that end in 0; null stands for an error and is looked
    // for. The base is freed after what is built on it.
    unsafe {
        let base = libbpf_sys::btf__load_vmlinux_btf();
        if base.is_null() {
            return there;
        }
        for module in modules {
            let btf = libbpf_sys::btf__load_module_btf(module.as_ptr(), base);
            if btf.is_null() {
                continue;
            }
            for (program, function) in programs {
                let Ok(function) = CString::new(*function) else { continue };
                if libbpf_sys::btf__find_by_name_kind(btf, function.as_ptr(), libbpf_sys::BTF_KIND_FUNC) > 0 {
                    there.push(*program);
                }
            }
            libbpf_sys::btf__free(btf);
        }
        libbpf_sys::btf__free(base);
    }
    there
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
