//! Bochs, which emulates Intel VMX, as the outer machine. It has no virtio and no 9p: the command's files travel
//! on disks, and its output comes over serial lines.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Outer, Place, Started};
use crate::command::{output, tool};
use crate::error::Error;
use crate::kernel::Kernel;
use crate::system::System;
use crate::vmlinux::{self, Flat};
use crate::{doctor, initramfs, mbr};

mod loader;
mod root;
mod screen;
mod tree;

use loader::PARTITIONS;

/// Bochs' message when the guest powers off.
pub(super) const POWERED_OFF: &str = "ACPI control: soft power off";

/// A processor model with unrestricted guests and EPT, with which Linux' KVM works; later models misbehave.
const MODEL: &str = "broadwell_ult";
/// Room for the files that the command leaves.
const OUT_MIB: u64 = 2048;
const MIB: u64 = 1 << 20;

/// Starts Bochs with the outer VM.
pub(super) fn start<W: AsRef<OsStr>>(
    outer: &Outer,
    kernel: &Kernel,
    place: &Place,
    command: &[W],
    job: &[u8],
) -> Result<Started, Error> {
    let memory = outer.memory.unwrap_or(1536);
    if outer.smp != 1 || outer.icount {
        return Err(Error::Usage("Bochs has one CPU here, and no --icount".into()));
    }
    if !(512..=2048).contains(&memory) {
        return Err(Error::Usage(format!("{memory} MiB of memory: Bochs can have 512 to 2048")));
    }
    let mut settings = String::from("machine=vmx\nforward=no\n");
    let mut job = job.to_vec();
    let base = root::base(&outer.cache)?;
    let mut brought = root::own(outer, kernel, command, &base)?;
    let mut disks = vec![("LAB-BASE".to_string(), base.image.clone())];
    for (system, suite) in &outer.systems {
        let (system, image) = (*system, system.find(&outer.cache, suite)?);
        // Its directory and the two small files travel with the command; the disk is one here too.
        brought.add(&image.kernel)?;
        brought.add(&image.initrd)?;
        job = [variable(system).as_bytes(), &job].concat();
        settings.push_str(&format!("disk={}\n", system.name()));
        disks.push((format!("LAB-{}", system.name()), image.disk));
    }
    if disks.len() > 3 {
        return Err(Error::Usage("Bochs has no place for so many disks".into()));
    }

    let initrd = place.scratch.join("initramfs");
    let files: [(&str, &[u8]); 2] = [("job", &job), ("settings", settings.as_bytes())];
    initramfs::join(&initramfs::OUTER_VMX.image(&outer.cache, kernel)?, &files, &initrd)?;
    let boot = boot_part(outer, kernel, &initrd, memory)?;
    let own = place.scratch.join("own.img");
    let out = write_own(&boot, &brought, &own, place)?;

    let mut lines = String::new();
    for (index, (model, disk)) in
        std::iter::once(("LAB-OWN".to_string(), own.clone())).chain(disks).enumerate()
    {
        // Bochs puts a lock beside each disk that it opens, so each run has a name of its own for it.
        let link = place.scratch.join(format!("disk{index}"));
        symlink(&disk, &link).map_err(Error::io(&link))?;
        let port = format!("ata{}-{}", index / 2, if index % 2 == 0 { "master" } else { "slave" });
        let mode = if index < 2 { "flat" } else { "volatile" };
        lines.push_str(&format!(
            "{port}: type=disk, path={}, mode={mode}, model=\"{model}\"\n",
            quoted(&link)?
        ));
    }
    let mut ports: Vec<Box<dyn io::Read + Send>> = Vec::new();
    let mut inherited: Vec<OwnedFd> = Vec::new();
    for number in 2..=4 {
        let (ours, theirs) = io::pipe().map_err(Error::io("a pipe"))?;
        lines.push_str(&format!("com{number}: enabled=1, mode=file, dev=/dev/fd/{}\n", theirs.as_raw_fd()));
        ports.push(Box::new(ours));
        inherited.push(theirs.into());
    }
    let mut bochs = bochs(place, memory, &lines)?;
    let process = place.start(&mut bochs, Stdio::null(), inherited)?;
    let screen = screen::read(&place.messages);
    let mut ports = ports.into_iter();
    let mut port = || ports.next().expect("as many ports as were made above");
    let (control, stdout, stderr) = (port(), port(), port());
    let to = place.out.clone();
    Ok(Started {
        process,
        emulator: "Bochs",
        control,
        stdout,
        stderr,
        held: screen,
        collect: Some(Box::new(move || collect(&own, out, &to))),
    })
}

