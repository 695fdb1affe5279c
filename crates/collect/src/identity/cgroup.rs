//! Names of a VM in the control group of its process, as libvirt, Proxmox, systemd, container engines and
//! Kubernetes write them.
//!
//! Control groups are made by root or by a user in a part of the tree that is his. A name counts only where it stands below the
//! directory of the service that makes such names, counted from the root: a user's own `machine.slice` is none.

/// Names of a VM that stand in a control group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The name of the machine, by libvirt, systemd-machined or the unit that runs it.
    pub machine: Option<String>,
    /// libvirt's name of the domain, as far as its characters may be in a unit's name.
    pub domain: Option<String>,
    /// The VM's id in Proxmox VE.
    pub vmid: Option<String>,
    /// The UID of the Kubernetes pod.
    pub pod: Option<String>,
    /// The id of the container.
    pub container: Option<String>,
    /// The path, where it is not the root.
    pub path: Option<String>,
}

/// Units whose instance is no VM's name.
const OTHER_UNITS: [&str; 8] =
    ["user", "getty", "serial-getty", "sshd", "ssh", "session", "user-runtime-dir", "systemd-fsck"];

/// Reads `/proc/PID/cgroup` (cgroups(7)): of version 2, then of the hierarchies of version 1, the first that tells something.
pub fn read(text: &str) -> Group {
    let mut paths: Vec<(bool, &str)> = text
        .lines()
        .take(64)
        .filter_map(|line| {
            let (hierarchy, rest) = line.split_once(':')?;
            Some((hierarchy != "0", rest.split_once(':')?.1))
        })
        .collect();
    paths.sort_by_key(|(old, _)| *old);
    let told = paths.iter().map(|(_, path)| (*path, of_path(path)));
    let told = told.clone().find(|(_, group)| *group != Group::default()).or_else(|| {
        let below_root = |(path, _): &(&str, Group)| !path.is_empty() && *path != "/";
        told.clone().find(below_root)
    });
    told.map_or_else(Group::default, |(path, group)| Group { path: Some(path.to_owned()), ..group })
}

/// Reads one path.
fn of_path(path: &str) -> Group {
    // Seen from a control group namespace, the way there leads up first.
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != "..").take(64).collect();
    let mut group = Group::default();
    match parts[..] {
        ["machine.slice", unit, ..] | ["machine", unit, ..] => machine(unit, &mut group),
        ["qemu.slice", unit, ..] => {
            group.vmid = unit.strip_suffix(".scope").filter(|id| is_number(id)).map(str::to_owned);
            group.machine.clone_from(&group.vmid);
        }
        [first, ..] if is_kubernetes(first) => pod(&parts, &mut group),
        ["docker" | "libpod_parent" | "lxc" | "lxc.payload" | "podruntime", ..] => {
            group.container = parts.get(1).and_then(|part| container(part).or(Some((*part).to_owned())));
        }
        ["system.slice", unit, ..] => {
            group.container = container(unit);
            if group.container.is_none() {
                group.machine = instance(unit);
            }
        }
        ["user.slice", ..] => group.container = parts.iter().find_map(|part| container(part)),
        [first, ..] => {
            let payload = first.strip_prefix("lxc.payload.").map(str::to_owned);
            group.container = payload.or_else(|| container(first));
        }
        [] => {}
    }
    // A node of Kubernetes may be a container itself, and its pods are below.
    if group.pod.is_none()
        && let Some(at) = parts.iter().position(|part| is_kubernetes(part))
        && (group.container.is_some() || parts[0] == "system.slice")
        && parts[0] != "user.slice"
    {
        pod(&parts[at..], &mut group);
    }
    group
}

/// Reads a unit below `machine.slice`: `machine-qemu\x2d1\x2dweb.scope`, `libpod-ID.scope`, `systemd-vmspawn@web.service`.
fn machine(unit: &str, group: &mut Group) {
    if let Some(id) = container(unit) {
        group.container = Some(id);
        return;
    }
    if let Some(name) = instance(unit) {
        group.machine = Some(name);
        return;
    }
    // `qemu-1-web.libvirt-qemu` is libvirt's without systemd.
    let name = match unit.strip_suffix(".scope") {
        Some(scope) => unescape(scope.strip_prefix("machine-").unwrap_or(scope)),
        None => match [".libvirt-qemu", ".libvirt-ch"].iter().find_map(|end| unit.strip_suffix(end)) {
            Some(name) => name.to_owned(),
            None => return,
        },
    };
    let domain = ["qemu-", "ch-", "lxc-", "xen-"].iter().find_map(|driver| name.strip_prefix(driver));
    // The domain's number stands before its name; a session's has its user before that.
    let domain = domain.and_then(|rest| {
        let (number, name) = rest.split_once('-')?;
        if is_number(number) {
            return Some(name.to_owned());
        }
        name.split_once('-').filter(|(number, _)| is_number(number)).map(|(_, name)| name.to_owned())
    });
    group.machine = Some(domain.clone().unwrap_or(name)).filter(|name| !name.is_empty());
    group.domain = domain.filter(|name| !name.is_empty());
}

