/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * In which mode a guest was when it exited, and in which half of the addresses. Looked at by programs of their own, so that
 * the others pay nothing for it.
 */
#ifndef EXITSCOPE_MODES_BPF_H
#define EXITSCOPE_MODES_BPF_H

#include "compat.bpf.h"
#include "tables.bpf.h"

enum {
	CR0_PE = 1,
	EFER_LMA = 1 << 10,
	RIP = 16, /* VCPU_REGS_RIP of arch/x86/include/asm/kvm_host.h, an index and a bit; VCPU_REG_RIP since 7.3, a bit */
};

static __always_inline u32 half_of(u64 rip)
{
	return (s64)rip < 0 ? MODE_LONG_HIGH : MODE_LONG_LOW;
}

/* Returns the half of the addresses that the guest's instruction pointer is in, as KVM has it. */
static __always_inline u32 half(struct kvm_vcpu *vcpu)
{
	if (bpf_core_field_exists(struct kvm_vcpu___rip, arch.rip))
		return half_of(((struct kvm_vcpu___rip *)vcpu)->arch.rip);
	return half_of(vcpu->arch.regs[RIP]);
}

/* The registers are encrypted (SEV-ES, TDX): what KVM has of them is not the guest's. */
static __always_inline int is_secret(struct kvm_vcpu *vcpu)
{
	return bpf_core_field_exists(struct kvm_vcpu, arch.guest_state_protected) &&
	       vcpu->arch.guest_state_protected;
}

/*
 * The mode at an exit, before it is handled. KVM always intercepts what changes CR0.PE and EFER.LMA, and so has these as the
 * guest left them; of L2 while it runs that. SVM has the instruction pointer too: svm_vcpu_run() in arch/x86/kvm/svm/svm.c
 * saves it. VMX reads it out of the VMCS when it first needs it, so that in long mode there is no answer yet.
 */
static __always_inline u32 mode_at_exit(struct kvm_vcpu *vcpu, u32 isa)
{
	if (is_secret(vcpu))
		return MODE_UNKNOWN;
	if (!(vcpu->arch.cr0 & CR0_PE))
		return MODE_REAL;
	if (!(vcpu->arch.efer & EFER_LMA))
		return MODE_PROTECTED;
	return isa == ISA_SVM ? half(vcpu) : MODE_UNKNOWN;
}

/* That there was no answer yet, and now may be: KVM has handled the exit, and has read RIP if a bit in regs_avail says so. */
static __always_inline u32 mode_at_entry(struct kvm_vcpu *vcpu)
{
	u64 avail = 0;

	if (bpf_core_field_exists(struct kvm_vcpu, arch.regs_avail))
		avail = vcpu->arch.regs_avail;
	else if (bpf_core_field_exists(struct kvm_vcpu___bitmap, arch.regs_avail))
		avail = ((struct kvm_vcpu___bitmap *)vcpu)->arch.regs_avail[0];
	return avail & 1 << RIP && !is_secret(vcpu) ? half(vcpu) : MODE_UNKNOWN;
}

/*
 * The same where no typed pointer is at hand: KVM_RUN returns, and from here on the VMM may set the register. After an exit of
 * L2's that went to L1, it is L1's.
 */
static __noinline int note_mode(struct vcpu_slot *slot)
{
	u64 vcpu, rip;

	if (!slot || slot->mode != MODE_UNKNOWN || slot->l2 || slot->isa != ISA_VMX || !slot->avail_at)
		return 0;
	vcpu = slot->key;
	if (!(load_u64((void *)slot->avail_at) & 1 << RIP))
		return 0;
	if (bpf_core_field_exists(struct kvm_vcpu, arch.guest_state_protected) &&
	    (u8)load_u64((void *)vcpu + bpf_core_field_offset(struct kvm_vcpu, arch.guest_state_protected)))
		return 0;
	if (bpf_core_field_exists(struct kvm_vcpu___rip, arch.rip))
		rip = load_u64((void *)vcpu + bpf_core_field_offset(struct kvm_vcpu___rip, arch.rip));
	else
		rip = load_u64((void *)slot->regs_at + RIP * sizeof(unsigned long));
	slot->mode = half_of(rip);
	return 0;
}

#endif
