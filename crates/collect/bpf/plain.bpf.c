// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * The same counting on the plain tracepoints, for a kernel without the type information that exits.bpf.c
 * needs: this file has no CO-RE relocation, and so loads without any BTF. It costs more, and knows a vCPU only
 * as the thread that runs it and its number: two VMs that one thread runs in turn cannot be told apart here.
 */
/* The thread that runs a vCPU, and its number. */
#define KEYS_ARE_NUMBERS
#include "count.bpf.h"
#include "twice.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* The tracepoint does not say which port or MSR it was. */
__noinline int count_detail(u32 slot_index, u32 row_index, u64 ns)
{
	return 0;
}

/* The first vCPU of each thread; the others follow by next_of_thread. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u32);
} vcpu_by_thread SEC(".maps");

/*
 * Return value of a program on a plain tracepoint: with 0 the kernel keeps the event from everybody else who
 * counts or records it with perf (trace_call_bpf() in perf_trace_run_bpf_submit(), kernel/trace/bpf_trace.c).
 */
enum { PASS = 1 };

/* Number of vCPUs of one thread that are taken back when the thread ends. */
enum { MAX_VCPUS_OF_THREAD = 64 };

static __always_inline u64 read_field(void *ctx, const volatile struct field *field)
{
	u64 wide = 0;
	u32 narrow = 0;

	if (field->size == 8) {
		bpf_probe_read_kernel(&wide, 8, ctx + field->offset);
		return wide;
	}
	bpf_probe_read_kernel(&narrow, 4, ctx + field->offset);
	return narrow;
}

static __noinline u32 meet_vcpu(u64 key, u32 vcpu_id, u32 isa)
{
	u32 index = find_vcpu(key), thread = bpf_get_current_pid_tgid(), *first;
	struct vcpu_slot *slot;
	struct vm_key vm = {};

	if (index)
		return index;
	vm.key = bpf_get_current_pid_tgid() >> 32;
	/* The process's name is out of reach without types, and the thread's would be mistaken for it. */
	index = new_vcpu(key, vcpu_id, isa, &vm);
	if (!index)
		return 0;
	slot = vcpu_at(index);
	first = bpf_map_lookup_elem(&vcpu_by_thread, &thread);
	slot->next_of_thread = first ? *first : 0;
	bpf_map_update_elem(&vcpu_by_thread, &thread, &index, BPF_ANY);
	return index;
}

/* Never 0, which is nobody's key. */
static __always_inline u64 key_of(u32 vcpu_id)
{
	return bpf_get_current_pid_tgid() << 32 | (u32)(vcpu_id + 1);
}

struct seen {
	struct vcpu_slot *slot;
	s64 code;
};

/* The vCPU that exited, and why. */
static __always_inline struct seen see_exit(void *ctx)
{
	u32 isa = read_field(ctx, &config.exit_isa), vcpu_id = read_field(ctx, &config.exit_vcpu_id);
	u64 key = key_of(vcpu_id);
	struct seen seen = { .slot = hinted(key), .code = read_field(ctx, &config.exit_reason) };

	if (seen.slot->key != key)
		seen.slot = slot_at(meet_vcpu(key, vcpu_id, isa));
	if (!seen.slot)
		__sync_fetch_and_add(&control.no_vcpu, 1);
	return seen;
}

SEC("?tp/kvm/kvm_exit")
int on_exit(void *ctx)
{
	struct seen seen = see_exit(ctx);

	if (!seen.slot)
		return PASS;
	if (seen.slot->state == VCPU_GUEST)
		count_exit(seen.slot, seen.code);
	else
		odd_exit(seen.slot, seen.code, 0, MODE_UNKNOWN);
	return PASS;
}

SEC("?tp/kvm/kvm_exit")
int on_exit_only(void *ctx)
{
	struct seen seen = see_exit(ctx);

	if (!seen.slot)
		return PASS;
	if (seen.slot->state != VCPU_GUEST || count_exit_only(seen.slot, seen.code))
		odd_exit_only(seen.slot, seen.code, 0, 0, 0);
	return PASS;
}

SEC("?tp/kvm/kvm_entry")
int on_entry(void *ctx)
{
	u64 key = key_of(read_field(ctx, &config.entry_vcpu_id));
	struct vcpu_slot *slot = hinted(key);

	if (slot->key != key)
		slot = slot_at(find_vcpu(key));
	if (slot && slot->state == VCPU_HOST)
		count_entry(slot, 0, 0, 0);
	else
		odd_entry(slot, 0, 0, 0);
	return PASS;
}

/* Not static, so that the verifier looks at it once and not at each turn of the loop below. */
__noinline int end_slot(u32 index)
{
	end_vcpu(vcpu_at(index), 0, 0);
	return 0;
}

/* A thread ends, and its vCPUs with it; the first thread of a process stands for the process. */
TWICE("raw_tp/sched_process_exit", on_leave, void *ended)
{
	u64 task = bpf_get_current_pid_tgid(), vm = task >> 32;
	u32 thread = task, pid = task >> 32, *first = bpf_map_lookup_elem(&vcpu_by_thread, &thread), index;

	if (thread == pid)
		bpf_map_delete_elem(&vm_by_key, &vm);
	/* The record of a new task tells a thread's number as it tells a process's: both get here. */
	bpf_map_delete_elem(&selected, &thread);
	if (!first)
		return 0;
	index = *first;
	bpf_map_delete_elem(&vcpu_by_thread, &thread);
	for (int i = 0; i < MAX_VCPUS_OF_THREAD && index; i++) {
		u32 next = vcpu_at(index)->next_of_thread;

		end_slot(index);
		index = next;
	}
	return 0;
}

/* The processes that a selected process starts are selected too. As in exits.bpf.c. */
SEC("tp/sched/sched_wakeup_new")
int on_fork(void *ctx)
{
	follow(bpf_get_current_pid_tgid() >> 32, read_field(ctx, &config.fork_child));
	return PASS;
}
