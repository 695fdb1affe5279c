//! Rules about devices that the guest drives by exits.

use super::{MEMORY, MUCH, PORT_IO, exits, if_much, ratio};
use crate::advice::{Evidence, Finding, Rule};
use exitscope_model::unit;

/// Rules about devices.
pub static RULES: &[Rule] = &[
    Rule {
        name: "serial-console",
        source: "QEMU docs/system/i386/microvm.rst (virtconsole); Linux \
                 Documentation/admin-guide/kernel-parameters.txt, \"quiet\"; Firecracker docs/prod-host-setup.md, \
                 \"8250 Serial Device\"; Cloud Hypervisor docs/device_model.md",
        replaces: &["user-space"],
        check: serial,
    },
    Rule {
        name: "ide-disk",
        source: "QEMU documentation, \"Block device options\"; Virtual I/O Device specification 1.2, 5.2, \"Block \
                 Device\"",
        replaces: &["user-space"],
        check: ide,
    },
    Rule {
        name: "pci-configuration",
        source: "PCI Firmware Specification 3.2, 4.1.2 (MCFG); Linux Documentation/PCI/acpi-info.rst (ECAM); QEMU \
                 docs/pcie.txt; docs/system/i386/microvm.rst",
        replaces: &["user-space"],
        check: pci,
    },
    Rule {
        name: "firmware-configuration",
        source: "QEMU docs/specs/fw_cfg.rst, \"Guest-side DMA Interface\"; SeaBIOS commit 06316c9d (\"Add QEMU \
                 fw_cfg DMA interface\")",
        replaces: &["user-space"],
        check: fw_cfg,
    },
    Rule {
        name: "kicks-in-user-space",
        source: "Linux Documentation/virt/kvm/api.rst, KVM_IOEVENTFD; QEMU documentation, \"-netdev tap\" (vhost), \
                 \"-object iothread\"; M. S. Tsirkin, Linux commit 68c3b4d1 (\"speed up wildcard MMIO EVENTFD\")",
        replaces: &["user-space"],
        check: kicks,
    },
    Rule {
        name: "user-space",
        source: "Linux Documentation/virt/kvm/api.rst, KVM_RUN and struct kvm_run",
        replaces: &[],
        check: user_space,
    },
];

fn serial(evidence: &Evidence<'_>) -> Option<Finding> {
    let about = evidence.ports(&[0x3f8..=0x3ff, 0x2f8..=0x2ff, 0x3e8..=0x3ef, 0x2e8..=0x2ef]);
    let helps = if evidence.vm.vmm.contains("firecracker") {
        "Give the guest's kernel `quiet` or `loglevel=1`, or no console at all: `8250.nr_uarts=0` in place of \
         `console=ttyS0` in `boot_args`."
    } else if evidence.vm.vmm.contains("cloud-hypervisor") {
        "Boot the guest with `quiet`, and use the virtio console: `--serial off --console tty`, `console=hvc0` in the guest."
    } else {
        "Boot the guest with `quiet`, log less to the console, or give it a virtio console: `-device virtio-serial-pci \
         -device virtconsole,chardev=…`, and `console=hvc0` in the guest."
    };
    let seen = |exits: &str, share: &str| {
        format!("{exits} ({share}) are for a serial port: each character costs one or two.")
    };
    if_much(evidence, about, MUCH, seen, helps)
}

fn ide(evidence: &Evidence<'_>) -> Option<Finding> {
    let about = evidence.ports(&[0x1f0..=0x1f7, 0x170..=0x177, 0x376..=0x376, 0x3f6..=0x3f6]);
    let command = evidence.command();
    let option = if ["hda", "hdb", "hdc", "hdd"].iter().any(|option| command.has(option)) {
        "replace `-hda FILE` by `-drive file=FILE,if=virtio`"
    } else if command.has_part("drive", "if=ide") {
        "replace `if=ide` by `if=virtio`"
    } else {
        "attach it by `-drive file=FILE,if=virtio`"
    };
    let seen = |exits: &str, share: &str| {
        format!("{exits} ({share}) are for an IDE disk: a request takes some 26 exits more than by virtio.")
    };
    if_much(evidence, about, 0.1, seen, format!("Use a virtio disk: {option} (the guest needs its driver)."))
}

