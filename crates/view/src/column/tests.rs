//! The columns against the fixtures.

use super::*;
use exitscope_model::fixture;
use exitscope_model::group;

fn whole(key: &str, context: &Context, group: &Group) -> Option<u64> {
    let column = COLUMNS.iter().find(|column| column.key == key).unwrap();
    match column.value(context, group) {
        Value::Ns(number) | Value::Count(number) => Some(number),
        Value::Nothing => None,
        other => panic!("{key} is {other:?}"),
    }
}

#[test]
fn the_parts_add_up_and_what_is_not_measured_is_nothing() {
    for interval in fixture::all() {
        let context = Context::new(&interval);
        for by in ["vm,vcpu,level,reason", "vm,reason", "vcpu", "reason"] {
            for group in group(&interval, by.parse().unwrap()).iter().chain([&context.total]) {
                let figure = |key| whole(key, &context, group);
                let parts = ["kernel_ns", "user_ns", "waiting_ns", "halted_ns"].map(figure);
                let others = ["polled_ns", "busy_ns", "user_exits"].map(figure);
                assert_eq!(figure("time_ns").is_some(), interval.measured != Measured::Counts);
                if interval.measured == Measured::Breakdown {
                    let sum = |parts: &[Option<u64>]| parts.iter().map(|part| part.unwrap()).sum::<u64>();
                    assert_eq!(Some(sum(&parts)), figure("time_ns"));
                    assert_eq!(Some(sum(&parts[..3])), figure("busy_ns"));
                    assert!(others[0] <= parts[3] && others[2] <= figure("count"));
                } else {
                    assert_eq!((parts, others), ([None; 4], [None; 3]));
                }
            }
        }
    }
}

#[test]
fn every_order_has_a_column() {
    for (word, sort) in Sort::WORDS {
        assert!(COLUMNS.iter().any(|column| column.key == sorted_by(sort)), "{word}");
    }
}
