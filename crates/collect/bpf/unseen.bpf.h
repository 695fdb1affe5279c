/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Exits that no program has seen where one counts at entries alone, and that have to be known before their entry.
 */
#ifndef EXITSCOPE_UNSEEN_BPF_H
#define EXITSCOPE_UNSEEN_BPF_H

#include "compat.bpf.h"
#include "count.bpf.h"
#include "timekeeper.bpf.h"

/* What KVM has for the reason where VMLAUNCH or VMRESUME failed: vmx_vcpu_run() in arch/x86/kvm/vmx/vmx.c. */
enum { VMX_NO_EXIT = 0xdead };

/* The exit code where KVM has it: for SVM in the VMCB that the vCPU ran, which may be another one than it has now. */
static __always_inline s64 code_now(const struct vcpu_slot *slot)
{
	/* Without AMD's module the kernel has no types of it, and looks at nothing below. */
	if (isa_of(slot) == ISA_VMX)
		return vmx_kept_code(slot);
	switch (slot->nests) {
	case NESTS_NOT:
		return svm_kept_code(slot);
	case NESTS:
		return svm_code_of(slot->key, slot->entered_l2);
	default:
		return svm_code(slot->code_at);
	}
}

/* Notes an exit as a program on kvm_exit does, at `moment`; or, where that is 0, at now, and then it is to have no time. */
static __noinline int note_exit(struct vcpu_slot *slot, u64 tsc, u64 moment)
{
	u32 state;

	if (!slot)
		return 0;
	state = slot->state;
	/* Where this was preempted meanwhile, the thread's leave of the CPU has noted it. */
	if (state != VCPU_GUEST && state != VCPU_GUEST_NESTED)
		return 0;
	begin_write(slot);
	slot->turn++;
	slot->plain_key = 0;
	slot->last_tsc = tsc;
	slot->code = code_now(slot);
	slot->l2 = slot->entered_l2;
	slot->mode = MODE_UNKNOWN;
	if (slot->isa == ISA_VMX && slot->code == VMX_NO_EXIT) {
		slot->entry_without_exit++;
		slot->entry_failed = 1;
		end_write(slot, in_guest(slot));
		return 0;
	}
	slot->no_time = !moment;
	slot->exit_ns = moment ? moment : bpf_ktime_get_ns();
	end_write(slot, state == VCPU_GUEST && !slot->l2 ? VCPU_HOST : VCPU_HOST_MORE);
	return 0;
}

/*
 * Notes the exit that is under way, if there is one and no program has seen it. KVM gives each exit a moment of its own,
 * except where it re-enters on its fast path: those are counted at that entry.
 */
static __noinline int note_unseen(struct vcpu_slot *slot)
{
	u64 tsc;

	if (!config.one || !slot || (slot->state != VCPU_GUEST && slot->state != VCPU_GUEST_NESTED))
		return 0;
	tsc = load_u64((void *)slot->key + bpf_core_field_offset(struct kvm_vcpu, arch.last_guest_tsc));
	if (tsc == slot->last_tsc)
		return 0;
	return note_exit(slot, tsc, moment_of(slot, tsc));
}

/* Notes the exit of now. */
static __noinline int note_seen(struct vcpu_slot *slot)
{
	if (!slot)
		return 0;
	return note_exit(slot, slot->last_tsc, bpf_ktime_get_ns());
}

#endif
