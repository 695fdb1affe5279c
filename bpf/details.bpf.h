/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Which port an exit for a port was about, and which MSR one for an MSR: counted in lists of the exit's row.
 *
 * An exit is counted there at the first of: KVM_RUN returns, the vCPU enters again, it ends. By then KVM has read what
 * VMX keeps in the VMCS, and until then nobody changes what it is about, the VMCB that the vCPU has, or its registers:
 * only the VMM could, by another ioctl.
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

/*
 * Counts an exit about what is not the first in the row's list. Returns the row's index. Not static, so that the verifier
 * looks at the loop once in a program and not wherever it is called: that is most of what loading takes.
 */
__noinline u32 count_detail(u32 row_index, u64 key)
{
	struct row *row = row_at(row_index);
	u32 index = key ? find_detail(row, key) : 0;

	if (index)
		detail_at(index)->count++;
	else
		row->other_details++;
	return row_index;
}

/*
 * A reader who came before us has taken the exit for one of no known port or MSR, if told_ns says so, and that it stays:
 * no figure may go back. Whoever writes here has set VCPU_WRITING before, and the exchange is a barrier; the reader
 * writes told_ns, has a barrier too, and looks at the state. So either we see its word, or it sees that we write.
 */
static __noinline u32 detailed_row(struct vcpu_slot *slot, u64 direct)
{
	struct detail *first;
	u32 index, place;
	u64 key;

	if (!slot)
		return 0;
	place = detailed_place(slot->isa, direct);
	/* Else clang keeps in mind whether it is 0 and not what it is, and the verifier cannot follow. */
	barrier_var(place);
	place &= DETAILED_ROWS - 1;
	if (!place)
		return first_of_row(slot, direct);
	index = slot->detailed[place];
	if (!index) {
		index = first_of_row(slot, direct);
		if (!index)
			return 0;
	}
	slot->detailed_row = index;
	slot->detailed_ns = slot->exit_ns;
	if (__sync_lock_test_and_set(&slot->told_ns, 0) == slot->exit_ns)
		return count_detail(index, 0);
	key = about(slot, place);
	first = detail_at(row_at(index)->first_detail);
	if (!key || first->key != key)
		return count_detail(index, key);
	first->count++;
	return index;
}

#endif
