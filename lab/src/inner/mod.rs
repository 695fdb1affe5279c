//! An inner VM: QEMU with KVM in the outer VM, a small Linux on a tap device.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::cache::Cache;
use crate::command::show;
use crate::doctor::{self, Task};
use crate::error::Error;
use crate::initramfs;
use crate::kernel::Kernel;
use crate::process::Process;
use crate::system::{self, Bus, Image, Loader};
use crate::{quote, vmlinux};

mod console;
mod ping;
mod tap;

pub use console::Outcome;
use ping::Ping;
use tap::Tap;

/// Time between two looks at whether QEMU has ended.
const POLL: Duration = Duration::from_millis(100);
/// Time for which the answer of a guest that has ended is waited for.
const LAST_ANSWER: Duration = Duration::from_secs(2);

/// Kernel and disk of an inner VM.
#[derive(Debug)]
pub enum Boot {
    /// A kernel with busybox, in memory alone.
    Memory(Kernel),
    /// A system on a disk, which the guest cannot change.
    Disk(Image, Bus, Loader),
}

/// Options of an inner VM.
#[derive(Debug)]
pub struct Inner {
    /// The name for `qemu -name guest=`; without it `inner-N`, where N is the tap device's number.
    pub name: Option<OsString>,
    /// Memory in MiB.
    pub memory: u32,
    /// vCPUs.
    pub smp: u32,
    /// One more disk, as virtio-blk; qcow2 or raw, a file or a block device.
    pub disk: Option<PathBuf>,
    /// A shell line that the guest runs once its network is up.
    pub shell: OsString,
    /// Seconds for which the guest stays up after its work.
    pub keep: u32,
    /// Ping the guest from the outer VM too; it waits for that.
    pub ping: bool,
    /// More arguments for QEMU.
    pub extra: Vec<OsString>,
    /// Ends the VM when this holds a signal's number instead of 0.
    pub stop: Arc<AtomicUsize>,
}

/// Prepares what [`Inner::run`] boots from memory, so that the outer VM finds it in the cache.
///
/// # Errors
/// [`Error::Missing`], [`Error::Program`], [`Error::Io`].
pub fn prepare(cache: &Cache, kernel: &Kernel) -> Result<(), Error> {
    initramfs::INNER.image(cache, kernel)?;
    vmlinux::boot_image(cache, kernel)?;
    Ok(())
}

/// The files in the cache that an inner VM without a disk needs.
pub(crate) fn files(cache: &Cache, kernel: &Kernel) -> Result<Vec<PathBuf>, Error> {
    let mut files = vec![initramfs::INNER.image(cache, kernel)?, vmlinux::boot_image(cache, kernel)?];
    // The cache asks for the other two before it says that it has the kernel.
    files.extend([kernel.image.clone(), kernel.modules.join("modules.dep")]);
    Ok(files)
}

impl Inner {
    /// Boots the inner VM with its serial console on this process's standard input and output, and waits for
    /// its end. QEMU's command line and the result of the outer ping are told to `progress`.
    ///
    /// # Errors
    /// [`Error::Usage`] outside an outer VM or without KVM, [`Error::QemuFailed`], and others.
    pub fn run(&self, cache: &Cache, boot: &Boot, progress: &dyn Fn(&str)) -> Result<Outcome, Error> {
        doctor::check(Task::Inner)?;
        let is_kvm = |m: fs::Metadata| m.file_type().is_char_device();
        if std::env::var_os("LAB_OUTER").is_none() {
            return Err(Error::Usage("an inner VM runs in the outer one; try: lab run -- lab inner".into()));
        }
        if !fs::metadata("/dev/kvm").is_ok_and(is_kvm) {
            return Err(Error::Usage(
                "there is no /dev/kvm; load it with: modprobe kvm-amd, or kvm-intel".into(),
            ));
        }
        let tap = Tap::new()?;
        let name = self.name.clone().unwrap_or_else(|| format!("inner-{}", tap.number).into());
        let scratch = tempfile::Builder::new()
            .prefix("inner-")
            .tempdir()
            .map_err(Error::io("a temporary directory"))?;
        let mut command = self.qemu(&name, &tap)?;
        let job = self.job(&name, &tap);
        match boot {
            Boot::Memory(kernel) => {
                let initrd = scratch.path().join("initramfs");
                initramfs::join(&initramfs::INNER.image(cache, kernel)?, &[("job", &job)], &initrd)?;
                command.arg("-kernel").arg(vmlinux::boot_image(cache, kernel)?);
                command.arg("-initrd").arg(initrd).args(["-append", "console=ttyS0 panic=-1"]);
            }
            Boot::Disk(image, bus, loader) => {
                attach(&mut command, image, *bus, *loader);
                let file = scratch.path().join("job");
                fs::write(&file, job).map_err(Error::io(&file))?;
                let mut config = OsString::from("name=opt/lab/job,file=");
                config.push(quote::qemu(file.as_os_str()));
                command.arg("-fw_cfg").arg(config);
            }
        }
        if let Some(disk) = &self.disk {
            let mut drive = OsString::from(format!("if=virtio,format={},file=", disk_format(disk)?));
            drive.push(quote::qemu(disk.as_os_str()));
            command.arg("-drive").arg(drive);
        }
        command.args(&self.extra);
        // QEMU keeps there what a guest writes on a disk that it cannot change.
        command.env("TMPDIR", scratch.path()).stdout(Stdio::piped());
        progress(&show(&command));
        let mut qemu = Process::start(&mut command, Vec::new())?;
        let console =
            qemu.take_stdout().ok_or_else(|| Error::Output(io::Error::other("QEMU has no output")))?;
        let expected = match boot {
            Boot::Memory(_) => Outcome::default(),
            Boot::Disk(image, ..) => Outcome::of(image.system),
        };
        let reader = std::thread::spawn(move || console::pass_on(console, expected));
        let outer_ping = if self.ping { self.ping_until_answered(&tap, &mut qemu, progress)? } else { None };
        let status = loop {
            let signal = self.stop.load(Ordering::Relaxed);
            if signal != 0 {
                return Err(Error::Cancelled(i32::try_from(signal).unwrap_or(i32::MAX)));
            }
            if let Some(status) = qemu.wait(POLL)? {
                break status;
            }
        };
        let mut outcome = console::join(reader)?;
        outcome.outer_ping = outer_ping;
        if !status.success() {
            return Err(Error::QemuFailed(status));
        }
        Ok(outcome)
    }

