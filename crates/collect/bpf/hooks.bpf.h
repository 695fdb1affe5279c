/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Programs that hear of what an exit is about where nothing tells it any more when the vCPU enters again: handling has
 * overwritten the guest's registers, or only the VMCS has it. Each is named hook_KIND, or hook_vmx_KIND where only VMX needs
 * it, and loaded if that kind is counted.
 */
#ifndef EXITSCOPE_HOOKS_BPF_H
#define EXITSCOPE_HOOKS_BPF_H

#include "details.bpf.h"
#include "split.bpf.h"

static __always_inline int hear(struct vcpu_slot *slot, u32 kind, u64 key, u32 attributes)
{
	if (!slot)
		return 0;
	slot->hooked.kind = kind;
	slot->hooked.key = key;
	slot->hooked.attributes = attributes;
	return 0;
}

/* The same of a program that is attached twice. */
static __always_inline int hear_once(struct vcpu_slot *slot, enum twice program, u32 again, u32 kind, u64 key, u32 attributes)
{
	return is_done(slot, program, again) ? 0 : hear(slot, kind, key, attributes);
}

#ifndef WITHOUT_KVM_TYPES

/* KVM handles an EPT violation or misconfiguration: kvm_mmu_page_fault(), arch/x86/kvm/mmu/mmu.c. */
TWICE("?fentry/kvm_mmu_page_fault", hook_vmx_gpa_fault, struct kvm_vcpu *vcpu, u64 gpa, u64 error)
{
	return hear_once(slot_of(vcpu), TWICE_FAULT, again, KIND_GPA, gpa, error);
}

/* A write to an ioeventfd that the address alone tells: handle_ept_misconfig(), arch/x86/kvm/vmx/vmx.c. */
TWICE("?tp_btf/kvm_fast_mmio", hook_vmx_gpa_fast, u64 gpa)
{
	enum { WRITE_RESERVED = 2 | 8 };

	return hear_once(slot_of_task((u64)bpf_get_current_task()), TWICE_FAST_MMIO, again, KIND_GPA, gpa, WRITE_RESERVED);
}

/* The instruction that exited for a device's memory is emulated: a misconfiguration does not say whether it writes. */
TWICE("?tp_btf/kvm_mmio", hook_vmx_gpa_access, int type, int len, u64 gpa)
{
	enum { TYPE_WRITE = 2, WRITE = 2 }; /* KVM_TRACE_MMIO_WRITE of include/trace/events/kvm.h */
	struct vcpu_slot *slot = slot_of_task((u64)bpf_get_current_task());

	if (is_done(slot, TWICE_MMIO, again) || slot->hooked.kind != KIND_GPA || slot->hooked.key >> 12 != gpa >> 12)
		return 0;
	if (type == TYPE_WRITE)
		slot->hooked.attributes |= WRITE;
	return 0;
}

/*
 * The exit rang a doorbell: its access was to an ioeventfd, which KVM has signalled, and no VMM hears of it. Of memory and of
 * ports alike: ioeventfd_write(), virt/kvm/eventfd.c.
 */
TWICE("?fexit/ioeventfd_write", hook_doorbell, struct kvm_vcpu *vcpu, void *device, u64 address, int len, const void *value, int error)
{
	struct vcpu_slot *slot = slot_of(vcpu);

	if (!error && !is_done(slot, TWICE_DOORBELL, again))
		slot->rang = address + 1;
	return 0;
}
#endif

/* Leaves whose answer depends on the subleaf (SDM vol. 2, CPUID; APM vol. 3, appendix E); others may have anything in ECX. */
static __always_inline int has_subleaf(u32 leaf)
{
	const u64 basic = 1ull << 0x04 | 1ull << 0x07 | 1ull << 0x0b | 1ull << 0x0d | 1ull << 0x0f | 1ull << 0x10 |
			  1ull << 0x12 | 1ull << 0x14 | 1ull << 0x17 | 1ull << 0x18 | 1ull << 0x1a | 1ull << 0x1b |
			  1ull << 0x1d | 1ull << 0x1e | 1ull << 0x1f | 1ull << 0x20 | 1ull << 0x23 | 1ull << 0x24;

	if (leaf < 64)
		return basic >> leaf & 1;
	return leaf == 0x8000001d || leaf == 0x80000020 || leaf == 0x80000026;
}

TWICE("?" EVENT "kvm_cpuid", hook_cpuid, u32 leaf, u32 subleaf)
{
	u64 key = leaf | (has_subleaf(leaf) ? (u64)subleaf << 32 : 0);

	return hear_once(slot_of_task((u64)bpf_get_current_task()), TWICE_CPUID, again, KIND_CPUID, key, 0);
}

/* Whose a hypercall is, in bits 63:32 of its key. */
enum { OF_HYPERV = 1, OF_XEN = 2 };

TWICE("?" EVENT "kvm_hypercall", hook_hypercall_kvm, u64 number)
{
	return hear_once(slot_of_task((u64)bpf_get_current_task()), TWICE_HYPERCALL, again, KIND_HYPERCALL, (u32)number, 0);
}

TWICE("?" EVENT "kvm_hv_hypercall", hook_hypercall_hv, u16 number)
{
	return hear_once(slot_of_task((u64)bpf_get_current_task()), TWICE_HYPERCALL, again, KIND_HYPERCALL, number | (u64)OF_HYPERV << 32, 0);
}

TWICE("?" EVENT "kvm_xen_hypercall", hook_hypercall_xen, u8 cpl, u64 number)
{
	return hear_once(slot_of_task((u64)bpf_get_current_task()), TWICE_HYPERCALL, again, KIND_HYPERCALL, (u32)number | (u64)OF_XEN << 32, 0);
}

#endif
