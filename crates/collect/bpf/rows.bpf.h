/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * The row of an exit: found by its reason and by whose exit it is, or made.
 */
#ifndef EXITSCOPE_ROWS_BPF_H
#define EXITSCOPE_ROWS_BPF_H

#include "tables.bpf.h"

/*
 * A 32-bit SVM code as a signed one: VMEXIT_INVALID and its neighbours are small negative numbers, but
 * the codes for software that end in 0xf0000000 ff. are not (APM vol. 2, appendix C).
 */
static __always_inline s64 widen(s64 code, u32 isa)
{
	return isa == ISA_SVM && (u64)code >> 8 == 0xffffff ? (s64)(int)code : code;
}

/* The vendor, known to the verifier where all have the same: it does not look at what is the other's. */
static __always_inline u32 isa_of(const struct vcpu_slot *slot)
{
	return config.isa ? config.isa : slot->isa;
}

/* The kind of detail that exits of a reason have, if it is counted; else 0. */
static __always_inline u32 kind_of(u32 isa, u64 code)
{
	u32 kind = isa == ISA_SVM ? kind_of_svm(code) : kind_of_vmx(code);
	u32 chosen = !config.codes;

	for (int i = 0; i < MAX_CHOSEN && i < config.codes; i++)
		chosen |= config.only_codes[i] == code;
	if (!chosen)
		return 0;
	return config.kinds >> kind & 1 ? kind : 0;
}

/* A new row of a vCPU, or 0 when there is no room. */
__noinline u32 new_row(u32 slot_index, s64 code, u32 next)
{
	struct vcpu_slot *slot = vcpu_at(slot_index);
	u32 index = take_fairly(&slot->owners, FAIR_ROWS, &free_rows, &control.next_row, config.max_rows);

	if (index) {
		slot->rows++;
		row_at(index)->code = code;
		row_at(index)->l2 = slot->l2;
		row_at(index)->kind = kind_of(isa_of(slot), code);
		row_at(index)->next = next;
	}
	return index;
}

/*
 * Functions that are not static, and take indices where others take addresses, the verifier looks at once in a program, and
 * not wherever they are called. Everything rare that has many branches is such a one: that is most of what loading takes.
 */

/* The row of a reason that has no place in direct[], as none of L2's has, or 0 when there is no room. */
__noinline u32 odd_row(u32 slot_index, s64 code)
{
	struct vcpu_slot *slot = vcpu_at(slot_index);
	u32 index;

	code = widen(code, isa_of(slot));
	index = slot->first_odd;
	for (int i = 0; i < MAX_ODD_ROWS && index; i++) {
		if (row_at(index)->code == code && row_at(index)->l2 == slot->l2)
			return index;
		index = row_at(index)->next;
	}
	if (slot->odd_rows >= MAX_ODD_ROWS)
		return 0;
	index = new_row(slot->index, code, slot->first_odd);
	if (index) {
		WRITE_ONCE(slot->first_odd, index);
		slot->odd_rows++;
	}
	return index;
}

/* The exits with which a guest enters a guest of its own (SDM vol. 3, appendix C; APM vol. 2, appendix C). */
enum { VMX_VMLAUNCH = 20, VMX_VMRESUME = 24, SVM_VMRUN = 0x80 };

/*
 * This vCPU's guest has guests of its own. From its next exit on, each exit and entry of the vCPU takes the way of the
 * odd ones, which looks whose it is; others need not look.
 */
static __always_inline void begin_nesting(struct vcpu_slot *slot)
{
	if (slot->nests != NESTS_NOT)
		return;
	slot->nests = slot->levels ? NESTS : NESTS_UNTOLD;
	slot->needs |= NEED_NESTED;
	if (!slot->levels)
		__sync_fetch_and_add(&control.no_level, 1);
}

#define NO_PLACE (~0ull)

/* Where a code has its place in direct[]; NO_PLACE if it has none. */
static __always_inline u64 place_of(u64 code)
{
	if (code >= COMMON_CODES) {
		code -= NPF_BASE - COMMON_CODES;
		if (code < COMMON_CODES || code >= DIRECT_ROWS)
			return NO_PLACE;
		/* Else clang proves the bound in its own way, which the verifier cannot follow. */
		barrier_var(code);
	}
	return code;
}

/* The code that has this place there. */
static __always_inline s64 code_of_place(u64 place)
{
	return place < COMMON_CODES ? place : place - COMMON_CODES + NPF_BASE;
}

/*
 * The first exit of this vCPU for a reason that has a place in direct[]: its row, or 0 when there is no room. One with
 * a detail gets no place there but in detailed[], if its kind is counted: so it always takes the rare way, and others pay
 * nothing for it.
 */
__noinline u32 first_of_row(u32 slot_index, u64 direct)
{
	struct vcpu_slot *slot = vcpu_at(slot_index);
	u32 index;

	if (direct >= DIRECT_ROWS)
		return 0;
	if (isa_of(slot) == ISA_SVM ? direct == SVM_VMRUN : direct == VMX_VMLAUNCH || direct == VMX_VMRESUME)
		begin_nesting(slot);
	index = new_row(slot->index, code_of_place(direct), slot->first_row);
	if (index) {
		WRITE_ONCE(slot->first_row, index);
		/* What finds the kind takes the place apart, and the verifier does not see any more that it is bounded. */
		barrier_var(direct);
		if (direct >= DIRECT_ROWS)
			return index;
		if (row_at(index)->kind)
			slot->detailed[direct] = index;
		else
			slot->direct[direct] = index;
	}
	return index;
}

/* In C, clang would copy the slot's address first. */
static __always_inline u16 *direct_at(struct vcpu_slot *slot, u64 place)
{
	place *= sizeof(u16);
	asm("%0 += %1" : "+r"(place) : "r"(slot));
	return (void *)place + __builtin_offsetof(struct vcpu_slot, direct);
}

/* The index of the row of the exit that is being handled, or 0 when there is no room. For where a call would count. */
static __always_inline u32 row_here(struct vcpu_slot *slot)
{
	u64 place;
	u32 index;

	place = place_of(slot->code);
	if (place == NO_PLACE || slot->l2)
		return odd_row(slot->index, slot->code);
	index = slot->direct[place];
	if (index)
		return index;
	if (config.kinds) {
		index = slot->detailed[place];
		if (index)
			return index;
	}
	return first_of_row(slot->index, place);
}

/* The same. */
__noinline u32 row_of(u32 slot_index)
{
	return row_here(vcpu_at(slot_index));
}

#endif
