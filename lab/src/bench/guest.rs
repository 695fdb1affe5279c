//! Virtual machines that do nothing but exit, and how long their exits take.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_USE_SW_BP, KVM_MAX_CPUID_ENTRIES, kvm_dtable, kvm_guest_debug, kvm_msi,
    kvm_regs, kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use memmap2::{Advice, MmapMut, UncheckedAdvice};

use super::code::{self, Work};
use super::idle::Idle;
use crate::error::Error;

/// CR4 when a guest begins: PAE.
const CR4: u64 = 1 << 5;
/// APIC base: where it always is, enabled, x2APIC.
const X2APIC: u64 = 0xfee0_0000 | 1 << 11 | 1 << 10;

/// Some virtual machines, each vCPU with a thread of its own that waits for [`Machines::run`].
pub(super) struct Machines {
    vcpus: Vec<Vcpu>,
    vms: Vec<Vm>,
}

struct Vm {
    fd: Arc<VmFd>,
    // The VM uses both as long as a thread has one of its vCPUs; the threads end first.
    _memory: MmapMut,
    /// Memory whose pages are touched, where that is the work.
    pages: Option<MmapMut>,
    waker: Option<Idle>,
}

struct Vcpu {
    orders: Sender<(Work, u32)>,
    done: Receiver<Result<Duration, String>>,
    thread: JoinHandle<()>,
}

impl Machines {
    /// `vms` virtual machines of `vcpus` vCPUs each, which can do `work`.
    pub(super) fn new(vms: usize, vcpus: u64, work: Work) -> Result<Self, Error> {
        let halts = work == Work::Halt;
        let kvm = Kvm::new().map_err(fail("cannot open /dev/kvm"))?;
        let mut machines = Self { vcpus: Vec::new(), vms: Vec::new() };
        for _ in 0..vms {
            let mut memory = MmapMut::map_anon(code::SIZE).map_err(Error::io("a guest's memory"))?;
            code::lay_out(&mut memory);
            let fd = kvm.create_vm().map_err(fail("KVM makes no VM"))?;
            let region = kvm_userspace_memory_region {
                memory_size: code::SIZE as u64,
                userspace_addr: memory.as_ptr() as u64,
                ..Default::default()
            };
            // SAFETY: the mapping is kept in `Vm` until the threads with its vCPUs have ended.
            unsafe { fd.set_user_memory_region(region) }.map_err(fail("KVM takes no memory"))?;
            if halts {
                fd.create_irq_chip().map_err(fail("KVM makes no interrupt controllers"))?;
            }
            let pages = if work == Work::PageFault { Some(add_pages(&fd)?) } else { None };
            let fd = Arc::new(fd);
            machines.vms.push(Vm { fd: Arc::clone(&fd), _memory: memory, pages, waker: None });
            for index in 0..vcpus {
                let vcpu = fd.create_vcpu(index).map_err(fail("KVM makes no vCPU"))?;
                set_up(&kvm, &vcpu, work).map_err(fail("KVM does not set a vCPU up"))?;
                machines.vcpus.push(Vcpu::start(vcpu)?);
            }
            if halts && let Some(vm) = machines.vms.last_mut() {
                vm.waker = Some(wake(fd)?);
            }
        }
        Ok(machines)
    }

    pub(super) fn vcpus(&self) -> usize {
        self.vcpus.len()
    }

    /// Has a vCPU do `rounds` of `work`, and says how long that took.
    pub(super) fn run(&self, vcpu: usize, work: Work, rounds: u32) -> Result<Duration, Error> {
        let gone = || Error::Bench("a vCPU's thread has ended".into());
        for pages in self.vms.iter().filter_map(|vm| vm.pages.as_ref()) {
            // SAFETY: what is taken away is zeros that only guests write, and none runs now.
            unsafe { pages.unchecked_advise(UncheckedAdvice::DontNeed) }
                .map_err(Error::io("taking the guest's pages away"))?;
        }
        let vcpu = &self.vcpus[vcpu];
        vcpu.orders.send((work, rounds)).map_err(|_| gone())?;
        vcpu.done.recv().map_err(|_| gone())?.map_err(Error::Bench)
    }

