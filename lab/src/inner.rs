//! An inner VM: QEMU with KVM in the outer VM, a small Linux on a tap device.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::cache::Cache;
use crate::command::{output, show, tool};
use crate::doctor::{self, Task};
use crate::error::Error;
use crate::initramfs;
use crate::kernel::Kernel;
use crate::qemu::Qemu;
use crate::{quote, vmlinux};

/// How many inner VMs can have a network at once: their addresses are 10.77.N.0/30.
const NETWORKS: u8 = 200;

/// An inner VM to be.
#[derive(Debug)]
pub struct Inner {
    /// What `qemu -name guest=` says; without it `inner-N`, N being the tap device's number.
    pub name: Option<OsString>,
    /// Memory in MiB.
    pub memory: u32,
    /// vCPUs.
    pub smp: u32,
    /// A disk image, as virtio-blk; qcow2 or raw.
    pub disk: Option<PathBuf>,
    /// A shell line that the guest runs once its network is up.
    pub shell: OsString,
    /// How many seconds the guest stays up after all that it had to do.
    pub keep: u32,
    /// Ping the guest from the outer VM too; it waits for that.
    pub ping: bool,
    /// More arguments for QEMU.
    pub extra: Vec<OsString>,
    /// Ends the VM when this holds a signal's number instead of 0.
    pub stop: Arc<AtomicUsize>,
}

/// What an inner VM did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the guest reached the outer VM by ping; `None` if it never got that far.
    pub guest_ping: Option<bool>,
    /// The exit status of the shell line, if it ran to its end.
    pub shell_status: Option<u8>,
    /// Whether the outer VM reached the guest, if asked.
    pub outer_ping: Option<bool>,
    /// Whether the guest powered off by itself.
    pub powered_off: bool,
}

/// Prepares what [`Inner::run`] boots, so that the outer VM finds it in the cache.
///
/// # Errors
/// [`Error::Missing`], [`Error::Program`], [`Error::Io`].
pub fn prepare(cache: &Cache, kernel: &Kernel) -> Result<(), Error> {
    initramfs::INNER.image(cache, kernel)?;
    vmlinux::boot_image(cache, kernel)?;
    Ok(())
}

impl Inner {
    /// Boots the inner VM with its serial console on this process's standard input and output, and waits for
    /// its end. QEMU's command line and the result of the outer ping are told to `progress`.
    ///
    /// # Errors
    /// [`Error::Usage`] outside an outer VM or without KVM, [`Error::QemuFailed`], and others.
    pub fn run(&self, cache: &Cache, kernel: &Kernel, progress: &dyn Fn(&str)) -> Result<Outcome, Error> {
        doctor::check(Task::Inner)?;
        let is_kvm = |m: fs::Metadata| m.file_type().is_char_device();
        if std::env::var_os("LAB_OUTER").is_none() {
            return Err(Error::Usage("an inner VM runs in the outer one; try: lab run -- lab inner".into()));
        }
        if !fs::metadata("/dev/kvm").is_ok_and(is_kvm) {
            return Err(Error::Usage("there is no /dev/kvm; load it with: modprobe kvm-amd".into()));
        }
        let tap = Tap::new()?;
        let name = self.name.clone().unwrap_or_else(|| format!("inner-{}", tap.number).into());
        let scratch = tempfile::Builder::new()
            .prefix("inner-")
            .tempdir()
            .map_err(Error::io("a temporary directory"))?;
        let initrd = scratch.path().join("initramfs");
        let job = self.job(&name, &tap);
        initramfs::join(&initramfs::INNER.image(cache, kernel)?, &[("job", &job)], &initrd)?;

        let mut command = self.qemu(&name, &vmlinux::boot_image(cache, kernel)?, &initrd, &tap)?;
        command.stdout(Stdio::piped());
        progress(&show(&command));
        let mut qemu = Qemu::start(&mut command, Vec::new())?;
        let console =
            qemu.take_stdout().ok_or_else(|| Error::Output(io::Error::other("QEMU has no output")))?;
        let reader = std::thread::spawn(move || pass_on(console));
        let outer_ping = if self.ping { self.ping_until_answered(&tap, &mut qemu, progress)? } else { None };
        let status = loop {
            let signal = self.stop.load(Ordering::Relaxed);
            if signal != 0 {
                return Err(Error::Cancelled(i32::try_from(signal).unwrap_or(i32::MAX)));
            }
            if let Some(status) = qemu.wait(Duration::from_millis(100))? {
                break status;
            }
        };
        let mut outcome = join(reader)?;
        outcome.outer_ping = outer_ping;
        if !status.success() {
            return Err(Error::QemuFailed(status));
        }
        Ok(outcome)
    }

    /// What the guest's init reads.
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

    fn qemu(&self, name: &OsStr, kernel: &Path, initrd: &Path, tap: &Tap) -> Result<Command, Error> {
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
        qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
        qemu.args(["-append", "console=ttyS0 panic=-1"]);
        let (device, number) = (&tap.device, tap.number);
        qemu.arg("-netdev").arg(format!("tap,id=net,ifname={device},script=no,downscript=no"));
        // No boot ROM: the guest boots from the kernel given, and Debian keeps the ROM in another package.
        qemu.arg("-device")
            .arg(format!("virtio-net-pci,netdev=net,mac=52:54:00:77:00:{number:02x},romfile="));
        if let Some(disk) = &self.disk {
            let mut drive = OsString::from(format!("if=virtio,format={},file=", disk_format(disk)?));
            drive.push(quote::qemu(disk.as_os_str()));
            qemu.arg("-drive").arg(drive);
        }
        qemu.args(&self.extra);
        Ok(qemu)
    }

