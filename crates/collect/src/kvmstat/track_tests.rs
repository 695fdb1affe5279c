use super::track::*;
use crate::Select;
use exitscope_model::VmId;

fn process(pid: u32) -> Process {
    Process { pid, started_ns: u64::from(pid) * 1000, comm: "vmm".into(), args: Vec::new() }
}

/// One vCPU: number 0 of the VM at `kvm`, with so many exits, half of them `io_exits`.
fn at(time_ns: u64, event: Event, kvm: u64, pid: u32, exits: u64) -> Reading {
    let mut figures = Figures { exits, ..Figures::default() };
    figures.classes[0] = Some(exits / 2);
    figures.classes[5] = Some(0);
    Reading {
        time_ns,
        event,
        vcpu: kvm + 1,
        kvm,
        vcpu_id: 0,
        process: process(pid),
        followed: pid == 77,
        figures,
    }
}

/// Each wanted VM's id, process, exits, io_exits, and whether it ended; then forgets the ended.
fn sample(tracker: &mut Tracker) -> Vec<(u64, u32, u64, u64, bool)> {
    let found = tracker
        .wanted()
        .map(|(vm, ended)| {
            let vcpus: Vec<_> = vm.samples().collect();
            let exits = vcpus.iter().map(|vcpu| vcpu.exits).sum();
            assert!(vcpus.iter().all(|vcpu| vcpu.kvm_exits == Some(vcpu.exits) && vcpu.vm == vm.id));
            let io = vcpus.iter().flat_map(|vcpu| &vcpu.reasons).map(|reason| reason.counters.count).sum();
            let VmId(id) = vm.id;
            (id, vm.process.pid, exits, io, ended)
        })
        .collect();
    tracker.forget_ended();
    found
}

use Event::{Born, Ended, Left, Seen};

#[test]
fn counts_from_the_start_or_from_birth() {
    let mut tracker = Tracker::new(Select::All, true);
    tracker.look(vec![at(1, Seen, 0x100, 10, 1000)], true);
    assert_eq!(sample(&mut tracker), [(1, 10, 0, 0, false)]);
    tracker.look(vec![at(2, Seen, 0x100, 10, 1100), at(3, Seen, 0x200, 11, 40)], false);
    assert_eq!(sample(&mut tracker), [(1, 10, 100, 50, false), (2, 11, 40, 20, false)]);
    // Nothing is told of the second for one look: its end is about to be told.
    tracker.look(vec![at(4, Seen, 0x100, 10, 1100)], false);
    assert_eq!(sample(&mut tracker), [(1, 10, 100, 50, false), (2, 11, 40, 20, false)]);
    tracker.look(vec![at(5, Ended, 0x200, 999, 60), at(6, Seen, 0x100, 10, 1100)], false);
    assert_eq!(sample(&mut tracker), [(1, 10, 100, 50, false), (2, 11, 60, 30, true)]);
    tracker.look(vec![at(7, Seen, 0x100, 10, 1200)], false);
    assert_eq!(sample(&mut tracker), [(1, 10, 200, 100, false)]);
    assert_eq!(tracker.cut_off, 0);
}

#[test]
fn addresses_and_process_ids_come_back() {
    let mut tracker = Tracker::new(Select::All, true);
    tracker.look(vec![], true);
    // Three VMs of one process at one address between two looks; the walk met the second.
    let life = vec![
        at(60, Born, 0x100, 10, 0),
        at(50, Ended, 0x100, 10, 500),
        at(40, Seen, 0x100, 10, 400),
        at(30, Born, 0x100, 10, 0),
        at(20, Ended, 0x100, 10, 300),
        at(10, Born, 0x100, 10, 0),
    ];
    tracker.look(life, false);
    assert_eq!(
        sample(&mut tracker),
        [(1, 10, 300, 150, true), (2, 10, 500, 250, true), (3, 10, 0, 0, false)]
    );
    tracker.look(vec![at(70, Ended, 0x100, 10, 2)], false);
    assert_eq!(sample(&mut tracker), [(3, 10, 2, 1, true)]);
    // The end of one whose birth was not told.
    tracker.look(vec![at(80, Ended, 0x100, 10, 8)], false);
    assert_eq!(sample(&mut tracker), [(4, 10, 8, 4, true)]);
    assert_eq!(tracker.cut_off, 0);
}

/// The process leaves, the walk finds nobody, and only then does the kernel destroy the vCPU.
#[test]
fn a_late_destruction_ends_nothing_twice() {
    let mut tracker = Tracker::new(Select::All, true);
    tracker.look(vec![at(1, Seen, 0x100, 10, 100), at(2, Ended, 0x300, 12, 55)], true);
    assert_eq!(sample(&mut tracker), [(1, 10, 0, 0, false), (2, 12, 0, 0, true)]);
    tracker.look(vec![at(3, Left, 0x100, 10, 130)], false);
    tracker.look(vec![], false);
    assert_eq!(sample(&mut tracker), [(1, 10, 30, 15, true)]);
    tracker.look(vec![at(4, Left, 0x100, 10, 130), at(5, Ended, 0x100, 10, 130)], false);
    assert_eq!(sample(&mut tracker), []);
    // The address is another VM's.
    tracker.look(vec![at(6, Born, 0x100, 11, 0), at(7, Ended, 0x100, 11, 9)], false);
    assert_eq!(sample(&mut tracker), [(3, 11, 9, 4, true)]);
    assert_eq!(tracker.cut_off, 0);
}

