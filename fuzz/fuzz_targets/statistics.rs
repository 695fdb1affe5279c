//! Text of KVM's own counters in debugfs (`docs/kernel.md`), read one or more times.
//!
//! Input: the texts, each of which ends with the line `end`.
#![no_main]

use exitscope_collect::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let Ok(samples) = fuzzing::samples(text.split_inclusive("end\n")) else { return };
    for sample in samples {
        let listed: u64 = sample.reasons.iter().map(|reason| reason.counters.count).sum();
        assert!(listed <= sample.exits, "{sample:?}");
    }
});
