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

enum { RAX = 0, RCX = 1 }; /* VCPU_REGS_RAX and _RCX of arch/x86/include/asm/kvm_host.h */

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

/* Reads the detail where KVM's structures are not known: what a program has heard of it, or what its code says. */
static __always_inline void read_heard(struct vcpu_slot *slot, struct detail_key *detail, u64 code)
{
	if (slot->isa == ISA_SVM && (detail->kind == KIND_CR || detail->kind == KIND_DR)) {
		read_kind(slot, detail, code);
	} else if (detail->kind && slot->hooked.kind == detail->kind) {
		*detail = slot->hooked;
	} else {
		detail->kind = KIND_NONE;
	}
}

/* Reads the detail of the exit that is being handled, by its row's kind; kind 0 if that cannot be known. */
static __always_inline void read_detail(struct vcpu_slot *slot, struct row *row, struct detail_key *detail)
{
	detail->key = 0;
	detail->attributes = 0;
	/* By the entry after an exit of L2's, the registers may be L1's; and some guests keep theirs from the host. */
	detail->kind = slot->l2 || slot->secret ? KIND_NONE : row->kind;
#ifdef WITHOUT_KVM_TYPES
	read_heard(slot, detail, row->code);
#else
	read_kind(slot, detail, row->code);
#endif
}

/* Adds the exits of a detail that goes to those that are not told apart. */
static __always_inline void merge_details(struct detail_counters *into, const struct detail_counters *gone)
{
	u64 epoch = READ_ONCE(control.epoch);

	into->count += gone->count;
	into->time_ns += gone->time_ns;
	if (gone->epoch != epoch)
		return;
	if (into->epoch != epoch) {
		into->last_epoch = into->epoch;
		into->last_max_ns = into->max_ns;
		into->epoch = epoch;
		into->max_ns = gone->max_ns;
	} else if (gone->max_ns > into->max_ns) {
		into->max_ns = gone->max_ns;
	}
}

#ifdef OLDER_KERNEL

/* Without bpf_loop(), which is of 5.17, none makes room. */
static __always_inline u32 cold_detail(u32 row_index)
{
	return 0;
}

#else

/* A walk through a row's details in search of a cold one. */
struct cold_walk {
	u64 floor; /* the row's */
	u64 least; /* the lowest that a floor has to be for one of those met to be cold */
	u32 index, last; /* of the next detail, and of the one before it */
	u32 cold, before; /* the last cold one, and the one before it; else 0 */
};

static long walk_on(u64 turn, struct cold_walk *walk)
{
	u32 index = walk->index;
	struct detail *found;
	u64 heat;

	if (!index)
		return 1;
	found = detail_at(index);
	heat = found->counters.count + found->floor;
	if (heat <= walk->floor) {
		walk->cold = index;
		walk->before = walk->last;
	}
	if (heat < walk->least)
		walk->least = heat;
	walk->last = index;
	walk->index = found->next;
	return 0;
}

/*
 * The place of a detail that makes room for one that has none; 0 if none is cold enough. Each such demand that is refused
 * raises the row's floor by one, and a detail is cold when its exits since it came are no more than the floor has risen
 * since. So a detail with more than one in MAX_DETAILS + 1 of the row's exits stays or comes back, whatever else is used
 * once or twice (J. Misra, D. Gries, "Finding repeated elements", 1982). Of the cold, the one that was not used for the
 * longest time goes. Until the floor has risen to what the last walk found, there is none, and no walk.
 *
 * The walk is a callback, which the verifier looks at once: a loop it would go through again for each way that one could
 * take.
 */
