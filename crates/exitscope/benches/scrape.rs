//! Cost of a scrape on a host of 1,000 VMs with 8 vCPUs each, of 10 reasons each: adding up what was counted since the last
//! one, writing the text, and packing it. With reading the counters (`sample`), that is all that `exitscope serve` does.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use exitscope::serve::http::pack;
use exitscope::serve::ledger::Ledger;
use exitscope_model::generator::Generator;
use exitscope_model::{ExitCode, Interval};
use exitscope_view::metrics::{self, Counted, Exposition, Histograms, Options, Own};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

const VMS: u64 = 1000;
const VCPUS: u32 = 8;
const REASONS: usize = 10;

/// The next second of the host.
fn second(host: &mut Generator) -> Interval {
    let mut interval = host.next().expect("there is always one");
    let codes: BTreeSet<ExitCode> = interval.rows.iter().map(|row| row.code).collect();
    let kept: BTreeSet<ExitCode> = codes.into_iter().take(REASONS).collect();
    interval.rows.retain(|row| kept.contains(&row.code));
    interval
}

fn render(ledger: &Ledger, options: &Options) -> Vec<u8> {
    let counted = Counted {
        version: "0.0",
        kernel: "6.12",
        cpu: "CPU",
        start: SystemTime::UNIX_EPOCH,
        total: ledger.total(),
        vms: ledger.names(),
        departed: ledger.departed(),
        own: &Own::default(),
    };
    metrics::render(&counted, options)
}

fn scrape(c: &mut Criterion) {
    let mut host = Generator::new(VMS, VCPUS);
    let mut ledger = Ledger::new(Duration::from_secs(300));
    ledger.take(second(&mut host));
    let next = second(&mut host);
    c.bench_function("scrape/add", |b| {
        b.iter_batched(|| next.clone(), |interval| ledger.take(interval), BatchSize::LargeInput);
    });
    for (name, format, histograms) in [
        ("prometheus", Exposition::Prometheus, Histograms::Host),
        ("openmetrics", Exposition::OpenMetrics, Histograms::Host),
        ("histograms by vm", Exposition::OpenMetrics, Histograms::Vm),
    ] {
        let options = Options { format, histograms, max_series: usize::MAX, ..Options::default() };
        c.bench_function(&format!("scrape/write/{name}"), |b| {
            b.iter(|| render(black_box(&ledger), &options))
        });
        let text = render(&ledger, &options);
        eprintln!("scrape/write/{name}: {} bytes, packed {}", text.len(), pack(&text).len());
        c.bench_function(&format!("scrape/pack/{name}"), |b| b.iter(|| pack(black_box(&text))));
    }
}

/// Enough for figures that repeat to a few percent.
fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
}

criterion_group! { name = benches; config = config(); targets = scrape }
criterion_main!(benches);
