/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Where the host time of an exit goes: programs on the paths on which KVM does not just handle it. What they find is
 * kept in the vCPU's slot, and added to the exit's row when the vCPU enters again (add_split()).
 *
 * A thread that runs a vCPU waits for a CPU only where the scheduler took it off one. Then the vCPU is loaded again
 * (kvm_sched_in() in virt/kvm/kvm_main.c), or the thread was out in user space and calls KVM_RUN; so these two look at
 * its run delay, and nobody else need.
 */
#ifndef EXITSCOPE_SPLIT_BPF_H
#define EXITSCOPE_SPLIT_BPF_H

#include "attach.bpf.h"
#include "compat.bpf.h"
#include "count.bpf.h"
#include "unseen.bpf.h"

enum {
	/* include/uapi/linux/kvm.h and asm-generic/errno-base.h. */
	KVM_EXIT_INTR = 10,
	KVM_EXIT_MEMORY_FAULT = 39,
	EINTR = 4,
	EFAULT = 14,
};

/* In modes.bpf.h and details.bpf.h. */
static __noinline int note_mode(struct vcpu_slot *slot);
__noinline int note_detail(u32 slot_index, u32 row_index);

/* For how long KVM has polled for this vCPU. */
static __always_inline u64 polled(u64 vcpu)
{
#ifdef WITHOUT_KVM_TYPES
	if (!control.polled_at || !control.polled_in_vain_at)
		return 0;
	return load_u64((void *)vcpu + control.polled_at) + load_u64((void *)vcpu + control.polled_in_vain_at);
#else
	return load_u64((void *)vcpu + bpf_core_field_offset(struct kvm_vcpu, stat.generic.halt_poll_success_ns)) +
	       load_u64((void *)vcpu + bpf_core_field_offset(struct kvm_vcpu, stat.generic.halt_poll_fail_ns));
#endif
}

static __always_inline struct vcpu_slot *slot_of(struct kvm_vcpu *vcpu)
{
	struct vcpu_slot *slot = hinted((u64)vcpu);

	return slot->key == (u64)vcpu ? slot : slot_at(find_vcpu((u64)vcpu));
}

/* Returns the time that the thread that runs here has been runnable and off a CPU, since it began. */
static __always_inline u64 run_delay(void)
{
#ifdef OLDER_KERNEL
	/* bpf_get_current_task_btf() is of 5.11. */
	struct task_struct *task = (void *)bpf_get_current_task();

	return bpf_core_field_exists(task->sched_info.run_delay) ? BPF_CORE_READ(task, sched_info.run_delay) : 0;
#else
	struct task_struct *task = bpf_get_current_task_btf();

	return bpf_core_field_exists(task->sched_info.run_delay) ? task->sched_info.run_delay : 0;
#endif
}

/* The slot of the vCPU that this thread was last seen to run. */
static __always_inline struct vcpu_slot *slot_of_task(u64 task)
{
	u16 *hint = hint_of(task);
	struct vcpu_slot *slot = vcpu_at(*hint);
	u32 *found;

	if (slot->task == task)
		return slot;
	found = bpf_map_lookup_elem(&vcpu_by_task, &task);
	if (!found)
		return 0;
	slot = vcpu_at(*found);
	if (slot->task != task)
		return 0;
	*hint = *found;
	return slot;
}

static __always_inline void forget_task(struct vcpu_slot *slot)
{
	u64 task = slot->task;

	if (task)
		bpf_map_delete_elem(&vcpu_by_task, &task);
	slot->task = 0;
}

/* This thread runs another vCPU than it did, which some other thread may have begun to run just now. */
static __always_inline void leave(u64 task)
{
	struct vcpu_slot *slot = slot_of_task(task);

	if (!slot)
		return;
#ifdef OLDER_KERNEL
	/* No such atomic: should the other thread begin just now, its next run or load makes it known again. */
	if (slot->task == task)
		slot->task = 0;
#else
	__sync_val_compare_and_swap(&slot->task, task, 0);
#endif
}

/*
 * This thread runs the vCPU, and no other one from here on. Returns for how long it has waited for a CPU since it was
 * seen to run this vCPU before.
 */
static __noinline u64 run_by(struct vcpu_slot *slot, u64 task, u64 run_delay)
{
	u32 index;
	u64 wait;

	if (!slot)
		return 0;
	wait = run_delay - slot->run_delay;
	slot->run_delay = run_delay;
	if (slot->task == task)
		return wait;
	leave(task);
	forget_task(slot);
	slot->task = task;
	index = slot->index;
	bpf_map_update_elem(&vcpu_by_task, &task, &index, BPF_ANY);
	*hint_of(task) = index;
	return 0;
}

/* KVM_RUN has returned while an exit of this row was being handled. */
__noinline int count_return(u32 slot_index, u32 row_index, int reason)
{
	struct vcpu_slot *slot = vcpu_at(slot_index);
	struct row *row = row_at(row_index);
	u32 index;

	if (!row_index)
		return 0;
	index = row->first_return;
	for (int i = 0; i < MAX_RETURNS && index; i++) {
		struct user_return *found = return_at(index);

		if (found->reason == reason) {
			found->count++;
			return 0;
		}
		index = found->next;
	}
	/* Where the list is too long, index is not 0. */
	if (!index)
		index = take_fairly(&slot->owners, FAIR_RETURNS, &free_returns, &control.next_return, config.max_returns);
	else
		index = 0;
	if (index) {
		struct user_return *fresh = return_at(index);

		fresh->reason = reason;
		fresh->count = 1;
		fresh->next = row->first_return;
		WRITE_ONCE(row->first_return, index);
	} else {
		__sync_fetch_and_add(&control.no_return, 1);
	}
	return 0;
}