__noinline int cold_detail(u32 row_index)
{
	struct row *row = row_at(row_index);
	struct cold_walk walk = { .floor = row->floor, .least = ~0ull, .index = row->first_detail };
	u32 cold, before;

	if (!walk.index)
		return 0;
	if (walk.floor >= row->warm)
		bpf_loop(MAX_DETAILS, walk_on, &walk, 0);
	cold = walk.cold;
	if (!cold) {
		if (walk.floor >= row->warm)
			row->warm = walk.least;
		row->floor++;
		return 0;
	}
	before = walk.before;
	if (before)
		detail_at(before)->next = detail_at(cold)->next;
	else
		row->first_detail = detail_at(cold)->next;
	row->details--;
	merge_details(&row->other_details, &detail_at(cold)->counters);
	__builtin_memset(&detail_at(cold)->counters, 0, sizeof(struct detail_counters));
	__sync_fetch_and_add(&control.moved_details, 1);
	return cold;
}

#endif

/* A detail that the row has not met: its place, or 0 when there is no room. */
static __always_inline u32 new_detail(struct vcpu_slot *slot, u32 row_index, const struct detail_key *key)
{
	struct row *row = row_at(row_index);
	u32 index = 0;

	if (row->details < MAX_DETAILS)
		index = take_fairly(&slot->owners, FAIR_DETAILS, &free_details, &control.next_detail,
				    config.max_details);
	if (!index)
		index = cold_detail(row_index);
	if (!index)
		return 0;
	detail_at(index)->born = ++row->births;
	detail_at(index)->floor = row->floor;
	row->warm = 0;
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

/* A walk through a row's details in search of one. */
struct detail_walk {
	struct detail_key key;
	u32 index, last; /* of the detail to look at, 0 after the last one, and of the one before it */
};

/* One step: returns 1 at the detail, or after the last one. */
static long step_on(u64 turn, struct detail_walk *walk)
{
	u32 index = walk->index;

	if (!index || is_detail(index, &walk->key))
		return 1;
	walk->last = index;
	walk->index = detail_at(index)->next;
	return 0;
}

/*
 * Where a row counts a detail, 0 if there is no room for it. What was met last comes first. After some steps the walk is a
 * callback, which the verifier looks at once: a loop it goes through again for each turn.
 */
static __always_inline u32 find_detail(struct vcpu_slot *slot, u32 row_index, const struct detail_key *key)
{
	enum { FEW = 4 };
#ifdef OLDER_KERNEL
	const int calls = 0;
#else
	const int calls = bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop);
#endif
	struct row *row = row_at(row_index);
	struct detail_walk walk = { .key = *key, .index = row->first_detail };
	u32 index;

	for (int i = 0; i < (calls ? FEW : MAX_DETAILS); i++) {
		if (step_on(i, &walk))
			goto end;
	}
	if (calls)
		bpf_loop(MAX_DETAILS, step_on, &walk, 0);
end:
	index = walk.index;
	if (!index)
		return new_detail(slot, row_index, key);
	if (walk.last) {
		detail_at(walk.last)->next = detail_at(index)->next;
		detail_at(index)->next = row->first_detail;
		row->first_detail = index;
	}
	return index;
}

/* True if exits about this are to be told apart. Of several kinds and keys the collector looks closer. */
static __noinline int is_chosen(const struct detail_key *key)
{
	if (!key || !config.keys)
		return 1;
	for (int i = 0; i < MAX_CHOSEN && i < config.keys; i++) {
		const volatile struct key_range *range = &config.only_keys[i];

		if (range->kind == key->kind && key->key >= range->first && key->key <= range->last)
			return 1;
	}
	return 0;
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

#ifdef WITHOUT_KVM_TYPES
	/* A port that is read is heard of after the VMM has answered. */
	read_detail(slot, row, &key);
#else
	if (slot->went_out && !slot->l2)
		key = slot->noted;
	else
		read_detail(slot, row, &key);
#endif
	slot->hooked.kind = KIND_NONE;
	slot->rang = 0;
	if (key.kind && is_chosen(&key)) {
		index = row->first_detail;
		if (!index || !is_detail(index, &key))
			index = find_detail(slot, row_index, &key);
		if (!index)
			slot->no_detail++;
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
