//! Which VM a process is: its name and its VMM, from the command line.
//!
//! All of it is untrusted: whoever starts a VM chooses its command line, and the process may rewrite it later.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// A longer name is cut.
const MAX_NAME: usize = 256;
/// So much of a command line is kept.
const MAX_COMMAND: usize = 64 << 10;
/// So much of a command line is looked at; libvirt's reach some ten thousand bytes.
const MAX_CMDLINE: u64 = 256 << 10;

/// What a VM is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What its owner calls it; the program's name where he does not. Untrusted: up to 256 bytes of any
    /// valid UTF-8, control characters included.
    pub name: String,
    /// The program: `qemu`, `firecracker`, `cloud-hypervisor`, `crosvm`, `kvmtool`, or its file name. Untrusted too.
    pub vmm: String,
    /// The command line, arguments separated by NUL, at most 64 KiB of it. Untrusted too.
    pub command: Arc<str>,
}

/// A process that holds a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmProcess {
    /// Its id.
    pub pid: u32,
    /// How many descriptors of a VM it holds. Mostly one for each VM, but one may have been duplicated.
    pub descriptors: usize,
    /// What it is called.
    pub identity: Identity,
}

/// The processes that hold a VM, and how far that can be known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmProcesses {
    /// By process id.
    pub vms: Vec<VmProcess>,
    /// Processes whose open files this process must not see; any of them may hold a VM.
    pub unreadable: usize,
}

/// What the VM of a process is called.
///
/// `started_ns` is `task->start_boottime`, by which a process id that is another process by now is
/// recognised; without it whoever has the id is taken for the right one. `args` is the head of the command
/// line as it was once seen, NUL-separated, used when the process is gone; `comm` is its name in the kernel.
pub fn identify(pid: u32, started_ns: Option<u64>, args: &[u8], comm: &str) -> Identity {
    match living_cmdline(pid, started_ns) {
        Some(cmdline) => from_args(&cmdline, comm),
        None => from_args(args, comm),
    }
}

/// What the VM with this command line (NUL-separated, perhaps cut off, perhaps empty) is called.
pub fn from_args(args: &[u8], comm: &str) -> Identity {
    let args = args.strip_suffix(b"\0").unwrap_or(args);
    let command = bounded(args, MAX_COMMAND).into();
    let args: Vec<&[u8]> = args.split(|&byte| byte == 0).collect();
    let program = match basename(args[0]) {
        b"" => comm.as_bytes(),
        name => name,
    };
    let args = &args[1..];
    let (vmm, name) = match Vmm::of(program) {
        Some(vmm) => (vmm.name().as_bytes(), vmm.guest(args)),
        None => (program, None),
    };
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| program.to_vec());
    Identity { name: bounded(&name, MAX_NAME), vmm: bounded(vmm, MAX_NAME), command }
}

/// Every process that holds a KVM VM at this moment: that has a descriptor of `anon_inode:kvm-vm`.
///
/// # Errors
/// If `/proc` cannot be read at all.
pub fn vms_of_host() -> io::Result<VmProcesses> {
    let mut found = VmProcesses::default();
    for entry in Path::new("/proc").read_dir()? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        match vm_descriptors(pid) {
            Ok(0) => {}
            Ok(descriptors) => {
                let comm = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
                let identity =
                    identify(pid, None, b"", String::from_utf8_lossy(&comm).trim_end_matches('\n'));
                found.vms.push(VmProcess { pid, descriptors, identity });
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found.unreadable += 1,
            // It ended meanwhile.
            Err(_) => {}
        }
    }
    found.vms.sort_by_key(|vm| vm.pid);
    Ok(found)
}

fn vm_descriptors(pid: u32) -> io::Result<usize> {
    let mut count = 0;
    for entry in Path::new(&format!("/proc/{pid}/fd")).read_dir()? {
        // A descriptor that was closed meanwhile is none.
        let Ok(target) = std::fs::read_link(entry?.path()) else { continue };
        count += usize::from(target.as_os_str() == "anon_inode:kvm-vm");
    }
    Ok(count)
}

/// The command line of a process, if it is the one that started then and has one (a zombie has none).
fn living_cmdline(pid: u32, started_ns: Option<u64>) -> Option<Vec<u8>> {
    let mut cmdline = Vec::new();
    File::open(format!("/proc/{pid}/cmdline")).ok()?.take(MAX_CMDLINE).read_to_end(&mut cmdline).ok()?;
    // Looked at afterwards: if it still is the same process now, it was when its command line was read.
    if let Some(started_ns) = started_ns {
        let tick = ns_per_tick()?;
        if start_ns(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)? / tick != started_ns / tick {
            return None;
        }
    }
    (!cmdline.is_empty()).then_some(cmdline)
}