fn pci(evidence: &Evidence<'_>) -> Option<Finding> {
    let about = evidence.ports(&[0xcf8..=0xcf8, 0xcfc..=0xcff]);
    let q35 = evidence
        .command()
        .values("machine")
        .chain(evidence.command().values("M"))
        .any(|machine| machine.contains("q35"));
    let helps = if q35 {
        "The machine has PCI Express's window in memory, and the guest does not use it: fewer devices need fewer accesses; \
         look whether a tool scans PCI again and again (`lspci`, a monitoring agent)."
    } else {
        "A machine with PCI Express (`-machine q35`) has the configuration space in memory: one exit instead of two. Fewer \
         devices need fewer; a micro VM (`-machine microvm`) has none."
    };
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are for PCI's configuration space by ports 0xcf8 and 0xcfc, two for each access."
        )
    };
    if_much(evidence, about, 0.2, seen, helps)
}

fn fw_cfg(evidence: &Evidence<'_>) -> Option<Finding> {
    let about = evidence.ports(&[0x510..=0x511]);
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are for fw_cfg (ports 0x510 and 0x511): firmware reads kernel and tables byte by byte."
        )
    };
    let helps = "Use a firmware that reads fw_cfg by DMA (SeaBIOS 1.9 or later, OVMF), and a machine type that offers it \
                 (`-machine pc` or `q35` of QEMU 2.5 or later, without `-global fw_cfg_io.dma_enabled=off`).";
    if_much(evidence, about, MUCH, seen, helps)
}

/// Doorbells of virtio devices that wake the VMM instead of an ioeventfd.
fn kicks(evidence: &Evidence<'_>) -> Option<Finding> {
    if !evidence.has_breakdown() {
        return None;
    }
    // KVM_EXIT_MMIO (include/uapi/linux/kvm.h). Ports that firmware gave to PCI devices lie above 0xc000.
    let mmio = evidence.returns(&[6]).min(evidence.reasons(MEMORY).user_exits);
    let ports = evidence.ports(&[0xc000..=0xffff]);
    let memory = evidence.reasons(MEMORY).part(mmio);
    let about = memory + ports.part(ports.user_exits.min(ports.exits));
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are accesses to a device's registers that go out to the VMM in user space."
        )
    };
    let command = evidence.command();
    let off = ["ioeventfd=off", "vhost=off"]
        .into_iter()
        .find(|part| command.has_part("device", part) || command.has_part("netdev", part));
    let helps = match off {
        Some(off) => format!("Take `{off}` off the command line, so that the kernel answers the guest's notifications."),
        None => "Where they are notifications of virtio, let the kernel answer them: `ioeventfd=on` for the device, \
                 `vhost=on` for the network; and `-object iothread` for disks. Other devices: prefer virtio to emulated ones."
            .to_owned(),
    };
    if_much(evidence, about, 0.2, seen, helps)
}

/// Exits that spend most of their time in the VMM, and no other rule knows for what.
fn user_space(evidence: &Evidence<'_>) -> Option<Finding> {
    let all = evidence.all();
    if !evidence.has_breakdown()
        || ratio(all.user_ns, all.busy_ns) < 0.5
        || ratio(all.user_exits, all.exits) < 0.2
    {
        return None;
    }
    let io = evidence.reasons(PORT_IO).user_exits;
    let mmio = evidence.reasons(MEMORY).user_exits;
    let by = if io >= mmio { "ports" } else { "memory of devices" };
    Some(Finding {
        seen: format!(
            "{} ({}) go out to the VMM in user space, where {} of the busy host time is spent; most are for {by}.",
            exits(all.user_exits),
            unit::share(ratio(all.user_exits, all.exits)),
            unit::share(ratio(all.user_ns, all.busy_ns))
        ),
        helps: "See which ports or addresses lead (`exitscope stat --by vm,reason`, and the lines below the table), and move \
                these devices to virtio, vhost or the kernel's own emulation."
            .to_owned(),
        about: all.part(all.user_exits),
    })
}
