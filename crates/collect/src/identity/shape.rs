//! Paths by which a VM is known: those that management tools lay out in one way always, and those of control sockets.

use super::args::basename;

/// Parts of paths that name the VM, as [`Shape`] reads them. The first that fits counts.
///
/// `{name}` is the VM's name, `{namespace}` that of its namespace, `{domain}` libvirt's name, `{vmid}` Proxmox' id,
/// `{container}` the id of a container, `{}` anything. None of them holds a `/` or a comma. A `$` stands for the end.
pub const SHAPES: [&str; 33] = [
    // Kata Containers: the sandbox (runtime: /run/vc; runtime-rs: /run/kata).
    "/run/vc/vm/{name}/",
    "/run/vc/firecracker/{name}/",
    "/run/vc/sbs/{name}/",
    "/run/kata/firecracker/{name}/",
    "/run/kata/{name}/",
    "/kata-containers/shared/sandboxes/{name}/",
    // libvirt: a domain's files.
    "/libvirt/qemu/domain-{}-{domain}/",
    "/libvirt/ch/{domain}-event-monitor-fifo$",
    "/libvirt/ch/{domain}-socket$",
    // firecracker-containerd, flintlock, Ignite, Firecracker's jailer.
    "/shim-base/{namespace}#{name}/",
    "/flintlock/vm/{namespace}/{name}/{}/",
    "/var/lib/firecracker/vm/{name}/",
    "/jailer/firecracker/{name}/",
    "/firecracker/{name}/root/",
    // microvm.nix.
    "/var/lib/microvms/{name}/",
    // Cuttlefish.
    "/cuttlefish/instances/{name}/",
    "/instances/{name}/internal/",
    // Android's emulator.
    "/.android/avd/{name}.avd",
    // Multipass.
    "/vault/instances/{name}/",
    // podman machine.
    "/podman/machine/qemu/{name}.ign",
    "/podman/qmp_{name}.sock",
    "/podman/{name}_vm.pid",
    "/podman/{name}_ready.sock",
    // Lima and Colima.
    "/_lima/{name}/",
    "/.lima/{name}/",
    // minikube and docker-machine, Vagrant.
    "/.minikube/machines/{name}/",
    "/.docker/machine/machines/{name}/",
    "/.vagrant/machines/{name}/",
    // Proxmox VE.
    "/qemu-server/{vmid}.qmp",
    // What the guest's kernel is told: virtme-ng, systemd.
    "virtme_hostname={name}",
    "systemd.hostname={name}",
    // Engines of containers.
    "/overlay-containers/{container}/userdata",
    "/io.containerd.runtime.v2.task/{namespace}/{container}",
];

/// Parts of a path by their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found<'a> {
    /// Name and text of each, in order.
    pub parts: Vec<(&'static str, &'a [u8])>,
}

#[cfg(test)]
impl<'a> Found<'a> {
    fn part(&self, name: &str) -> Option<&'a [u8]> {
        self.parts.iter().find(|(key, _)| *key == name).map(|(_, text)| *text)
    }
}

/// Finds a shape anywhere in `text`.
pub fn find<'a>(shape: &'static str, text: &'a [u8]) -> Option<Found<'a>> {
    let (lead, rest) = shape.split_once('{')?;
    let mut from = 0;
    while let Some(at) = position(&text[from..], lead.as_bytes()) {
        from += at + lead.len();
        let mut found = Found::default();
        if parts(rest, &text[from..], &mut found).is_some() {
            return Some(found);
        }
    }
    None
}

/// Reads `{part}` after `{part}`; `shape` begins behind a brace.
fn parts<'a>(shape: &'static str, text: &'a [u8], found: &mut Found<'a>) -> Option<()> {
    let (name, rest) = shape.split_once('}')?;
    let (literal, next) = rest.split_once('{').map_or((rest, None), |(literal, next)| (literal, Some(next)));
    let end = text.iter().position(|byte| matches!(byte, b'/' | b',')).unwrap_or(text.len());
    let (part, behind) = match literal.strip_suffix('$') {
        Some(suffix) => (text[..end].strip_suffix(suffix.as_bytes())?, &text[end..]),
        None if literal.is_empty() => {
            let word = text[..end].iter().position(u8::is_ascii_whitespace).unwrap_or(end);
            text.split_at(word)
        }
        None => {
            // A literal may begin with the slash that ends the part.
            let room = &text[..text.len().min(end + literal.len())];
            let at = position(room, literal.as_bytes())?;
            (&text[..at], &text[at + literal.len()..])
        }
    };
    if part.is_empty() {
        return None;
    }
    found.parts.push((name, part));
    next.map_or(Some(()), |next| parts(next, behind, found))
}