    fn ping_until_answered(
        &self,
        tap: &Tap,
        qemu: &mut Qemu,
        progress: &dyn Fn(&str),
    ) -> Result<Option<bool>, Error> {
        while qemu.wait(Duration::from_millis(100))?.is_none() && self.stop.load(Ordering::Relaxed) == 0 {
            let mut ping = tool("busybox")?;
            ping.args(["ping", "-c", "1", "-W", "1", &tap.guest()])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if ping.status().map_err(Error::io("busybox ping"))?.success() {
                progress(&format!("ping {}: ok", tap.guest()));
                return Ok(Some(true));
            }
        }
        progress(&format!("ping {}: failed, the guest ended without an answer", tap.guest()));
        Ok(Some(false))
    }
}

impl Outcome {
    /// The exit status for the whole: the shell line's own, 1 for a ping that failed or a guest that did not
    /// come to its end, 0 otherwise.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self.shell_status {
            Some(status @ 1..) => status,
            _ => {
                u8::from(self.guest_ping != Some(true) || self.outer_ping == Some(false) || !self.powered_off)
            }
        }
    }

    /// Takes a line of the console into account.
    fn read(&mut self, line: &str) {
        let Some((_, said)) =
            line.trim_end().strip_prefix("lab: guest ").and_then(|rest| rest.rsplit_once(": "))
        else {
            return;
        };
        match said {
            "ok" => self.guest_ping = Some(true),
            "failed" => self.guest_ping = Some(false),
            "powering off" => self.powered_off = true,
            _ => {
                if let Some(status) = said.strip_prefix("exit ") {
                    self.shell_status = status.parse().ok();
                }
            }
        }
    }
}

/// Copies the guest's console to standard output and reads the lab's lines in it.
fn pass_on(mut console: ChildStdout) -> Result<Outcome, io::Error> {
    let mut outcome = Outcome::default();
    let (mut line, mut buffer) = (Vec::new(), [0; 4096]);
    let mut stdout = io::stdout();
    loop {
        let length = match console.read(&mut buffer)? {
            0 => return Ok(outcome),
            length => length,
        };
        stdout.write_all(&buffer[..length]).and_then(|()| stdout.flush())?;
        for &byte in &buffer[..length] {
            if byte == b'\n' {
                outcome.read(&String::from_utf8_lossy(&line));
                line.clear();
            } else if line.len() < 4096 {
                // A guest may write lines without end; the lab's own are short.
                line.push(byte);
            }
        }
    }
}

fn join(reader: JoinHandle<Result<Outcome, io::Error>>) -> Result<Outcome, Error> {
    let lost = || io::Error::other("the thread that reads it panicked");
    reader.join().map_err(|_| Error::Output(lost()))?.map_err(Error::Output)
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

/// A tap device with an address, gone when this is dropped.
struct Tap {
    number: u8,
    device: String,
    /// Locked: nobody else takes this number.
    _claim: File,
}

impl Tap {
    fn new() -> Result<Self, Error> {
        output(tool("modprobe")?.arg("tun"))?;
        let directory = Path::new("/run/lab");
        for number in 0..NETWORKS {
            let path = directory.join(format!("tap-{number}"));
            let claim = File::create(&path).map_err(Error::io(&path))?;
            if flock(&claim, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let tap = Self { number, device: format!("lab{number}"), _claim: claim };
            output(tool("busybox")?.args(["tunctl", "-t", &tap.device]))?;
            let address = format!("{}/30", tap.outer());
            output(tool("busybox")?.args(["ip", "address", "add", &address, "dev", &tap.device]))?;
            output(tool("busybox")?.args(["ip", "link", "set", &tap.device, "up"]))?;
            return Ok(tap);
        }
        Err(Error::Usage(format!("all {NETWORKS} networks for inner VMs are taken")))
    }

    fn outer(&self) -> String {
        format!("10.77.{}.1", self.number)
    }

    fn guest(&self) -> String {
        format!("10.77.{}.2", self.number)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // A device that stays is found and taken by the next one with this number.
        let _ = tool("busybox").and_then(|mut busybox| output(busybox.args(["tunctl", "-d", &self.device])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(console: &str) -> Outcome {
        let mut outcome = Outcome::default();
        console.lines().for_each(|line| outcome.read(line));
        outcome
    }

    #[test]
    fn the_console_tells_the_outcome() {
        let all = "[0.1] boot\nlab: guest a: b: ping 10.77.0.1: ok\r\nlab: guest x: exec: exit 3\r\n\
                   lab: guest x: powering off\r\n";
        let expected =
            Outcome { guest_ping: Some(true), shell_status: Some(3), outer_ping: None, powered_off: true };
        assert_eq!(outcome(all), expected);
        assert_eq!(expected.status(), 3);
        let without = outcome("lab: guest x: ping 10.77.0.1: ok\nlab: guest x: powering off\n");
        assert_eq!(without.status(), 0);
        assert_eq!(Outcome { outer_ping: Some(false), ..without }.status(), 1);
        assert_eq!(outcome("lab: guest x: ping 10.77.0.1: ok\n").status(), 1);
        assert_eq!(outcome("lab: guest x: ping 10.77.0.1: failed\nlab: guest x: powering off\n").status(), 1);
        assert_eq!(outcome("Kernel panic - not syncing\n").status(), 1);
    }

    #[test]
    fn disk_formats() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(disk_format(file.path()).unwrap(), "raw");
        fs::write(file.path(), b"QFI\xfb\0\0\0\x03").unwrap();
        assert_eq!(disk_format(file.path()).unwrap(), "qcow2");
    }
}
