// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * Counts VM exits by vCPU and reason, and times them, on the tracepoints kvm_exit and kvm_entry with their
 * arguments typed by the kernel's BTF. Needs struct kvm_vcpu and the vendor module's vCPU in BTF.
 */
#include "count.bpf.h"
#include "compat.bpf.h"
#include "split.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

static __noinline u32 meet_vcpu(struct kvm_vcpu *vcpu, u32 isa)
{
	struct task_struct *leader, *task = (void *)bpf_get_current_task();
	struct vm_key vm = {};
	u64 key = (u64)vcpu;
	u32 index = find_vcpu(key);

	if (index)
		return index;
	leader = BPF_CORE_READ(task, group_leader);
	/* Read as a typed pointer: before 5.18 the first argument was the reason, and loading fails here. */
	vm.key = (u64)vcpu->kvm;
	vm.started_ns = BPF_CORE_READ(leader, start_boottime);
	vm.args_from = BPF_CORE_READ(task, mm, arg_start);
	vm.args_to = BPF_CORE_READ(task, mm, arg_end);
	bpf_core_read(vm.comm, sizeof(vm.comm), &leader->comm);
	index = new_vcpu(key, vcpu->vcpu_id, isa, &vm);
	if (index)
		run_by(vcpu_at(index), (u64)bpf_get_current_task(), run_delay());
	return index;
}

SEC("tp_btf/kvm_exit")
int BPF_PROG(on_exit, struct kvm_vcpu *vcpu, u32 isa)
{
	struct vcpu_slot *slot;

	/* It never is, which the verifier does not know of a module's tracepoint. */
	if (!vcpu)
		return 0;
	slot = hinted((u64)vcpu);
	if (!slot) {
		slot = slot_at(meet_vcpu(vcpu, isa));
		if (!slot) {
			__sync_fetch_and_add(&control.no_vcpu, 1);
			return 0;
		}
	}
	if (config.timed)
		count_exit(slot, code_of(vcpu, isa), bpf_ktime_get_ns());
	else
		count_only(slot, code_of(vcpu, isa), vcpu->stat.exits, 1);
	return 0;
}

SEC("tp_btf/kvm_entry")
int BPF_PROG(on_entry, struct kvm_vcpu *vcpu)
{
	struct vcpu_slot *slot;

	if (!vcpu)
		return 0;
	slot = slot_of(vcpu);
	if (slot)
		count_entry(slot, bpf_ktime_get_ns(), vcpu->stat.exits, 1);
	return 0;
}

SEC("fentry/kvm_arch_vcpu_destroy")
int BPF_PROG(on_destroy, struct kvm_vcpu *vcpu)
{
	u64 key = (u64)vcpu, vm;
	struct vcpu_slot *slot = slot_at(find_vcpu(key));

	/* A vCPU that never ran has no slot, and says nothing about its VM: it may have failed to be made. */
	if (!slot)
		return 0;
	vm = (u64)vcpu->kvm;
	bpf_map_delete_elem(&vm_by_key, &vm);
	forget_task(slot);
	end_vcpu(slot, vcpu->stat.exits, config.timed);
	return 0;
}

/* The processes that a selected process starts are selected too ... */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	follow(BPF_CORE_READ(parent, tgid), BPF_CORE_READ(child, tgid));
	return 0;
}

/* ... until they end. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_leave, struct task_struct *task)
{
	u32 pid = BPF_CORE_READ(task, tgid);

	if (BPF_CORE_READ(task, pid) == pid)
		bpf_map_delete_elem(&selected, &pid);
	return 0;
}
