//! Cost of a refresh of `exitscope top` on a host of 200 VMs with 8 vCPUs each, of 12 reasons each:
//! deriving an interval from two samples, taking it in, and drawing the screen. With reading the
//! counters (`sample`), that is all that it does each second.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use exitscope::top::{self, Look, Mode, State};
use exitscope_model::{
    Counters, ExitCode, Extremes, Histogram, Interval, Isa, Level, Loss, Measured, ReasonCount, Sample,
    Source, Split, VcpuSample, VcpuTime, Vm, VmId,
};
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

const VMS: u64 = 200;
const VCPUS: u32 = 8;
const REASONS: i64 = 12;

/// The sample after `seconds`: everything has grown evenly.
fn sample(seconds: u64) -> Sample {
    let vcpu = |vm: u64, vcpu: u32| {
        let reason = |code: i64| {
            let seed = vm * 31 + u64::from(vcpu) * 17 + code.unsigned_abs();
            let histogram =
                Histogram::from_bucket(8, (0..8).map(|bucket| seconds * (1 + (seed + 7 * bucket) % 1000)));
            let count = histogram.count();
            let counters = Counters {
                count,
                time_ns: count * 3000,
                extremes: Some(Extremes { min_ns: 300, max_ns: 1_000_000 }),
                histogram,
                split: Split { user_exits: count / 4, user_ns: count * 500, ..Split::default() },
                ..Counters::default()
            };
            ReasonCount { level: Level::L1, code: ExitCode { isa: Isa::Vmx, code }, counters }
        };
        let reasons: Vec<ReasonCount> = (0..REASONS).map(reason).collect();
        let exits = reasons.iter().map(|reason| reason.counters.count).sum();
        let time = VcpuTime {
            guest_ns: seconds * 800_000_000,
            kernel_ns: seconds * 200_000_000,
            ..VcpuTime::default()
        };
        VcpuSample { vm: VmId(vm), vcpu, exits, kvm_exits: Some(exits), time: Some(time), reasons }
    };
    let vm = |id: u64| Vm {
        id: VmId(id),
        pid: 1000 + u32::try_from(id).unwrap_or(0),
        name: format!("guest-{id}"),
        vmm: "qemu".into(),
        command: "".into(),
        labels: Default::default(),
        ended: false,
    };
    Sample {
        monotonic_ns: seconds * 1_000_000_000,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds),
        source: Source::Btf,
        measured: Measured::Breakdown,
        vms: (0..VMS).map(vm).collect(),
        vcpus: (0..VMS).flat_map(|id| (0..VCPUS).map(move |number| vcpu(id, number))).collect(),
        workers: Vec::new(),
        loss: Loss::default(),
    }
}

/// Returns the state after a minute, on the screen that `keys` lead to.
fn state(keys: &[KeyCode]) -> State {
    let mut state = State::new(Mode::Live, Duration::from_secs(1));
    let interval = Interval::between(&sample(1), &sample(2)).expect("counters grow");
    (0..60).for_each(|_| state.take(interval.clone()));
    for key in keys {
        top::handle(&mut state, &Event::Key(KeyEvent::new(*key, KeyModifiers::NONE)));
    }
    state
}

fn refresh(c: &mut Criterion) {
    let (first, second) = (sample(1), sample(2));
    let area = Rect { x: 0, y: 0, width: 200, height: 50 };
    let screens: [(&str, &[KeyCode]); 4] = [
        ("vms", &[]),
        ("vms apart", &[KeyCode::Char('x')]),
        ("vcpus", &[KeyCode::Char('v')]),
        ("reasons", &[KeyCode::Tab, KeyCode::Tab]),
    ];
    for (name, keys) in screens {
        let mut state = state(keys);
        c.bench_function(&format!("top/refresh/{name}"), |b| {
            b.iter_batched(
                || Buffer::empty(area),
                |mut buffer| {
                    let interval = Interval::between(black_box(&first), black_box(&second));
                    state.take(interval.expect("counters grow"));
                    state.draw(Look { color: true }, area, &mut buffer);
                    buffer
                },
                BatchSize::LargeInput,
            );
        });
    }
    let mut state = state(&[]);
    c.bench_function("top/draw/vms", |b| {
        b.iter_batched(
            || Buffer::empty(area),
            |mut buffer| {
                state.draw(Look { color: true }, area, &mut buffer);
                buffer
            },
            BatchSize::LargeInput,
        );
    });
}

/// Enough for figures that repeat to a few percent.
fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = config(); targets = refresh }
criterion_main!(benches);
