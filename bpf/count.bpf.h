/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Counting: what both kinds of program do once they know which vCPU exited, and why.
 *
 * Hot are count_exit() and count_entry(). Everything else runs once for each vCPU, VM or reason.
 */
#ifndef EXITSCOPE_COUNT_BPF_H
#define EXITSCOPE_COUNT_BPF_H

#include "wire.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))

enum { ISA_VMX = 1, ISA_SVM = 2 }; /* KVM_ISA_VMX and KVM_ISA_SVM of arch/x86/include/asm/kvm_host.h */

/* Each in a map of its own, which the collector finds by the section's name. */
const volatile struct config config SEC(".rodata.config") = {};
struct control control SEC(".data.control") = {
	.epoch = 1, /* not that of a zeroed row */
	.next_row = 1,
	.next_vcpu = 1,
	.next_vm = 1,
};

static u16 hints[HINTS];

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct row);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct vcpu_slot);
} vcpus SEC(".maps");

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

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__type(key, u64);
	__type(value, u32);
} vcpu_by_key SEC(".maps"), vm_by_key SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u8);
} selected SEC(".maps");

static __always_inline struct row *row_at(u32 index)
{
	return bpf_map_lookup_elem(&rows, &index);
}

static __always_inline struct vcpu_slot *vcpu_at(u32 index)
{
	return bpf_map_lookup_elem(&vcpus, &index);
}

/*
 * The verifier lets no pointer be multiplied, but takes its lower half for a number; that is enough, for
 * objects of one kind lie at regular distances. Multiply, and take the high bits.
 */
static __always_inline u16 *hint_of(u64 key)
{
	u32 low;

	/* In C, clang would shift the pointer instead. */
	asm("%0 = %1" : "=w"(low) : "w"((u32)key));
	return &hints[low * 0x9e3779b1u >> (32 - HINT_BITS)];
}

/* An index that nobody uses, or 0. */
static __always_inline u32 take(void *list, u32 *next, u32 size)
{
	u32 index = 0;

	if (bpf_map_pop_elem(list, &index) == 0)
		return index;
	if (READ_ONCE(*next) >= size)
		return 0;
	index = __sync_fetch_and_add(next, 1);
	return index < size ? index : 0;
}

/* What identifies a VM, and what else the two kinds of program know of it. */
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
	vm->id = __sync_fetch_and_add(&control.next_vm_id, 1) + 1;
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
static __noinline u32 new_vcpu(u64 key, u32 vcpu_id, const struct vm_key *known)
{
	u64 task = bpf_get_current_pid_tgid();
	u32 pid = task >> 32, index = take(&free_vcpus, &control.next_vcpu, config.max_vcpus);
	struct vcpu_slot *slot = vcpu_at(index);

	if (!index || !slot)
		return 0;
	/* After the slot: a VM is known until a vCPU of its that has a slot ends, and without one would be for ever. */
	slot->vm = find_vm(known);
	if (!slot->vm)
		goto give_back;
	/* The collector left the rest zeroed. Until `key` is set, nobody looks at it. */
	slot->vcpu_id = vcpu_id;
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
	bpf_map_push_elem(&free_vcpus, &index, 0);
	return 0;
}

/* The slot of an index, none for 0. */
static __always_inline struct vcpu_slot *slot_at(u32 index)
{
	return index ? vcpu_at(index) : 0;
}

/* The slot of a vCPU, if it is where it was last found. */
static __always_inline struct vcpu_slot *hinted(u64 key)
{
	struct vcpu_slot *slot = vcpu_at(*hint_of(key));

	return slot && slot->key == key ? slot : 0;
}

/* The slot of a vCPU that the hint did not find, or 0 if it has none. */
static __noinline u32 find_vcpu(u64 key)
{
	u32 *found = bpf_map_lookup_elem(&vcpu_by_key, &key);

	if (!found)
		return 0;
	*hint_of(key) = *found;
	return *found;
}

/*
 * A 32-bit SVM code as a signed one: VMEXIT_INVALID and its neighbours are small negative numbers, but
 * the codes for software that end in 0xf0000000 ff. are not (APM vol. 2, appendix C).
 */
static __always_inline s64 widen_svm_code(u32 code)
{
	return code >= 0xffffff00 ? (s64)(int)code : (s64)code;
}

/* Where a code has its place in direct[]; DIRECT_ROWS or more if it has none. */
static __always_inline u64 direct_index(s64 code)
{
	u64 index = code;

	if (index >= COMMON_CODES) {
		index -= NPF_BASE - COMMON_CODES;
		if (index < COMMON_CODES)
			index = DIRECT_ROWS;
	}
	/* Else clang proves the bound in its own way, which the verifier cannot follow. */
	barrier_var(index);
	return index;
}

