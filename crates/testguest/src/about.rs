//! A guest whose exits are about known things of many kinds: leaves, hypercalls, addresses, ports of several sizes,
//! doorbells, memory whose writes are logged or refused.

use super::asm::{self, Block, Call, Code};
use super::error::{RUN, kvm};
use super::memory::{HIGH_MMIO, HIGH_MMIO_AT, LOGGED, READ_ONLY};
use super::vcpu::Vcpu;
use super::{Error, Made, make};
use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{IoEventAddress, NoDatamatch, VcpuExit, VmFd};
use memmap2::{MmapOptions, MmapRaw};
use serde::Serialize;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// Exits that are about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// Word of the kind of detail.
    pub kind: &'static str,
    /// Its key.
    pub key: u64,
    /// True if it was written.
    pub write: bool,
    /// Size in bytes, 0 where it is not told.
    pub size: u8,
    /// Flags of the kind.
    pub flags: &'static [&'static str],
    /// Number of exits.
    pub count: u32,
}

/// Size of a page: behind the address that a vCPU has for itself.
const BEHIND: u8 = 0x10;

fn about(kind: &'static str, key: u64, write: bool, size: u8, count: u32) -> About {
    About { kind, key, write, size, flags: &[], count }
}

/// Value that the guest writes.
const VALUE: u32 = 0x5eed;
/// Port that is a doorbell whatever is written there; one where that depends on it; and one where it would.
const DOORBELLS: [u16; 3] = [0x1100, 0x1200, 0x1300];
const PAGE: u32 = 0x1000;
/// Size of the memory whose writes are logged, and of that which may only be read.
const EXTRA: usize = 2 << 20;

/// Returns the addresses of doorbells: one where anything may be written, and one that wants a value.
fn doorbells(mmio: u64) -> [u64; 2] {
    [mmio + 3 * u64::from(BEHIND), HIGH_MMIO + 3 * u64::from(BEHIND)]
}

/// Returns what the guest does, `mmio` being an address without memory below 4 GiB.
fn planned(mmio: u32) -> Vec<About> {
    let mmio = u64::from(mmio);
    let doorbell = |about: About| About { flags: &["doorbell"], ..about };
    let [any, one] = doorbells(mmio);
    vec![
        about("cpuid", 0x1, false, 0, 31),
        about("cpuid", 0x4000_0001, false, 0, 37),
        about("cpuid", 0x1_0000_000d, false, 0, 41),
        about("cpuid", 0x2_0000_000d, false, 0, 43),
        about("hypercall", 1, false, 0, 47),
        about("hypercall", 11, false, 0, 53),
        about("hypercall", 4242, false, 0, 59),
        about("gpa", mmio + u64::from(BEHIND), true, 0, 61),
        about("gpa", mmio + u64::from(BEHIND), false, 0, 67),
        about("gpa", mmio + 2 * u64::from(BEHIND), false, 0, 71),
        about("gpa", HIGH_MMIO + u64::from(BEHIND), true, 0, 73),
        about("gpa", HIGH_MMIO + u64::from(BEHIND), false, 0, 79),
        about("port", 0x1000, true, 1, 83),
        about("port", 0x1000, true, 2, 89),
        about("port", 0x1000, true, 4, 97),
        about("port", 0x1000, false, 4, 101),
        doorbell(about("gpa", any, true, 0, 103)),
        doorbell(about("gpa", one, true, 0, 107)),
        doorbell(about("port", DOORBELLS[0].into(), true, 1, 109)),
        doorbell(about("port", DOORBELLS[1].into(), true, 4, 113)),
        about("port", DOORBELLS[2].into(), true, 4, 127),
        // Each page once: KVM maps small ones where it logs writes.
        About { flags: &["memory", "dirty-logged"], ..about("gpa", LOGGED.into(), true, 0, 512) },
        About { flags: &["memory", "read-only"], ..about("gpa", READ_ONLY.into(), true, 0, 131) },
    ]
}

