//! Runs the guest of the self-test and prints what it did, to compare with what a program counted:
//!
//! - `guest run VCPUS`: the standard plan on each vCPU;
//! - `guest only KIND COUNT`: so many of one kind on one vCPU;
//! - `guest time COUNT`: the time of each kind;
//! - `guest sleep WRITES NS`: the VMM sleeps that long after each write to a port;
//! - `guest block HALTS NS`, `guest poll HALTS NS`: halts until a timer fires, and KVM blocks the vCPU or polls;
//! - `guest cpu-pm HALTS NS`: the same, but the guest halts the CPU itself, and does not exit for it;
//! - `guest share NS`: runs CPUIDs until its thread has waited for a CPU that long;
//! - `guest tsc WRITES`: it and its VMM write its TSC, and it writes so often to a port;
//! - `guest die WRITES`: ends its process in the middle of the last write to a port;
//! - `guest refused ROUNDS`: CPUIDs and writes to a port, and then a state that no CPU enters;
//! - `guest shutdown ROUNDS`: the same, and then a triple fault;
//! - `guest details PORTS ROUNDS`: uses so many ports and 130 MSRs, each a known number of times;
//! - `guest about`: exits that are about known leaves, hypercalls, addresses and ports;
//! - `guest nested VCPUS CPUIDS PORTS`: each vCPU runs a guest of its own that does so many CPUIDs and writes to a port
//!   (SVM alone);
//! - `guest many VMS EACH [all]`: so many VMs at a time. With each line of standard input each of them runs a turn: so
//!   many CPUID, or of every kind, and one write to a port;
//! - `guest churn POOL`: VMs that come and go. With each line of standard input those that are there run a turn, one more
//!   is made, and the oldest ends where there would be more than POOL.
//! - `guest flood VCPUS NUMBERS`: on each vCPU so many ports, MSRs and all kinds of codes, at the same time;
//! - `guest spin`: makes VMs and ends them, as fast as it can, until standard input is closed;
//! - `guest rewrite EACH`: as `many 1 EACH`, in a process that rewrites its command line all the time;
//! - `guest hide`: closes its descriptors while its vCPU runs, and says so.
//!
//! With the environment's `EXITSCOPE_GUEST` its words are those, and its command line may be that of another VMM.
//!
//! `guest watch` runs none: it watches all VMs of the host, with a look at what their guests do, until it is killed. What that
//! look costs is measured with it.
//!
//! From `sleep` to `die` they print what their VMM saw of the time, as JSON ([`split::Spent`]), `refused` and `shutdown` how it ended
//! ([`refused::Refused`]), `details` what it used ([`details::Used`]), `about` what its exits were about ([`about::About`]), `nested` what its vCPUs did ([`nested::Done`]). `many` answers a line by
//! what it took ([`many::Round`]), `churn` by what the VM did that has ended ([`guest::churn::VmTurns`]), or null. Both
//! answer the line `show` by what each VM did that is there, each on a line of its own, and null. `spin MS` keeps the first
//! thread busy for so long, one for devices for twice and one that ends for three times as long, and is answered by null;
//! so is `vhost`, which has the kernel start a vhost worker, and `rewrite`, from which on the last argument changes all the time. The VMs live until
//! standard input is closed.

use exitscope_collect::{self as collect, Options};
use exitscope_testguest::about;
use exitscope_testguest::beside;
use exitscope_testguest::churn::{Churn, VmTurns};
use exitscope_testguest::details;
use exitscope_testguest::hostile;
use exitscope_testguest::many::{self, Many};
use exitscope_testguest::nested;
use exitscope_testguest::refused;
use exitscope_testguest::split::{self, Next, Work};
use exitscope_testguest::title;
use exitscope_testguest::{self as guest, Kind, Plan};
use serde::Serialize;
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Duration;

