/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * The common way of an exit that one program counts, on kvm_entry: see entry.bpf.h.
 */
#ifndef EXITSCOPE_ALONE_BPF_H
#define EXITSCOPE_ALONE_BPF_H

#include "count.bpf.h"
#include "compat.bpf.h"

/*
 * Counts an exit like most, but for a reason that has no row in direct[], or that took long. A vCPU that nests
 * from here on, which on VMX its exit alone tells, may have entered its L2 just now.
 */
static __noinline int count_alone(struct vcpu_slot *slot, u64 place, u64 ns, u64 tsc, u64 kvm_exits)
{
	if (!slot)
		return 0;
	begin_write(slot);
	slot->turn++;
	slot->last_tsc = tsc;
	slot->kvm_last = kvm_exits;
	slot->code = code_of_place(place);
	slot->l2 = 0;
	count_host_time(slot->index, ns, VCPU_HOST);
	if (slot->nests != NESTS_NOT) {
		slot->plain_key = 0;
		slot->entered_l2 = in_l2(slot->key, slot->isa);
	}
	return 0;
}

/*
 * Counts the exit that a vCPU enters after, if it is like most: the vCPU does not nest, KVM has counted the exit and given it
 * a moment, and its reason has a row and its handling took less than 65 us. Returns 1 if it is not.
 */
static __always_inline int count_plain(struct kvm_vcpu *vcpu, struct vcpu_slot *slot, u32 isa)
{
	u64 ns, place, units, tsc, moment, exits, shift;
	u32 index;

	if (slot->plain_key != (u64)vcpu || bpf_jiffies64() != slot->line_jiffies)
		return 1;
	/* Before the clock is called: only this has to be kept across the call. */
	place = place_of(isa == ISA_VMX ? vmx_kept_code(slot) : svm_kept_code(slot));
	if (place == NO_PLACE)
		return 1;
	ns = bpf_ktime_get_ns();
	tsc = vcpu->arch.last_guest_tsc;
	exits = vcpu->stat.exits;
	if (tsc == slot->last_tsc || exits != slot->kvm_last + 1 || vcpu->arch.l1_tsc_offset != slot->line_offset)
		return 1;
	moment = tsc * slot->line_mult + slot->line_add;
	shift = slot->line_shift;
	/* In C, clang would bound the shift first. */
	asm("%0 >>= %1" : "+r"(moment) : "r"(shift));
	ns -= moment + slot->line_ns;
	units = ns >> 8;
	barrier_var(units);
	index = *direct_at(slot, place);
	if (index && units <= 255) {
		begin_write(slot);
		slot->last_tsc = tsc;
		slot->kvm_last = exits;
		count_in_row(slot, index, ns, units, 0);
		LEAVE();
	}
	/* Longer than the line reaches; or its end lies before its begin. */
	if (units >= 1 << 24)
		return 1;
	count_alone(slot, place, ns, tsc, exits);
	return 0;
}

#endif