#[test]
fn untold_ends_are_found_out_and_admitted() {
    let mut tracker = Tracker::new(Select::All, false);
    tracker.look(vec![at(0, Seen, 0x100, 10, 5), at(0, Seen, 0x200, 11, 7)], true);
    tracker.look(vec![at(0, Seen, 0x100, 10, 9), at(0, Seen, 0x200, 11, 8)], false);
    assert_eq!(sample(&mut tracker), [(1, 10, 4, 2, false), (2, 11, 1, 1, false)]);
    // Another process's VM at the first address, fewer exits at the second.
    tracker.look(vec![at(0, Seen, 0x100, 12, 100), at(0, Seen, 0x200, 11, 6)], false);
    assert_eq!(
        sample(&mut tracker),
        [(1, 10, 4, 2, true), (2, 11, 1, 1, true), (3, 12, 100, 50, false), (4, 11, 6, 3, false)]
    );
    assert_eq!(tracker.cut_off, 2);
    tracker.look(vec![], false);
    assert_eq!(sample(&mut tracker), [(3, 12, 100, 50, true), (4, 11, 6, 3, true)]);
    assert_eq!(tracker.cut_off, 4);
    assert_eq!(sample(&mut tracker), []);
}

#[test]
fn several_holders_are_one_vm_of_the_oldest() {
    for order in [[10, 12], [12, 10]] {
        let mut tracker = Tracker::new(Select::Pids(vec![12]), true);
        tracker.look(order.map(|pid| at(1, Seen, 0x100, pid, 30)).to_vec(), true);
        tracker.look(order.map(|pid| at(2, Seen, 0x100, pid, 50)).to_vec(), false);
        assert_eq!(sample(&mut tracker), [(1, 10, 20, 10, false)]);
        // The oldest ends, the VM stays.
        tracker.look(vec![at(3, Seen, 0x100, 12, 60)], false);
        assert_eq!(sample(&mut tracker), [(1, 10, 30, 15, false)]);
    }
}

#[test]
fn only_the_selected() {
    let life = |select| {
        let mut tracker = Tracker::new(select, true);
        tracker.look(
            vec![at(1, Born, 0x100, 77, 0), at(2, Born, 0x200, 78, 0), at(3, Ended, 0x100, 5, 9)],
            false,
        );
        sample(&mut tracker).iter().map(|&(_, pid, ..)| pid).collect::<Vec<_>>()
    };
    assert_eq!(life(Select::All), [77, 78]);
    assert_eq!(life(Select::Pids(vec![78, 5])), [78]);
    assert_eq!(life(Select::Descendants), [77]);
}

#[test]
fn cleared_statistics_do_not_run_backwards() {
    let mut tracker = Tracker::new(Select::All, true);
    tracker.look(vec![at(1, Seen, 0x100, 10, 1000)], true);
    tracker.look(vec![at(2, Seen, 0x100, 10, 1100)], false);
    tracker.look(vec![at(3, Seen, 0x100, 10, 20)], false);
    assert_eq!(sample(&mut tracker), [(1, 10, 120, 60, false)]);
    tracker.look(vec![at(4, Seen, 0x100, 10, 30)], false);
    assert_eq!(sample(&mut tracker), [(1, 10, 130, 65, false)]);
}

#[test]
fn a_creation_that_failed_leaves_nothing() {
    let mut tracker = Tracker::new(Select::All, true);
    tracker.look(vec![at(1, Born, 0x100, 10, 0)], false);
    tracker.look(vec![], false);
    tracker.look(vec![], false);
    sample(&mut tracker);
    assert_eq!(sample(&mut tracker), []);
    assert_eq!(tracker.cut_off, 0);
}

#[test]
fn a_process_that_ends_takes_its_vm_along_unless_another_has_it() {
    let mut tracker = Tracker::new(Select::All, false);
    tracker.look(vec![at(1, Seen, 0x100, 10, 5), at(2, Seen, 0x200, 11, 5)], true);
    // Found by the walk, gone after it: the figures are final, the next look makes sure. One lived in between only.
    let life = vec![
        at(3, Seen, 0x100, 10, 6),
        at(4, Left, 0x100, 10, 9),
        at(5, Left, 0x200, 11, 8),
        at(6, Left, 0x300, 12, 40),
    ];
    tracker.look(life, false);
    assert_eq!(sample(&mut tracker), [(1, 10, 4, 2, false), (2, 11, 3, 2, true), (3, 12, 40, 20, true)]);
    tracker.look(vec![], false);
    assert_eq!(sample(&mut tracker), [(1, 10, 4, 2, true)]);
    // A child that has the files, too.
    tracker.look(vec![at(7, Seen, 0x400, 13, 5), at(7, Seen, 0x400, 14, 5)], false);
    tracker.look(vec![at(8, Left, 0x400, 13, 6), at(9, Seen, 0x400, 14, 7)], false);
    tracker.look(vec![at(10, Seen, 0x400, 14, 8)], false);
    assert_eq!(sample(&mut tracker), [(4, 13, 8, 4, false)]);
    assert_eq!(tracker.cut_off, 0);
}
