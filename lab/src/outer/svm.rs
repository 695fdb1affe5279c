//! QEMU's TCG, which emulates AMD SVM, as the outer machine. It has this machine's root file system inside, by 9p.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Outer, Place, Started};
use crate::error::Error;
use crate::kernel::Kernel;
use crate::{doctor, initramfs, quote, vmlinux};

/// Starts QEMU with the outer VM.
pub(super) fn start(outer: &Outer, kernel: &Kernel, place: &Place, job: &[u8]) -> Result<Started, Error> {
    let initrd = place.scratch.join("initramfs");
    let forward = if outer.stdin { "forward=yes\n" } else { "forward=no\n" };
    let settings = format!("machine=svm\n{forward}");
    let own: [(&str, &[u8]); 2] = [("job", job), ("settings", settings.as_bytes())];
    initramfs::join(&initramfs::OUTER_SVM.image(&outer.cache, kernel)?, &own, &initrd)?;

    let mut ports = Vec::new();
    let mut inherited: Vec<OwnedFd> = Vec::new();
    for _ in 0..4 {
        let (ours, theirs) = UnixStream::pair().map_err(Error::io("a socket pair"))?;
        ports.push(ours);
        inherited.push(theirs.into());
    }
    let numbers: Vec<i32> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
    let mut qemu = qemu(outer, kernel, &initrd, place, &numbers)?;
    let process = place.start(&mut qemu, Stdio::null(), inherited)?;
    let mut ports = ports.into_iter();
    let mut port = || ports.next().expect("as many ports as were made above");
    let (control, stdout, stderr, input) = (port(), port(), port(), port());
    if outer.stdin {
        feed(input.try_clone().map_err(Error::io("a socket"))?);
    }
    Ok(Started {
        process,
        emulator: "QEMU",
        control: Box::new(control),
        stdout: Box::new(stdout),
        stderr: Box::new(stderr),
        // Were the socket closed, QEMU would drop the input that the command has not read.
        held: Box::new(input),
        collect: None,
    })
}

fn qemu(
    outer: &Outer,
    kernel: &Kernel,
    initrd: &Path,
    place: &Place,
    ports: &[i32],
) -> Result<Command, Error> {
    let share = |tag: &str, path: &Path, options: &str| {
        let mut share = OsString::from("local,path=");
        share.push(quote::qemu(path.as_os_str()));
        share.push(format!(",mount_tag={tag},security_model=none,multidevs=remap{options}"));
        share
    };
    let mut log = OsString::from("file,id=console,path=");
    log.push(quote::qemu(place.console.as_os_str()));
    let mut qemu = Command::new(doctor::program("qemu-system-x86_64")?);
    qemu.args(["-name", "exitscope-lab", "-nodefaults", "-no-user-config", "-display", "none"]);
    // On a thread for each CPU, QEMU 7.2 breaks guests of several vCPUs now and then (triple faults, faults on
    // pages that are mapped); on one thread it never did, and counting instructions needs that anyway.
    qemu.args(["-no-reboot", "-cpu", "max", "-accel", "tcg,thread=single"]);
    if outer.icount {
        qemu.args(["-icount", "shift=0,sleep=off"]);
    }
    qemu.args(["-smp", &outer.smp.to_string(), "-m", &outer.memory.unwrap_or(4096).to_string()]);
    qemu.arg("-kernel").arg(vmlinux::boot_image(&outer.cache, kernel)?).arg("-initrd").arg(initrd);
    // An oops is a panic: a test that broke the kernel must not look like one that passed. The timer
    // check counts ticks in a time that a busy machine's emulator cannot keep, and panics; the TSC's watchdog
    // compares it with another emulated clock, and gives it up.
    let mut options = "oops=panic no_timer_check tsc=reliable cryptomgr.notests".to_owned();
    // Likewise the kernel may find a TSC that is several times too slow, and take each second for so many.
    if let Some(khz) = host_tsc_khz().filter(|_| !outer.icount) {
        options += &format!(" tsc_early_khz={khz}");
    }
    qemu.arg("-append").arg(format!("console=ttyS0 quiet panic=-1 {options}"));
    qemu.arg("-virtfs").arg(share("root", Path::new("/"), ",readonly=on"));
    qemu.arg("-virtfs").arg(share("modules", &kernel.modules, ",readonly=on"));
    qemu.arg("-virtfs").arg(share("out", &place.out, ""));
    qemu.arg("-chardev").arg(log).args(["-serial", "chardev:console", "-device", "virtio-serial-pci"]);
    for (index, descriptor) in ports.iter().enumerate() {
        let number = index + 1;
        qemu.arg("-chardev").arg(format!("socket,id=port{number},fd={descriptor}"));
        qemu.arg("-device").arg(format!("virtserialport,nr={number},chardev=port{number}"));
    }
    Ok(qemu)
}

/// Measures how fast this machine's TSC goes (kHz), which is QEMU's for its guests too, unless it counts instructions. `None`
/// where the machine has no TSC.
fn host_tsc_khz() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::time::{Duration, Instant};
        // SAFETY: every x86-64 CPU has the instruction, and Linux lets programs use it.
        let ticks = || unsafe { std::arch::x86_64::_rdtsc() };
        let (start, before) = (Instant::now(), ticks());
        std::thread::sleep(Duration::from_millis(50));
        let (ticks, time) = (ticks() - before, start.elapsed());
        u64::try_from(u128::from(ticks) * 1_000_000 / time.as_nanos()).ok()
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// Feeds this process's standard input to the port, and its end too.
fn feed(mut port: UnixStream) {
    // This thread may stay in its read when the run is over; the process's end takes it along.
    std::thread::spawn(move || {
        // The first line tells the other side that the port is connected.
        if port.write_all(b"\n").is_ok() && io::copy(&mut io::stdin().lock(), &mut port).is_ok() {
            // Fails only if QEMU is gone.
            let _ = port.shutdown(Shutdown::Write);
        }
    });
}
