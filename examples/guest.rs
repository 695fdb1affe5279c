//! Runs the guest of the self-test and prints what it did, to compare with another program's count:
//! `guest [VCPUS] [time [COUNT]]`.

use exitscope::guest::{self, Kind, Plan};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let vcpus: u32 = arguments.next().map_or(Ok(1), |number| number.parse())?;
    let time = arguments.next().is_some_and(|word| word == "time");
    let count: u32 = arguments.next().map_or(Ok(2000), |number| number.parse())?;

    let isa = guest::isa();
    println!("hardware: {}", isa.map_or("neither VMX nor SVM", |isa| isa.name()));
    let found = guest::probe()?;
    let mut left_out = Vec::new();
    for (kind, found) in found.into_iter().filter(|(_, found)| !found.usable()) {
        println!("left out: {} ({}): {}", kind.name(), kind.what(), found.what());
        left_out.push(kind);
    }
    if time {
        for kind in Kind::ALL.into_iter().filter(|kind| !left_out.contains(kind)) {
            println!("{:16} {:10.0} ns", kind.name(), guest::time(kind, count)?);
        }
        return Ok(());
    }
    let plans: Vec<Plan> = (0..vcpus).map(|vcpu| Plan::standard(vcpu).without(&left_out)).collect();
    let done = guest::run(&plans)?;
    println!("host NMIs meanwhile: {:?}", done.host_nmis);
    for vcpu in &done.vcpus {
        println!("vCPU {} first loads {} kvm {:?}", vcpu.vcpu, vcpu.first_loads, vcpu.kvm);
        for (&kind, count) in &vcpu.kinds {
            let code = isa.and_then(|isa| kind.exit_code(isa)).map_or(-1, |code| code.code);
            println!("vCPU {} code {code:#x} {code} {count} {}", vcpu.vcpu, kind.name());
        }
    }
    Ok(())
}
