//! Boots: a machine's console beside its exits.

use super::tool::{
    Background, Scratch, all, exitscope, guest_program, succeed, wait_for, wait_until_counting,
};
use std::process::{Command, Output};

fn boot(arguments: &[&str], script: &str) -> Output {
    exitscope().arg("boot").args(arguments).args(["--", "sh", "-c", script]).output().unwrap()
}

/// A machine that says what it does, and exits as it says: its phases, and the burst in the last of them, are found.
#[test]
fn phases_and_a_burst_are_found() {
    let file = Scratch::new("boot");
    let guest = guest_program();
    let guest = guest.display();
    let script = format!(
        "printf 'SeaBIOS (version 1)\\r\\n'; sleep 2; {guest} only cpuid 200; sleep 2\n\
         printf '[    0.0] Linux version 6.1.0\\n'; sleep 2; {guest} only wbinvd 100; sleep 2\n\
         printf '[    1.0] Run /init as init process\\n'; sleep 2; {guest} only port-out 1500; sleep 2\n\
         printf '\\033[2J<b>one login: '; exec sleep 98765"
    );
    let output =
        exitscope().args(["boot", "-o"]).arg(&file).args(["--", "sh", "-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    let console = String::from_utf8(output.stdout).unwrap();
    assert!(console.starts_with("SeaBIOS (version 1)\r\n"), "{console}");
    assert!(console.ends_with("\x1b[2J<b>one login: "), "{console}");

    let report = file.read();
    assert!(!report.contains('\x1b'), "{report}");
    assert!(report.contains(", equal."), "KVM counted otherwise: {report}");
    assert!(report.contains("until \"<b>one login:\" on the console"), "{report}");
    // The guest is in long mode, in the lower half, before there is a kernel.
    for (name, most) in
        [("kernel decompression", "  CPUID "), ("kernel", "  WBINVD "), ("initramfs", "  IOIO ")]
    {
        let line = report.lines().find(|line| line.starts_with(&format!("{name}  ")));
        assert!(line.is_some_and(|line| line.contains(most)), "{name}: {report}");
    }
    let told = report.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut spikes = told.split("Spike ").skip(1);
    let burst = spikes.find(|spike| spike.contains(" (initramfs): ") && spike.contains("more IOIO."));
    assert!(burst.is_some_and(|spike| spike.contains("Run /init")), "{report}");
    assert!(report.contains("0x510 out"), "{report}");
    let left = Command::new("pgrep").args(["-f", "^sleep 98765"]).output().unwrap();
    assert_eq!(all(&left), "", "the machine was left running");
}

#[test]
fn ends_that_are_none_and_errors_are_told() {
    let says = |arguments: &[&str], script: &str, code: i32, words: &[&str]| {
        let output = boot(arguments, script);
        let said = all(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "no {word:?}: {said}"));
        assert!(!said.contains("panicked"), "{said}");
    };
    says(&["--until", "^up$"], "echo down", 1, &["down\n", "no line of its console matched ^up$"]);
    says(&["--until", "^up$"], "exit 7", 7, &["There was no exit in", "until the command's end"]);
    says(&["--until", "("], "true", 2, &["regex parse error"]);
    says(&["--phases", "/nonexistent"], "true", 125, &["cannot read the phases in /nonexistent"]);
    // A megabyte without a newline passes through, and the end behind it is found.
    let flood = "head -c 1048576 /dev/zero | tr '\\0' a; echo; echo up; sleep 98764";
    let output = boot(&["--until", "^up$"], flood);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout.len(), 1_048_576 + 4);
    let missing = exitscope().args(["boot", "--", "/nonexistent"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(127), "{}", all(&missing));
    let runs = boot(&["--runs", "2", "--until", "up"], "echo up; sleep 98763");
    assert!(all(&runs).contains("2 boots: exits 0 (0 to 0), time "), "{}", all(&runs));
    let waits = Background::start(exitscope().args(["boot", "--", "sh", "-c", "echo here; sleep 98762"]));
    wait_until_counting(&waits);
    wait_for("the command", || {
        Command::new("pgrep").args(["-f", "^sleep 98762"]).output().unwrap().status.success()
    });
    waits.signal(libc::SIGINT);
    let output = waits.finish();
    assert_eq!(output.status.code(), Some(128 + libc::SIGINT), "{}", all(&output));
    assert!(all(&output).contains("until the command's end: did the command"), "{}", all(&output));
    succeed(Command::new("sh").args(["-c", "! pgrep -f '^sleep 9876'"]));
}
