/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Which port an exit for a port was about, and which MSR one for an MSR: counted in lists of the exit's row, when the exit
 * itself is.
 *
 * What it was about is looked at first when KVM_RUN returns, the vCPU enters again, or it ends. By then KVM has read what
 * VMX keeps in the VMCS, and until then nobody changes the VMCB that the vCPU has, or its registers: only the VMM could, by
 * another ioctl.
 */
#ifndef EXITSCOPE_DETAILS_BPF_H
#define EXITSCOPE_DETAILS_BPF_H

#include "compat.bpf.h"
#include "rows.bpf.h"

enum { RCX = 1 }; /* VCPU_REGS_RCX of arch/x86/include/asm/kvm_host.h */

#define KEY(number, written) \
	((u32)(number) | (u64)(DETAIL_KNOWN | ((written) ? DETAIL_WRITE : 0)) << 32)

/*
 * What the exit that is being handled is about, as a detail's key; 0 if that cannot be known. A port: SVM has it in
 * EXITINFO1, port in bits 31:16 and IN in bit 0 (APM vol. 2, 15.10.2), VMX in the exit qualification, port in bits 31:16
 * and IN in bit 3 (SDM vol. 3, "Exit Qualification for I/O Instructions"). An MSR: its number is the guest's ECX, and
 * that it was written SVM tells in EXITINFO1 (APM vol. 2, 15.11), and VMX by the reason.
 */
static __always_inline u64 about(struct vcpu_slot *slot, u32 place)
{
	u64 info = 0;

	if (slot->isa == ISA_SVM) {
		info = load_u64((void *)load_u64((void *)slot->code_at) + 0x78);
		if (place == DETAILED_PORTS)
			return KEY((u16)(info >> 16), !(info & 1));
		info &= 1;
	} else if (place == DETAILED_PORTS) {
		/* KVM reads it when it first needs it: vmx_get_exit_qual(), arch/x86/kvm/vmx/vmx.h. */
		if (!slot->qual_at || (slot->avail_bit && !(load_u64((void *)slot->avail_at) & slot->avail_bit)))
			return 0;
		info = load_u64((void *)slot->qual_at);
		return KEY((u16)(info >> 16), !(info & 8));
	} else {
		info = place == DETAILED_WRMSR;
	}
	return KEY(load_u64((void *)slot->regs_at + RCX * sizeof(unsigned long)), info);
}

/* A port or MSR that the row has not met: its place, or 0 when there is no room. */
static __always_inline u32 new_detail(struct row *row, u64 key)
{
	u32 index = 0;

	if (row->details < MAX_DETAILS)
		index = take(&free_details, &control.next_detail, config.max_details);
	if (!index)
		return 0;
	detail_at(index)->key = key;
	detail_at(index)->next = row->first_detail;
	row->first_detail = index;
	row->details++;
	return index;
}

/* Where a row counts a port or an MSR, 0 if there is no room for it. What was met last comes first. */
static __always_inline u32 find_detail(struct row *row, u64 key)
{
	u32 index = row->first_detail, last = 0;

	for (int i = 0; i < MAX_DETAILS && index; i++) {
		struct detail *found = detail_at(index);

		if (found->key == key) {
			if (last) {
				detail_at(last)->next = found->next;
				found->next = row->first_detail;
				row->first_detail = index;
			}
			return index;
		}
		last = index;
		index = found->next;
	}
	return new_detail(row, key);
}

__noinline int count_detail(u32 slot_index, u32 row_index)
{
	struct vcpu_slot *slot = vcpu_at(slot_index);
	struct row *row = row_at(row_index);
	u32 index = 0;
	u64 key;

	/* By the entry after an exit of L2's, the registers may be L1's. */
	key = slot->l2 ? 0 : slot->went_out ? slot->about : about(slot, row->about);
	if (key) {
		index = row->first_detail;
		if (detail_at(index)->key != key)
			index = find_detail(row, key);
	}
	if (index)
		detail_at(index)->count++;
	else
		row->other_details++;
	return 0;
}

/* KVM_RUN returns while an exit of this row is being handled: from here on the VMM may change what it is about. */
__noinline int note_detail(u32 slot_index, u32 row_index)
{
	struct vcpu_slot *slot = vcpu_at(slot_index);

	slot->about = slot->l2 ? 0 : about(slot, row_at(row_index)->about);
	return 0;
}

#endif
