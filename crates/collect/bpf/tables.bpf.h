/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * The tables: what is in them, how something is found there, and how it gets in.
 */
#ifndef EXITSCOPE_TABLES_BPF_H
#define EXITSCOPE_TABLES_BPF_H

#include "wire.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))

enum { PAGE_BITS = 12 };
enum { ISA_VMX = 1, ISA_SVM = 2 }; /* KVM_ISA_VMX and KVM_ISA_SVM of arch/x86/include/asm/kvm_host.h */

/* Each in a map of its own, which the collector finds by the section's name. */
const volatile struct config config SEC(".rodata.config") = {};
struct control control SEC(".data.control") = {
	.epoch = 1, /* not that of a zeroed row */
	.next_row = 1,
	.next_vcpu = 1,
	.next_vm = 1,
	.next_return = 1,
	.next_detail = 1,
};

static u16 hints[HINTS];

/*
 * The tables are global data, where finding an element is an addition and not a look-up as in a map of
 * elements. The collector sets the lengths before load.
 *
 * OLDER_KERNEL stands for one that refuses that: before 5.16 a map's value has 4 MiB at most (array_map_alloc_check() in
 * kernel/bpf/arraymap.c). There they are maps of elements. Nor has it atomics with a result, before 5.12, so that the
 * collector fills the lists of free places before it attaches the programs.
 */
#ifdef OLDER_KERNEL
#define TABLE(name, element)                          \
	struct {                                      \
		__uint(type, BPF_MAP_TYPE_ARRAY);     \
		__uint(map_flags, BPF_F_MMAPABLE);    \
		__uint(max_entries, 2);               \
		__type(key, u32);                     \
		__type(value, struct element);        \
	} name SEC(".maps")
#else
#define TABLE(name, element) struct element name[1] SEC(".bss." #name)
#endif

TABLE(rows, row);
TABLE(vcpus, vcpu_slot);
TABLE(returns, user_return);
TABLE(details, detail);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct vm_info);
} vms SEC(".maps");

/* Indices that the collector gave back, after it had read the last of them. */
struct free_list {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 2);
	__type(value, u32);
};
struct free_list free_rows SEC(".maps");
struct free_list free_vcpus SEC(".maps");
struct free_list free_vms SEC(".maps");
struct free_list free_returns SEC(".maps");
struct free_list free_details SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__type(key, u64);
	__type(value, u32);
} vcpu_by_key SEC(".maps"), vcpu_by_task SEC(".maps"), vm_by_key SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u8);
} selected SEC(".maps");

#ifdef OLDER_KERNEL

/* An element of a table, where an index beyond it ends the program: there is none, but the verifier does not know. */
#define AT(table, index, mark)                                               \
	({                                                                   \
		u32 at_index = (index);                                      \
		void *at_element = bpf_map_lookup_elem(&(table), &at_index); \
                                                                             \
		if (!at_element) {                                           \
			asm volatile("r0 = 0\n\texit" ::: "r0");             \
			__builtin_unreachable();                             \
		}                                                            \
		at_element;                                                  \
	})

#else

/*
 * An index within a table whose length is a power of two. The mask is an immediate, for which a mark stands here: the
 * collector puts the table's length less one in its place before load. Read from `config`, it would cost two
 * instructions more.
 */
static __always_inline u64 within(u64 index, const int mark)
{
	asm("%0 &= %1" : "+r"(index) : "i"(mark));
	return index;
}

#define AT(table, index, mark) (&(table)[within(index, mark)])

#endif

/* With barriers, because else clang works the address out anew for each field. */
static __always_inline struct row *row_at(u32 index)
{
	struct row *row = AT(rows, index, ROW_MASK_MARK);

	barrier_var(row);
	return row;
}

static __always_inline struct vcpu_slot *vcpu_at(u32 index)
{
	struct vcpu_slot *slot = AT(vcpus, index, VCPU_MASK_MARK);

	barrier_var(slot);
	return slot;
}

static __always_inline struct user_return *return_at(u32 index)
{
	return AT(returns, index, RETURN_MASK_MARK);
}

static __always_inline struct detail *detail_at(u32 index)
{
	return AT(details, index, DETAIL_MASK_MARK);
}

/*
 * A vCPU or a thread is an object of more than a page, so that the number of its page tells it from others. The verifier lets
 * no pointer be shifted, but takes its lower half for a number. Where keys are no addresses: multiply, and take the high bits.
 */
static __always_inline u16 *hint_of(u64 key)
{
#ifdef KEYS_ARE_NUMBERS
	return &hints[(u32)key * 0x9e3779b1u >> (32 - HINT_BITS)];
#else
	u32 low;

	/* In C, clang would shift the pointer instead. */
	asm("%0 = %1" : "=w"(low) : "w"((u32)key));
	return (void *)hints + (low >> (PAGE_BITS - 1) & (HINTS - 1) * sizeof(u16));
#endif
}

/* An index that nobody uses, or 0. */
static __always_inline u32 take(void *list, u32 *next, u32 size)
{
	u32 index = 0;

	if (bpf_map_pop_elem(list, &index) == 0)
		return index;
#ifdef OLDER_KERNEL
	return 0;
#else
	if (READ_ONCE(*next) >= size)
		return 0;
	index = __sync_fetch_and_add(next, 1);
	return index < size ? index : 0;
#endif
}

