//! The conversion of KVM's moments into time, on this kernel's timekeeper. Run by `make test` in the lab; on a host as root:
//! `cargo test --features lab-tests --lib live_tests`.

use super::clock::Clock;
use super::{patch, wire};
use crate::image::image;
use crate::monotonic_ns;
use libbpf_rs::{MapCore, MapFlags, Object, ObjectBuilder, ProgramInput};
use std::thread::sleep;
use std::time::Duration;

const VMX: u64 = 1;
const SVM: u64 = 2;

/// The program of bpf/convert.bpf.c.
struct Converter(Object);

impl Converter {
    fn load() -> Converter {
        let clock = Clock::find().unwrap();
        let image = patch::with_masks(image!("convert"), &patch::masks(2, 2, 1, 1));
        let mut open = ObjectBuilder::default().open_memory(&image).unwrap();
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if name.ends_with(".bss.vcpus") {
                map.set_value_size(2 * u32::try_from(size_of::<wire::vcpu_slot>()).unwrap()).unwrap();
            } else if name.ends_with(".rodata.config") {
                let config = wire::config {
                    one: 1,
                    tk_fast_mono: clock.tk_fast_mono,
                    clocksource_tsc: clock.clocksource_tsc,
                    ..wire::config::default()
                };
                // SAFETY: a struct of integers without padding; any bytes may be looked at.
                let bytes = unsafe {
                    std::slice::from_raw_parts((&raw const config).cast::<u8>(), size_of_val(&config))
                };
                map.set_initial_value(bytes).unwrap();
            }
        }
        Converter(open.load().unwrap())
    }

    /// Returns the moment that a guest's TSC stands for, if it can be known.
    fn moment(&mut self, isa: u64, offset: u64, ratio: u64, tsc: u64) -> Option<u64> {
        let question: Vec<u8> =
            [isa, offset, ratio, tsc, 0, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let key = 0u32.to_ne_bytes();
        let map = self.0.maps().find(|map| map.name().to_string_lossy().ends_with(".data.question")).unwrap();
        map.update(&key, &question, MapFlags::ANY).unwrap();
        let packet = [0; 64];
        let input = ProgramInput { data_in: Some(&packet), ..ProgramInput::default() };
        self.0.progs_mut().next().unwrap().test_run(input).unwrap();
        let map = self.0.maps().find(|map| map.name().to_string_lossy().ends_with(".data.question")).unwrap();
        let answer = map.lookup(&key, MapFlags::ANY).unwrap().unwrap();
        let word = |at: usize| u64::from_ne_bytes(answer[8 * at..8 * at + 8].try_into().unwrap());
        (word(5) != 0).then(|| word(4))
    }
}

fn tsc() -> u64 {
    // SAFETY: every processor with VMX or SVM has it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The TSC and the time of one moment, as near to each other as 20 tries come.
fn both() -> (u64, u64) {
    let pair = |_| {
        let (before, ns, after) = (tsc(), monotonic_ns(), tsc());
        (after - before, before + (after - before) / 2, ns)
    };
    let (_, tsc, ns) = (0..20).map(pair).min().unwrap();
    (tsc, ns)
}

/// A guest's TSC as KVM has it: kvm_scale_tsc() and kvm_read_l1_tsc() in arch/x86/kvm/x86.c.
fn guests(tsc: u64, isa: u64, ratio: u64, offset: u64) -> u64 {
    let fraction = if isa == VMX { 48 } else { 32 };
    u64::try_from(((u128::from(tsc) * u128::from(ratio)) >> fraction) & u128::from(u64::MAX))
        .unwrap()
        .wrapping_add(offset)
}

/// Exits of now and of long ago, for guests whose TSC is the host's, another, faster and slower.
#[test]
fn a_moment_of_any_guests_tsc_is_found_however_long_ago_it_was() {
    let mut converter = Converter::load();
    let (tsc_1, ns_1) = both();
    sleep(Duration::from_millis(500));
    let (tsc_2, ns_2) = both();
    #[allow(clippy::cast_precision_loss)]
    let rate = (tsc_2 - tsc_1) as f64 / (ns_2 - ns_1) as f64;
    let far = 0u64.wrapping_sub(1 << 60);
    for (isa, one) in [(VMX, 1u64 << 48), (SVM, 1 << 32)] {
        for (ratio, offset) in [(one, 0), (one, far), (one, 1 << 61), (one / 2 * 3, far), (one / 7, 12_345)] {
            // Up to ten days, which may be before this machine was started: a TSC that is older than 0.
            for age_s in [0u64, 1, 599, 601, 3_600, 86_400, 864_000] {
                let (host, now) = both();
                let age_ns = age_s * 1_000_000_000;
                #[allow(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss
                )]
                let cycles = (age_ns as f64 * rate) as u64;
                // Of a guest, so that what is before the host's 0 has no other sign.
                let scaled = guests(cycles, isa, ratio, 0);
                let then = guests(host, isa, ratio, offset).wrapping_sub(scaled);
                let moment = converter.moment(isa, offset, ratio, then).expect("the clock is the TSC");
                let found = now.wrapping_sub(moment).cast_signed();
                let wrong = found.abs_diff(age_ns.cast_signed());
                // The rate is as good as half a second tells it.
                let allowed = 20_000 + age_ns / 10_000;
                assert!(
                    wrong <= allowed,
                    "{age_s} s ago, vendor {isa}, ratio {ratio:#x}, offset {offset:#x}: {found} ns"
                );
            }
        }
    }
    // No line for a TSC that stands still.
    assert_eq!(converter.moment(SVM, 0, 1, tsc()), None);
}
