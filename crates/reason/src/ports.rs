//! I/O ports with a fixed place on a PC, and those of QEMU's and other VMMs' own devices.
//!
//! From the chipset's datasheet (Intel 82371AB PIIX4, "I/O Space Mapped Registers"; Intel ICH9, table "Fixed I/O Ranges
//! Decoded"), the kernel's `standard_io_resources` (arch/x86/kernel/setup.c) and arch/x86/include/asm/serial.h; the
//! VMMs' own from QEMU's docs/specs/ (fw_cfg, pvpanic, acpi_cpu_hotplug, acpi_pci_hotplug, acpi_mem_hotplug) and
//! hw/i386/, and SeaBIOS's src/config.h. Where ACPI's power management lies the firmware decides: 0x600 is SeaBIOS's and
//! OVMF's choice, 0xb000 the older one.

use super::detail::{Known, table};

const SERIAL: &str = "A serial port costs an exit or more for each character: boot the guest with `quiet`, log less to the \
     console, or give it a virtio console (`console=hvc0`).";
const PCI: &str = "PCI configuration by ports takes two exits for each access: a machine with PCI Express (`-machine q35`) \
     has it in memory, fewer devices need fewer, and a micro VM without PCI none. Many are normal during boot.";
const PIT: &str = "The old timer. Where the guest's clock needs it, use kvm-clock or the TSC, and a kernel that does not \
     calibrate against it (`tsc_early_khz`, or CPUID leaf 0x15).";
const PIC: &str =
    "Interrupts by the old PIC: let the guest use the APIC (no `noapic`, no `nolapic`), and MSI for devices.";
const RTC: &str = "The real-time clock's registers, an exit for the index and one for the value: firmware at boot, and guests \
     that read the time from it; use kvm-clock, and for Windows `hv-time` and `-rtc base=localtime,driftfix=slew`.";
const PM_TIMER: &str = "The ACPI timer or its neighbours. As clock source it costs an exit for each reading of the time: use \
     kvm-clock or the TSC, and for Windows `hv-time`.";
const IDE: &str = "An emulated IDE disk: use virtio-blk or virtio-scsi.";
const FW_CFG: &str = "Firmware and boot read their files here by the byte; a kernel that is loaded by DMA (a newer SeaBIOS or \
     OVMF, `-kernel` with linuxboot_dma.bin) needs few of these.";
const DEBUG: &str =
    "A firmware's or a test's debug console, an exit for each character: leave the device out.";
const VGA: &str =
    "Text or modes of an emulated VGA: leave it out (`-vga none`, `-nographic`) or use virtio-gpu.";
const KEYBOARD: &str =
    "The keyboard controller: probed at boot, and polled by some firmware; `i8042.noprobe` saves it.";

/// Every port that has a name, by number.
pub const TABLE: &[Known] = table! {
    0x00..=0x0f "DMA controller 1";
    0x20..=0x21 "PIC 1" => PIC;
    0x2e..=0x2f "Super I/O";
    0x40..=0x43 "PIT" => PIT;
    0x4e..=0x4f "Super I/O 2";
    0x60 "keyboard data" => KEYBOARD;
    0x61 "system control B (PIT, speaker)" => PIT;
    0x64 "keyboard status" => KEYBOARD;
    0x70..=0x71 "CMOS/RTC" => RTC;
    0x72..=0x73 "CMOS, upper half" => RTC;
    0x7e "QEMU vAPIC";
    0x80 "POST code, I/O delay"
        => "Old drivers wait by writing here: `io_delay=none` on the guest's kernel command line.";
    0x81..=0x8f "DMA page";
    0x92 "system control A (A20, reset)";
    0xa0..=0xa1 "PIC 2" => PIC;
    0xb2..=0xb3 "SMI command" => "Each write starts system management mode: `-machine smm=off` where secure boot is not needed.";
    0xc0..=0xdf "DMA controller 2";
    0xe9 "debug console (0xe9)" => DEBUG;
    0xed "I/O delay" => "Old drivers wait by writing here: `io_delay=none` on the guest's kernel command line.";
    0xf0..=0xf1 "FPU error";
    0xf4 "debug exit";
    0x170..=0x177 "IDE 2" => IDE;
    0x1ce..=0x1d0 "Bochs VBE" => VGA;
    0x1f0..=0x1f7 "IDE 1" => IDE;
    0x200..=0x207 "game port";
    0x220..=0x22f "Sound Blaster";
    0x278..=0x27f "LPT2";
    0x2e8..=0x2ef "COM4" => SERIAL;
    0x2f8..=0x2ff "COM2" => SERIAL;
    0x376 "IDE 2 control" => IDE;
    0x378..=0x37f "LPT1";
    0x3b0..=0x3df "VGA" => VGA;
    0x3e8..=0x3ef "COM3" => SERIAL;
    0x3f0..=0x3f5 "floppy";
    0x3f6 "IDE 1 control" => IDE;
    0x3f7 "floppy";
    0x3f8..=0x3ff "COM1" => SERIAL;
    0x402 "SeaBIOS debug console" => DEBUG;
    0x4d0..=0x4d1 "PIC edge/level" => PIC;
    0x501 "debug exit";
    0x505 "pvpanic";
    0x510..=0x51b "fw_cfg" => FW_CFG;
    0x600..=0x607 "ACPI PM";
    0x608..=0x60b "ACPI PM timer" => PM_TIMER;
    0x60c..=0x67f "ACPI PM";
    0x700..=0x73f "SMBus";
    0xa00..=0xa17 "ACPI memory hotplug";
    0xcd6..=0xcd7 "AMD power management index, data";
    0xcd8..=0xce3 "ACPI CPU hotplug";
    0xcf8 "PCI config" => PCI;
    0xcf9 "reset control";
    0xcfa..=0xcff "PCI config" => PCI;
    0xd00 "first of PCI's I/O window";
    0x5658..=0x5659 "VMware backdoor" => "Tools of VMware in the guest; `-machine vmport=off` takes it away.";
    0xae00..=0xae17 "ACPI PCI hotplug";
    0xaf00..=0xaf1f "ACPI CPU hotplug";
    0xafe0..=0xafe3 "ACPI GPE";
    0xb000..=0xb007 "ACPI PM";
    0xb008..=0xb00b "ACPI PM timer" => PM_TIMER;
    0xb100..=0xb13f "SMBus";
};
