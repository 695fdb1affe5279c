//! Identity of the VM of a process: its VMM, its name, and its labels.
//!
//! Witnesses are asked in a stated order ([`Witness`]): the VMM's own option for a name, the title of the process, paths
//! that management tools lay out always so and control sockets, the control group, the UUID, the container, the program.
//! The VMM is known by `argv[0]`, and by the file that the process runs where that was rewritten.
//!
//! All of it is untrusted: whoever starts a VM chooses its command line, and the process may rewrite it later.

mod args;
mod cgroup;
mod pods;
mod process;
mod shape;
#[cfg(test)]
mod tests;
mod vmms;

pub(crate) use process::{field_of_stat, parent, start_ns};

use args::{basename, field, values};
use exitscope_model::redact::redact;
use exitscope_model::{Labels, Vm, VmId, Witness};
use std::io;
use std::path::Path;
use std::sync::Arc;
use vmms::{Place, Vmm};

/// Maximum number of bytes of a name; a longer one is cut.
const MAX_NAME: usize = 256;
/// Maximum number of bytes of a command line that are kept.
const MAX_COMMAND: usize = 64 << 10;

/// Name, program and labels of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name that its owner gave it, else the program's name. Untrusted: up to 256 bytes of any
    /// valid UTF-8, control characters included.
    pub name: String,
    /// The program: `qemu`, `firecracker`, `cloud-hypervisor` …, or its file name. Untrusted too.
    pub vmm: String,
    /// The command line, arguments separated by NUL, at most 64 KiB of it. Untrusted too.
    pub command: Arc<str>,
    /// Other names of the VM, and the source of its name. Untrusted too.
    pub labels: Arc<Labels>,
}

impl Identity {
    /// Returns the VM with this identity.
    pub fn vm(&self, id: VmId, pid: u32, ended: bool) -> Vm {
        Vm {
            id,
            pid,
            name: self.name.clone(),
            vmm: self.vmm.clone(),
            command: self.command.clone(),
            labels: self.labels.clone(),
            ended,
        }
    }
}

/// A process that holds a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmProcess {
    /// Its id.
    pub pid: u32,
    /// Number of descriptors of a VM. Mostly one for each VM, but one may have been duplicated.
    pub descriptors: usize,
    /// Identity of its VM.
    pub identity: Identity,
}

/// Processes that hold a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmProcesses {
    /// By process id.
    pub vms: Vec<VmProcess>,
    /// Processes whose open files this process must not see; any of them may hold a VM.
    pub unreadable: usize,
}

/// Facts about a process from which its VM's identity is read.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence<'a> {
    /// Its command line, NUL-separated, perhaps cut off, perhaps empty.
    args: &'a [u8],
    /// Its name in the kernel.
    comm: &'a str,
    /// The file that it runs.
    exe: Option<&'a [u8]>,
    /// Its working directory.
    cwd: Option<&'a [u8]>,
    /// Its control groups.
    cgroup: &'a str,
    /// Where the names of pods are.
    pods: Option<&'a Path>,
}

/// Identifies the VM of a process.
///
/// `started_ns` is `task->start_boottime`, by which a process id that is another process by now is
/// recognised; without it whoever has the id is taken for the right one. `args` is the head of the command
/// line as it was once seen, NUL-separated, used when the process is gone; `comm` is its name in the kernel.
pub fn identify(pid: u32, started_ns: Option<u64>, args: &[u8], comm: &str) -> Identity {
    match process::living(pid, started_ns) {
        Some(living) => judge(&Evidence {
            args: &living.cmdline,
            comm,
            exe: living.exe.as_deref(),
            cwd: living.cwd.as_deref(),
            cgroup: &living.cgroup,
            pods: Some(Path::new(pods::LOGS)),
        }),
        None => from_args(args, comm),
    }
}

/// Identifies a VM by its command line (NUL-separated, perhaps cut off, perhaps empty).
pub fn from_args(args: &[u8], comm: &str) -> Identity {
    judge(&Evidence { args, comm, ..Evidence::default() })
}

/// Returns the identity of a process with these properties, for the fuzz targets.
#[cfg(feature = "fuzzing")]
pub(crate) fn from_evidence(
    args: &[u8],
    comm: &str,
    exe: Option<&[u8]>,
    cwd: Option<&[u8]>,
    cgroup: &str,
) -> Identity {
    judge(&Evidence { args, comm, exe, cwd, cgroup, pods: None })
}