/// Halts that must have blocked, or polled, before there are enough.
const HALTS: u64 = 16;
/// Longer than any timer.
const POLL_NS: u32 = 1_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = match std::env::var("EXITSCOPE_GUEST") {
        Ok(words) => words.split(' ').map(str::to_owned).collect(),
        Err(_) => std::env::args().skip(1).collect(),
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["run", vcpus] => {
            let left_out = left_out()?;
            let plans: Vec<Plan> =
                (0..vcpus.parse()?).map(|vcpu| Plan::standard(vcpu).without(&left_out)).collect();
            run(&plans)
        }
        ["only", kind, count] => run(&[Plan::only(kind_of(kind)?, count.parse()?)]),
        ["time", count] => {
            let left_out = left_out()?;
            for kind in Kind::ALL.into_iter().filter(|kind| !left_out.contains(kind)) {
                println!("{:16} {:10.0} ns", kind.name(), guest::time(kind, count.parse()?)?);
            }
            Ok(())
        }
        ["sleep", writes, ns] => print(&split::sleeping(writes.parse()?, Duration::from_nanos(ns.parse()?))?),
        ["block", halts, ns] => {
            print(&split::halting(halts.parse()?, ns.parse()?, 0, |kvm| kvm.halts_blocked >= HALTS)?)
        }
        ["cpu-pm", halts, ns] => print(&split::halting_the_cpu(halts.parse()?, ns.parse()?)?),
        ["poll", halts, ns] => {
            print(&split::halting(halts.parse()?, ns.parse()?, POLL_NS, |kvm| kvm.halts_polled >= HALTS)?)
        }
        ["share", ns] => print(&split::sharing(Duration::from_nanos(ns.parse()?))?),
        ["tsc", writes] => print(&split::changing_tsc(writes.parse()?)?),
        ["die", writes] => die(writes.parse()?),
        ["refused", rounds] => print(&refused::run(rounds.parse()?, refused::End::Refused)?),
        ["shutdown", rounds] => print(&refused::run(rounds.parse()?, refused::End::Shutdown)?),
        ["details", ports, rounds] => print(&details::run(ports.parse()?, rounds.parse()?)?),
        ["about"] => print(&about::run()?),
        ["nested", vcpus, cpuids, ports] => {
            let work = nested::Work { cpuids: cpuids.parse()?, ports: ports.parse()? };
            print(&nested::run(vcpus.parse()?, work)?)
        }
        ["many", vms, each] => many_vms(vms.parse()?, &[Kind::Cpuid], each.parse()?),
        ["many", vms, each, "all"] => {
            let kinds = guest::probe()?.into_iter().filter(|(_, found)| found.usable());
            many_vms(vms.parse()?, &kinds.map(|(kind, _)| kind).collect::<Vec<_>>(), each.parse()?)
        }
        ["flood", vcpus, numbers] => {
            hostile::flood(vcpus.parse()?, numbers.parse()?)?.iter().try_for_each(print)
        }
        ["spin"] => print(&hostile::spin()?),
        ["rewrite", each] => {
            answer(&mut hostile::rewrite(each.parse()?)?, |many| print(&many.round()?), Many::done)
        }
        ["hide"] => Ok(hostile::hide(|| println!("\"hidden\""))?),
        ["watch"] => watch(),
        ["churn", pool] => churn(pool.parse()?),
        _ => Err("guest run VCPUS | only KIND COUNT | time COUNT | sleep WRITES NS | block HALTS NS | \
            poll HALTS NS | cpu-pm HALTS NS | share NS | tsc WRITES | die WRITES | refused ROUNDS | shutdown ROUNDS | details PORTS ROUNDS | about | nested VCPUS CPUIDS PORTS | \
            many VMS EACH [all] | churn POOL | flood VCPUS NUMBERS | spin | rewrite EACH | hide | watch"
            .into()),
    }
}

fn watch() -> Result<(), Box<dyn Error>> {
    let mut source = collect::start(&Options { guest: true, ..Options::default() })?;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        source.sample()?;
        source.take_marks()?;
    }
}

fn kind_of(name: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::name).join(", ");
    Kind::ALL
        .into_iter()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| format!("no kind {name:?}; there are {}", names()))
}

/// The kinds that make no exit here, which are told.
fn left_out() -> Result<Vec<Kind>, guest::Error> {
    let found = guest::probe()?;
    let unusable = found.into_iter().filter(|(_, found)| !found.usable());
    Ok(unusable
        .map(|(kind, found)| {
            println!("left out: {} ({}): {}", kind.name(), kind.what(), found.what());
            kind
        })
        .collect())
}

fn run(plans: &[Plan]) -> Result<(), Box<dyn Error>> {
    let done = guest::run(plans)?;
    println!("hardware: {}", done.isa.map_or("neither VMX nor SVM", |isa| isa.name()));
    println!("host NMIs meanwhile: {:?}", done.host_nmis);
    for vcpu in &done.vcpus {
        println!("vCPU {} first loads {} kvm {:?}", vcpu.vcpu, vcpu.first_loads, vcpu.kvm);
        for (&kind, count) in &vcpu.kinds {
            let code = done.isa.and_then(|isa| kind.exit_code(isa)).map_or(-1, |code| code.code);
            println!("vCPU {} code {code:#x} {code} {count} {}", vcpu.vcpu, kind.name());
        }
    }
    Ok(())
}

fn print(what: &impl Serialize) -> Result<(), Box<dyn Error>> {
    let line = serde_json::to_string(what)?;
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn many_vms(vms: usize, kinds: &[Kind], each: u32) -> Result<(), Box<dyn Error>> {
    let mut many = many::start(vms, kinds, each)?;
    answer(&mut many, |many| print(&many.round()?), Many::done)
}

fn churn(pool: usize) -> Result<(), Box<dyn Error>> {
    answer(&mut Churn::new(pool), |churn| print(&churn.step()?), Churn::living)
}

/// Answers each line of standard input by a step, and `show` by what the VMs did.
fn answer<T>(
    guests: &mut T,
    step: impl Fn(&mut T) -> Result<(), Box<dyn Error>>,
    show: impl Fn(&T) -> Vec<VmTurns>,
) -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    for line in std::io::stdin().lock().lines() {
        match line?.split(' ').collect::<Vec<_>>()[..] {
            ["show"] => {
                show(guests).iter().try_for_each(print)?;
                print(&None::<()>)?;
            }
            ["spin", ms] => {
                let time = Duration::from_millis(ms.parse()?);
                beside::spin(time);
                beside::io_thread(time * 2)?;
                beside::short_thread(time * 3)?;
                print(&None::<()>)?;
            }
            ["rewrite"] => {
                title::rewrite()?;
                print(&None::<()>)?;
            }
            ["vhost"] => {
                files.push(beside::vhost()?);
                print(&None::<()>)?;
            }
            _ => step(guests)?,
        }
    }
    Ok(())
}

/// Prints what the VMM saw up to its last write, then dies in the middle of it.
fn die(writes: u64) -> Result<(), Box<dyn Error>> {
    split::run(Work::Nothing, move |spent| {
        if spent.writes < writes {
            return Next::Round;
        }
        print(spent).expect("standard output is open");
        // SAFETY: a plain system call.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        Next::End
    })?;
    Err("this process was killed".into())
}
