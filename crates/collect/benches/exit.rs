//! Time that the programs' common way takes for an exit, without a VM: twins of the programs, on made-up vCPUs. Needs root.

use criterion::{Criterion, criterion_group, criterion_main};
use exitscope_collect::bench::twin::{Kind, Twin};
use std::time::Duration;

fn exit(criterion: &mut Criterion) {
    // SAFETY: a plain system call.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("left out: the time that counting an exit takes, which needs root to load BPF programs");
        return;
    }
    for (vcpus, reasons) in [(1, 1), (1, 16), (64, 16), (1024, 16)] {
        let mut group = criterion.benchmark_group(format!("exit of {vcpus} vCPUs x {reasons} reasons"));
        for kind in Kind::ALL {
            let mut twin = Twin::load(vcpus, reasons).unwrap_or_else(|error| panic!("{error}"));
            group.bench_function(kind.name(), |bencher| {
                bencher.iter_custom(|times| {
                    let mut left = times;
                    let mut took = Duration::ZERO;
                    while left > 0 {
                        let now = u32::try_from(left).unwrap_or(u32::MAX).min(1 << 24);
                        took += twin.run(kind, now).unwrap_or_else(|error| panic!("{error}"));
                        left -= u64::from(now);
                    }
                    took
                });
            });
            let (turns, odd) = twin.turns().unwrap_or_else(|error| panic!("{error}"));
            assert!(odd * 10 <= turns, "{} of {turns} exits took the rare way", odd);
        }
        group.finish();
    }
}

criterion_group!(benches, exit);
criterion_main!(benches);
