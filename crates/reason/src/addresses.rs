//! Guest-physical addresses with a fixed place on a PC, and in the VMMs that have another.
//!
//! The local APIC's registers from SDM vol. 3, "Local APIC Register Address Map"; the I/O APIC's and the HPET's from their
//! datasheets (82093AA; IA-PC HPET 1.0a); TPM, PCI Express configuration and flash from QEMU's hw/i386/ (pc.c, pc_q35.c,
//! microvm.c) and include/hw/acpi/tpm.h.

use super::detail::{Known, table};

const EOI: &str = "The end of each interrupt by the APIC's page: `kvm_amd.avic=1`, `kvm_intel.enable_apicv=1`, x2APIC \
     (`-cpu …,+x2apic`), or KVM's paravirtual EOI (`kvm-pv-eoi=on`).";
const ICR: &str =
    "Interrupts that vCPUs send each other by the APIC's page: let the guest use x2APIC, AVIC or APICv.";
const LAPIC: &str = "The local APIC by its page: let the guest use x2APIC (`-cpu …,+x2apic`), AVIC or APICv; each access is emulated.";
const IOAPIC: &str = "The I/O APIC: let devices use MSI (PCI, virtio-pci) so that no interrupt needs it.";
const HPET: &str = "The HPET as clock costs an exit for each reading: use kvm-clock or the TSC, and leave it out (`-machine hpet=off`).";
const TPM: &str = "An emulated TPM: firmware measures the boot with it; leave it out where it is not needed.";
const ECAM: &str = "PCI Express configuration: an exit or two for each access; many are normal during boot, and fewer devices need fewer.";
const FLASH: &str =
    "Firmware's flash: its variables are written here by the byte; reads are exits only while it is written.";
const VGA: &str =
    "The memory of an emulated VGA: leave it out (`-vga none`, `-nographic`) or use virtio-gpu.";

/// Every address that has a name, in order.
pub const TABLE: &[Known] = table! {
    0xa_0000..=0xb_ffff "VGA memory" => VGA;
    0xb000_0000..=0xbfff_ffff "PCI Express config (q35)" => ECAM;
    0xfeb0_0000..=0xfeb0_2fff "virtio-mmio (microvm)";
    0xfec0_0000..=0xfec0_0fff "I/O APIC" => IOAPIC;
    0xfed0_0000..=0xfed0_03ff "HPET" => HPET;
    0xfed1_c000..=0xfed1_ffff "chipset configuration (RCRB)";
    0xfed4_0000..=0xfed4_4fff "TPM" => TPM;
    0xfee0_0000..=0xfee0_001f "LAPIC" => LAPIC;
    0xfee0_0020..=0xfee0_002f "LAPIC ID" => LAPIC;
    0xfee0_0030..=0xfee0_003f "LAPIC version" => LAPIC;
    0xfee0_0040..=0xfee0_007f "LAPIC" => LAPIC;
    0xfee0_0080..=0xfee0_008f "LAPIC TPR" => LAPIC;
    0xfee0_0090..=0xfee0_00af "LAPIC priorities" => LAPIC;
    0xfee0_00b0..=0xfee0_00bf "LAPIC EOI" => EOI;
    0xfee0_00c0..=0xfee0_00cf "LAPIC" => LAPIC;
    0xfee0_00d0..=0xfee0_00df "LAPIC LDR" => LAPIC;
    0xfee0_00e0..=0xfee0_00ef "LAPIC DFR" => LAPIC;
    0xfee0_00f0..=0xfee0_00ff "LAPIC SVR" => LAPIC;
    0xfee0_0100..=0xfee0_017f "LAPIC ISR" => LAPIC;
    0xfee0_0180..=0xfee0_01ff "LAPIC TMR" => LAPIC;
    0xfee0_0200..=0xfee0_027f "LAPIC IRR" => LAPIC;
    0xfee0_0280..=0xfee0_028f "LAPIC ESR" => LAPIC;
    0xfee0_0290..=0xfee0_02ff "LAPIC" => LAPIC;
    0xfee0_0300..=0xfee0_031f "LAPIC ICR" => ICR;
    0xfee0_0320..=0xfee0_032f "LAPIC LVT timer" => LAPIC;
    0xfee0_0330..=0xfee0_037f "LAPIC LVT" => LAPIC;
    0xfee0_0380..=0xfee0_038f "LAPIC timer, initial count" => LAPIC;
    0xfee0_0390..=0xfee0_039f "LAPIC timer, current count" => LAPIC;
    0xfee0_03a0..=0xfee0_03df "LAPIC" => LAPIC;
    0xfee0_03e0..=0xfee0_03ef "LAPIC timer, divide" => LAPIC;
    0xfee0_03f0..=0xfee0_0fff "LAPIC" => LAPIC;
    0xffc0_0000..=0xffff_ffff "flash" => FLASH;
};
