//! Guests, and processes with guests, that do what makes a watcher's life hard.

use super::asm::{self, Block};
use super::details::{What, sweep, write};
use super::error::{RUN, kvm};
use super::many::{self, Many};
use super::vcpu::Vcpu;
use super::{Error, Kind, Made, make, make_with, memory_for, wait};
use kvm_bindings::kvm_enable_cap;
use kvm_ioctls::{Cap, MsrExitReason, VcpuExit, VmFd};
use serde::Serialize;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// First of the ports, and of the MSRs, that a flood uses. KVM knows none of the latter, and no processor has them.
const FIRST_PORT: u32 = 0x1000;
const FIRST_MSR: u32 = 0x2000_0000;

/// Counts of one vCPU of a flood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flooded {
    /// Its number.
    pub vcpu: usize,
    /// Writes to ports.
    pub writes: u64,
    /// RDMSRs that KVM handed to the VMM.
    pub reads: u64,
    /// KVM's own count of all exits; `None` where it keeps none.
    pub kvm_exits: Option<u64>,
}

/// Runs a guest whose vCPUs, at the same time, each use so many ports and MSRs, and exit for whatever reason an instruction
/// can make.
///
/// # Errors
/// If KVM is not there or refuses, or if the guest did anything else.
pub fn flood(vcpus: usize, numbers: u16) -> Result<Vec<Flooded>, Error> {
    let Made { vm, memory, processor } = make(vcpus)?;
    let reasons = (MsrExitReason::Unknown | MsrExitReason::Inval).bits();
    let mut cap = kvm_enable_cap { cap: Cap::X86UserSpaceMsr as u32, ..Default::default() };
    cap.args[0] = reasons.into();
    vm.enable_cap(&cap).map_err(kvm("hand unknown MSRs to the VMM"))?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for index in 0..vcpus {
        let fd = vm.create_vcpu(index as u64).map_err(kvm("make a vCPU"))?;
        let code = program(processor.machine(index), numbers.into());
        let mut vcpu = Vcpu::new(fd, index, Arc::clone(&memory), &processor, &code)?;
        let stop = Arc::clone(&stop);
        let run = move || {
            let done = use_up(&mut vcpu, &stop);
            (done, vcpu)
        };
        let thread = thread::Builder::new().name(format!("vcpu {index}")).spawn(run);
        threads.push(thread.map_err(|source| Error::System { what: "start a thread for a vCPU", source })?);
    }
    let done = wait(threads, &stop, Duration::from_secs(600))?;
    done.into_iter().map(|(done, _)| done).collect()
}

/// Codes first, so that what follows finds the tables as full as they get.
fn program(machine: asm::Machine, numbers: u32) -> Vec<u8> {
    let mut code = asm::begin(machine);
    let kinds = [
        Kind::Cpuid,
        Kind::MsrRead,
        Kind::MsrWrite,
        Kind::Hypercall,
        Kind::Cr0Write,
        Kind::Cr4Write,
        Kind::Cr8Write,
        Kind::Cr8Read,
        Kind::DrWrite,
        Kind::Wbinvd,
        Kind::Invd,
        Kind::UndefinedOpcode,
    ];
    for kind in kinds {
        asm::repeat(&mut code, asm::Step { kind, count: 2 }, machine);
    }
    for register in [0, 1, 2, 3, 6, 7] {
        code.put(&[0x0f, 0x21, 0xc0 | register << 3]); //  mov rax, drN
    }
    for register in [0, 1, 2, 3] {
        code.put(&[0x31, 0xc0, 0x0f, 0x23, 0xc0 | register << 3]); //  xor eax, eax; mov drN, rax
    }
    write(&mut code, sweep(What::Out, FIRST_PORT, numbers, 1));
    write(&mut code, sweep(What::Read, FIRST_MSR, numbers, 1));
    asm::finish(&mut code);
    code.0
}

fn use_up(vcpu: &mut Vcpu, stop: &AtomicBool) -> Result<Flooded, Error> {
    let mut done = Flooded { vcpu: vcpu.index, ..Flooded::default() };
    while !stop.load(Ordering::Relaxed) {
        match vcpu.fd.run() {
            Ok(VcpuExit::IoOut(..)) => done.writes += 1,
            Ok(VcpuExit::X86Rdmsr(msr)) => {
                (*msr.data, *msr.error) = (0, 0);
                done.reads += 1;
            }
            Ok(VcpuExit::MmioRead(_, data)) => data.fill(0),
            Ok(VcpuExit::Hlt) => {
                vcpu.check()?;
                if vcpu.memory.note(vcpu.index, Block::Finished) == 1 {
                    done.kvm_exits = vcpu.exits();
                    return Ok(done);
                }
            }
            Ok(other) => {
                let what = format!("{other:?}");
                return Err(vcpu.unexpected(what));
            }
            Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => {}
            Err(error) => return Err(kvm(RUN)(error)),
        }
    }
    Err(vcpu.unexpected("request to stop"))
}

