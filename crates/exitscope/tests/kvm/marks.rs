//! Bytes that guests write to ports for marks: all of them in their order, and no flood of them hurts.

use super::modes::{act, watched};
use exitscope_collect as collect;
use exitscope_model::{ExitCode, Mode};

#[test]
fn every_byte_for_a_mark_is_told_in_its_order() {
    let begin = collect::monotonic_ns();
    // 0x81 and 0x3f0 with another byte than 123 are for others.
    let acts = [
        act(Mode::Real, &[(0x80, 0x11, 2), (0x81, 1, 1), (0xf4, 0, 1)]),
        act(Mode::Protected, &[(0xf5, 0x22, 3), (0x3f0, 1, 2)]),
        act(Mode::LongHigh, &[(0x3f0, 123, 1), (0x80, 0x33, 1), (0x3f8, b'x', 2)]),
    ];
    let (seen, interval, marks) = watched(&acts, true);
    let is_mark = |(port, value): &&(u16, u8)| match port {
        0x80 | 0xf4 | 0xf5 => true,
        0x3f0 => *value == 123,
        _ => false,
    };
    let expected: Vec<_> = seen.writes.iter().filter(is_mark).copied().collect();
    assert_eq!(expected.len(), 8);
    assert_eq!(marks.lost, 0);
    assert_eq!(marks.marks.iter().map(|mark| (mark.port, mark.value)).collect::<Vec<_>>(), expected);
    let times: Vec<u64> = marks.marks.iter().map(|mark| mark.monotonic_ns).collect();
    assert!(times.is_sorted() && times[0] > begin && times[7] < collect::monotonic_ns(), "{times:?}");
    for mark in &marks.marks {
        assert!(interval.vms.contains_key(&mark.vm) && mark.vcpu == 0, "{mark:?}");
    }
}

/// A guest may write any number of them. So many are told, the others counted, and no exit is lost.
#[test]
fn a_flood_of_bytes_is_bounded() {
    let (seen, interval, marks) = watched(&[act(Mode::LongLow, &[(0x80, 7, 5000), (0xf4, 8, 1)])], true);
    assert_eq!(seen.writes.len(), 5001);
    let told = marks.marks.len() as u64;
    assert_eq!(told + marks.lost, 5001);
    // MAX_MARKS of bpf/wire.h, between two looks.
    assert_eq!(told, 1024);
    let writes = interval.rows.iter().filter(|row| {
        let ExitCode { code, .. } = row.code;
        code == 0x7b || code == 30
    });
    assert_eq!(writes.map(|row| row.counters.count).sum::<u64>(), 5001);
}