/// When a process started after boot by its `/proc/PID/stat` (proc(5), field 22), in nanoseconds, to the tick.
pub(super) fn start_ns(stat: &[u8]) -> Option<u64> {
    field_of_stat(stat, 22)?.checked_mul(ns_per_tick()?)
}

/// A process's parent by its `/proc/PID/stat` (proc(5), field 4).
pub(super) fn parent(stat: &[u8]) -> Option<u32> {
    field_of_stat(stat, 4)?.try_into().ok()
}

fn field_of_stat(stat: &[u8], number: usize) -> Option<u64> {
    // Field 2 is the command's name in parentheses, and may hold spaces and parentheses itself.
    let after_name = &stat[stat.iter().rposition(|&byte| byte == b')')? + 1..];
    std::str::from_utf8(after_name).ok()?.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

fn ns_per_tick() -> Option<u64> {
    // SAFETY: sysconf only returns a number.
    let hertz = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    1_000_000_000u64.checked_div(hertz)
}

#[derive(Clone, Copy)]
enum Vmm {
    Qemu,
    Firecracker,
    CloudHypervisor,
    Crosvm,
    Kvmtool,
}

impl Vmm {
    fn of(program: &[u8]) -> Option<Vmm> {
        // NixOS runs `.qemu-system-x86_64-wrapped`.
        let program = program.strip_prefix(b".").unwrap_or(program);
        [
            (&b"qemu"[..], Vmm::Qemu),
            (b"firecracker", Vmm::Firecracker),
            (b"cloud-hypervisor", Vmm::CloudHypervisor),
            // What a kernel's name of 15 characters leaves of it.
            (b"cloud-hyperviso", Vmm::CloudHypervisor),
            (b"crosvm", Vmm::Crosvm),
            (b"lkvm", Vmm::Kvmtool),
            (b"kvmtool", Vmm::Kvmtool),
        ]
        .into_iter()
        .find_map(|(prefix, vmm)| program.starts_with(prefix).then_some(vmm))
        // Debian's and Red Hat's wrapper around QEMU.
        .or((program == b"kvm").then_some(Vmm::Qemu))
    }

    fn name(self) -> &'static str {
        match self {
            Vmm::Qemu => "qemu",
            Vmm::Firecracker => "firecracker",
            Vmm::CloudHypervisor => "cloud-hypervisor",
            Vmm::Crosvm => "crosvm",
            Vmm::Kvmtool => "kvmtool",
        }
    }

    /// The guest's name by these arguments.
    fn guest(self, args: &[&[u8]]) -> Option<Vec<u8>> {
        match self {
            // libvirt gives `-name guest=NAME,debug-threads=on`. The option may be given again, and is then merged.
            Vmm::Qemu => {
                values(args, &[b"-name", b"--name"]).filter_map(|value| field(value, b"guest", true)).last()
            }
            // Its jailer starts it with the id that it was given itself.
            Vmm::Firecracker => one(args, &[b"--id"]).or_else(|| socket_name(one(args, &[b"--api-sock"])?)),
            Vmm::CloudHypervisor => one(args, &[b"--api-socket"])
                .and_then(|value| socket_name(field(&value, b"path", true)?))
                .or_else(|| field(&one(args, &[b"--platform"])?, b"uuid", false)),
            Vmm::Crosvm => one(args, &[b"--name"]).or_else(|| socket_name(one(args, &[b"--socket", b"-s"])?)),
            Vmm::Kvmtool => one(args, &[b"--name", b"-n"]),
        }
    }
}

/// The values of an option, given as `OPTION VALUE` or `OPTION=VALUE`.
fn values<'a>(args: &'a [&'a [u8]], options: &'a [&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    args.iter().enumerate().filter_map(move |(index, arg)| {
        let rest = options.iter().find_map(|option| arg.strip_prefix(*option))?;
        match rest.strip_prefix(b"=") {
            Some(value) => Some(value),
            None if rest.is_empty() => args.get(index + 1).copied(),
            None => None,
        }
    })
}

fn one(args: &[&[u8]], options: &[&[u8]]) -> Option<Vec<u8>> {
    values(args, options).next().map(<[u8]>::to_vec)
}

/// A key's last value in `key=value,key=value`, where `,,` stands for a comma. With `implied`, a first item without
/// `=` is that key's value: QEMU's rules (util/qemu-option.c).
fn field(list: &[u8], key: &[u8], implied: bool) -> Option<Vec<u8>> {
    let mut items = vec![Vec::new()];
    let mut bytes = list.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let item = items.last_mut()?;
        if byte != b',' || bytes.next_if_eq(&b',').is_some() {
            item.push(byte);
        } else {
            items.push(Vec::new());
        }
    }
    let mut found = None;
    for (index, item) in items.iter().enumerate() {
        match item.iter().position(|&byte| byte == b'=') {
            Some(at) if &item[..at] == key => found = Some(item[at + 1..].to_vec()),
            None if implied && index == 0 => found = Some(item.clone()),
            _ => {}
        }
    }
    found
}

