//! Cost of reading the tables of many vCPUs into samples.

use criterion::{Criterion, criterion_group, criterion_main};
use exitscope_collect::bench::Filled;
use std::hint::black_box;

fn look(criterion: &mut Criterion) {
    for (vcpus, reasons) in [(1, 20), (64, 20), (1024, 1), (1024, 20)] {
        let tables = Filled::new(vcpus, reasons);
        criterion.bench_function(&format!("read {vcpus} vCPUs x {reasons} reasons"), |bencher| {
            bencher.iter_with_large_drop(|| black_box(tables.look()));
        });
        // As it goes on for hours: the sample before is dropped when the next one is there.
        let mut last = tables.look();
        criterion.bench_function(&format!("read {vcpus} vCPUs x {reasons} reasons again"), |bencher| {
            bencher.iter(|| last = black_box(tables.look()));
        });
        drop(last);
    }
}

criterion_group!(benches, look);
criterion_main!(benches);
