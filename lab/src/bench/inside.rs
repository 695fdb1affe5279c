//! In the outer VM: measures exits bare, starts a tool that watches them, and measures again.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use exitscope_model::Summary;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Suite;
use super::code::Work;
use super::guest::Machines;
use super::idle::Idle;
use crate::error::Error;

/// Where the tool's output goes: a tmpfs.
const SAID: &str = "/run/lab/bench.out";
/// The tool's own control group, below that of the lab's command.
const GROUP: &str = "/sys/fs/cgroup/lab/tool";
/// Length of a span in which the tool's use of the CPU is measured.
const LOOK: Duration = Duration::from_millis(200);
/// Spans in a row with less than a twentieth of the CPU used, after which a tool is at rest.
const RESTED: u32 = 6;
/// Spans after which a tool that does not come to rest is given up.
const LOOKS: u32 = 150;
/// Exits by which is found out if a tool counts yet.
const PROBE: u32 = 2000;
/// Instructions that each of them must cost more, at least, once the tool counts.
const NOTICED: f64 = 10.0;
/// Share by which they may differ from one second to the next.
const ALIKE: f64 = 0.03;
/// Seconds of the outer VM's time after which a tool that has not begun to count is given up.
const PATIENCE: u32 = 60;
/// Measurements of each figure; their median counts.
const TIMES: usize = 3;
/// Exits of one measurement. Half as many come before it and are not timed: they have the first touch of each page, the
/// tool's first row for each reason, and work that the tool puts off, which then is as much as what it puts off later.
const EXITS: u32 = 10_000;
/// Sizes of [`Suite::Scale`]: VMs, vCPUs of each.
const SIZES: [(usize, u64); 3] = [(1, 1), (1, 64), (16, 64)];
/// Exits of one turn of a vCPU in [`Suite::Scale`].
const TURN: u32 = 100;
/// Turns of all vCPUs in [`Suite::Scale`].
const TURNS: usize = 1024;

/// Measures `suite` without and with `command` (a shell line), and prints it: a line `figure NAME bare|watched VALUE` for
/// each figure, in the end `done`, or `none REASON` where the tool gave none.
///
/// # Errors
/// [`Error::Bench`] and [`Error::Io`]; a tool that fails is none.
pub fn measure(suite: Suite, command: &str) -> Result<(), Error> {
    // A thousand vCPUs are as many files.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files })
        .map_err(|error| Error::Bench(format!("cannot raise the limit of open files: {error}")))?;
    // Before anything is measured: KVM's code for VMs with an APIC is shorter while there is none without one
    // (`kvm_has_noapic_vcpu` in `arch/x86/kvm/lapic.c`), and this one has none.
    let probe = Machines::new(1, 1, Work::Cpuid)?;
    super::counters::switch(false)?;
    take(suite, "bare")?;
    let bare = median(&probe, Work::Cpuid, PROBE)?;
    let mut tool = start(command)?;
    let mut verdict = settle(&mut tool, &probe, bare)?;
    if verdict.is_none() {
        take(suite, "watched")?;
        verdict = ended(&mut tool)?;
    }
    match verdict {
        Some(reason) => println!("none {reason}"),
        None => println!("done"),
    }
    // What else it started ends with the outer VM; so would this, and these can fail only if it has.
    let _ = tool.kill();
    let _ = tool.wait();
    Ok(())
}

fn start(command: &str) -> Result<Child, Error> {
    let said = File::create(SAID).map_err(Error::io(SAID))?;
    fs::create_dir(GROUP).map_err(Error::io(GROUP))?;
    let mut shell = Command::new("sh");
    // The input stays open and silent: a tool that reads the keyboard must find nobody there, not the end.
    shell.arg("-c").arg(format!("echo 0 >{GROUP}/cgroup.procs; exec {command}")).stdin(Stdio::piped());
    shell.stdout(said.try_clone().map_err(Error::io(SAID))?).stderr(said);
    shell.spawn().map_err(Error::io("sh"))
}

/// Returns the reason why the tool has ended, if it has.
fn ended(tool: &mut Child) -> Result<Option<String>, Error> {
    let status = tool.try_wait().map_err(Error::io("waiting for the tool"))?;
    Ok(status.map(|status| format!("ended by itself ({status}){}", last_words())))
}

