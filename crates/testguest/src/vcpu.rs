//! One vCPU: its state at the start, the loop around KVM_RUN, and what was seen meanwhile.

use super::asm::{self, Block, Call, Machine};
use super::error::kvm;
use super::memory::{self, Area, Memory};
use super::stats::Stats;
use super::{Error, KvmCount};
use kvm_bindings::{
    CpuId, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_USE_SW_BP, Msrs, kvm_dtable, kvm_guest_debug, kvm_msr_entry,
    kvm_regs, kvm_segment,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// CR4 without XSAVE: PAE.
const CR4: u32 = 1 << 5;
const CR4_OSXSAVE: u32 = 1 << 18;

/// A vCPU that is ready to run.
pub struct Vcpu {
    pub fd: VcpuFd,
    pub index: usize,
    pub memory: Arc<Memory>,
    pub stats: Option<Stats>,
}

/// Counts of a vCPU's exits to user space, and the guest's own notes.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub port_out: u64,
    pub port_out_sum: u64,
    pub port_in: u64,
    pub port_in_sum: u64,
    pub mmio_write: u64,
    pub mmio_write_sum: u64,
    /// The one at the beginning included.
    pub mmio_read: u64,
    pub mmio_read_sum: u64,
    /// The last one included.
    pub hlt: u64,
    pub debug: u64,
    pub breakpoint: u64,
    pub undefined: u64,
    pub trap: u64,
    pub protection: u64,
    pub hypercall_answers: u64,
    /// The last exit code of the guest's own guest, 0 where it has none.
    pub l2_end: u64,
    pub msr: Option<u64>,
    /// Time and KVM's count of exits at each HLT.
    pub marks: Vec<(Instant, Option<u64>)>,
    pub kvm: Option<KvmCount>,
}

/// Properties that every vCPU of a guest has.
#[derive(Clone, Debug)]
pub struct Processor {
    pub cpuid: CpuId,
    pub call: Call,
    pub xsave: bool,
}

impl Processor {
    /// All that KVM can offer.
    pub fn new(cpuid: CpuId, call: Call) -> Processor {
        let xsave = cpuid.as_slice().iter().any(|leaf| leaf.function == 1 && leaf.ecx & 1 << 26 != 0);
        Processor { cpuid, call, xsave }
    }

    fn cr4(&self) -> u32 {
        if self.xsave { CR4 | CR4_OSXSAVE } else { CR4 }
    }

    /// Returns the addresses and instructions for that vCPU's program.
    pub fn machine(&self, index: usize) -> Machine {
        let area = Memory::area(index);
        Machine { block: area.block, mmio: area.mmio, cr4: self.cr4(), call: self.call }
    }
}

impl Vcpu {
    /// Sets a new vCPU up to run a program.
    pub fn new(
        fd: VcpuFd,
        index: usize,
        memory: Arc<Memory>,
        processor: &Processor,
        program: &[u8],
    ) -> Result<Vcpu, Error> {
        let area = Memory::area(index);
        memory.load(index, program);
        fd.set_cpuid2(&processor.cpuid).map_err(kvm("set the guest's CPUID"))?;
        let mut sregs = fd.get_sregs().map_err(kvm("read a vCPU's registers"))?;
        sregs.cr0 = asm::CR0.into();
        sregs.cr3 = area.cr3;
        sregs.cr4 = processor.cr4().into();
        sregs.efer = 0x500; // LME, LMA
        sregs.cs = segment(memory::CODE.0, 11, true);
        let data = segment(memory::DATA.0, 3, false);
        (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
        sregs.gdt = table((area.gdt, memory::GDT_LIMIT));
        sregs.idt = table((area.idt, memory::IDT_LIMIT));
        fd.set_sregs(&sregs).map_err(kvm("set a vCPU's registers"))?;
        let Area { program: rip, stack: rsp, .. } = area;
        fd.set_regs(&kvm_regs { rip, rsp, rflags: 2, ..Default::default() })
            .map_err(kvm("set a vCPU's registers"))?;
        // Asking for breakpoints also makes KVM emulate every access to a debug register. Without, it
        // lets the guest have them after the first until the next exit (`dr_interception()`, `handle_dr()`),
        // and how often that is depends on the host's interrupts.
        let control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
        fd.set_guest_debug(&kvm_guest_debug { control, ..Default::default() })
            .map_err(kvm("watch the guest's breakpoints"))?;
        let stats = Stats::open(&fd).ok();
        Ok(Vcpu { fd, index, memory, stats })
    }

    /// Has KVM's statistics read from debugfs where the kernel has no descriptor for them: this is the VM's only vCPU, so
    /// that the VM's are its own.
    pub fn alone_in(mut self, vm: &VmFd) -> Vcpu {
        if self.stats.is_none() {
            self.stats = Stats::of_vm(vm);
        }
        self
    }

    /// KVM's own count of all exits up to now.
    pub fn exits(&self) -> Option<u64> {
        self.stats.as_ref()?.get("exits")
    }

    /// Something that no program of ours does.
    pub fn unexpected(&self, what: impl Into<String>) -> Error {
        Error::Unexpected { vcpu: self.index, what: what.into() }
    }

    /// Checks that the guest has met no exception that its program does not make.
    pub fn check(&self) -> Result<(), Error> {
        let vector = self.memory.note(self.index, Block::Fault);
        if vector == 0 {
            return Ok(());
        }
        let rip = self.memory.note(self.index, Block::FaultRip);
        Err(Error::Fault { vcpu: self.index, vector: vector - 1, rip })
    }

    /// Runs the program to its end, or until told to stop.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<Seen, Error> {
        let mut seen = Seen::default();
        self.go_on(stop, &mut seen)?;
        self.take_notes(&mut seen);
        Ok(seen)
    }

