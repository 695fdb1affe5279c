//! Guests that end in an exit of their own: the CPU refuses to enter one, or it meets a fault that it cannot handle.

use super::asm;
use super::error::{RUN, kvm};
use super::split::{EACH, program};
use super::vcpu::Vcpu;
use super::{Error, Made, make};
use kvm_ioctls::VcpuExit;
use serde::Serialize;
use std::sync::Arc;

/// End of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The VMM makes the code segment one of 64 bits and of 32 at once, which KVM takes and no CPU enters (SDM vol. 3,
    /// section 28.3.1.2, "Checks on Guest Segment Registers"; APM vol. 2, section 15.5.1, "Basic Operation", of VMRUN).
    Refused,
    /// The VMM takes the guest's handlers away and sends it to an address without memory: a triple fault (SDM vol. 3, chapter
    /// 6, "Interrupt 8"; APM vol. 2, section 15.14.3, "Shutdown Intercept").
    Shutdown,
}

/// Counts of the guest, and the reason of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// CPUIDs, all of them before the last write.
    pub cpuids: u64,
    /// Writes to a port.
    pub writes: u64,
    /// KVM's reason of the failed entry (`hardware_entry_failure_reason`): the exit's code, as wide as KVM has it. 0 for
    /// [`End::Shutdown`], of which KVM says no more.
    pub reason: u64,
    /// KVM's own count of all exits; `None` where it keeps none.
    pub kvm_exits: Option<u64>,
}

/// An address that the guest's page tables have nothing for.
const NOWHERE: u64 = 1 << 40;

/// Runs so many rounds of CPUIDs and a write to a port, prepares the end and enters again.
///
/// # Errors
/// If KVM is not there or refuses, or if the guest did anything else.
pub fn run(rounds: u64, end: End) -> Result<Refused, Error> {
    let Made { vm, memory, processor } = make(1)?;
    let fd = vm.create_vcpu(0).map_err(kvm("make a vCPU"))?;
    let code = program::program(super::split::Work::Cpuid, EACH, processor.machine(0));
    let mut vcpu = Vcpu::new(fd, 0, Arc::clone(&memory), &processor, &code)?.alone_in(&vm);
    let mut writes = 0;
    let done = |writes, reason, vcpu: &Vcpu| Refused {
        cpuids: rounds * u64::from(EACH),
        writes,
        reason,
        kvm_exits: vcpu.exits(),
    };
    loop {
        match vcpu.fd.run() {
            Ok(VcpuExit::IoOut(asm::PORT, _)) if writes < rounds => writes += 1,
            Ok(VcpuExit::FailEntry(reason, _)) if writes == rounds && end == End::Refused => {
                return Ok(done(writes, reason, &vcpu));
            }
            Ok(VcpuExit::Shutdown) if writes == rounds && end == End::Shutdown => {
                return Ok(done(writes, 0, &vcpu));
            }
            Ok(other) => {
                let what = format!("{other:?}");
                return Err(vcpu.unexpected(what));
            }
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(kvm(RUN)(error)),
        }
        if writes == rounds {
            let mut sregs = vcpu.fd.get_sregs().map_err(kvm("read a vCPU's registers"))?;
            match end {
                End::Refused => sregs.cs.db = 1,
                End::Shutdown => {
                    sregs.idt.limit = 0;
                    let mut regs = vcpu.fd.get_regs().map_err(kvm("read a vCPU's registers"))?;
                    regs.rip = NOWHERE;
                    vcpu.fd.set_regs(&regs).map_err(kvm("set a vCPU's registers"))?;
                }
            }
            vcpu.fd.set_sregs(&sregs).map_err(kvm("set a vCPU's registers"))?;
        }
    }
}