    /// KVM's own count of all exits so far, from debugfs.
    pub(super) fn exits(&self) -> Result<u64, Error> {
        let mut sum = 0;
        for vm in &self.vms {
            let path = format!("/sys/kernel/debug/kvm/{}-{}/exits", std::process::id(), vm.fd.as_raw_fd());
            let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
            let count: u64 =
                text.trim().parse().map_err(|_| Error::Bench(format!("{path} says {text:?}")))?;
            sum += count;
        }
        Ok(sum)
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for Vcpu { orders, done, thread } in self.vcpus.drain(..) {
            drop((orders, done));
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
        for vm in &mut self.vms {
            vm.waker = None;
        }
    }
}

impl Vcpu {
    fn start(mut fd: VcpuFd) -> Result<Self, Error> {
        let (orders, wanted) = channel();
        let (answer, done) = channel();
        // Small, so that a thousand fit.
        let thread = std::thread::Builder::new().stack_size(256 << 10);
        let thread = thread.spawn(move || {
            for (work, rounds) in wanted {
                if answer.send(run(&mut fd, work, rounds)).is_err() {
                    break;
                }
            }
        });
        Ok(Self { orders, done, thread: thread.map_err(Error::io("a thread for a vCPU"))? })
    }
}

fn run(fd: &mut VcpuFd, work: Work, rounds: u32) -> Result<Duration, String> {
    let regs = kvm_regs {
        rip: work.entry(),
        rsp: code::STACK,
        rsi: u64::from(rounds),
        rflags: 2,
        ..Default::default()
    };
    fd.set_regs(&regs).map_err(|error| format!("KVM sets no registers: {error}"))?;
    let start = Instant::now();
    loop {
        match fd.run() {
            Ok(VcpuExit::IoOut(code::DONE, _)) => return Ok(start.elapsed()),
            Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => {}
            Ok(other) => return Err(format!("the guest of {work:?} left by {other:?}")),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(format!("KVM_RUN of {work:?}: {error}")),
        }
    }
}

fn set_up(kvm: &Kvm, vcpu: &VcpuFd, work: Work) -> Result<(), kvm_ioctls::Error> {
    vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?)?;
    let mut sregs = vcpu.get_sregs()?;
    sregs.cr0 = 0x8001_0033; // PG, WP, NE, ET, MP, PE
    sregs.cr3 = code::CR3;
    sregs.cr4 = CR4;
    sregs.efer = 0x500; // LME, LMA
    let flat = kvm_segment { limit: u32::MAX, present: 1, s: 1, g: 1, ..Default::default() };
    sregs.cs = kvm_segment { selector: 8, type_: 11, l: 1, ..flat };
    let data = kvm_segment { selector: 16, type_: 3, db: 1, ..flat };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.gdt = kvm_dtable { base: code::GDT.0, limit: code::GDT.1, ..Default::default() };
    sregs.idt = kvm_dtable { base: code::IDT.0, limit: code::IDT.1, ..Default::default() };
    if work == Work::Halt {
        sregs.apic_base = X2APIC | sregs.apic_base & 1 << 8;
    }
    vcpu.set_sregs(&sregs)?;
    if work == Work::Mixed {
        // Makes KVM see every access to a debug register: otherwise, after the first, the guest has them to itself
        // until its next exit (`dr_interception()` in `arch/x86/kvm/svm/svm.c`).
        let control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
        vcpu.set_guest_debug(&kvm_guest_debug { control, ..Default::default() })?;
    }
    Ok(())
}

/// Gives a VM memory that the host maps page by page.
fn add_pages(fd: &VmFd) -> Result<MmapMut, Error> {
    let (address, size) = code::PAGES;
    let pages = MmapMut::map_anon(size).map_err(Error::io("a guest's memory"))?;
    pages.advise(Advice::NoHugePage).map_err(Error::io("asking for small pages"))?;
    let region = kvm_userspace_memory_region {
        slot: 1,
        guest_phys_addr: address.into(),
        memory_size: size as u64,
        userspace_addr: pages.as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: the mapping is kept in `Vm` until the threads with its vCPUs have ended.
    unsafe { fd.set_user_memory_region(region) }.map_err(fail("KVM takes no memory"))?;
    Ok(pages)
}

/// Sends the VM's first vCPU an interrupt whenever the CPU has nothing else to do, which on one CPU means: whenever
/// that vCPU halts. So the CPU is never idle, and time is instructions also while a guest halts.
fn wake(vm: Arc<VmFd>) -> Result<Idle, Error> {
    let message = kvm_msi { address_lo: 0xfee0_0000, data: u32::from(code::VECTOR), ..Default::default() };
    Idle::start(move || {
        // It reaches nobody before the guest has turned its APIC on; that is no failure.
        let _ = vm.signal_msi(message);
    })
}

fn fail(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |error| Error::Bench(format!("{what}: {error}"))
}
