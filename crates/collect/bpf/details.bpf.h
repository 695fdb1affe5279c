/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Details of exits, such as a port: counted in lists of the exit's row, when the exit itself is. kinds.bpf.h
 * says which reasons have which kind of detail.
 *
 * An exit's detail is looked at first when KVM_RUN returns, the vCPU enters again, or it ends. By then KVM
 * has read what VMX keeps in the VMCS, and until then nobody changes the VMCB that the vCPU has, or its
 * registers: only the VMM could, by another ioctl.
 */
#ifndef EXITSCOPE_DETAILS_BPF_H
#define EXITSCOPE_DETAILS_BPF_H

#include "compat.bpf.h"
#include "rows.bpf.h"

enum { RCX = 1 }; /* VCPU_REGS_RCX of arch/x86/include/asm/kvm_host.h */

/* The guest's register of this number, as KVM has it. */
static __always_inline u64 guest_register(struct vcpu_slot *slot, u32 number)
{
	return load_u64((void *)slot->regs_at + number * sizeof(unsigned long));
}

/* The address of EXITCODE in the VMCB of a vCPU that runs L1. */
static __always_inline u64 svm_code_at(struct vcpu_slot *slot)
{
	if (slot->nests == NESTS_NOT)
		return slot->kept_code_at;
	return load_u64((void *)slot->code_at) + VMCB_EXITCODE;
}

/* EXITINFO1 of the VMCB: behind EXITCODE (APM vol. 2, appendix B: 078h). */
static __always_inline u64 svm_info(struct vcpu_slot *slot)
{
	return load_u64((void *)svm_code_at(slot) + 8);
}

/* EXITINFO2 (080h). */
static __always_inline u64 svm_info_2(struct vcpu_slot *slot)
{
	return load_u64((void *)svm_code_at(slot) + 16);
}

/*
 * VMX: reads the exit qualification, if KVM has read that of this exit, as vmx_get_exit_qual() (arch/x86/kvm/vmx/vmx.h)
 * does. Returns 0, with no kind, if it has not.
 */
static __always_inline int read_qualification(struct vcpu_slot *slot, struct detail_key *detail, u64 *info)
{
	if (!slot->qual_at || (slot->avail_bit && !(load_u64((void *)slot->avail_at) & slot->avail_bit))) {
		detail->kind = KIND_NONE;
		return 0;
	}
	*info = load_u64((void *)slot->qual_at);
	return 1;
}

/* VMX: true if KVM has read the interruption information of this exit, as vmx_get_intr_info() does. */
static __always_inline int has_interruption(struct vcpu_slot *slot)
{
	return slot->intr_at && (!slot->intr_bit || load_u64((void *)slot->avail_at) & slot->intr_bit);
}

#include "kinds.bpf.h"

/* Reads the detail of the exit that is being handled, by its row's kind; kind 0 if that cannot be known. */
static __always_inline void read_detail(struct vcpu_slot *slot, struct row *row, struct detail_key *detail)
{
	detail->key = 0;
	detail->attributes = 0;
	/* By the entry after an exit of L2's, the registers may be L1's; and some guests keep theirs from the host. */
	detail->kind = slot->l2 || slot->secret ? KIND_NONE : row->kind;
	read_kind(slot, detail, row->code);
}

/* A detail that the row has not met: its place, or 0 when there is no room. */
static __always_inline u32 new_detail(struct vcpu_slot *slot, struct row *row, const struct detail_key *key)
{
	u32 index = 0;

	if (row->details < MAX_DETAILS)
		index = take_fairly(&slot->owners, FAIR_DETAILS, &free_details, &control.next_detail,
				    config.max_details);
	if (!index)
		return 0;
	detail_at(index)->key = key->key;
	detail_at(index)->attributes = key->attributes;
	detail_at(index)->next = row->first_detail;
	row->first_detail = index;
	row->details++;
	return index;
}

static __always_inline int is_detail(u32 index, const struct detail_key *key)
{
	return detail_at(index)->key == key->key && detail_at(index)->attributes == key->attributes;
}

/* Where a row counts a detail, 0 if there is no room for it. What was met last comes first. */
static __always_inline u32 find_detail(struct vcpu_slot *slot, struct row *row, const struct detail_key *key)
{
	u32 index = row->first_detail, last = 0;

	for (int i = 0; i < MAX_DETAILS && index; i++) {
		if (is_detail(index, key)) {
			if (last) {
				detail_at(last)->next = detail_at(index)->next;
				detail_at(index)->next = row->first_detail;
				row->first_detail = index;
			}
			return index;
		}
		last = index;
		index = detail_at(index)->next;
	}
	return new_detail(slot, row, key);
}

static __always_inline void add_detail(struct detail_counters *counters, u64 ns)
{
	u64 epoch = READ_ONCE(control.epoch);

	counters->count++;
	counters->time_ns += ns;
	if (counters->epoch != epoch) {
		counters->last_epoch = counters->epoch;
		counters->last_max_ns = counters->max_ns;
		counters->epoch = epoch;
		counters->max_ns = ns;
	} else if (ns > counters->max_ns) {
		counters->max_ns = ns;
	}
}

__noinline int count_detail(u32 slot_index, u32 row_index, u64 ns)
{
	struct vcpu_slot *slot = vcpu_at(slot_index);
	struct row *row = row_at(row_index);
	struct detail_key key;
	u32 index = 0;

	if (slot->went_out && !slot->l2)
		key = slot->noted;
	else
		read_detail(slot, row, &key);
	slot->hooked.kind = KIND_NONE;
	if (key.kind) {
		index = row->first_detail;
		if (!index || !is_detail(index, &key))
			index = find_detail(slot, row, &key);
	}
	if (index)
		add_detail(&detail_at(index)->counters, ns);
	else
		add_detail(&row->other_details, ns);
	return 0;
}

/* KVM_RUN returns while an exit of this row is being handled: from here on the VMM may change what it is about. */
__noinline int note_detail(u32 slot_index, u32 row_index)
{
	struct vcpu_slot *slot = vcpu_at(slot_index);

	read_detail(slot, row_at(row_index), &slot->noted);
	return 0;
}

#endif
