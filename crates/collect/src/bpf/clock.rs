//! The kernel's clock, from which one program an exit tells when an exit was: bpf/timekeeper.bpf.h.

use super::programs::vmx;
use super::symbols::Symbols;
use crate::image::image;
use libbpf_rs::{MapCore, MapFlags, ObjectBuilder, ProgramInput};
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
        if let Some(clock) = Self::ask() {
            return Ok(clock);
        }
        let symbols = Symbols::read()?;
        Ok(Clock {
            tk_fast_mono: symbols.address("tk_fast_mono")?,
            clocksource_tsc: symbols.address("clocksource_tsc")?,
        })
    }

    /// Returns them as the kernel tells the program of bpf/addresses.bpf.c; `None` where it does not, before 5.16 or for want
    /// of rights.
    fn ask() -> Option<Clock> {
        let object = ObjectBuilder::default().open_memory(image!("addresses")).ok()?.load().ok()?;
        object.progs_mut().next()?.test_run(ProgramInput::default()).ok()?;
        let map = object.maps().find(|map| map.name().to_string_lossy().ends_with(".addresses"))?;
        let found = map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).ok()??;
        let address = |at: usize| {
            let bytes = found.get(at..at + size_of::<u64>())?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?)).filter(|address| *address != 0)
        };
        Some(Clock { tk_fast_mono: address(0)?, clocksource_tsc: address(size_of::<u64>())? })
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