/// The body of a loop that makes one such exit.
fn body(what: &About, mmio: u32, call: Call) -> Vec<u8> {
    let mut code = Code::default();
    let [low, high] = [what.key, what.key >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or(0));
    match what.kind {
        "cpuid" => {
            code.put(&[0xb8]).imm(low); //              mov eax, leaf
            code.put(&[0xb9]).imm(high); //             mov ecx, subleaf
            code.put(&[0x0f, 0xa2]); //                 cpuid
        }
        "hypercall" => {
            code.put(&[0xb8]).imm(low); //              mov eax, number
            code.put(&[0x31, 0xdb]); //                 xor ebx, ebx
            match call {
                Call::Vmcall => code.put(&[0x0f, 0x01, 0xc1]),
                Call::Vmmcall => code.put(&[0x0f, 0x01, 0xd9]),
            };
        }
        "gpa" if what.key == u64::from(LOGGED) => {
            code.put(&[0x89, 0x06]); //                 mov [rsi], eax
            code.put(&[0x81, 0xc6]).imm(PAGE); //       add esi, PAGE
        }
        "gpa" if what.key == u64::from(READ_ONLY) => {
            code.put(&[0xbe]).imm(READ_ONLY); //        mov esi, READ_ONLY
            code.put(&[0x89, 0x06]); //                 mov [rsi], eax
        }
        "gpa" => {
            let (base, at) =
                if what.key >= HIGH_MMIO { (HIGH_MMIO, HIGH_MMIO_AT) } else { (mmio.into(), mmio) };
            let offset = u8::try_from(what.key - base).unwrap_or(0);
            code.put(&[0xb8]).imm(VALUE); //            mov eax, VALUE
            code.put(&[0xbe]).imm(at); //               mov esi, at
            // mov [rsi + offset], eax; mov eax, [rsi + offset]
            code.put(&[if what.write { 0x89 } else { 0x8b }, 0x46, offset]);
        }
        _ => {
            code.put(&[0xb8]).imm(VALUE); //            mov eax, VALUE
            code.put(&[0xba]).imm(low); //              mov edx, port
            match (what.write, what.size) {
                (true, 1) => code.put(&[0xee]),       // out dx, al
                (true, 2) => code.put(&[0x66, 0xef]), // out dx, ax
                (true, _) => code.put(&[0xef]),       // out dx, eax
                (false, _) => code.put(&[0xed]),      // in eax, dx
            };
        }
    }
    code.0
}

/// Makes doorbells of some addresses and ports. They are there as long as what is returned.
fn register(vm: &VmFd, mmio: u64) -> Result<EventFd, Error> {
    let what = "make an eventfd";
    let event = EventFd::new(0).map_err(|source| Error::System { what, source })?;
    let [any, one] = doorbells(mmio).map(IoEventAddress::Mmio);
    let [any_port, one_port, other_port] = DOORBELLS.map(|port| IoEventAddress::Pio(port.into()));
    for at in [any, any_port] {
        vm.register_ioevent(&event, &at, NoDatamatch).map_err(kvm("register an ioeventfd"))?;
    }
    for (at, value) in [(one, VALUE), (one_port, VALUE), (other_port, VALUE + 1)] {
        vm.register_ioevent(&event, &at, value).map_err(kvm("register an ioeventfd"))?;
    }
    Ok(event)
}

/// Gives the guest more memory, which is to stay as long as the VM does.
fn add(vm: &VmFd, slot: u32, at: u32, flags: u32) -> Result<MmapRaw, Error> {
    let what = "map more of the guest's memory";
    let map = MmapOptions::new().len(EXTRA).populate().map_anon();
    let map = MmapRaw::from(map.map_err(|source| Error::System { what, source })?);
    let region = kvm_userspace_memory_region {
        slot,
        flags,
        guest_phys_addr: at.into(),
        memory_size: EXTRA as u64,
        userspace_addr: map.as_ptr() as u64,
    };
    // SAFETY: the region is the whole of a mapping that `run` keeps until the vCPU is gone.
    unsafe { vm.set_user_memory_region(region) }.map_err(kvm("give the guest more memory"))?;
    Ok(map)
}

/// Runs the guest. Returns what it did.
///
/// # Errors
/// If KVM is not there or refuses, or if the guest did anything else.
pub fn run() -> Result<Vec<About>, Error> {
    let Made { vm, memory, processor } = make(1)?;
    let fd = vm.create_vcpu(0).map_err(kvm("make a vCPU"))?;
    let machine = processor.machine(0);
    let planned = planned(machine.mmio);
    let _doorbells = register(&vm, machine.mmio.into())?;
    let _memory = [add(&vm, 1, LOGGED, KVM_MEM_LOG_DIRTY_PAGES)?, add(&vm, 2, READ_ONLY, KVM_MEM_READONLY)?];
    let mut code = asm::begin(machine);
    // KVM learns that there is no memory there, as `begin` has it learn of the other.
    code.put(&[0xbe]).imm(HIGH_MMIO_AT); //             mov esi, at
    code.put(&[0x8b, 0x06]); //                         mov eax, [rsi]
    for what in &planned {
        code.put(&[0xbe]).imm(LOGGED); //               mov esi, LOGGED: for who counts on from there
        code.put(&[0x41, 0xbd]).imm(what.count); //     mov r13d, count
        let top = code.0.len();
        code.put(&body(what, machine.mmio, machine.call));
        code.put(&[0x41, 0xff, 0xcd]); //               dec r13d
        code.back(&[0x0f, 0x85], top); //               jnz top
    }
    asm::finish(&mut code);
    let mut vcpu = Vcpu::new(fd, 0, Arc::clone(&memory), &processor, &code.0)?.alone_in(&vm);
    loop {
        match vcpu.fd.run() {
            Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => {}
            Ok(VcpuExit::IoIn(_, data) | VcpuExit::MmioRead(_, data)) => data.fill(0),
            Ok(VcpuExit::Hlt) => {
                vcpu.check()?;
                if vcpu.memory.note(0, Block::Finished) == 1 {
                    return Ok(planned);
                }
            }
            Ok(other) => {
                let what = format!("{other:?}");
                return Err(vcpu.unexpected(what));
            }
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(kvm(RUN)(error)),
        }
    }
}