/// The beginning of the boot disk.
fn boot_part(outer: &Outer, kernel: &Kernel, initrd: &Path, memory: u32) -> Result<Vec<u8>, Error> {
    let image = vmlinux::boot_image(&outer.cache, kernel)?;
    let elf = fs::read(&image).map_err(Error::io(&image))?;
    let flat = Flat::from_elf(&elf).ok_or_else(|| Error::Kernel {
        path: image,
        reason: "cannot be unpacked (is zstd or xz missing?), or has no PVH entry; Bochs boots no other"
            .into(),
    })?;
    let initrd = fs::read(initrd).map_err(Error::io(initrd))?;
    // One serial line is slow, and every message waits for it. Mitigations and the watchdog cost a third of all time.
    // A panic hangs: a reboot would run the command once more.
    let options = "oops=panic panic=0 no_timer_check cryptomgr.notests mitigations=off nowatchdog";
    Ok(loader::disk(&flat, &initrd, &format!("console=ttyS0,115200 quiet {options}"), memory))
}

/// Writes the run's own disk: what boots, a partition with what the command brings along, and one for what it leaves,
/// whose place this returns.
fn write_own(boot: &[u8], brought: &tree::Tree, own: &Path, place: &Place) -> Result<u64, Error> {
    let start = u64::try_from(boot.len()).unwrap_or(u64::MAX).next_multiple_of(MIB);
    let size = brought.image(&place.scratch.join("tree"), own, start)?;
    let out = start + size;
    let file = File::options().write(true).open(own).map_err(Error::io(own))?;
    let table = [mbr::partition(false, start, size), mbr::partition(false, out, OUT_MIB * MIB)].concat();
    file.write_all_at(boot, 0)
        .and_then(|()| file.write_all_at(&table, u64::try_from(PARTITIONS).unwrap_or(0)))
        .and_then(|()| file.set_len(mbr::whole_cylinders(out + OUT_MIB * MIB)))
        .map_err(Error::io(own))?;
    Ok(out)
}

/// The variable that tells `lab inner` where the system's disk is.
fn variable(system: System) -> String {
    format!("export {}=/dev/lab-{}\n", system.variable(), system.name())
}

fn bochs(place: &Place, memory: u32, lines: &str) -> Result<Command, Error> {
    let (console, log) = (quoted(&place.console)?, quoted(&place.scratch.join("bochs.log"))?);
    // No sound, no screen that anybody sees. ips is how many instructions make a virtual second.
    let text = format!(
        "display_library: term
megs: {memory}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model={MODEL}, count=1, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1
pci: enabled=1, chipset=i440fx
boot: disk
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
clock: sync=none, time0=utc
log: {log}
com1: enabled=1, mode=file, dev={console}
panic: action=fatal
error: action=ignore
info: action=ignore
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
{lines}"
    );
    let configuration = place.scratch.join("bochsrc");
    fs::write(&configuration, text).map_err(Error::io(&configuration))?;
    // Debian's Bochs starts in its debugger.
    let go = place.scratch.join("debugger");
    File::create(&go).and_then(|mut file| file.write_all(b"c\n")).map_err(Error::io(&go))?;
    let mut bochs = Command::new(doctor::program("bochs-bin")?);
    bochs.env("TERM", "xterm").env("LC_ALL", "C").arg("-q").arg("-f").arg(configuration).arg("-rc").arg(go);
    Ok(bochs)
}

/// A path in Bochs' configuration, which ends a value at a comma or at white space, and replaces variables.
fn quoted(path: &Path) -> Result<String, Error> {
    match path.to_str() {
        Some(text) if !text.contains([' ', '\t', '\n', ',', '"', '$', '#']) => Ok(text.to_string()),
        _ => Err(Error::Usage(format!(
            "{}: Bochs cannot take such a path; set TMPDIR to another directory, and --console",
            path.display()
        ))),
    }
}

/// Unpacks the files that the command left in `LAB_OUT`.
fn collect(own: &Path, at: u64, to: &Path) -> Result<(), Error> {
    let mut disk = File::open(own).map_err(Error::io(own))?;
    io::Seek::seek(&mut disk, io::SeekFrom::Start(at)).map_err(Error::io(own))?;
    let mut tar = tool("busybox")?;
    tar.args(["tar", "-x", "-f", "-", "-C"]).arg(to).stdin(disk);
    output(&mut tar)?;
    Ok(())
}

/// The disk with this machine's usual programs.
struct Base {
    image: PathBuf,
    /// Its files.
    tree: tree::Tree,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_bochs_cannot_take_are_refused() {
        assert_eq!(quoted(Path::new("/tmp/a-b_c.d")).unwrap(), "/tmp/a-b_c.d");
        for path in ["/tmp/a b", "/tmp/a,b", "/tmp/$HOME", "/tmp/a\nb"] {
            assert!(quoted(Path::new(path)).unwrap_err().to_string().contains("TMPDIR"));
        }
    }
}
