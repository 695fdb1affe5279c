//! The kernel's clock, from which one program an exit tells when an exit was: bpf/timekeeper.bpf.h.

use super::programs::vmx;
use std::fs;

/// Clock source by which KVM's moments can be converted.
const TSC: &str = "tsc";

/// Addresses of the kernel's variables from which it tells the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    pub tk_fast_mono: u64,
    pub clocksource_tsc: u64,
}

impl Clock {
    /// Finds them.
    ///
    /// # Errors
    /// The reason why one program an exit is not enough on this host.
    pub fn find() -> Result<Clock, String> {
        let source = source();
        if source != TSC {
            return Err(format!(
                "the kernel's clock source is {source}, not {TSC} (the kernel's log may say why it gave that up)"
            ));
        }
        // Then KVM emulates instructions in place of entering, and writes that over the reason (vmx_vcpu_run()).
        let file = "/sys/module/kvm_intel/parameters/unrestricted_guest";
        if vmx() && fs::read_to_string(file).is_ok_and(|value| value.trim() != "Y") {
            return Err(
                "kvm_intel runs without unrestricted guests (its parameter unrestricted_guest)".to_owned()
            );
        }
        let symbols =
            fs::read_to_string("/proc/kallsyms").map_err(|error| format!("/proc/kallsyms: {error}"))?;
        let find = |name| address(&symbols, name);
        Ok(Clock { tk_fast_mono: find("tk_fast_mono")?, clocksource_tsc: find("clocksource_tsc")? })
    }
}

/// Returns the address of a symbol of the kernel, by the text of /proc/kallsyms. A line of that is an address, a letter and the
/// name; a module's name would follow. Searched as a whole, because it has some hundred thousand lines.
fn address(symbols: &str, name: &str) -> Result<u64, String> {
    let before = symbols.find(&format!(" {name}\n")).map(|end| &symbols[..end]);
    let line = before.map(|before| &before[before.rfind('\n').map_or(0, |begin| begin + 1)..]);
    match line.and_then(|line| u64::from_str_radix(line.split(' ').next()?, 16).ok()) {
        None => Err(format!("/proc/kallsyms has no {name}")),
        Some(0) => {
            Err(format!("/proc/kallsyms hides the address of {name}: set kernel.kptr_restrict to 0 or 1"))
        }
        Some(address) => Ok(address),
    }
}

/// Returns true if the kernel's time comes from the TSC.
pub fn is_tsc() -> bool {
    source() == TSC
}

/// Returns the name of the clock that the kernel's time comes from.
fn source() -> String {
    let file = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    fs::read_to_string(file).map_or_else(|_| "not known".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_found_by_their_whole_name() {
        let symbols = "ffffffff81000000 T _text\nffffffff82f00000 d old_tk_fast_mono\n\
                       ffffffff82f01234 d tk_fast_mono\nffffffffc0000000 d tk_fast_mono\t[other]\n0 d hidden\n";
        assert_eq!(address(symbols, "tk_fast_mono"), Ok(0xffff_ffff_82f0_1234));
        assert_eq!(address(symbols, "_text"), Ok(0xffff_ffff_8100_0000));
        assert_eq!(address(symbols, "fast_mono"), Err("/proc/kallsyms has no fast_mono".to_owned()));
        assert!(address(symbols, "hidden").is_err_and(|why| why.contains("kernel.kptr_restrict")));
        assert!(address("", "_text").is_err());
    }
}
