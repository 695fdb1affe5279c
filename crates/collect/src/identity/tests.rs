//! Command lines of VMs as they are seen, and what each VM is called by them.

use super::*;
use proptest::prelude::*;
use std::time::Instant;

const ID: &str = "3f8a1c5e9b7d2f4a6c8e0b1d3f5a7c9e2b4d6f8a1c3e5b7d9f0a2c4e6b8d0f1a";
const UUID: &str = "6d7e3b9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b";

/// A shape: a name for it, the command line (spaces separate arguments), VMM, name, witness, labels.
type Shape = (&'static str, &'static str, &'static str, &'static str, Witness, &'static str);

use Witness::{Option as Opt, Path as Pth, Program, Title, Uuid};

const SHAPES: &[Shape] = &[
    // QEMU.
    (
        "libvirt",
        "/usr/bin/qemu-system-x86_64 -name guest=web,debug-threads=on -S -object {\"id\":\"masterKey0\",\"file\":\"/var/lib/libvirt/qemu/domain-1-web/master-key.aes\"} -uuid UUID",
        "qemu",
        "web",
        Opt,
        "uuid=UUID domain=web",
    ),
    (
        "libvirt's cut path",
        "/usr/libexec/qemu-kvm -name guest=a-name-of-more-than-twenty,debug-threads=on -blockdev x,file=/var/lib/libvirt/qemu/domain-3-a-name-of-more-than-t/x",
        "qemu",
        "a-name-of-more-than-twenty",
        Opt,
        "domain=a-name-of-more-than-twenty",
    ),
    (
        "OpenStack",
        "/usr/bin/qemu-system-x86_64 -name guest=instance-0000002a,debug-threads=on -smbios type=1,manufacturer=OpenStack,,Inc,product=Nova,serial=UUID,uuid=UUID,family=Virtual -monitor path=/var/lib/libvirt/qemu/domain-7-instance-0000002a/monitor.sock",
        "qemu",
        "instance-0000002a",
        Opt,
        "uuid=UUID domain=instance-0000002a",
    ),
    (
        "KubeVirt",
        "/usr/libexec/qemu-kvm -name guest=prod_web,debug-threads=on -smbios type=1,manufacturer=KubeVirt,product=None,uuid=UUID,family=KubeVirt",
        "qemu",
        "prod_web",
        Opt,
        "uuid=UUID domain=prod_web namespace=prod",
    ),
    (
        "Proxmox",
        "/usr/bin/kvm -id 100 -name web,debug-threads=on -no-shutdown -chardev socket,id=qmp,path=/var/run/qemu-server/100.qmp,server=on,wait=off -smbios type=1,uuid=UUID",
        "qemu",
        "web",
        Opt,
        "uuid=UUID vmid=100",
    ),
    (
        "Proxmox without a name",
        "/usr/bin/kvm -id 101 -chardev socket,id=qmp,path=/var/run/qemu-server/101.qmp",
        "qemu",
        "kvm",
        Program,
        "vmid=101",
    ),
    ("Red Hat", "/usr/libexec/qemu-kvm -name vm1", "qemu", "vm1", Opt, ""),
    ("NixOS", "/nix/store/x/bin/.qemu-system-x86_64-wrapped -name n", "qemu", "n", Opt, ""),
    ("nothing but a UUID", "qemu-system-x86_64 -m 1G -uuid UUID", "qemu", UUID, Uuid, "uuid=UUID"),
    ("nothing at all", "qemu-system-x86_64 -m 1G", "qemu", "qemu-system-x86_64", Program, ""),
    ("a UUID that is none", "qemu-system-x86_64 -uuid web", "qemu", "qemu-system-x86_64", Program, ""),
    (
        "through a dynamic loader",
        "/lib64/ld-linux-x86-64.so.2 --library-path /opt/lib /opt/bin/qemu-system-x86_64 -name web",
        "qemu",
        "web",
        Opt,
        "",
    ),
    ("title in one piece", "qemu-system-x86_64_-name_web_-m_1G", "qemu", "web", Opt, ""),
    (
        "Kata on QEMU",
        "/opt/kata/bin/qemu-system-x86_64 -name sandbox-ID,debug-threads=on -uuid UUID -qmp unix:/run/vc/vm/ID/qmp.sock,server=on",
        "qemu",
        "sandbox-ID",
        Opt,
        "uuid=UUID",
    ),
    (
        "Incus",
        "/opt/incus/bin/qemu-system-x86_64 -S -name web -uuid UUID -readconfig /run/incus/web/qemu.conf",
        "qemu",
        "web",
        Opt,
        "uuid=UUID",
    ),
    (
        "Multipass",
        "/snap/multipass/1/usr/bin/qemu-system-x86_64 --enable-kvm -drive file=/var/snap/multipass/common/data/multipassd/vault/instances/primary/ubuntu.img,if=none,format=qcow2 -qmp stdio",
        "qemu",
        "primary",
        Pth,
        "",
    ),
    (
        "podman machine",
        "/usr/bin/qemu-system-x86_64 -m 2048 -fw_cfg name=opt/com.coreos/config,file=/home/ann/.config/containers/podman/machine/qemu/podman-machine-default.ign -qmp unix:/run/user/1000/podman/qmp_podman-machine-default.sock,server=on",
        "qemu",
        "podman-machine-default",
        Pth,
        "",
    ),
    (
        "podman machine by its process file",
        "qemu-system-x86_64 -qmp unix:/tmp/podman/qmp_dev.sock,server=on -pidfile /run/user/1000/podman/dev_vm.pid",
        "qemu",
        "dev",
        Pth,
        "",
    ),
    (
        "Lima",
        "/usr/bin/qemu-system-x86_64 -name lima-default -pidfile /home/ann/.lima/default/qemu.pid",
        "qemu",
        "lima-default",
        Opt,
        "",
    ),
    (
        "Lima without a name",
        "qemu-system-x86_64 -pidfile /home/ann/.lima/default/qemu.pid",
        "qemu",
        "default",
        Pth,
        "",
    ),
    (
        "Colima",
        "qemu-system-x86_64 -drive file=/home/ann/.colima/_lima/colima/diffdisk",
        "qemu",
        "colima",
        Pth,
        "",
    ),
    (
        "minikube",
        "qemu-system-x86_64 -qmp unix:/home/ann/.minikube/machines/m2/monitor,server,nowait",
        "qemu",
        "m2",
        Pth,
        "",
    ),
    (
        "Vagrant",
        "qemu-system-x86_64 -drive file=/home/ann/x/.vagrant/machines/db/qemu/1/linked-box.img",
        "qemu",
        "db",
        Pth,
        "",
    ),
    (
        "Android's emulator",
        "/opt/sdk/emulator/qemu/linux-x86_64/qemu-system-x86_64 -netdelay none -avd Pixel_7",
        "qemu",
        "Pixel_7",
        Opt,
        "",
    ),
    (
        "Android's emulator, short",
        "/opt/sdk/emulator/qemu/linux-x86_64/qemu-system-x86_64-headless @Pixel_8 -no-window",
        "qemu",
        "Pixel_8",
        Opt,
        "",
    ),
    (
        "virtme-ng",
        "qemu-system-x86_64 -m 1G -append virtme_hostname=kernel-7|console=hvc0",
        "qemu",
        "kernel-7",
        Pth,
        "",
    ),
    ("the file of its process id", "qemu-system-x86_64 -pidfile /run/ganeti/web.pid", "qemu", "web", Pth, ""),
    (
        "Cuttlefish on QEMU",
        "qemu-system-x86_64 -name guest=cvd-1,debug-threads=on -uuid UUID",
        "qemu",
        "cvd-1",
        Opt,
        "uuid=UUID",
    ),
    // Firecracker.
    (
        "Firecracker's jailer",
        "/firecracker --id fn-7 --start-time-us 1 --start-time-cpu-us 1 --api-sock /run/api.sock",
        "firecracker",
        "fn-7",
        Opt,
        "",
    ),
    ("Firecracker by = ", "/firecracker --id=fn-8 --start-time-us=1", "firecracker", "fn-8", Opt, ""),
    (
        "Firecracker's release",
        "firecracker-v1.7.0-x86_64 --api-sock /run/a/fc.sock",
        "firecracker",
        "a",
        Pth,
        "",
    ),
    (
        "Firecracker in a user's place",
        "firecracker --api-sock /tmp/web.socket",
        "firecracker",
        "web",
        Pth,
        "",
    ),
    (
        "Firecracker by its configuration",
        "firecracker --no-api --config-file /srv/vms/web/vm_config.json",
        "firecracker",
        "web",
        Pth,
        "",
    ),
    (
        "Firecracker unnamed",
        "firecracker --id anonymous-instance --no-api",
        "firecracker",
        "firecracker",
        Program,
        "",
    ),
    (
        "Kata on Firecracker",
        "/opt/kata/bin/firecracker --api-sock /run/vc/firecracker/ID/root/run/firecracker.socket --config-file /run/vc/firecracker/ID/root/fcConfig.json",
        "firecracker",
        ID,
        Pth,
        "",
    ),
    (
        "Kata's runtime in Rust on Firecracker",
        "/opt/kata/bin/firecracker --api-sock /run/kata/ID/root/run/firecracker.socket",
        "firecracker",
        ID,
        Pth,
        "",
    ),
    (
        "firecracker-containerd",
        "/usr/local/bin/firecracker --api-sock /var/lib/firecracker-containerd/shim-base/default#vm1/firecracker.sock",
        "firecracker",
        "vm1",
        Pth,
        "namespace=default",
    ),
    (
        "Ignite",
        "firecracker --api-sock /var/lib/firecracker/vm/399a3c4a1dd1fb55/firecracker.sock",
        "firecracker",
        "399a3c4a1dd1fb55",
        Pth,
        "",
    ),
    (
        "flintlock",
        "firecracker --id 01H --boot-timer --api-sock /var/lib/flintlock/vm/ns1/web/01H/firecracker.sock",
        "firecracker",
        "01H",
        Opt,
        "namespace=ns1",
    ),
    // Cloud Hypervisor.
    (
        "Cloud Hypervisor",
        "cloud-hypervisor --api-socket /tmp/vm1.sock --platform uuid=UUID",
        "cloud-hypervisor",
        "vm1",
        Pth,
        "uuid=UUID",
    ),
    (
        "Cloud Hypervisor static",
        "/usr/bin/cloud-hypervisor-static --api-socket path=/run/web/ch.sock",
        "cloud-hypervisor",
        "web",
        Pth,
        "",
    ),
    (
        "libvirt's Cloud Hypervisor",
        "/usr/bin/cloud-hypervisor -v --api-socket fd=31 --event-monitor path=/run/libvirt/ch/web-event-monitor-fifo",
        "cloud-hypervisor",
        "web",
        Pth,
        "domain=web",
    ),
    (
        "libvirt's Cloud Hypervisor, older",
        "cloud-hypervisor --api-socket=/run/libvirt/ch/web-socket",
        "cloud-hypervisor",
        "web",
        Pth,
        "domain=web",
    ),
    (
        "by its UUID alone",
        "cloud-hypervisor --api-socket fd=3 --platform num_pci_segments=2,uuid=UUID",
        "cloud-hypervisor",
        UUID,
        Uuid,
        "uuid=UUID",
    ),
    (
        "Kata on Cloud Hypervisor",
        "/opt/kata/bin/cloud-hypervisor --api-socket /run/vc/vm/ID/clh-api.sock -v",
        "cloud-hypervisor",
        ID,
        Pth,
        "",
    ),
    (
        "Kata's runtime in Rust on Cloud Hypervisor",
        "/opt/kata/bin/cloud-hypervisor --api-socket /run/kata/ID/ch-api.sock",
        "cloud-hypervisor",
        ID,
        Pth,
        "",
    ),
    (
        "flintlock on Cloud Hypervisor",
        "cloud-hypervisor --api-socket /var/lib/flintlock/vm/ns1/web/01H/cloudhypervisor.sock",
        "cloud-hypervisor",
        "web",
        Pth,
        "namespace=ns1",
    ),
    // crosvm.
    (
        "ChromeOS",
        "/usr/bin/crosvm --syslog-tag VM(12) run --name termina --cpus 4 --socket /run/vm/vm.abc/crosvm.sock",
        "crosvm",
        "termina",
        Opt,
        "",
    ),
    ("crosvm", "crosvm run -s /run/vm/x.sock kernel", "crosvm", "x", Pth, ""),
    (
        "Cuttlefish",
        "/usr/lib/cuttlefish-common/bin/crosvm --extended-status run --socket=/var/tmp/cvd/1000/1/cuttlefish_runtime/cuttlefish/instances/cvd-1/internal/crosvm_control.sock",
        "crosvm",
        "cvd-1",
        Pth,
        "",
    ),
    (
        "Cuttlefish in a home",
        "crosvm run --socket=/home/ann/cuttlefish/instances/cvd-2/internal/crosvm_control.sock",
        "crosvm",
        "cvd-2",
        Pth,
        "",
    ),
    (
        "Android's virtualization",
        "crosvm --log-level=info --extended-status run --name microdroid --cid 2048",
        "crosvm",
        "microdroid",
        Opt,
        "",
    ),
    // Others.
    ("kvmtool", "lkvm run --name k1 -k bzImage", "kvmtool", "k1", Opt, ""),
    ("kvmtool, short", "/usr/bin/lkvm-static run -n k2", "kvmtool", "k2", Opt, ""),
    (
        "StratoVirt",
        "/usr/bin/stratovirt -name vm1 -machine microvm -qmp unix:/tmp/vm2.sock,server,nowait",
        "stratovirt",
        "vm1",
        Opt,
        "",
    ),
    (
        "StratoVirt without a name",
        "/usr/bin/stratovirt -machine microvm -qmp unix:/tmp/vm2.sock,server,nowait",
        "stratovirt",
        "vm2",
        Pth,
        "",
    ),
    (
        "StratoVirt's older channel",
        "stratovirt -api-channel unix:/run/web/stratovirt.sock",
        "stratovirt",
        "web",
        Pth,
        "",
    ),
    (
        "VirtualBox",
        "/usr/lib/virtualbox/VBoxHeadless --comment web --startvm UUID --vrde config",
        "virtualbox",
        "web",
        Opt,
        "uuid=UUID",
    ),
    (
        "VirtualBox with a window",
        "/usr/lib/virtualbox/VirtualBoxVM --comment my_web --startvm UUID",
        "virtualbox",
        "my_web",
        Opt,
        "uuid=UUID",
    ),
    (
        "VirtualBox by its id",
        "/usr/lib/virtualbox/VBoxHeadless --startvm UUID",
        "virtualbox",
        UUID,
        Opt,
        "uuid=UUID",
    ),
    (
        "gVisor",
        "runsc-sandbox --root=/run/containerd/runsc/k8s.io --platform=kvm boot --bundle=/run/containerd/io.containerd.runtime.v2.task/k8s.io/ID --controller-fd=3 ID",
        "gvisor",
        ID,
        Opt,
        "namespace=k8s.io container=ID",
    ),
    ("krunvm", "krunvm start fedora /bin/sh", "libkrun", "fedora", Opt, ""),
    (
        "crun",
        "/usr/bin/crun --systemd-cgroup create --bundle /var/lib/containers/storage/overlay-containers/ID/userdata --pid-file /run/x ID",
        "libkrun",
        ID,
        Opt,
        "container=ID",
    ),
    ("krun", "krun run --bundle /tmp/b web", "libkrun", "web", Opt, ""),
    (
        "Kata with Dragonball",
        "/opt/kata/runtime-rs/bin/containerd-shim-kata-v2 -namespace k8s.io -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd -id ID -debug",
        "dragonball",
        ID,
        Opt,
        "namespace=k8s.io",
    ),
    (
        "Dragonball's CLI",
        "dbs-cli --kernel-path /srv/vmlinux --rootfs /srv/web/rootfs.ext4 --api-sock-path /run/dbs/web.sock create",
        "dragonball",
        "web",
        Pth,
        "",
    ),
    (
        "Dragonball's CLI by its disk",
        "./dbs-cli --log-file dbs-cli.log --serial-path stdio --rootfs /srv/db.ext4 create",
        "dragonball",
        "db",
        Pth,
        "",
    ),
    ("microvm.nix on QEMU", "microvm@web -name web -M microvm,accel=kvm -m 512", "qemu", "web", Opt, ""),
    (
        "microvm.nix on Firecracker",
        "microvm@fire --config-file /nix/store/x-firecracker-fire.json --api-sock fire.sock",
        "firecracker",
        "fire",
        Title,
        "",
    ),
    (
        "microvm.nix on Cloud Hypervisor",
        "microvm@cloud --cpus boot=1 --cmdline console=ttyS0 --serial tty --api-socket cloud.sock",
        "cloud-hypervisor",
        "cloud",
        Title,
        "",
    ),
    (
        "microvm.nix on crosvm",
        "microvm@cros run -m 512 -c 1 --serial type=stdout,console=true -p console=ttyS0",
        "crosvm",
        "cros",
        Title,
        "",
    ),
    (
        "Solo5",
        "solo5-hvt --mem=32 --net:service=tap100 /srv/hello.hvt --ipv4=10.0.0.2/24",
        "solo5",
        "hello",
        Pth,
        "",
    ),
    ("Uhyve", "uhyve -v -c 2 -m 1GiB /srv/hermit-app arg", "uhyve", "hermit-app", Pth, ""),
    ("Alioth", "alioth run --name web -k vmlinux", "alioth", "web", Opt, ""),
    ("an unknown VMM", "/opt/my-vmm -name not-for-us", "my-vmm", "my-vmm", Program, ""),
    ("an unknown VMM of Kata", "/opt/my-vmm --sock /run/vc/vm/ID/x.sock", "my-vmm", ID, Pth, ""),
];

/// The labels, as `key=value` with spaces between.
fn told(labels: &Labels) -> String {
    let pairs = labels.pairs();
    let pairs = pairs.iter().filter_map(|(key, value)| value.map(|value| format!("{key}={value}")));
    pairs.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_shape_is_told() {
    for (shape, line, vmm, name, witness, labels) in SHAPES {
        let line = line.replace("UUID", UUID).replace("ID", ID);
        let line = if *shape == "title in one piece" {
            line.replace('_', " ").replacen("x86 64", "x86_64", 1)
        } else {
            line.replace(' ', "\0").replace('|', " ")
        };
        let ended = format!("{line}\0");
        let found = from_args(ended.as_bytes(), "comm");
        let expected = (*vmm, name.replace("UUID", UUID).replace("-ID", &format!("-{ID}")));
        assert_eq!((found.vmm.as_str(), found.name.clone()), expected, "{shape}");
        assert_eq!(found.labels.witness, *witness, "{shape}");
        assert_eq!(
            told(&found.labels),
            labels.replace("UUID", UUID).replace("=ID", &format!("={ID}")),
            "{shape}"
        );
        // The last argument may have no end where the line was cut.
        assert_eq!(from_args(line.as_bytes(), "comm"), found, "{shape}");
    }
}

fn named(command: &[&str]) -> String {
    from_args(command.join("\0").as_bytes(), "comm").name
}

#[test]
fn options_as_qemu_reads_them() {
    for (options, name) in [
        (&["-name", "debug-threads=on,guest=web"][..], "web"),
        (&["--name", "foo,process=bar"], "foo"),
        (&["-name", "guest=a,,b=c,,,,d,debug-threads=on"], "a,b=c,,d"),
        (&["-name", "a,,,process=x"], "a,"),
        (&["-name", "first", "-name", "debug-threads=on"], "first"),
        (&["-name", "first", "-name", "second"], "second"),
        (&["-name", "debug-threads=on"], "qemu-kvm"),
        (&["-name", "guest=,debug-threads=on"], "qemu-kvm"),
        (&["-name"], "qemu-kvm"),
        // A cut-off command line.
        (&["-name", "guest=we"], "we"),
        (&["-name", "guest=web,debug-thr"], "web"),
    ] {
        assert_eq!(named(&[&["qemu-kvm"], options].concat()), name, "{options:?}");
    }
}

fn judged(args: &[u8], exe: &str, cwd: &str, cgroup: &str) -> Identity {
    let (exe, cwd) = (Some(exe.as_bytes()), Some(cwd.as_bytes()));
    judge(&Evidence { args, comm: "comm", exe, cwd, cgroup, pods: None })
}

#[test]
fn the_program_where_its_title_was_rewritten() {
    for (title, exe, vmm) in [
        ("web", "/usr/bin/qemu-system-x86_64", "qemu"),
        ("web", "/usr/bin/firecracker (deleted)", "firecracker"),
        ("/proc/self/exe", "/usr/local/bin/runsc", "gvisor"),
        ("web", "/memfd:cloud-hypervisor (deleted)", "cloud-hypervisor"),
        ("microvm@web", "/nix/store/x/bin/.crosvm-wrapped", "crosvm"),
        // What argv[0] says counts, where it says something.
        ("firecracker", "/usr/bin/qemu-system-x86_64", "firecracker"),
        ("my-vmm", "/opt/another", "my-vmm"),
        ("microvm@web", "/opt/another", "another"),
    ] {
        assert_eq!(judged(title.as_bytes(), exe, "/", "").vmm, vmm, "{title} {exe}");
    }
}

#[test]
fn witnesses_in_their_order() {
    let machine = r"0::/machine.slice/machine-qemu\x2d1\x2dgroup.scope";
    let pod = format!("0::/kubepods/pod{UUID}/{ID}");
    for (line, cgroup, name, witness) in [
        ("firecracker --id opt --api-sock /srv/path.sock", machine, "opt", Witness::Option),
        ("firecracker --api-sock /srv/path.sock", machine, "path", Witness::Path),
        ("firecracker --api-sock fc.sock", machine, "here", Witness::Path),
        ("firecracker --api-sock /run/fc.sock", machine, "group", Witness::Machine),
        ("qemu-kvm -uuid UUID", machine, "group", Witness::Machine),
        ("qemu-kvm -uuid UUID", &pod, UUID, Witness::Uuid),
        ("qemu-kvm", &pod, UUID, Witness::Container),
        ("qemu-kvm", &format!("0::/docker/{ID}"), &ID[..12], Witness::Container),
        ("qemu-kvm", "0::/qemu.slice/100.scope", "100", Witness::Machine),
        ("qemu-kvm", "0::/user.slice/machine-qemu-1-web.scope", "qemu-kvm", Witness::Program),
        ("/opt/some-vmm", machine, "group", Witness::Machine),
    ] {
        let line = line.replace("UUID", UUID).replace(' ', "\0");
        let found = judged(line.as_bytes(), "/x", "/srv/here", cgroup);
        assert_eq!((found.name.as_str(), found.labels.witness), (name, witness), "{line:?} {cgroup}");
    }
    let found = judged(b"qemu-kvm\0-name\0prod_web", "/x", "/", &pod);
    assert_eq!(
        told(&found.labels),
        format!(
            "domain=prod_web namespace=prod pod_uid={UUID} container={ID} cgroup=/kubepods/pod{UUID}/{ID}"
        )
    );
}

#[test]
fn nothing_known() {
    for args in [&b""[..], b"\0", b"\0\0x", b"/usr/bin/\0x"] {
        let Identity { name, vmm, .. } = from_args(args, "vmm0");
        assert_eq!((name.as_str(), vmm.as_str()), ("vmm0", "vmm0"), "{args:?}");
    }
    let found = from_args(b"", "qemu-system-x86");
    assert_eq!((found.name.as_str(), found.vmm.as_str(), &*found.command), ("qemu-system-x86", "qemu", ""));
    assert_eq!(from_args(b"kvm\0-name\0a\x1b[2J\xff", "").name, "a\x1b[2J\u{fffd}");
}

#[test]
fn another_process_with_the_same_id_is_not_asked() {
    let pid = std::process::id();
    let stat = std::fs::read("/proc/self/stat").unwrap();
    let started = start_ns(&stat).unwrap();
    let given = b"qemu-kvm\0-name\0gone\0";
    assert_eq!(identify(pid, Some(started - 1), given, "").name, "gone");
    // This one is no VM; whatever it is called, it is not that.
    assert_ne!(identify(pid, Some(started + 1), given, "").name, "gone");
    assert_ne!(identify(pid, None, given, "").name, "gone");
}

#[test]
fn this_process_holds_no_vm() {
    let found = vms_of_host().unwrap();
    assert!(found.vms.iter().all(|vm| vm.pid != std::process::id()));
}

/// A command line made to take long: each argument begins every shape and ends none.
#[test]
fn a_long_command_line_is_read_in_time_that_is_bounded() {
    let leads: String = shape::SHAPES.iter().filter_map(|shape| shape.split('{').next()).collect();
    let lines =
        [leads.repeat((256 << 10) / leads.len()), format!("{leads}\0").repeat((256 << 10) / leads.len())];
    for line in lines {
        let start = Instant::now();
        let found = from_args(format!("qemu-kvm\0{line}").as_bytes(), "");
        println!("{} ms for {}", start.elapsed().as_millis(), found.name.len());
        assert!(found.name.len() <= MAX_NAME);
    }
}

proptest! {
    #[test]
    fn any_command_line_gives_a_bounded_name(
        program in prop::sample::select(vec!["qemu-kvm", "firecracker", "cloud-hypervisor", "crosvm", "lkvm",
            "dbs-cli", "solo5-hvt", "runsc", "crun", "krunvm", "ld-linux", "microvm@", "x", ""]),
        option in prop::sample::select(vec!["-name", "--id", "--api-socket", "--platform", "-s", "-n", "-uuid",
            "start", "-M", "--log-file", ""]),
        value in prop::collection::vec(prop_oneof![Just(b','), Just(b'='), Just(b'/'), Just(0), any::<u8>()], 0..700),
        comm in ".{0,15}",
    ) {
        let args = [program.as_bytes(), option.as_bytes(), &value].join(&0);
        let found = from_args(&args, &comm);
        prop_assert!(found.name.len() <= MAX_NAME && found.vmm.len() <= MAX_NAME);
        prop_assert!(found.labels.pairs().iter().all(|(_, text)| text.is_none_or(|text| text.len() <= MAX_NAME)));
        prop_assert!(found.command.len() <= 3 * args.len());
        from_args(&value, &comm);
    }

    #[test]
    fn a_qemu_name_comes_back(name in "[^\0]{1,60}") {
        let value = format!("guest={},debug-threads=on", name.replace(',', ",,"));
        prop_assert_eq!(from_args(format!("kvm\0-name\0{value}").as_bytes(), "").name, name);
    }
}