    /// Returns the job file, which the guest's init reads.
    fn job(&self, name: &OsStr, tap: &Tap) -> Vec<u8> {
        let (address, peer) = (tap.guest(), tap.outer());
        let wait = if self.ping { "yes" } else { "no" };
        let mut job =
            format!("address={address}\npeer={peer}\nwait={wait}\nkeep={}\nguest=", self.keep).into_bytes();
        job.extend(quote::shell(name));
        job.extend(b"\nshell=");
        job.extend(quote::shell(&self.shell));
        job.push(b'\n');
        job
    }

    fn qemu(&self, name: &OsStr, tap: &Tap) -> Result<Command, Error> {
        let mut guest = OsString::from("guest=");
        guest.push(quote::qemu(name));
        let mut qemu = Command::new(doctor::program("qemu-system-x86_64")?);
        qemu.arg("-name").arg(guest);
        qemu.args(["-enable-kvm", "-cpu", "host", "-nodefaults", "-no-user-config", "-display", "none"]);
        qemu.args([
            "-no-reboot",
            "-serial",
            "stdio",
            "-m",
            &self.memory.to_string(),
            "-smp",
            &self.smp.to_string(),
        ]);
        let (device, number) = (&tap.device, tap.number);
        qemu.arg("-netdev").arg(format!("tap,id=net,ifname={device},script=no,downscript=no"));
        // No boot ROM: the guest boots from the kernel given, and Debian keeps the ROM in another package.
        qemu.arg("-device")
            .arg(format!("virtio-net-pci,netdev=net,mac=52:54:00:77:00:{number:02x},romfile="));
        Ok(qemu)
    }

    fn ping_until_answered(
        &self,
        tap: &Tap,
        qemu: &mut Process,
        progress: &dyn Fn(&str),
    ) -> Result<Option<bool>, Error> {
        let mut ping = Ping::start(&tap.guest())?;
        let mut running = true;
        while running && self.stop.load(Ordering::Relaxed) == 0 {
            running = qemu.ended()?.is_none();
            // Of a guest that has ended the answer may still be on its way to the program.
            if ping.wait(if running { POLL } else { LAST_ANSWER })? {
                progress(&format!("ping {}: ok", tap.guest()));
                return Ok(Some(true));
            }
        }
        progress(&format!("ping {}: failed, the guest ended without an answer", tap.guest()));
        Ok(Some(false))
    }
}

/// Attaches the system's disk, and its kernel where QEMU is to load it. What the guest writes goes to a file that
/// nobody else sees, so that one image serves several VMs at once and is never worn.
fn attach(qemu: &mut Command, image: &Image, bus: Bus, loader: Loader) {
    let mut drive = OsString::from(match bus {
        Bus::Ide => "if=ide,index=0,media=disk",
        Bus::Virtio => "if=virtio",
    });
    drive.push(",format=raw,snapshot=on,file=");
    drive.push(quote::qemu(image.disk.as_os_str()));
    qemu.arg("-drive").arg(drive);
    if loader == Loader::None {
        qemu.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initrd);
        qemu.arg("-append").arg(system::command_line());
    }
}

/// qcow2 by its magic number (docs/interop/qcow2.txt in QEMU), raw otherwise.
fn disk_format(disk: &Path) -> Result<&'static str, Error> {
    let mut magic = [0; 4];
    let mut file = File::open(disk).map_err(Error::io(disk))?;
    Ok(match file.read_exact(&mut magic) {
        Ok(()) if magic == *b"QFI\xfb" => "qcow2",
        _ => "raw",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_formats() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(disk_format(file.path()).unwrap(), "raw");
        fs::write(file.path(), b"QFI\xfb\0\0\0\x03").unwrap();
        assert_eq!(disk_format(file.path()).unwrap(), "qcow2");
    }
}