/// The instance of a unit, `web` of `microvm@web.service`.
fn instance(unit: &str) -> Option<String> {
    let (template, rest) = unit.split_once('@')?;
    let name = rest.strip_suffix(".service")?;
    (!name.is_empty() && !OTHER_UNITS.contains(&template)).then(|| unescape(name))
}

fn is_kubernetes(part: &str) -> bool {
    part == "kubepods" || part == "kubelet" || part.starts_with("kubepods") || part.starts_with("kubelet")
}

/// Reads the parts below `kubepods`: a pod's, `pod1234-…` or `kubepods-burstable-pod1234_….slice`, and the container's.
fn pod(parts: &[&str], group: &mut Group) {
    for part in parts {
        let slice = part.strip_suffix(".slice").unwrap_or(part);
        // containerd's shims are in `kubepods-…-pod1234.slice:cri-containerd:ID`.
        let (slice, rest) = slice.split_once(':').unwrap_or((slice, ""));
        let slice = slice.strip_suffix(".slice").unwrap_or(slice);
        let uid = slice.strip_prefix("pod").or_else(|| slice.rsplit_once("-pod").map(|(_, uid)| uid));
        if let Some(uid) = uid.filter(|uid| is_id(uid, 8)) {
            group.pod = Some(uid.replace('_', "-"));
            group.container = None;
        } else if group.pod.is_some() {
            group.container = container(part).or_else(|| is_id(part, 12).then(|| (*part).to_owned()));
        }
        if let Some((_, id)) = rest.split_once(':') {
            group.container = Some(id).filter(|id| is_id(id, 12)).map(str::to_owned);
        }
        if group.pod.is_some() && group.container.is_some() {
            return;
        }
    }
}

/// A container's id: of `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`.
fn container(unit: &str) -> Option<String> {
    const ENGINES: [&str; 8] =
        ["docker-", "cri-containerd-", "crio-", "libpod-", "containerd-", "nerdctl-", "kata_", "cri-o-"];
    let name = unit.strip_suffix(".scope").unwrap_or(unit);
    let id = ENGINES.iter().find_map(|engine| name.strip_prefix(engine))?;
    is_id(id, 12).then(|| id.to_owned())
}

/// True for `a1b2…`, of at least `least` hexadecimal digits, dashes and underscores.
fn is_id(text: &str, least: usize) -> bool {
    (least..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b'_'))
        && text.starts_with(|first: char| first.is_ascii_hexdigit())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() < 20 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A unit's name as it was before systemd escaped it: `\x2d` is a dash (systemd.unit(5)).