/*
 * Returns 1 if a program that is attached twice has no more to do for a vCPU: the first of the two has done it. Where the
 * kernel skipped that one, the second does it, and counts that; so as many were lost as the kernel skipped of the first, less
 * those.
 */
static __always_inline int is_done(struct vcpu_slot *slot, enum twice program, u32 again)
{
	if (!slot)
		return 1;
	if (!again) {
		slot->done_by = program;
		return 0;
	}
	if (slot->done_by == program) {
		slot->done_by = 0;
		return 1;
	}
	__sync_fetch_and_add(program == TWICE_MARK ? &control.stood_in_marks : &control.stood_in, 1);
	return 0;
}

/* KVM_RUN returns to the VMM. Its tracepoint does not say which vCPU's it is, but the thread tells. */
TWICE(EVENT "kvm_userspace_exit", on_return, u32 reason, int error)
{
	struct vcpu_slot *slot = slot_of_task((u64)bpf_get_current_task());
	int shown = reason;
	u32 index;
	u64 now;

	if (is_done(slot, TWICE_RETURN, again))
		return 0;
	note_unseen(slot);
	if (!is_out(slot->state))
		return 0;
	if (error < 0 && !(error == -EFAULT && reason == KVM_EXIT_MEMORY_FAULT))
		shown = error == -EINTR ? KVM_EXIT_INTR : error;
	now = bpf_ktime_get_ns();
	begin_write(slot);
	slot->turn++;
	end_phase(slot, now);
	begin_phase(slot, PHASE_USER, now);
	if (config.guest && !slot->went_out)
		note_mode(slot);
	index = row_here(slot);
	if (index && !slot->went_out) {
		row_at(index)->user_exits++;
		if (config.kinds && row_at(index)->kind)
			note_detail(slot->index, index);
	}
	slot->went_out = 1;
	count_return(slot->index, index, shown);
	end_write(slot, VCPU_HOST_MORE);
	return 0;
}

/* Adds to the exit that is being handled what its thread has waited for a CPU; ends its time in user space. */
static __always_inline int note_wait(struct vcpu_slot *slot, int runs)
{
	u64 wait;

	/* Until its first exit nothing is known of it, and what KVM_RUN returns is not of the vCPU that ran here before. */
	if (!slot)
		leave((u64)bpf_get_current_task());
	if (!slot || slot->state == VCPU_IGNORED)
		return 0;
	note_unseen(slot);
	wait = run_by(slot, (u64)bpf_get_current_task(), run_delay());
	runs = runs && slot->phase == PHASE_USER;
	if (!is_out(slot->state) || (!wait && !runs))
		return 0;
	begin_write(slot);
	slot->turn++;
	slot->waiting_ns += wait;
	if (runs)
		end_phase(slot, bpf_ktime_get_ns());
	end_write(slot, VCPU_HOST_MORE);
	return 0;
}

/* The VMM has called KVM_RUN. */
TWICE_ON_VCPU(CALL "kvm_arch_vcpu_ioctl_run", on_run, struct kvm_vcpu *vcpu)
{
	struct vcpu_slot *slot = slot_of(vcpu);

	return slot && is_done(slot, TWICE_RUN, again) ? 0 : note_wait(slot, 1);
}

/* A thread takes a vCPU, for KVM_RUN or for another ioctl; or it was off its CPU meanwhile, and is back on one. */
SEC(CALL "kvm_arch_vcpu_load")
int ON_VCPU(on_load, struct kvm_vcpu *vcpu)
{
	return note_wait(slot_of(vcpu), 0);
}

/* A vCPU begins to block: it was halted, or is not started yet, e.g. by another vCPU's SIPI. */
TWICE_ON_VCPU(CALL "kvm_vcpu_block", on_block, struct kvm_vcpu *vcpu)
{
	struct vcpu_slot *slot = slot_of(vcpu);

	if (is_done(slot, TWICE_BLOCK, again))
		return 0;
	note_unseen(slot);
	if (!is_out(slot->state))
		return 0;
	begin_write(slot);
	slot->turn++;
	begin_phase(slot, PHASE_HALTED, bpf_ktime_get_ns());
	end_write(slot, VCPU_HOST_MORE);
	return 0;
}

/* The end of a halt, which took `halt_ns`: KVM has polled, and blocked where that did not help. */
TWICE(EVENT "kvm_vcpu_wakeup", on_wakeup, u64 halt_ns)
{
	struct vcpu_slot *slot = slot_of_task((u64)bpf_get_current_task());
	u64 before, wait = 0;

	if (is_done(slot, TWICE_WAKEUP, again))
		return 0;
	note_unseen(slot);
	before = slot->polled;
	slot->polled = polled(slot->key);
	if (!is_out(slot->state))
		return 0;
	begin_write(slot);
	slot->turn++;
	if (slot->phase == PHASE_HALTED)
		wait = slot->waiting_ns - slot->wait_begin;
	halt_ns = halt_ns > wait ? halt_ns - wait : 0;
	slot->halted_ns += halt_ns;
	slot->polled_ns += slot->polled - before < halt_ns ? slot->polled - before : halt_ns;
	slot->phase = PHASE_KERNEL;
	end_write(slot, VCPU_HOST_MORE);
	return 0;
}

#endif
