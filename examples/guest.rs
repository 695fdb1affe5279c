//! Runs the guest of the self-test and prints what it did, to compare with what a program counted:
//!
//! - `guest run VCPUS`: the standard plan on each vCPU;
//! - `guest only KIND COUNT`: so many of one kind on one vCPU;
//! - `guest time COUNT`: the time of each kind.

use exitscope::guest::{self, Kind, Plan};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
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
        _ => Err("guest run VCPUS | guest only KIND COUNT | guest time COUNT".into()),
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