    /// Runs the program to its end or to that of a turn, or until told to stop.
    pub fn go_on(&mut self, stop: &AtomicBool, seen: &mut Seen) -> Result<(), Error> {
        let mmio = u64::from(Memory::area(self.index).mmio);
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(self.unexpected("request to stop"));
            }
            match self.fd.run() {
                Ok(VcpuExit::IoOut(asm::PORT, data)) if data.len() == 4 => {
                    seen.port_out += 1;
                    seen.port_out_sum += number(data);
                }
                Ok(VcpuExit::IoOut(asm::TURN_PORT, _)) => {
                    self.check()?;
                    return Ok(());
                }
                Ok(VcpuExit::IoIn(asm::PORT, data)) if data.len() == 4 => {
                    seen.port_in += 1;
                    answer(data, seen.port_in);
                }
                Ok(VcpuExit::MmioWrite(at, data)) if at == mmio && data.len() == 4 => {
                    seen.mmio_write += 1;
                    seen.mmio_write_sum += number(data);
                }
                Ok(VcpuExit::MmioRead(at, data)) if at == mmio && data.len() == 4 => {
                    // The first is the one before the steps.
                    answer(data, seen.mmio_read);
                    seen.mmio_read += 1;
                }
                Ok(VcpuExit::Hlt) => {
                    seen.hlt += 1;
                    self.check()?;
                    seen.marks.push((Instant::now(), self.exits()));
                    if self.memory.note(self.index, Block::Finished) == 1 {
                        return Ok(());
                    }
                }
                Ok(VcpuExit::Debug(debug)) if debug.exception == 3 => {
                    seen.debug += 1;
                    let mut regs = self.fd.get_regs().map_err(kvm("read a vCPU's registers"))?;
                    regs.rip += 1;
                    self.fd.set_regs(&regs).map_err(kvm("set a vCPU's registers"))?;
                }
                // Seen with QEMU 7.2 emulating several processors on several threads: a walk of the guest's
                // page tables now and then finds nothing there. Never seen with one thread.
                Ok(VcpuExit::Shutdown) if super::host::emulated() => {
                    return Err(self.unexpected(
                        "shutdown (triple fault); QEMU's emulation may do that on several threads: \
                         run it with -accel tcg,thread=single",
                    ));
                }
                Ok(other) => {
                    let what = format!("{other:?}");
                    return Err(self.unexpected(what));
                }
                Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => {}
                Err(error) => return Err(kvm(super::error::RUN)(error)),
            }
        }
    }

    /// Reads the notes of the guest and KVM's statistics up to now.
    fn take_notes(&self, seen: &mut Seen) {
        let note = |field| self.memory.note(self.index, field);
        seen.port_in_sum = note(Block::PortSum);
        seen.mmio_read_sum = note(Block::MmioSum);
        seen.undefined = note(Block::Ud);
        seen.trap = note(Block::Db);
        seen.breakpoint = note(Block::Bp);
        seen.protection = note(Block::Gp);
        seen.hypercall_answers = note(Block::HypercallAnswers);
        seen.l2_end = note(Block::L2End);
        seen.msr = self.msr();
        seen.kvm = self.kvm_count();
    }

    fn kvm_count(&self) -> Option<KvmCount> {
        let stats = self.stats.as_ref()?;
        let faults = stats.get("pf_taken").zip(stats.get("pf_emulate"));
        Some(KvmCount { exits: stats.get("exits")?, faults })
    }

    fn msr(&self) -> Option<u64> {
        let entry = kvm_msr_entry { index: asm::MSR, ..Default::default() };
        let mut msrs = Msrs::from_entries(&[entry]).ok()?;
        (self.fd.get_msrs(&mut msrs).ok()? == 1).then(|| msrs.as_slice()[0].data)
    }
}

pub fn segment(selector: u16, type_: u8, long: bool) -> kvm_segment {
    kvm_segment {
        selector,
        type_,
        limit: u32::MAX,
        present: 1,
        s: 1,
        g: 1,
        l: long.into(),
        db: (!long).into(),
        ..Default::default()
    }
}

fn table((base, limit): (u64, u16)) -> kvm_dtable {
    kvm_dtable { base, limit, ..Default::default() }
}

fn number(data: &[u8]) -> u64 {
    data.try_into().map_or(0, u32::from_le_bytes).into()
}

/// Answers with the low half of a number.
fn answer(data: &mut [u8], value: u64) {
    let size = data.len();
    data.copy_from_slice(&value.to_le_bytes()[..size]);
}