/// What a control socket is called, which mostly is the guest's name: `/run/vm1.sock`, libvirt's
/// `/run/libvirt/ch/vm1-socket`, or, where all sockets have one name, their directory: Kata's
/// `/run/vc/vm/ID/clh-api.sock`.
fn socket_name(path: Vec<u8>) -> Option<Vec<u8>> {
    const COMMON: [&[u8]; 9] = [
        b"api",
        b"clh-api",
        b"ch",
        b"cloud-hypervisor",
        b"firecracker",
        b"fc",
        b"crosvm",
        b"control",
        b"vmm",
    ];
    const PLACES: [&[u8]; 5] = [b"", b"run", b"tmp", b"root", b"."];
    let file = basename(&path);
    let stem = [&b".socket"[..], b".sock", b"-socket", b".api"]
        .iter()
        .find_map(|suffix| file.strip_suffix(*suffix))
        .filter(|stem| !stem.is_empty())
        .unwrap_or(file);
    let directory = basename(path[..path.len() - file.len()].strip_suffix(b"/").unwrap_or_default());
    let name = if COMMON.contains(&stem) && !PLACES.contains(&directory) { directory } else { stem };
    (!name.is_empty()).then(|| name.to_vec())
}

fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// As text of at most `most` bytes.
fn bounded(bytes: &[u8], most: usize) -> String {
    // What is not UTF-8 grows threefold; cut after that, between characters.
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).into_owned();
    text.truncate((0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(command: &[&str]) -> (String, String) {
        let Identity { name, vmm, .. } = from_args(command.join("\0").as_bytes(), "comm");
        (vmm, name)
    }

    #[track_caller]
    fn check(command: &[&str], vmm: &str, name: &str) {
        assert_eq!(named(command), (vmm.to_owned(), name.to_owned()));
        // The kernel ends each argument with NUL, the last too.
        let ended: Vec<u8> = command.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(from_args(&ended, "comm").name, name);
    }

    #[test]
    fn qemu() {
        let program = "/usr/bin/qemu-system-x86_64";
        check(&[program, "-name", "guest=web,debug-threads=on", "-S"], "qemu", "web");
        check(&[program, "-m", "1G", "-name", "debug-threads=on,guest=web"], "qemu", "web");
        check(&[program, "-name", "foo,debug-threads=on"], "qemu", "foo");
        check(&[program, "--name", "foo,process=bar"], "qemu", "foo");
        check(&[program, "-name", "guest=a,,b=c,,,,d,debug-threads=on"], "qemu", "a,b=c,,d");
        check(&[program, "-name", "a,,,process=x"], "qemu", "a,");
        check(&[program, "-name", "first", "-name", "debug-threads=on"], "qemu", "first");
        check(&[program, "-name", "first", "-name", "second"], "qemu", "second");
        check(&[program, "-name", "debug-threads=on"], "qemu", "qemu-system-x86_64");
        check(&[program, "-name", "guest=,debug-threads=on"], "qemu", "qemu-system-x86_64");
        check(&[program, "-m", "1G"], "qemu", "qemu-system-x86_64");
        check(&[program, "-name"], "qemu", "qemu-system-x86_64");
        check(&["qemu-kvm", "-name", "vm1"], "qemu", "vm1");
        check(&["kvm", "-name", "vm1"], "qemu", "vm1");
        check(&["/nix/store/x/bin/.qemu-system-x86_64-wrapped", "-name", "n"], "qemu", "n");
        // A cut-off command line.
        assert_eq!(from_args(b"qemu-kvm\0-name\0guest=we", "c").name, "we");
        assert_eq!(from_args(b"qemu-kvm\0-name\0guest=web,debug-thr", "c").name, "web");
    }

    #[test]
    fn other_vmms() {
        check(&["./firecracker", "--api-sock", "/tmp/fc.sock", "--id", "fn-7"], "firecracker", "fn-7");
        check(&["/firecracker", "--id=fn-8", "--start-time-us=1"], "firecracker", "fn-8");
        check(&["firecracker-v1.7.0-x86_64", "--api-sock", "/run/a/fc.sock"], "firecracker", "a");
        check(&["firecracker", "--no-api"], "firecracker", "firecracker");
        let ch = "cloud-hypervisor";
        check(&[ch, "--api-socket", "/tmp/vm1.sock", "--platform", "uuid=u-1"], ch, "vm1");
        check(&[ch, "--api-socket", "path=/run/vc/vm/abc/clh-api.sock"], ch, "abc");
        check(&[ch, "--api-socket=/run/libvirt/ch/web-socket"], ch, "web");
        check(&[ch, "--api-socket", "/tmp/ch.sock"], ch, "ch");
        check(&[ch, "--api-socket", "fd=3", "--platform", "num_pci_segments=2,uuid=u-1"], ch, "u-1");
        check(&["/opt/crosvm", "run", "--name", "arc", "-s", "/run/x.sock", "kernel"], "crosvm", "arc");
        check(&["crosvm", "run", "-s", "/run/vm/x.sock", "kernel"], "crosvm", "x");
        check(&["lkvm", "run", "--name", "k1", "-k", "bzImage"], "kvmtool", "k1");
        check(&["/usr/bin/lkvm-static", "run", "-n", "k2"], "kvmtool", "k2");
        check(&["/opt/my vmm", "-name", "not for us"], "my vmm", "my vmm");
    }

    #[test]
    fn nothing_known() {
        for args in [&b""[..], b"\0", b"\0\0x", b"/usr/bin/\0x"] {
            let Identity { name, vmm, .. } = from_args(args, "vmm0");
            assert_eq!((name.as_str(), vmm.as_str()), ("vmm0", "vmm0"), "{args:?}");
        }
        assert_eq!(
            from_args(b"", "qemu-system-x86"),
            Identity { name: "qemu-system-x86".into(), vmm: "qemu".into(), command: "".into() }
        );
        assert_eq!(from_args(b"kvm\0-name\0a\x1b[2J\xff", "").name, "a\x1b[2J\u{fffd}");
    }

    #[test]
    fn start_of_a_process() {
        let mut stat = b"12 (a) R 1 (b) S 1".to_vec();
        stat.extend(" 0".repeat(17).bytes());
        stat.extend(b" 4711 0 0\n");
        assert_eq!(field_of_stat(&stat, 22), Some(4711));
        assert_eq!(parent(&stat), Some(1));
        assert_eq!(field_of_stat(b"12 (a) S 1", 22), None);
        assert_eq!(field_of_stat(b"", 22), None);
    }

    #[test]
    fn another_process_with_the_same_id_is_not_asked() {
        let pid = std::process::id();
        let stat = std::fs::read("/proc/self/stat").unwrap();
        let started = start_ns(&stat).unwrap();
        let given = b"qemu-kvm\0-name\0gone\0";
        assert_eq!(identify(pid, Some(started - 1), given, "").name, "gone");
        let own = std::env::args().next().unwrap();
        let own = own.rsplit('/').next().unwrap();
        assert_eq!(identify(pid, Some(started + 1), given, "").name, own);
        assert_eq!(identify(pid, None, given, "").name, own);
    }

    #[test]
    fn this_process_holds_no_vm() {
        let found = vms_of_host().unwrap();
        assert!(found.vms.iter().all(|vm| vm.pid != std::process::id()));
    }

    proptest! {
        #[test]
        fn any_command_line_gives_a_bounded_name(
            program in prop::sample::select(vec!["qemu-kvm", "firecracker", "cloud-hypervisor", "crosvm", "lkvm", "x", ""]),
            option in prop::sample::select(vec!["-name", "--id", "--api-socket", "--platform", "-s", "-n", ""]),
            value in prop::collection::vec(prop_oneof![Just(b','), Just(b'='), Just(b'/'), Just(0), any::<u8>()], 0..700),
            comm in ".{0,15}",
        ) {
            let args = [program.as_bytes(), option.as_bytes(), &value].join(&0);
            let found = from_args(&args, &comm);
            prop_assert!(found.name.len() <= MAX_NAME && found.vmm.len() <= MAX_NAME);
            prop_assert!(found.command.len() <= 3 * args.len());
            from_args(&value, &comm);
        }

        #[test]
        fn a_qemu_name_comes_back(name in "[^\0]{1,60}") {
            let value = format!("guest={},debug-threads=on", name.replace(',', ",,"));
            prop_assert_eq!(from_args(format!("kvm\0-name\0{value}").as_bytes(), "").name, name);
        }
    }
}
