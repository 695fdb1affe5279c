//! The figures against the fixtures.

use super::*;
use crate::{fixture, group};
use std::collections::BTreeSet;

fn whole(key: &str, context: &Context, group: &Group) -> Option<u64> {
    let figure = FIGURES.iter().find(|figure| figure.key == key).unwrap();
    match figure.value(context, group) {
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
fn every_figure_keeps_its_own_description() {
    let keys: BTreeSet<&str> = FIGURES.iter().map(|figure| figure.key).collect();
    assert_eq!(keys.len(), FIGURES.len(), "keys are different");
    for figure in FIGURES {
        assert!(
            !figure.key.is_empty() && !figure.heading.is_empty() && !figure.help.is_empty(),
            "{figure:?}"
        );
        let shown = figure.machine || figure.rank.is_some() || figure.top.is_some();
        assert!(shown, "nothing shows {}", figure.key);
    }
    for interval in fixture::all() {
        let context = Context::new(&interval);
        for by in [By::ALL, By::default(), By::NOTHING] {
            for group in &group(&interval, by) {
                for figure in FIGURES.iter().filter(|figure| figure.is_grouped(by)) {
                    let value = figure.value(&context, group);
                    assert!(figure.kind.fits(&value), "{} is {value:?}", figure.key);
                    let has = value != Value::Nothing;
                    assert!(has || figure.is_nullable() || !figure.machine, "{} is nothing", figure.key);
                    let measured = figure.is_measured(interval.source, interval.measured);
                    assert!(measured || !has, "{} is {value:?}, and not measured", figure.key);
                }
            }
        }
    }
}

#[test]
fn every_order_has_a_column() {
    let words: BTreeSet<&str> = Sort::all().map(Sort::word).collect();
    assert_eq!(words.len(), Sort::all().count(), "words are different");
    for sort in Sort::all() {
        assert!(sort.shown_by().rank.is_some() && sort.figure().sort == Order::By(sort.word()), "{sort}");
        assert_eq!(Sort::of(sort.shown_by()), Some(sort));
    }
    for figure in FIGURES {
        assert!(figure.sort == Order::No || Sort::of(figure).is_some(), "{}", figure.key);
    }
}