fn last_words() -> String {
    let said = crate::command::tail(&fs::read(SAID).unwrap_or_default());
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// Waits until the tool has done what it does at its start: it rests, and then exits are dearer than before, about
/// equally so three times in a row. One alone would not do: a tool may have its events enabled long before it looks at
/// them.
fn settle(tool: &mut Child, probe: &Machines, bare: f64) -> Result<Option<String>, Error> {
    let busy = Idle::start(std::hint::spin_loop)?;
    let (mut used, mut rested, mut looks) = (cpu_time()?, 0, 0);
    while rested < RESTED {
        if looks == LOOKS {
            return Ok(Some(format!("it never came to rest{}", last_words())));
        }
        looks += 1;
        std::thread::sleep(LOOK);
        if let Some(reason) = ended(tool)? {
            return Ok(Some(reason));
        }
        let now = cpu_time()?;
        rested = if u128::from(now - used) * 20 < LOOK.as_micros() { rested + 1 } else { 0 };
        used = now;
    }
    drop(busy);
    let (mut last, mut equal) = (0.0, 0);
    for _ in 0..PATIENCE {
        let now = median(probe, Work::Cpuid, PROBE)?;
        equal = if now > bare + NOTICED && (now - last).abs() < now * ALIKE { equal + 1 } else { 0 };
        last = now;
        if equal == 2 {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_secs(1));
        if let Some(reason) = ended(tool)? {
            return Ok(Some(reason));
        }
    }
    Ok(Some(format!("exits cost {bare:.0} before, and {last:.0} beside it{}", last_words())))
}

/// CPU time that the tool has used (us).
fn cpu_time() -> Result<u64, Error> {
    let file = format!("{GROUP}/cpu.stat");
    let text = fs::read_to_string(&file).map_err(Error::io(&file))?;
    let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    let used = used.and_then(|value| value.parse().ok());
    used.ok_or_else(|| Error::Bench(format!("{file} says {text:?}")))
}

/// Takes and prints every figure of `suite`.
fn take(suite: Suite, when: &str) -> Result<(), Error> {
    match suite {
        Suite::Kinds => {
            for work in Work::ALL {
                let machine = Machines::new(1, 1, work)?;
                let rounds = EXITS / work.exits();
                machine.run(0, work, rounds / 2)?;
                let before = machine.exits()?;
                let figure = median(&machine, work, rounds)?;
                check(
                    work,
                    when,
                    u64::from(rounds * work.exits()) * TIMES as u64,
                    machine.exits()? - before,
                )?;
                println!("figure {} {when} {figure:.1}", work.name());
            }
        }
        Suite::Scale => {
            for (vms, vcpus) in SIZES {
                let machine = Machines::new(vms, vcpus, Work::Mixed)?;
                for vcpu in 0..machine.vcpus() {
                    machine.run(vcpu, Work::Mixed, 4)?;
                }
                for work in [Work::Cpuid, Work::Mixed] {
                    let rounds = TURN / work.exits();
                    let before = machine.exits()?;
                    let mut turns = Vec::with_capacity(TURNS);
                    for turn in 0..TURNS {
                        turns.push(once(&machine, turn % machine.vcpus(), work, rounds)?);
                    }
                    check(
                        work,
                        when,
                        u64::from(rounds * work.exits()) * TURNS as u64,
                        machine.exits()? - before,
                    )?;
                    println!("figure {}@{} {when} {:.1}", work.name(), machine.vcpus(), middle(turns));
                }
            }
        }
    }
    Ok(())
}

/// Checks that the guests have exited as often as their code says. Each run's last exit comes on top, and the host's
/// interrupts, of which an expensive tool makes many.
fn check(work: Work, when: &str, meant: u64, counted: u64) -> Result<(), Error> {
    if counted < meant || when == "bare" && counted > meant + meant / 50 {
        let name = work.name();
        return Err(Error::Bench(format!(
            "the guest of {name} meant {meant} exits, and KVM counted {counted}"
        )));
    }
    Ok(())
}

/// Instructions of one exit: the median of some runs.
fn median(machine: &Machines, work: Work, rounds: u32) -> Result<f64, Error> {
    let runs: Result<Vec<f64>, Error> = (0..TIMES).map(|_| once(machine, 0, work, rounds)).collect();
    runs.map(middle)
}

fn once(machine: &Machines, vcpu: usize, work: Work, rounds: u32) -> Result<f64, Error> {
    // A virtual nanosecond is an instruction.
    Ok(machine.run(vcpu, work, rounds)?.as_secs_f64() * 1e9 / f64::from(rounds * work.exits()))
}

fn middle(figures: Vec<f64>) -> f64 {
    Summary::of(figures).unwrap_or_default().median
}
