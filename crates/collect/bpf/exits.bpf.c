// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * Counts VM exits by vCPU and reason, and times them, on the tracepoints kvm_exit and kvm_entry with their
 * arguments typed by the kernel's BTF. Needs struct kvm_vcpu and the vendor module's vCPU in BTF.
 */
#include "count.bpf.h"
#include "compat.bpf.h"
#include "split.bpf.h"
#include "details.bpf.h"
#include "follow.bpf.h"
#include "hooks.bpf.h"
#include "marks.bpf.h"
#include "modes.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

static __noinline u32 meet_vcpu(struct kvm_vcpu *vcpu, u32 isa)
{
	struct task_struct *leader, *task = (void *)bpf_get_current_task();
	struct vm_key vm = {};
	u64 key = (u64)vcpu;
	struct vcpu_slot *slot = slot_of(vcpu);
	u32 index;

	if (slot)
		return slot->index;
	leader = BPF_CORE_READ(task, group_leader);
	/* Read as a typed pointer: before 5.16 the first argument was the reason, and loading fails here. */
	vm.key = (u64)vcpu->kvm;
	vm.started_ns = BPF_CORE_READ(leader, start_boottime);
	vm.args_from = BPF_CORE_READ(task, mm, arg_start);
	vm.args_to = BPF_CORE_READ(task, mm, arg_end);
	bpf_core_read(vm.comm, sizeof(vm.comm), &leader->comm);
	index = new_vcpu(key, vcpu->vcpu_id, isa, &vm);
	if (index) {
		vcpu_at(index)->code_at = code_at(key, isa);
		vcpu_at(index)->kept_code_at = kept_code_at(vcpu_at(index)->code_at, isa);
		vcpu_at(index)->levels = knows_levels(isa);
		find_details(vcpu_at(index), key);
		if (vcpu_at(index)->secret)
			vcpu_at(index)->needs |= NEED_SECRET;
		vcpu_at(index)->polled = polled(key);
		run_by(vcpu_at(index), (u64)bpf_get_current_task(), run_delay());
	}
	return index;
}

/* The slot of a vCPU that has exited. */
static __always_inline struct vcpu_slot *slot_or_lost(struct kvm_vcpu *vcpu, u32 isa)
{
	struct vcpu_slot *slot = slot_at(meet_vcpu(vcpu, isa));

	if (!slot)
		__sync_fetch_and_add(&control.no_vcpu, 1);
	return slot;
}

#include "entry.bpf.h"

/*
 * The programs on kvm_exit, one for each vendor, with and without times, or with the guest's mode too: the collector
 * attaches one. A vCPU's address is never 0, which the verifier does not know of a module's tracepoint.
 */
