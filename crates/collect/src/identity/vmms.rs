//! The VMMs that are known: their programs, and where each has the VM's name.
//!
//! Whoever knows another adds a row to [`VMMS`], and its command lines to `tests.rs`.

/// A VMM.
pub struct Vmm {
    /// Its name, as tables show it.
    pub name: &'static str,
    /// File names of its program; one that ends in `*` stands for all that begin so.
    pub programs: &'static [&'static str],
    /// Where the VM's name is; the first that is there counts.
    pub names: &'static [Place],
    /// Where its UUID is.
    pub uuids: &'static [Place],
    /// Arguments that this VMM alone takes, by which it is known if its program cannot be.
    pub signs: &'static [&'static str],
}

/// A place in a command line.
pub enum Place {
    /// The value of one of these options.
    Value(&'static [&'static str]),
    /// The value of the key in the list that is one of these options' value. The last of several counts, as the option
    /// may be given again and is then merged.
    Key(&'static [&'static str], &'static str),
    /// The same where the list's first item needs no key.
    FirstKey(&'static [&'static str], &'static str),
    /// The first argument after this word that is no option.
    After(&'static str),
    /// The last argument, unless it is an option.
    Last,
    /// Rest of the argument that begins with this.
    Behind(&'static str),
    /// The path in the value of one of these options, a control socket's or the like.
    Path(&'static [&'static str]),
    /// The file that is the first argument which is neither an option nor the value of one of these.
    File(&'static [&'static str]),
}

use Place::{After, Behind, File, FirstKey, Key, Last, Path, Value};

const QEMU_UUID: &[Place] = &[Value(&["-uuid", "--uuid"]), Key(&["-smbios", "--smbios"], "uuid")];

/// All that are known.
pub const VMMS: [Vmm; 17] = [
    Vmm {
        name: "qemu",
        // Debian's and Red Hat's wrapper is called `kvm`; NixOS' program has a dot before its name, which is left out.
        programs: &["qemu*", "kvm", "kvm-spice", "pve-qemu-kvm", "nemu-system*"],
        // libvirt gives `-name guest=NAME,debug-threads=on`; Android's emulator has `-avd NAME` or `@NAME`.
        names: &[FirstKey(&["-name", "--name"], "guest"), Value(&["-avd"]), Behind("@"), Path(&["-pidfile"])],
        uuids: QEMU_UUID,
        signs: &["-M", "-machine", "-enable-kvm", "-accel", "-netdev", "-chardev"],
    },
    Vmm {
        name: "firecracker",
        programs: &["firecracker*"],
        // Its jailer starts it with the id that it was given itself.
        names: &[Value(&["--id"]), Path(&["--api-sock"]), Path(&["--config-file"])],
        uuids: &[],
        signs: &["--api-sock", "--config-file"],
    },
    Vmm {
        name: "cloud-hypervisor",
        // The second is all that the kernel's name of 15 characters leaves of it.
        programs: &["cloud-hypervisor*", "cloud-hyperviso", "clh", "cloud_hypervisor*"],
        names: &[Path(&["--api-socket"]), Path(&["--event-monitor"])],
        uuids: &[Key(&["--platform"], "uuid")],
        signs: &["--api-socket", "--cmdline"],
    },
    Vmm {
        name: "crosvm",
        programs: &["crosvm*"],
        names: &[Value(&["--name"]), Path(&["--socket", "-s"])],
        uuids: &[],
        signs: &["--rwdisk", "--serial"],
    },
    Vmm {
        name: "kvmtool",
        programs: &["lkvm*", "kvmtool*"],
        names: &[Value(&["--name", "-n"])],
        uuids: &[],
        signs: &["--9p", "--virtio-transport", "--rng", "--name"],
    },
    Vmm {
        name: "stratovirt",
        programs: &["stratovirt*"],
        names: &[
            FirstKey(&["-name", "--name"], "guest"),
            Path(&["-qmp", "--qmp", "-api-channel", "--api-channel"]),
        ],
        uuids: QEMU_UUID,
        signs: &[],
    },
    Vmm {
        name: "virtualbox",
        programs: &["VirtualBoxVM*", "VirtualBox", "VBoxHeadless*", "VBoxSDL*"],
        names: &[Value(&["--comment", "-comment"]), Value(&["--startvm", "-startvm", "-s"])],
        uuids: &[Value(&["--startvm", "-startvm", "-s"])],
        signs: &[],
    },
    Vmm { name: "gvisor", programs: &["runsc*"], names: &[Last], uuids: &[], signs: &[] },
    Vmm { name: "libkrun", programs: &["krunvm", "muvm"], names: &[After("start")], uuids: &[], signs: &[] },
    // Engines of containers that run libkrun in the container's own process, before it would become the container's.
    Vmm { name: "libkrun", programs: &["crun*", "krun", "youki"], names: &[Last], uuids: &[], signs: &[] },
    Vmm {
        name: "dragonball",
        // Kata's shim holds a VM itself only where Dragonball is in it. The second is cut by the kernel.
        programs: &["containerd-shim-kata*", "containerd-shim-rund*", "containerd-shim"],
        names: &[Value(&["-id", "--id"])],
        uuids: &[],
        signs: &[],
    },
    Vmm {
        name: "dragonball",
        programs: &["dbs-cli*", "dbs_cli*", "dragonball*"],
        names: &[
            Value(&["--id", "--vm-id", "--instance-id"]),
            Path(&["--api-sock-path"]),
            Path(&["--vsock"]),
            Path(&["--serial-path"]),
            Path(&["--log-file"]),
            Path(&["--rootfs"]),
        ],
        uuids: &[],
        signs: &[],
    },
    Vmm {
        name: "alioth",
        programs: &["alioth*"],
        names: &[Value(&["--name"]), Path(&["--api"])],
        uuids: &[],
        signs: &["--num-cpu"],
    },
    Vmm {
        name: "openvmm",
        programs: &["openvmm*"],
        names: &[Path(&["--ttrpc", "--grpc"])],
        uuids: &[],
        signs: &[],
    },
    Vmm { name: "propolis", programs: &["propolis*"], names: &[Path(&["run"])], uuids: &[], signs: &[] },
    // Unikernels: one is known by its file.
    Vmm {
        name: "solo5",
        programs: &["solo5-hvt*", "solo5-spt*", "ukvm-bin*", "nabla-run*"],
        names: &[File(&[])],
        uuids: &[],
        signs: &[],
    },
    Vmm {
        name: "uhyve",
        programs: &["uhyve*"],
        names: &[File(&["-c", "--cpu-count", "-m", "--memory-size", "-s", "--gdb-port", "-a", "--affinity"])],
        uuids: &[],
        signs: &[],
    },
];

impl Vmm {
    /// The VMM whose program has this file name.
    pub fn of_program(program: &[u8]) -> Option<&'static Vmm> {
        let program = program.strip_prefix(b".").unwrap_or(program);
        VMMS.iter().find(|vmm| {
            vmm.programs.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => program.starts_with(prefix.as_bytes()),
                None => program == pattern.as_bytes(),
            })
        })
    }

    /// The VMM that alone takes one of these arguments.
    pub fn of_signs(args: &[&[u8]]) -> Option<&'static Vmm> {
        VMMS.iter().find(|vmm| {
            vmm.signs.iter().any(|sign| {
                args.iter().any(|arg| {
                    arg.strip_prefix(sign.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
                })
            })
        })
    }
}