fn position(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

/// Ends of file names that say which kind of file it is.
const ENDS: [&str; 13] = [
    "-event-monitor-fifo",
    ".socket",
    ".sock",
    "-socket",
    ".api",
    ".json",
    ".toml",
    ".yaml",
    ".cfg",
    ".pid",
    ".log",
    ".ext4",
    ".img",
];

/// Names that sockets and files of configuration have whatever the VM.
const COMMON_FILES: [&str; 42] = [
    "api",
    "ap_control",
    "ch",
    "ch-api",
    "chapi",
    "clh",
    "clh-api",
    "cloud-hypervisor",
    "cloud_hypervisor",
    "cloudhypervisor",
    "config",
    "console",
    "control",
    "crosvm",
    "crosvm_control",
    "dbs",
    "dbs-cli",
    "dragonball",
    "fc",
    "firecracker",
    "firecracker-config",
    "hypervisor",
    "kata",
    "mon",
    "monitor",
    "qemu",
    "pid",
    "pidfile",
    "qmp",
    "rootfs",
    "serial",
    "sock",
    "socket",
    "stratovirt",
    "vm",
    "vm-config",
    "vm_config",
    "vmconfig",
    "vmm",
    "vsock",
    "api-socket",
    "api_socket",
];

/// Directories that hold those of many VMs.
const COMMON_DIRECTORIES: [&str; 46] = [
    "",
    "api",
    "cache",
    "ch",
    "cloud-hypervisor",
    "common",
    "crosvm",
    "current",
    "cvd",
    "data",
    "etc",
    "firecracker",
    "home",
    "instances",
    "internal",
    "jailer",
    "kata",
    "lib",
    "libvirt",
    "local",
    "log",
    "logs",
    "machine",
    "machines",
    "microvm",
    "microvms",
    "opt",
    "private",
    "qemu",
    "root",
    "run",
    "sandboxes",
    "share",
    "snap",
    "sock",
    "socket",
    "sockets",
    "srv",
    "state",
    "tmp",
    "user",
    "usr",
    "var",
    "virtink",
    "vm",
    "vms",
];

/// A file's name without what says which kind of file it is.
pub fn stem(path: &[u8]) -> &[u8] {
    let file = basename(path);
    ENDS.iter()
        .find_map(|end| file.strip_suffix(end.as_bytes()))
        .filter(|stem| !stem.is_empty())
        .unwrap_or(file)
}

/// The VM's name by the path of its control socket: the file's, or where all VMs' have that name, the nearest
/// directory's that is not one for all of them. `directory` is where a relative path begins.
pub fn socket_name(path: &[u8], directory: Option<&[u8]>) -> Option<Vec<u8>> {
    let file = stem(path);
    if !is_common(file, &COMMON_FILES) {
        return (!file.is_empty()).then(|| file.to_vec());
    }
    let whole = match directory {
        Some(directory) if !path.starts_with(b"/") => [directory, b"/", path].concat(),
        _ => path.to_vec(),
    };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in whole.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.pop();
    while let Some(part) = parts.pop() {
        // A user's directory has his name or number.
        let is_of_user = parts.last().is_some_and(|above| matches!(*above, b"home" | b"user"));
        if !is_of_user && !is_common(part, &COMMON_DIRECTORIES) {
            return Some(part.to_vec());
        }
    }
    None
}

fn is_common(name: &[u8], common: &[&str]) -> bool {
    common.iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str) -> Option<String> {
        socket_name(path.as_bytes(), None).map(|name| String::from_utf8(name).unwrap())
    }

    #[test]
    fn sockets() {
        for (path, name) in [
            ("/run/vm1.sock", Some("vm1")),
            ("/run/a/fc.sock", Some("a")),
            ("/run/vc/vm/abc/clh-api.sock", Some("abc")),
            ("/run/vc/firecracker/abc/root/run/firecracker.socket", Some("abc")),
            ("/tmp/ch.sock", None),
            ("/home/ann/fc.sock", None),
            ("/run/user/1000/firecracker.socket", None),
            ("/home/ann/web/fc.sock", Some("web")),
            ("/srv/web/../db/api.socket", Some("db")),
            ("/../../api.sock", None),
            ("fc.sock", None),
            ("", None),
        ] {
            assert_eq!(named(path).as_deref(), name, "{path}");
        }
        assert_eq!(socket_name(b"fc.sock", Some(b"/srv/web")).as_deref(), Some(&b"web"[..]));
        assert_eq!(socket_name(b"../api.sock", Some(b"/srv/web/sockets")).as_deref(), Some(&b"web"[..]));
    }

    #[test]
    fn shapes() {
        let found =
            find("/flintlock/vm/{namespace}/{name}/{}/", b"path=/var/lib/flintlock/vm/ns/web/01H/x.sock");
        let found = found.unwrap();
        assert_eq!(found.part("namespace"), Some(&b"ns"[..]));
        assert_eq!(found.part("name"), Some(&b"web"[..]));
        assert_eq!(find("/run/kata/{name}/", b"/run/kata//x"), None);
        assert_eq!(find("/run/kata/{name}/", b"/run/kata/x"), None);
        assert_eq!(
            find("/ch/{domain}-socket$", b"/ch/a-socket-socket").unwrap().part("domain"),
            Some(&b"a-socket"[..])
        );
        assert_eq!(find("/ch/{domain}-socket$", b"/ch/-socket"), None);
        // The second place may fit where the first does not.
        assert_eq!(
            find("/run/kata/{name}/", b"/run/kata/,/run/kata/b/").unwrap().part("name"),
            Some(&b"b"[..])
        );
    }

    #[test]
    fn each_shape_can_be_read() {
        for shape in SHAPES {
            let example = shape.replace('{', "").replace('}', "x").replace('$', "");
            let example = example.as_bytes();
            assert!(find(shape, example).is_some(), "{shape}");
        }
    }
}