/* The row of a reason that this vCPU has no direct row for, or 0 when there is no room. */
static __noinline u32 find_row(struct vcpu_slot *slot, s64 code, u32 isa)
{
	u64 direct = direct_index(code);
	u32 index;
	struct row *row;

	if (!slot)
		return 0;
	if (direct >= DIRECT_ROWS) {
		index = slot->first_odd;
		for (int i = 0; i < MAX_ODD_ROWS; i++) {
			row = row_at(index);
			if (!index || !row)
				break;
			if (row->code == code)
				return index;
			index = row->next;
		}
		if (slot->odd_rows >= MAX_ODD_ROWS)
			return 0;
	}
	index = take(&free_rows, &control.next_row, config.max_rows);
	row = row_at(index);
	if (!index || !row)
		return 0;
	row->code = code;
	slot->isa = isa; /* here, because an entry does not know it */
	if (direct < DIRECT_ROWS) {
		row->next = slot->first_row;
		WRITE_ONCE(slot->first_row, index);
		slot->direct[direct] = index;
	} else {
		row->next = slot->first_odd;
		WRITE_ONCE(slot->first_odd, index);
		slot->odd_rows++;
	}
	return index;
}

/* floor(log2(ns)), at most the last bucket. */
static __always_inline u32 bucket_of(u64 ns)
{
	u32 bucket = 0;

	if (ns >> 32) {
		ns >>= 32;
		bucket = 32;
	}
	if (ns >> 16) {
		ns >>= 16;
		bucket += 16;
	}
	if (ns >> 8) {
		ns >>= 8;
		bucket += 8;
	}
	if (ns >> 4) {
		ns >>= 4;
		bucket += 4;
	}
	if (ns >> 2) {
		ns >>= 2;
		bucket += 2;
	}
	bucket += ns >> 1;
	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/*
 * The writer's side of a sequence lock that no writer ever waits for. Stores become visible in program order on
 * x86, so that keeping the compiler from moving them is enough.
 */
static __always_inline void begin_write(struct vcpu_slot *slot)
{
	WRITE_ONCE(slot->seq, slot->seq + 1);
	barrier();
}

static __always_inline void end_write(struct vcpu_slot *slot)
{
	barrier();
	WRITE_ONCE(slot->seq, slot->seq + 1);
}

/* A vCPU left its guest. */
static __always_inline void count_exit(struct vcpu_slot *slot, s64 code, u32 isa, u64 now)
{
	u32 index, state = slot->state;
	struct row *row;
	u64 direct;

	if (state != VCPU_GUEST) {
		if (state == VCPU_IGNORED)
			return;
		if (state == VCPU_HOST)
			slot->exit_without_entry++;
	}
	begin_write(slot);
	direct = direct_index(code);
	index = direct < DIRECT_ROWS ? slot->direct[direct] : 0;
	if (!index)
		index = find_row(slot, code, isa);
	row = row_at(index);
	if (!index || !row) {
		slot->no_row++;
		index = 0;
	} else {
		row->count++;
	}
	slot->exits++;
	slot->open_row = index;
	slot->exit_ns = now;
	slot->state = VCPU_HOST;
	end_write(slot);
}

/* KVM's own count of this vCPU's exits, read when none is being handled. */
static __always_inline void note_kvm_exits(struct vcpu_slot *slot, u64 kvm_exits)
{
	if (!slot->kvm_known) {
		/* The exit that made the vCPU known is in KVM's count already. */
		slot->kvm_first = kvm_exits - slot->exits;
		slot->kvm_known = 1;
	}
	slot->kvm_last = kvm_exits;
}

/* A vCPU enters its guest. `kvm_exits` is KVM's count, where `kvm_counts` says that there is one. */
static __always_inline void count_entry(struct vcpu_slot *slot, u64 now, u64 kvm_exits, int kvm_counts)
{
	struct extremes *extremes;
	struct row *row;
	u32 index;
	u64 ns, epoch;

	if (slot->state == VCPU_IGNORED)
		return;
	begin_write(slot);
	if (kvm_counts)
		note_kvm_exits(slot, kvm_exits);
	if (slot->state == VCPU_HOST) {
		index = slot->open_row;
		row = row_at(index);
		if (row && index) {
			ns = now - slot->exit_ns;
			/* The clock may step back by a little from one CPU to another (kernel/time/timekeeping.c). */
			if ((s64)ns < 0)
				ns = 0;
			row->time_ns += ns;
			row->histogram[bucket_of(ns)]++;
			epoch = READ_ONCE(control.epoch);
			extremes = &row->extremes[epoch & 1];
			if (extremes->epoch != epoch) {
				extremes->epoch = epoch;
				extremes->min_ns = ns;
				extremes->max_ns = ns;
			} else if (ns < extremes->min_ns) {
				extremes->min_ns = ns;
			} else if (ns > extremes->max_ns) {
				extremes->max_ns = ns;
			}
		}
	} else if (slot->state == VCPU_GUEST) {
		slot->entry_without_exit++;
	}
	slot->state = VCPU_GUEST;
	end_write(slot);
}

/* A process started another one. */
static __always_inline void follow(u32 parent, u32 child)
{
	u8 yes = 1;

	if (parent != child && bpf_map_lookup_elem(&selected, &parent) &&
	    bpf_map_update_elem(&selected, &child, &yes, BPF_ANY))
		__sync_fetch_and_add(&control.unfollowed, 1);
}

/*
 * A vCPU is no more. Nobody may find its slot from here on, and the collector may take it back, once its state
 * says so: that is the last that is written here.
 */
static __always_inline void end_vcpu(struct vcpu_slot *slot)
{
	u64 key = slot->key;

	bpf_map_delete_elem(&vcpu_by_key, &key);
	WRITE_ONCE(slot->key, 0);
	WRITE_ONCE(slot->state, VCPU_ENDED);
}

#endif
