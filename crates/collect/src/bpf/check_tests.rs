use super::*;
use proptest::prelude::*;

fn kvm(vm: u64, pid: u32, vcpu: u32, exits: u64, end: End) -> Count {
    Count { vm: VmId(vm), pid, vcpu, exits, end, vanished: false, whole_vm: false }
}

fn ours(slot: u32, pid: u32, vcpu: u32, exits: u64, ended: bool) -> Ours {
    Ours { slot, pid, vcpu, exits, ended }
}

use End::{CutOff, Final, None as Lives};

#[test]
fn a_difference_is_shown_only_where_it_is_real() {
    let mut book = Book::default();
    book.begin(vec![kvm(1, 10, 0, 7, Lives)]);
    let mut look = |a, own, b| {
        let found = book.compare(
            vec![kvm(1, 10, 0, a, Lives)],
            &mut [ours(1, 10, 0, own, false)],
            vec![kvm(1, 10, 0, b, Lives)],
            0,
        );
        found[0].unwrap()
    };
    // From 7 to 0 before our start, to 107 or 110 now, and an exit under way.
    assert_eq!(look(107, 105, 110), 105);
    // 29 are missing, or 31, and what is missing does not come back.
    assert_eq!(look(207, 170, 210), 199);
    assert_eq!(look(307, 270, 310), 299);
    assert_eq!(look(409, 370, 412), 401);
    assert_eq!(look(507, 480, 530), 511);
}

#[test]
fn a_vm_seen_from_its_first_exit_to_its_last_is_compared_to_the_exit() {
    for (own, kvms) in [(50, 50), (49, 50), (51, 50)] {
        let mut book = Book::default();
        book.begin(vec![]);
        let last = kvm(1, 10, 0, kvms, Final);
        assert_eq!(book.compare(vec![last], &mut [ours(1, 10, 0, own, true)], vec![], 0), [Some(kvms)]);
        book.compare(vec![], &mut [], vec![], 0);
        assert!(book.places.is_empty() && book.slots.is_empty(), "{book:?}");
    }
    // A process id that is used again, and a slot too.
    let mut book = Book::default();
    book.compare(vec![kvm(1, 10, 0, 50, Final)], &mut [ours(1, 10, 0, 50, true)], vec![], 0);
    let next = book.compare(vec![kvm(2, 10, 0, 3, Final)], &mut [ours(1, 10, 0, 3, true)], vec![], 0);
    assert_eq!(next, [Some(3)]);
}

#[test]
fn vms_of_one_process_are_compared_together() {
    let mut book = Book::default();
    book.begin(vec![]);
    // One has ended for KVM, and is still in our table with a part of what the other did.
    let found = book.compare(
        vec![kvm(1, 10, 0, 100, Final)],
        &mut [ours(1, 10, 0, 120, true), ours(2, 10, 0, 30, false), ours(3, 10, 1, 5, false)],
        vec![kvm(2, 10, 0, 50, Lives), kvm(2, 10, 1, 5, Lives)],
        0,
    );
    assert_eq!(found, [Some(120), Some(30), Some(5)]);
    // Ten more than we saw: shown with one of them, once.
    let found = book.compare(
        vec![kvm(2, 10, 0, 70, Final), kvm(2, 10, 1, 5, Final)],
        &mut [ours(2, 10, 0, 40, true), ours(3, 10, 1, 5, true)],
        vec![],
        0,
    );
    assert_eq!(found, [Some(50), Some(5)]);
}

#[test]
fn a_vm_that_came_and_went_after_our_table_was_read_is_not_forgotten() {
    let mut book = Book::default();
    book.begin(vec![]);
    book.compare(vec![], &mut [], vec![kvm(1, 10, 0, 139, Final)], 0);
    let mut own = [ours(1, 10, 0, 139, true), ours(2, 10, 0, 4, false)];
    let shown = book.compare(vec![], &mut own, vec![kvm(2, 10, 0, 4, Lives)], 0);
    assert_eq!(shown, [Some(139), Some(4)]);
}

/// Its descriptor is closed, and the kernel takes its time to destroy it.
#[test]
fn one_that_is_being_destroyed_waits_for_kvms_last_word() {
    let mut book = Book::default();
    book.begin(vec![]);
    let gone = Count { vanished: true, ..kvm(1, 10, 0, 0, Lives) };
    let mut own = [ours(1, 10, 0, 135, true)];
    assert_eq!(book.compare(vec![], &mut own, vec![gone], 0), [Some(135)]);
    assert!(!own[0].ended);
    let mut own = [ours(1, 10, 0, 135, true)];
    assert_eq!(book.compare(vec![gone], &mut own, vec![kvm(1, 10, 0, 137, Final)], 0), [Some(135)]);
    assert!(!own[0].ended);
    let mut own = [ours(1, 10, 0, 135, true)];
    assert_eq!(book.compare(vec![], &mut own, vec![], 0), [Some(137)]);
    assert!(own[0].ended);
}