#define ON_EXIT(name, code_of, kept_code_of, isa)                                                    \
	static __noinline int odd_##name(struct kvm_vcpu *vcpu)                                      \
	{                                                                                            \
		struct vcpu_slot *slot = slot_or_lost(vcpu, isa);                                    \
                                                                                                     \
		if (!slot)                                                                           \
			return 0;                                                                    \
		return odd_exit(slot, code_of(slot->code_at), in_l2((u64)vcpu, isa),                 \
				config.guest ? mode_at_exit(vcpu, isa) : MODE_UNKNOWN);              \
	}                                                                                            \
                                                                                                     \
	SEC("?tp_btf/kvm_exit") int BPF_PROG(name, struct kvm_vcpu *vcpu)                            \
	{                                                                                            \
		struct vcpu_slot *slot = hinted((u64)vcpu);                                          \
                                                                                                     \
		if (slot->key != (u64)vcpu || slot->state != VCPU_GUEST)                             \
			return vcpu ? odd_##name(vcpu) : 0;                                          \
		count_exit(slot, kept_code_of(slot));                                                \
		return 0;                                                                            \
	}                                                                                            \
                                                                                                     \
	SEC("?tp_btf/kvm_exit") int BPF_PROG(name##_guest, struct kvm_vcpu *vcpu)                    \
	{                                                                                            \
		struct vcpu_slot *slot = hinted((u64)vcpu);                                          \
                                                                                                     \
		if (!vcpu)                                                                           \
			return 0;                                                                    \
		if (slot->key != (u64)vcpu || slot->state != VCPU_GUEST)                             \
			return odd_##name(vcpu);                                                     \
		slot->mode = mode_at_exit(vcpu, isa);                                                \
		count_exit(slot, kept_code_of(slot));                                                \
		return 0;                                                                            \
	}                                                                                            \
                                                                                                     \
	static __noinline int odd_##name##_only(struct kvm_vcpu *vcpu)                               \
	{                                                                                            \
		struct vcpu_slot *slot = slot_or_lost(vcpu, isa);                                    \
                                                                                                     \
		if (!slot)                                                                           \
			return 0;                                                                    \
		return odd_exit_only(slot, code_of(slot->code_at), vcpu->stat.exits, 1,              \
				     in_l2((u64)vcpu, isa));                                         \
	}                                                                                            \
                                                                                                     \
	/* The same, where KVM's count is noted already. */                                         \
	static __noinline int rare_##name##_only(struct vcpu_slot *slot)                             \
	{                                                                                            \
		return slot ? odd_exit_only(slot, code_of(slot->code_at), slot->kvm_last, 1, 0) : 0; \
	}                                                                                            \
                                                                                                     \
	SEC("?tp_btf/kvm_exit") int BPF_PROG(name##_only, struct kvm_vcpu *vcpu)                     \
	{                                                                                            \
		struct vcpu_slot *slot = hinted((u64)vcpu);                                          \
                                                                                                     \
		if (!vcpu)                                                                           \
			return 0;                                                                    \
		if (slot->plain_key == (u64)vcpu) {                                                  \
			/* First, so that only the slot has to be kept while the code is read. */    \
			slot->kvm_last = vcpu->stat.exits;                                           \
			barrier();                                                                   \
			if (!count_exit_only(slot, kept_code_of(slot)))                              \
				LEAVE();                                                             \
			return rare_##name##_only(slot);                                             \
		}                                                                                    \
		return odd_##name##_only(vcpu);                                                      \
	}

ON_EXIT(on_exit_vmx, vmx_code, vmx_kept_code, ISA_VMX)
ON_EXIT(on_exit_svm, svm_code, svm_kept_code, ISA_SVM)

/*
 * Where a vCPU may get into an L2 without an exit with which it enters one: the VMM has set its state, or its system management
 * mode has ended there. From here on its exits and entries take the way that asks whose they are.
 */
#define MAY_NEST_AT(name, function)                                                                          \
	TWICE("?fexit/" #function, name, struct kvm_vcpu *vcpu)                                             \
	{                                                                                                    \
		struct vcpu_slot *slot = slot_of(vcpu);                                                      \
                                                                                                             \
		if (!slot || slot->state == VCPU_IGNORED || slot->nests != NESTS_NOT)                        \
			return 0;                                                                            \
		if (!in_l2((u64)vcpu, slot->isa))                                                            \
			return 0;                                                                            \
		slot->plain_key = 0;                                                                         \
		begin_nesting(slot);                                                                         \
		if (slot->state == VCPU_HOST)                                                                \
			WRITE_ONCE(slot->state, VCPU_HOST_MORE);                                             \
		else if (slot->state == VCPU_GUEST)                                                          \
			WRITE_ONCE(slot->state, in_guest(slot));                                             \
		return 0;                                                                                    \
	}

MAY_NEST_AT(nest_by_vmm_svm, svm_set_nested_state)
MAY_NEST_AT(nest_by_vmm_vmx, vmx_set_nested_state)
MAY_NEST_AT(nest_by_smm_svm, svm_leave_smm)
MAY_NEST_AT(nest_by_smm_vmx, vmx_leave_smm)

static __noinline int odd_on_entry(struct kvm_vcpu *vcpu)
{
	struct vcpu_slot *slot = slot_of(vcpu);
	int l2;

	if (!slot)
		return 0;
	l2 = in_l2((u64)vcpu, slot->isa);
	/* After an exit of the one and before an entry of the other, the register is not that of the one that exited. */
	if (config.guest && is_out(slot->state) && slot->mode == MODE_UNKNOWN && !slot->went_out && !slot->l2 && !l2)
		slot->mode = mode_at_entry(vcpu);
	return odd_entry(slot, vcpu->stat.exits, 1, l2);
}

SEC("?tp_btf/kvm_entry")
int BPF_PROG(on_entry, struct kvm_vcpu *vcpu)
{
	struct vcpu_slot *slot = hinted((u64)vcpu);

	if (!vcpu)
		return 0;
	if (slot->key != (u64)vcpu || slot->state != VCPU_HOST)
		return odd_on_entry(vcpu);
	return count_entry(slot, vcpu->stat.exits, 1, 0);
}

SEC("?tp_btf/kvm_entry")
int BPF_PROG(on_entry_guest, struct kvm_vcpu *vcpu)
{
	struct vcpu_slot *slot = hinted((u64)vcpu);

	if (!vcpu)
		return 0;
	if (slot->key != (u64)vcpu || slot->state != VCPU_HOST)
		return odd_on_entry(vcpu);
	if (slot->mode == MODE_UNKNOWN)
		slot->mode = mode_at_entry(vcpu);
	return count_entry(slot, vcpu->stat.exits, 1, 1);
}

TWICE("fentry/kvm_arch_vcpu_destroy", on_destroy, struct kvm_vcpu *vcpu)
{
	u64 key = (u64)vcpu, vm;
	struct vcpu_slot *slot = slot_at(find_vcpu(key));

	/* A vCPU that never ran has no slot, and says nothing about its VM: it may have failed to be made. */
	if (!slot)
		return 0;
	vm = (u64)vcpu->kvm;
	bpf_map_delete_elem(&vm_by_key, &vm);
	forget_task(slot);
	note_unseen(slot);
	slot->plain_key = 0;
	/* Where times are not measured, KVM's count was read at the last exit, and says no more now. */
	end_vcpu(slot, vcpu->stat.exits, slot->first_ns != 0);
	return 0;
}
