//! Speed of what runs in user space between two samples and the reader's eyes, on a big host: 1,024 vCPUs of
//! 20 reasons each.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use exitscope_model::{
    self as model, By, Counters, ExitCode, Extremes, Histogram, Interval, Isa, Level, Loss, Measured,
    ReasonCount, Sample, Sort, Source, Split, UserReason, VcpuSample, VcpuTime, Vm, VmId,
};
use exitscope_reason as reason;
use exitscope_view::{self as view, Format, Options};
use std::hint::black_box;
use std::time::{Duration, SystemTime};

const VMS: u64 = 128;
const VCPUS: u32 = 8;
/// Reasons of each vCPU: the first codes of VMX, whose names are all known.
const REASONS: i64 = 20;
/// KVM_EXIT_IO (include/uapi/linux/kvm.h).
const IO: UserReason = UserReason(2);

/// Figures of a reason that are spread over a dozen buckets, `times` as many as in the first sample.
fn counters(seed: u64, times: u64) -> Counters {
    let histogram = Histogram::from_bucket(8, (0..12).map(|bucket| times * (1 + (seed + 7 * bucket) % 1000)));
    let count = histogram.count();
    let time_ns = count * 3000;
    let goes_out = seed.is_multiple_of(4);
    Counters {
        count,
        time_ns,
        extremes: Some(Extremes { min_ns: 300, max_ns: 1_000_000 }),
        histogram,
        split: Split {
            user_exits: if goes_out { count } else { 0 },
            user_ns: if goes_out { time_ns / 2 } else { 0 },
            halted_ns: 0,
            polled_ns: 0,
            waiting_ns: time_ns / 100,
        },
        returns: if goes_out { [(IO, count)].into() } else { Default::default() },
        nested: Default::default(),
        details: Default::default(),
        modes: Default::default(),
    }
}

/// The sample after `times` seconds.
fn sample(times: u64) -> Sample {
    let vm = |id: u64| Vm {
        id: VmId(id),
        pid: 1000 + u32::try_from(id).unwrap_or(0),
        name: format!("guest-{id}"),
        vmm: "qemu".into(),
        command: "".into(),
        labels: Default::default(),
        ended: false,
    };
    let vcpu = |vm: u64, vcpu: u32| {
        let reasons: Vec<ReasonCount> = (0..REASONS)
            .map(|code| ReasonCount {
                level: Level::L1,
                code: ExitCode { isa: Isa::Vmx, code },
                counters: counters(vm * 31 + u64::from(vcpu) * 17 + code.unsigned_abs(), times),
            })
            .collect();
        let exits = reasons.iter().map(|reason| reason.counters.count).sum();
        let time =
            VcpuTime { guest_ns: times * 800_000_000, kernel_ns: times * 200_000_000, ..VcpuTime::default() };
        VcpuSample { vm: VmId(vm), vcpu, exits, kvm_exits: Some(exits), time: Some(time), reasons }
    };
    Sample {
        monotonic_ns: times * 1_000_000_000,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + times),
        source: Source::Btf,
        measured: Measured::Breakdown,
        vms: (0..VMS).map(vm).collect(),
        vcpus: (0..VMS).flat_map(|id| (0..VCPUS).map(move |number| vcpu(id, number))).collect(),
        workers: Vec::new(),
        loss: Loss::default(),
    }
}

fn intervals(c: &mut Criterion) {
    let (first, second, third) = (sample(1), sample(2), sample(3));
    c.bench_function("interval/between", |b| {
        b.iter(|| Interval::between(black_box(&first), black_box(&second)))
    });
    let early = Interval::between(&first, &second).expect("counters grow");
    let late = Interval::between(&second, &third).expect("counters grow");
    c.bench_function("interval/extend", |b| {
        b.iter_batched(
            || early.clone(),
            |mut whole| {
                whole.extend(black_box(&late));
                whole
            },
            BatchSize::LargeInput,
        );
    });
}

fn groups(c: &mut Criterion) {
    let interval = Interval::between(&sample(1), &sample(2)).expect("counters grow");
    let context = model::figure::Context::new(&interval);
    for (name, by) in [("vm,reason", By::default()), ("all", By::ALL)] {
        c.bench_function(&format!("group/{name}"), |b| b.iter(|| model::group(black_box(&interval), by)));
        let groups = model::group(&interval, by);
        for (order, word) in
            [(Sort::COUNT, "count"), ("p99".parse().expect("an order"), "p99"), (Sort::NAME, "name")]
        {
            c.bench_function(&format!("sort/{name}/{word}"), |b| {
                b.iter_batched(
                    || groups.clone(),
                    |mut groups| {
                        model::sort(&mut groups, order, &context, reason::name);
                        groups
                    },
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

fn views(c: &mut Criterion) {
    let interval = Interval::between(&sample(1), &sample(2)).expect("counters grow");
    for (word, format) in Format::WORDS {
        for (name, by) in [("vm,reason", By::default()), ("all", By::ALL)] {
            let options = Options { format, by, ..Options::default() };
            c.bench_function(&format!("view/{word}/{name}"), |b| {
                let mut out = Vec::new();
                b.iter(|| {
                    out.clear();
                    view::write(black_box(&interval), &options, &mut out)
                });
            });
        }
    }
}

fn percentile(c: &mut Criterion) {
    let Counters { histogram, .. } = counters(5, 3);
    c.bench_function("histogram/percentile", |b| {
        b.iter(|| black_box(&histogram).percentile(black_box(0.99), 300, 1_000_000));
    });
}

/// Enough for figures that repeat to a few percent, and a minute in all.
fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = config(); targets = intervals, groups, views, percentile }
criterion_main!(benches);