/// Makes a VM with a vCPU, which writes to a port once, and ends it: again and again, until standard input is closed. Returns
/// how many there were.
///
/// # Errors
/// If KVM is not there or refuses, or if a guest did anything else.
pub fn spin() -> Result<u64, Error> {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    thread::spawn(move || {
        until_closed();
        told.store(true, Ordering::Relaxed);
    });
    let memory = memory_for(1)?;
    let mut made = 0;
    while !over.load(Ordering::Relaxed) {
        let Made { vm, memory, processor } = make_with(Arc::clone(&memory))?;
        let steps = [asm::Step { kind: Kind::PortOut, count: 1 }];
        let code = asm::program(&steps, false, processor.machine(0));
        let fd = vm.create_vcpu(0).map_err(kvm("make a vCPU"))?;
        let mut vcpu = Vcpu::new(fd, 0, memory, &processor, &code)?;
        loop {
            match vcpu.fd.run() {
                Ok(VcpuExit::IoOut(..)) => break,
                Ok(VcpuExit::MmioRead(_, data)) => data.fill(0),
                Ok(other) => {
                    let what = format!("{other:?}");
                    return Err(vcpu.unexpected(what));
                }
                Err(error) if error.errno() == libc::EINTR => {}
                Err(error) => return Err(kvm(RUN)(error)),
            }
        }
        made += 1;
    }
    Ok(made)
}

fn until_closed() {
    // What is said, and whether reading fails, is all the same: then nobody is there any more.
    let _ = io::stdin().lock().read_to_end(&mut Vec::new());
}

/// Has the process's command line rewritten from now on, as fast as can be: by names, by bytes that are no text, and by
/// options of other VMMs. Returns a VM that runs turns meanwhile.
///
/// # Errors
/// If there is no command line, or KVM refuses.
pub fn rewrite(each: u32) -> Result<Many, Error> {
    let what = "find this process's command line";
    let refused = |source| Error::System { what, source };
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(refused)?;
    // Fields 48 and 49, arg_start and arg_end (proc_pid_stat(5)); those after the name in parentheses begin with the third.
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let (from, to) = (fields.get(45).copied().unwrap_or(0), fields.get(46).copied().unwrap_or(0));
    if from == 0 || to <= from {
        return Err(refused(io::ErrorKind::NotFound.into()));
    }
    let length = usize::try_from(to - from).unwrap_or(0);
    let memory = std::fs::OpenOptions::new().write(true).open("/proc/self/mem").map_err(refused)?;
    thread::spawn(move || {
        let texts: [&[u8]; 4] = [
            b"qemu-system-x86_64\0-name\0guest=one\0-object\0secret,data=abc\0",
            &[0xff; 64],
            b"firecracker\0--id\0\x1b[2J\xe2\x80\xae\0",
            &[b'x'; 4096],
        ];
        for text in texts.iter().cycle() {
            let line: Vec<u8> = text.iter().copied().cycle().take(length).collect();
            if memory.write_all_at(&line, from).is_err() {
                return;
            }
        }
    });
    many::start(1, &[Kind::Cpuid], each)
}

/// Runs a guest that never leaves KVM_RUN, closes every descriptor of KVM while it runs, says so by `hidden`, and waits until
/// standard input is closed. Then the process ends at once.
///
/// # Errors
/// If KVM is not there or refuses.
pub fn hide(hidden: impl FnOnce()) -> Result<(), Error> {
    let Made { vm, memory, processor } = make(1)?;
    let steps = [asm::Step { kind: Kind::Cpuid, count: u32::MAX }];
    let code = asm::program(&steps, false, processor.machine(0));
    let fd = vm.create_vcpu(0).map_err(kvm("make a vCPU"))?;
    let mut vcpu = Vcpu::new(fd, 0, memory, &processor, &code)?;
    let stats = vcpu.stats.take();
    thread::spawn(move || {
        // The first load of an address without memory, and nothing else.
        while let Ok(VcpuExit::MmioRead(_, data)) = vcpu.fd.run() {
            data.fill(0);
        }
    });
    let what = "close KVM's descriptors";
    let refused = |source| Error::System { what, source };
    while stats.as_ref().and_then(|stats| stats.get("exits")).is_some_and(|exits| exits < 1000) {
        thread::sleep(Duration::from_millis(1));
    }
    let files = std::fs::read_dir("/proc/self/fd").map_err(refused)?.flatten();
    let is_of_kvm = |path: &std::path::Path| {
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("kvm"))
    };
    let numbers = files.filter(|file| is_of_kvm(&file.path()));
    let numbers: Vec<i32> = numbers.filter_map(|file| file.file_name().to_str()?.parse().ok()).collect();
    for number in numbers {
        // SAFETY: whoever has this descriptor is not run again: the vCPU's thread stays in its call, and the process ends
        // without dropping anything.
        unsafe { libc::close(number) };
    }
    leave_alone(vm);
    hidden();
    until_closed();
    // SAFETY: it ends the process, with all of its threads.
    unsafe { libc::_exit(0) }
}

/// Keeps the VM's descriptor, which is closed, from being closed again.
fn leave_alone(vm: VmFd) {
    std::mem::forget(vm);
}
