//! `exitscope top`, driven as a person would, with two VMs running.

use super::screen::Shown;
use super::tool::exitscope;
use super::turns::Turns;
use std::process::Command;
use std::time::Duration;

fn thousands(number: u64) -> String {
    exitscope_view::unit::count(number)
}

/// The line of the screen that has this word.
fn line<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.lines().find(|line| line.split_whitespace().any(|found| found == word))
}

#[test]
fn two_vms_are_seen_opened_and_seen_to_end() {
    let mut shown = Shown::start(exitscope().args(["top", "-i", "200ms"]), 120, 40);
    shown.wait_for("All VMs: ");
    let (mut one, mut other) = (Turns::start(), Turns::start());
    one.say("round");
    for _ in 0..3 {
        other.say("round");
    }
    // What each VMM reads of KVM is what stands in its line.
    let first = one.pid().to_string();
    for guest in [&mut one, &mut other] {
        let (pid, exits) = (guest.pid().to_string(), thousands(guest.kvm_exits()));
        let found = |text: &str| line(text, &pid).is_some_and(|line| line.contains(&format!(" {exits} ")));
        shown.wait(&format!("{exits} exits of {pid}"), found);
    }
    let sum = thousands(one.kvm_exits() + other.kvm_exits());
    shown.wait("all of them, proven", |text| {
        text.contains(&format!(" {sum} exits in "))
            && text.contains(&format!("KVM's own count: {sum}, equal."))
    });
    // Frozen, nothing moves, while counting goes on.
    shown.keys(" ");
    let still = shown.wait_for("FROZEN");
    other.say("round");
    // Long enough for some looks; and it is drawn anew.
    std::thread::sleep(Duration::from_secs(1));
    shown.keys("i");
    shown.wait("the other way round", |text| text.contains("exits/s▴"));
    shown.keys("i");
    let shape = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    shown.wait("as it was", |text| shape(text) == shape(&still));
    shown.keys(" ");
    let exits = thousands(other.kvm_exits());
    let pid = other.pid().to_string();
    shown.wait("what happened meanwhile", |text| line(text, &pid).is_some_and(|line| line.contains(&exits)));

    // By total the second is the first; its reasons, and one of them.
    shown.keys("o");
    shown.wait_for("total▾");
    shown.keys("\r");
    shown.wait("its reasons", |text| text.contains("VMs › ") && line(text, "CPUID").is_some());
    shown.keys("/cpuid\r");
    shown.wait_for("only /cpuid/");
    shown.keys("a\r");
    let reason = shown.wait("the reason", |text| text.contains("How long they took"));
    assert!(reason.contains(" › CPUID"), "{reason}");
    assert!(reason.contains("4,000 exits since the start"), "{reason}");
    assert!(reason.contains("What helps"), "{reason}");
    // Its VM across vCPUs, and back to all.
    shown.keys("v");
    shown.wait_for("vCPUs of ");
    shown.keys("\t\x1b[Z");
    shown.wait("both", |text| line(text, &first).is_some() && line(text, &pid).is_some());

    // At the usual size of a terminal it is all there too.
    shown.resize(80, 24);
    shown.wait("a smaller screen", |text| {
        text.lines().count() <= 24 && line(text, &first).is_some() && line(text, &pid).is_some()
    });

    // One ends, and stays until it is cleared.
    let gone = first;
    drop(one);
    shown.wait("its end", |text| line(text, &gone).is_some_and(|line| line.contains("ended")));
    shown.keys("c");
    shown.wait_for("1 VM that ended taken away");
    shown.wait("one VM", |text| line(text, &gone).is_none() && line(text, &pid).is_some());

    let start = Shown::start(&mut Command::new("true"), 80, 24).end().1;
    shown.signal(libc::SIGTERM);
    let (status, after, screen) = shown.end();
    assert!(status.success(), "{status}");
    assert_eq!(start.local_modes.bits(), after.local_modes.bits());
    assert!(!screen.alternate_screen(), "{}", screen.contents());
}