#[test]
fn what_is_not_known_is_not_compared() {
    let mut book = Book::default();
    book.begin(vec![kvm(1, 10, 0, 0, Lives)]);
    let mut own = [ours(1, 10, 0, 9, false), ours(2, 20, 0, 9, false)];
    let shown = book.compare(vec![], &mut own, vec![kvm(1, 10, 0, 5, CutOff)], 0);
    assert_eq!((shown, book.cut_off), (vec![None, None], 1));
    assert_eq!(book.compare(vec![], &mut own, vec![kvm(3, 20, 0, 9, Lives)], 0), [None, Some(9)]);
    // KVM saw a vCPU, and we did not.
    let all = vec![kvm(3, 20, 0, 9, Lives), kvm(4, 30, 0, 77, Final)];
    book.compare(all.clone(), &mut own, vec![all[0]], 0);
    book.compare(vec![all[0]], &mut own, vec![all[0]], 0);
    assert_eq!((book.unseen, book.unseen_over), (77, 77));
}

#[test]
fn whole_vms_and_exits_without_a_place() {
    let mut book = Book::default();
    let count = |exits| Count { whole_vm: true, ..kvm(1, 10, 0, exits, Lives) };
    book.begin(vec![count(1000)]);
    let mut own = [ours(1, 10, 0, 40, false), ours(2, 10, 7, 60, false)];
    assert_eq!(book.compare(vec![count(1101)], &mut own, vec![count(1101)], 0), [Some(40), Some(60)]);
    assert_eq!(book.compare(vec![count(1112)], &mut own, vec![count(1112)], 0), [Some(50), Some(60)]);
    let mut book = Book::default();
    book.begin(vec![]);
    let full = book.compare(vec![kvm(1, 10, 0, 90, Final)], &mut [ours(1, 10, 0, 60, true)], vec![], 30);
    assert_eq!(full, [Some(60)]);
}

proptest! {
    /// Whatever both sides say, what is shown never shrinks: intervals are differences.
    #[test]
    fn what_is_shown_never_shrinks(
        steps in proptest::collection::vec((0u64..9, 0u64..9, 0u64..9, 0u64..9, 0u32..9), 1..40),
    ) {
        let mut book = Book::default();
        book.begin(vec![kvm(1, 10, 0, 4, Lives)]);
        let (mut own, mut exits, mut last) = ([0u64; 2], 4, [0u64; 2]);
        for (one, other, before, between, end) in steps {
            own[0] += one;
            own[1] += other;
            let a = kvm(1, 10, 0, exits + before, Lives);
            exits += before + between;
            let b = kvm(1, 10, 0, exits, if end == 0 { Final } else { Lives });
            let mut all = [ours(1, 10, 0, own[0], false), ours(2, 10, 0, own[1], false)];
            let shown = book.compare(vec![a], &mut all, vec![b], 0);
            for (shown, last) in shown.iter().zip(&mut last) {
                prop_assert!(shown.unwrap() >= *last);
                *last = shown.unwrap();
            }
            if end == 0 {
                break;
            }
        }
    }

    /// The count that is shown is what really happened, however the moments fall: no false alarm.
    #[test]
    fn no_false_alarm(
        steps in proptest::collection::vec((0u64..7, 0u64..7, 0u64..7), 2..40),
        kvm_is_first in any::<bool>(),
    ) {
        // Each exit is counted by one side, then by the other; a moment may lie between.
        let (early, late) = (|moment: u64| moment.div_ceil(2), |moment: u64| moment / 2);
        let counted = |moment| if kvm_is_first { (early(moment), late(moment)) } else { (late(moment), early(moment)) };
        let mut book = Book::default();
        let (mut now, mut start) = (0, None);
        for (to_a, to_own, to_b) in steps {
            let at = |moment| kvm(1, 10, 0, counted(moment).0, Lives);
            let (a, between) = (now + to_a, now + to_a + to_own);
            now = between + to_b;
            let Some(start) = start else {
                book.begin(vec![at(now)]);
                start = Some(counted(between).1);
                continue;
            };
            let own = counted(between).1 - start;
            let shown = book.compare(vec![at(a)], &mut [ours(1, 10, 0, own, false)], vec![at(now)], 0);
            prop_assert_eq!(shown, [Some(own)]);
        }
    }
}