/// Finds every process that holds a KVM VM now: that has a descriptor of `anon_inode:kvm-vm`.
///
/// # Errors
/// If `/proc` cannot be read at all.
pub fn vms_of_host() -> io::Result<VmProcesses> {
    let mut found = VmProcesses::default();
    for entry in Path::new("/proc").read_dir()? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        match process::vm_descriptors(pid) {
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

/// Hears all witnesses.
fn judge(evidence: &Evidence<'_>) -> Identity {
    let line = evidence.args.strip_suffix(b"\0").unwrap_or(evidence.args);
    let words = words(line);
    let title = words[0];
    let called = match basename(title) {
        b"" => evidence.comm.as_bytes(),
        name => name,
    };
    let (vmm, args) = vmm(called, &words, evidence.exe);
    let group = cgroup::read(evidence.cgroup);
    let paths = shapes(args);
    let mut labels = labels(vmm, args, &paths, &group, evidence.pods);

    let by_option = || vmm.and_then(|vmm| vmm.names.iter().find_map(|place| option(place, args)));
    let by_path = || {
        let shape = paths.iter().find_map(|(key, text)| matches!(*key, "name" | "domain").then_some(*text));
        let socket =
            || vmm.and_then(|vmm| vmm.names.iter().find_map(|place| path(place, args, evidence.cwd)));
        shape.map(<[u8]>::to_vec).or_else(socket)
    };
    let text = |text: &String| text.clone().into_bytes();
    let container = || {
        let pod = labels.pod.as_ref().or(labels.pod_uid.as_ref()).map(text);
        pod.or_else(|| labels.container.as_ref().map(|id| id.bytes().take(12).collect()))
    };
    type Ask<'a> = &'a dyn Fn() -> Option<Vec<u8>>;
    let witnesses: [(Witness, Ask<'_>); 6] = [
        (Witness::Option, &by_option),
        (Witness::Title, &|| titled(title)),
        (Witness::Path, &by_path),
        (Witness::Machine, &|| group.machine.as_ref().map(text)),
        (Witness::Uuid, &|| labels.uuid.as_ref().map(text)),
        (Witness::Container, &container),
    ];
    let heard = witnesses
        .iter()
        .find_map(|(witness, ask)| ask().filter(|name| !name.is_empty()).map(|name| (*witness, name)));
    let (witness, name) = heard.unwrap_or_else(|| (Witness::Program, called.to_vec()));
    labels.witness = witness;
    let vmm = vmm.map_or_else(
        || match (titled(title), evidence.exe) {
            (Some(_), Some(exe)) => program_of(exe),
            _ => called,
        },
        |vmm| vmm.name.as_bytes(),
    );
    Identity {
        name: bounded(&name, MAX_NAME),
        vmm: bounded(vmm, MAX_NAME),
        command: redact(bounded(line, MAX_COMMAND).split('\0')).join("\0").into(),
        labels: Arc::new(labels),
    }
}

/// The arguments. A process that sets its title leaves all of them in one, with spaces between.
fn words(line: &[u8]) -> Vec<&[u8]> {
    let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
    if let [only] = words[..] {
        let split: Vec<&[u8]> = only.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).collect();
        if split.len() > 1 && Vmm::of_program(basename(split[0])).is_some() {
            return split;
        }
    }
    words
}

/// The VMM and its arguments: by `argv[0]`; by the program that a dynamic loader was started with; by the file that the
/// process runs, where `argv[0]` was rewritten; by arguments that one VMM alone takes, where it has a VM's title.
fn vmm<'a>(
    called: &[u8],
    words: &'a [&'a [u8]],
    exe: Option<&[u8]>,
) -> (Option<&'static Vmm>, &'a [&'a [u8]]) {
    let args = &words[1..];
    if let Some(vmm) = Vmm::of_program(called) {
        return (Some(vmm), args);
    }
    if called.starts_with(b"ld-") {
        let program = args.iter().position(|arg| Vmm::of_program(basename(arg)).is_some());
        if let Some(at) = program {
            return (Vmm::of_program(basename(args[at])), &args[at + 1..]);
        }
    }
    let by_exe = exe.and_then(|exe| Vmm::of_program(program_of(exe)));
    (by_exe.or_else(|| titled(words[0]).and_then(|_| Vmm::of_signs(args))), args)
}

/// The file name of a program by `/proc/PID/exe`, where it may have been deleted, or never been a file.
fn program_of(exe: &[u8]) -> &[u8] {
    let exe = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
    basename(exe).strip_prefix(b"memfd:").unwrap_or(basename(exe))
}

/// The VM's name by the title that its starter gave the process: `microvm@web`.
fn titled(title: &[u8]) -> Option<Vec<u8>> {
    let name = title.strip_prefix(b"microvm@")?;
    (!name.is_empty()).then(|| name.to_vec())
}

/// All parts of paths that are known, by their names.
fn shapes<'a>(args: &[&'a [u8]]) -> Vec<(&'static str, &'a [u8])> {
    let of = |shape| args.iter().find_map(|arg| shape::find(shape, arg));
    shape::SHAPES.iter().filter_map(|shape| of(shape)).flat_map(|found| found.parts).collect()
}