fn unescape(name: &str) -> String {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = rest.strip_prefix(b"\\x").and_then(|digits| digits.get(..2));
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                out.push(code);
                rest = &rest[4..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "3f8a1c5e9b7d2f4a6c8e0b1d3f5a7c9e2b4d6f8a1c3e5b7d9f0a2c4e6b8d0f1a";
    const UID: &str = "0a1b2c3d-4e5f-6a7b-8c9d-0e1f2a3b4c5d";

    /// Returns the names in a path, as one line.
    fn told(path: &str) -> String {
        let group = read(&format!("0::{path}\n"));
        let mut out = Vec::new();
        for (key, value) in [
            ("machine", group.machine),
            ("domain", group.domain),
            ("vmid", group.vmid),
            ("pod", group.pod),
            ("container", group.container),
        ] {
            out.extend(value.map(|value| format!("{key} {value}")));
        }
        out.join(", ").replace(ID, "ID").replace(UID, "UID")
    }

    #[test]
    fn shapes() {
        let under = UID.replace('-', "_");
        for (path, expected) in [
            (
                r"/machine.slice/machine-qemu\x2d1\x2dweb.scope/libvirt/emulator".to_owned(),
                "machine web, domain web",
            ),
            (
                r"/machine.slice/machine-qemu\x2d12\x2dmy\x2dweb\x2d2.scope".into(),
                "machine my-web-2, domain my-web-2",
            ),
            (r"/machine.slice/machine-ch\x2d3\x2ddb.scope".into(), "machine db, domain db"),
            (r"/machine.slice/machine-fedora.scope".into(), "machine fedora"),
            ("/machine/qemu-4-old.libvirt-qemu/emulator".into(), "machine old, domain old"),
            ("/machine.slice/systemd-vmspawn@image.service/payload".into(), "machine image"),
            (format!("/machine.slice/libpod-{ID}.scope/container"), "container ID"),
            ("/qemu.slice/100.scope".into(), "machine 100, vmid 100"),
            ("/qemu.slice/evil.scope".into(), ""),
            (format!("/system.slice/docker-{ID}.scope"), "container ID"),
            ("/system.slice/microvm@web.service".into(), "machine web"),
            (r"/system.slice/firecracker@a\x2fb.service".into(), "machine a/b"),
            ("/system.slice/libvirtd.service".into(), ""),
            (format!("/docker/{ID}"), "container ID"),
            (format!("/kubepods/besteffort/pod{UID}/{ID}"), "pod UID, container ID"),
            (format!("/kubepods/pod{UID}"), "pod UID"),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope"
                ),
                "pod UID, container ID",
            ),
            (
                format!("/kubepods.slice/kubepods-pod{under}.slice/crio-{ID}.scope/container"),
                "pod UID, container ID",
            ),
            (
                format!(
                    "/system.slice/containerd.service/kubepods-burstable-pod{under}.slice:cri-containerd:{ID}"
                ),
                "pod UID, container ID",
            ),
            (format!("/kubepods-burstable-pod{under}.slice:cri-containerd:{ID}"), "pod UID, container ID"),
            (
                format!(
                    "/system.slice/docker-{ID}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{under}.slice/cri-containerd-{ID}.scope"
                ),
                "pod UID, container ID",
            ),
            ("/lxc.payload.c1/system.slice/x.service".into(), "container c1"),
            ("/lxc/101/ns".into(), "container 101"),
            (r"/../../machine.slice/machine-qemu\x2d1\x2dweb.scope".into(), "machine web, domain web"),
            ("/".into(), ""),
            ("/user.slice/user-1000.slice/session-3.scope".into(), ""),
        ] {
            assert_eq!(told(&path), expected, "{path}");
        }
    }

    /// A user may name control groups as he likes below his own.
    #[test]
    fn of_a_user_no_machine() {
        for path in [
            r"/user.slice/user-1000.slice/user@1000.service/machine.slice/machine-qemu\x2d1\x2dweb.scope",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/qemu.slice/100.scope",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/microvm@web.service",
            r"/x/machine.slice/machine-qemu\x2d1\x2dweb.scope",
            "/user.slice/kubepods/pod0a1b2c3d-4e5f-6a7b-8c9d-0e1f2a3b4c5d",
        ] {
            assert_eq!(told(path), "", "{path}");
        }
    }

    #[test]
    fn of_version_1() {
        let text =
            format!("12:pids:/user.slice\n11:memory:/kubepods/pod{UID}/{ID}\n1:name=systemd:/x\n0::/\n");
        assert_eq!(read(&text).pod.as_deref(), Some(UID));
        assert_eq!(read(&text).path, Some(format!("/kubepods/pod{UID}/{ID}")));
        // Where none tells anything, that of version 2 counts, or the first that is not the root.
        assert_eq!(read("2:cpu:/a\n0::/b\n").path.as_deref(), Some("/b"));
        assert_eq!(read("3:pids:/\n2:cpu:/a\n0::/\n").path.as_deref(), Some("/a"));
        assert_eq!(read("0::/\n"), Group::default());
        assert_eq!(read("garbage\n:\n::\n"), Group::default());
    }

    proptest! {
        #[test]
        fn anything_can_be_read(text in ".{0,200}", escaped in "[a-z@.\\\\x0-9/:-]{0,80}") {
            read(&text);
            read(&format!("0::/machine.slice/{escaped}"));
            read(&format!("0::/kubepods/{escaped}"));
            read(&format!("0::/system.slice/{escaped}"));
        }
    }
}