#include "fair.bpf.h"

/* The same of a table of which nobody gets all, or 0 if these owners have enough. */
static __always_inline u32 take_fairly(const struct owners *owners, u32 table, void *list, u32 *next, u32 size)
{
	u32 index = may_take(owners, table, size) ? take(list, next, size) : 0;

	if (index)
		hold(owners, table);
	return index;
}

/* Identity of a VM, and what else the two kinds of program know of it. */
struct vm_key {
	u64 key;
	u64 started_ns;
	u64 args_from, args_to; /* where the process has its command line, 0 if not known */
	char comm[COMM_BYTES];
};

static __noinline u32 find_vm(const struct vm_key *known)
{
	u64 key;
	u32 *found, index;
	struct vm_info *vm;

	if (!known)
		return 0;
	key = known->key;
	found = bpf_map_lookup_elem(&vm_by_key, &key);
	if (found)
		return *found;
	index = take(&free_vms, &control.next_vm, config.max_vms);
	vm = bpf_map_lookup_elem(&vms, &index);
	if (!index || !vm)
		return 0;
#ifdef OLDER_KERNEL
	vm->id = (u64)vm->turn * config.max_vms + index;
#else
	vm->id = __sync_fetch_and_add(&control.next_vm_id, 1) + 1;
#endif
	vm->key = key;
	vm->started_ns = known->started_ns;
	vm->pid = bpf_get_current_pid_tgid() >> 32;
	__builtin_memcpy(vm->comm, known->comm, COMM_BYTES);
	vm->args_len = 0;
	if (known->args_to > known->args_from) {
		u64 length = known->args_to - known->args_from;

		if (length > ARGS_BYTES)
			length = ARGS_BYTES;
		if (bpf_probe_read_user(vm->args, length, (void *)known->args_from) == 0)
			vm->args_len = length;
	}
	if (bpf_map_update_elem(&vm_by_key, &key, &index, BPF_NOEXIST) == 0)
		return index;
	/* Another vCPU of this VM was faster. */
	bpf_map_push_elem(&free_vms, &index, 0);
	found = bpf_map_lookup_elem(&vm_by_key, &key);
	return found ? *found : 0;
}

/* Gives a vCPU that was never seen a slot, and returns its index or 0. */
static __noinline u32 new_vcpu(u64 key, u32 vcpu_id, u32 isa, const struct vm_key *known)
{
	u64 task = bpf_get_current_pid_tgid();
	struct owners owners = owners_here();
	u32 pid = task >> 32;
	u32 index = take_fairly(&owners, FAIR_VCPUS, &free_vcpus, &control.next_vcpu, config.max_vcpus);
	struct vcpu_slot *slot = vcpu_at(index);

	if (!index)
		return 0;
	slot->owners = owners;
	slot->pid = pid;
	/* After the slot: a VM is known until a vCPU of its that has a slot ends, and without one would be for ever. */
	slot->vm = find_vm(known);
	if (!slot->vm)
		goto give_back;
	/* The collector left the rest zeroed. Until `key` is set, nobody looks at it. */
	slot->vcpu_id = vcpu_id;
	slot->isa = isa;
	slot->index = index;
	slot->thread = task;
	slot->state = VCPU_NEW;
	if (config.only_selected && !bpf_map_lookup_elem(&selected, &pid))
		slot->state = VCPU_IGNORED;
	if (bpf_map_update_elem(&vcpu_by_key, &key, &index, BPF_NOEXIST))
		goto give_back;
	WRITE_ONCE(slot->key, key);
	return index;
give_back:
	slot->state = VCPU_NEW;
	let_go(&owners, FAIR_VCPUS);
	bpf_map_push_elem(&free_vcpus, &index, 0);
	return 0;
}

/* The slot of an index, none for 0. */
static __always_inline struct vcpu_slot *slot_at(u32 index)
{
	return index ? vcpu_at(index) : 0;
}

/* The slot where a vCPU was last found. Whether it still is its own, its key tells. */
static __always_inline struct vcpu_slot *hinted(u64 key)
{
	return vcpu_at(*hint_of(key));
}

/* The slot of a vCPU that is not where the hint says, or 0 if it has none. */
static __noinline u32 find_vcpu(u64 key)
{
	u32 *found = bpf_map_lookup_elem(&vcpu_by_key, &key);

	if (!found)
		return 0;
	*hint_of(key) = *found;
	return *found;
}

/* Ends a program here, where clang would jump to the end that it has for all ways. Nothing after it runs. */
#define LEAVE()                               \
	do {                                  \
		asm volatile("w0 = 0; exit"); \
		__builtin_unreachable();      \
	} while (0)

/* Writes between these two are one to a reader. Stores become visible in program order on x86. */
static __always_inline void begin_write(struct vcpu_slot *slot)
{
	WRITE_ONCE(slot->state, VCPU_WRITING);
	barrier();
}

static __always_inline void end_write(struct vcpu_slot *slot, u32 state)
{
	barrier();
	WRITE_ONCE(slot->state, state);
}

/* A process started another one. */
static __always_inline void follow(u32 parent, u32 child)
{
	u8 yes = 1;

	if (parent != child && bpf_map_lookup_elem(&selected, &parent) &&
	    bpf_map_update_elem(&selected, &child, &yes, BPF_ANY))
		__sync_fetch_and_add(&control.unfollowed, 1);
}

#endif