fn labels(
    vmm: Option<&Vmm>,
    args: &[&[u8]],
    paths: &[(&'static str, &[u8])],
    group: &cgroup::Group,
    logs: Option<&Path>,
) -> Labels {
    let text = |bytes: Vec<u8>| Some(bounded(&bytes, MAX_NAME)).filter(|text| !text.is_empty());
    let of_path =
        |key: &str| paths.iter().find(|(found, _)| *found == key).and_then(|(_, bytes)| text(bytes.to_vec()));
    let of = |places: &'static [Place]| places.iter().find_map(|place| option(place, args)).and_then(text);
    let uuid = vmm.and_then(|vmm| of(vmm.uuids)).filter(|uuid| is_uuid(uuid));
    let is_qemu = vmm.is_some_and(|vmm| vmm.name == "qemu");
    let name = vmm.and_then(|vmm| of(vmm.names));
    // libvirt cuts the name in paths and in control groups; where it made those, the VMM's own is the whole one.
    let domain = of_path("domain").or_else(|| group.domain.clone());
    let domain = domain.map(|cut| name.clone().unwrap_or(cut));
    let vmid = of_path("vmid").or_else(|| group.vmid.clone());
    let vmid = vmid.or_else(|| {
        is_qemu.then(|| values(args, &["-id"]).next()).flatten().and_then(|id| text(id.to_vec()))
    });
    let mut labels = Labels {
        witness: Witness::Program,
        uuid,
        domain,
        vmid,
        // The namespace of containerd is an argument of its shims.
        namespace: of_path("namespace").or_else(|| {
            let of_shim = vmm.is_some_and(|vmm| vmm.name == "dragonball");
            of_shim.then(|| values(args, &["-namespace"]).next())?.and_then(|name| text(name.to_vec()))
        }),
        pod: None,
        pod_uid: group.pod.as_deref().and_then(|uid| text(uid.into())),
        container: of_path("container").or_else(|| group.container.as_deref().and_then(|id| text(id.into()))),
        cgroup: group.path.as_deref().and_then(|path| text(path.into())),
    };
    let known = labels.pod_uid.as_ref().zip(logs).and_then(|(uid, logs)| pods::name_of(logs, uid));
    if let Some((namespace, pod)) = known {
        labels.namespace = text(namespace.into());
        labels.pod = text(pod.into());
    }
    // KubeVirt's launcher calls the domain NAMESPACE_NAME.
    let is_kubevirt =
        || args.iter().any(|arg| contains(arg, b"kubevirt") || contains(arg, b"family=KubeVirt"));
    if is_qemu
        && let Some((namespace, _)) = name.as_deref().and_then(|name| name.split_once('_'))
        && (labels.pod_uid.is_some() || is_kubevirt())
    {
        labels.namespace.get_or_insert_with(|| namespace.to_owned());
        labels.domain = name;
    }
    labels
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// True for `01234567-89ab-cdef-0123-456789abcdef`.
fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the value at a place for names on a command line.
fn option(place: &'static Place, args: &[&[u8]]) -> Option<Vec<u8>> {
    let found = match place {
        Place::Value(options) => values(args, options).next().map(<[u8]>::to_vec),
        Place::Key(options, key) => values(args, options).filter_map(|value| field(value, key, false)).last(),
        Place::FirstKey(options, key) => {
            values(args, options).filter_map(|value| field(value, key, true)).last()
        }
        Place::After(word) => args::after(args, word).map(<[u8]>::to_vec),
        Place::Last => args::last(args).map(<[u8]>::to_vec),
        Place::Behind(prefix) => {
            args.iter().find_map(|arg| arg.strip_prefix(prefix.as_bytes())).map(<[u8]>::to_vec)
        }
        Place::Path(_) | Place::File(_) => None,
    };
    // Firecracker calls itself so where nobody names it.
    found.filter(|name| !name.is_empty() && name != b"anonymous-instance")
}

/// The name by what stands at a place that is there for a path.
fn path(place: &'static Place, args: &[&[u8]], cwd: Option<&[u8]>) -> Option<Vec<u8>> {
    match place {
        Place::Path(options) => values(args, options).find_map(|value| {
            // `path=/run/x.sock`, `unix:/run/x.sock,server`, `/run/x.sock`; a descriptor's number is no path.
            let path = field(value, "path", true)?;
            let path = path.strip_prefix(b"unix:").unwrap_or(&path);
            if path.is_empty() || path == b"stdio" || path.starts_with(b"fd=") {
                return None;
            }
            shape::socket_name(path, cwd)
        }),
        Place::File(with_value) => {
            let file = basename(args::positional(args, with_value)?);
            let end = [&b".hvt"[..], b".spt", b".nabla", b".img", b".ukvm"];
            Some(end.iter().find_map(|end| file.strip_suffix(*end)).unwrap_or(file).to_vec())
        }
        _ => None,
    }
}

/// Returns text of at most `most` bytes.
fn bounded(bytes: &[u8], most: usize) -> String {
    // What is not UTF-8 grows threefold; cut after that, between characters.
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).into_owned();
    text.truncate((0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0));
    text
}
