/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Counting with one program an exit, on kvm_entry: the reason still stands where KVM keeps it, and when the exit was KVM has
 * noted. What happens to an exit before its entry, and matters, is met by the programs below and by those of split.bpf.h,
 * which call note_unseen().
 */
#ifndef EXITSCOPE_ENTRY_BPF_H
#define EXITSCOPE_ENTRY_BPF_H

#include "alone.bpf.h"
#include "split.bpf.h"
#include "unseen.bpf.h"

/* The vCPU's next exit is counted the short way, if nothing is odd about the vCPU. */
static __always_inline void settle(struct vcpu_slot *slot)
{
	int plain = slot->state == VCPU_GUEST && slot->nests == NESTS_NOT && slot->line_mult;

	slot->plain_key = plain ? slot->key : 0;
}

/* A vCPU enters its guest for the first time that is seen: its exits count from here on. */
static __noinline int begin_vcpu(struct vcpu_slot *slot, u64 kvm_exits, u64 tsc, int l2)
{
	if (!slot)
		return 0;
	slot->first_ns = bpf_ktime_get_ns();
	slot->kvm_first = slot->kvm_last = kvm_exits;
	slot->kvm_known = 1;
	slot->last_tsc = tsc;
	if (l2)
		begin_nesting(slot);
	end_write(slot, in_guest(slot));
	return 0;
}

/*
 * Counts an exit that KVM has handled on its fast path and re-enters from: vcpu_enter_guest() in arch/x86/kvm/x86.c. Its
 * moment is the one that a program on its handler has noted; else it has no time.
 */
static __noinline int count_fast(struct vcpu_slot *slot, u64 kvm_exits)
{
	u64 began;

	if (!slot)
		return 0;
	began = slot->fast_tsc == slot->last_tsc ? slot->fast_ns : 0;
	begin_write(slot);
	slot->turn++;
	slot->kvm_last = kvm_exits;
	slot->code = code_now(slot);
	slot->l2 = slot->entered_l2;
	slot->fast_ns = 0;
	if (began)
		return count_host_time(slot->index, bpf_ktime_get_ns() - began, VCPU_HOST);
	return count_untimed(slot, VCPU_HOST);
}

/* Any entry that is not like most. */
static __noinline int odd_entry_alone(struct kvm_vcpu *vcpu)
{
	struct vcpu_slot *slot = hinted((u64)vcpu);
	u64 exits, tsc;
	int l2;

	if (slot->key != (u64)vcpu)
		slot = slot_or_lost(vcpu, config.one);
	if (!slot || slot->state == VCPU_IGNORED)
		return 0;
	exits = vcpu->stat.exits;
	tsc = vcpu->arch.last_guest_tsc;
	l2 = in_l2((u64)vcpu, slot->isa);
	slot->plain_key = 0;
	note_unseen(slot);
	if (slot->state == VCPU_NEW) {
		begin_vcpu(slot, exits, tsc, l2);
	} else if (is_out(slot->state)) {
		slot->last_tsc = tsc;
		odd_entry(slot, exits, 1, l2);
	} else if (slot->entry_failed) {
		slot->entry_failed = 0;
	} else {
		count_fast(slot, exits);
	}
	slot->entered_l2 = l2;
	keep_line(slot, vcpu->arch.l1_tsc_offset, vcpu->arch.l1_tsc_scaling_ratio);
	settle(slot);
	return 0;
}

/* The program on kvm_entry, one for each vendor. */
#define ON_ENTRY_ALONE(name, isa)                                                                    \
	SEC("?tp_btf/kvm_entry") int BPF_PROG(name, struct kvm_vcpu *vcpu)                           \
	{                                                                                            \
		struct vcpu_slot *slot = hinted((u64)vcpu);                                          \
                                                                                                     \
		if (!vcpu)                                                                           \
			return 0;                                                                    \
		return count_plain(vcpu, slot, isa) ? odd_entry_alone(vcpu) : 0;                     \
	}

ON_ENTRY_ALONE(on_entry_alone_vmx, ISA_VMX)
ON_ENTRY_ALONE(on_entry_alone_svm, ISA_SVM)

/*
 * Attached beside it while any vCPU has a need for that: see enum exit_need. Notes an exit where it is seen, so that it is as
 * with the pair. Whether it is attached may change at any time: an exit that was not noted here is told by its entry.
 */
SEC("?tp_btf/kvm_exit")
int BPF_PROG(on_exit_noted, struct kvm_vcpu *vcpu)
{
	struct vcpu_slot *slot = slot_of(vcpu);

	if (slot && (slot->needs || READ_ONCE(control.needs)))
		note_seen(slot);
	return 0;
}

/*
 * Where an exit that may be under way has to be noted. A thread leaves its CPU, for another thread, or asleep in the kernel,
 * or goes out to user space; or KVM is about to overwrite the exit's moment with a TSC that was written. With preemption off.
 */
#define NOTE_AT(name, function)                                                                      \
	SEC("?fentry/" #function) int BPF_PROG(name, struct kvm_vcpu *vcpu)                          \
	{                                                                                            \
		return note_unseen(slot_of(vcpu));                                                   \
	}

/* Where it is not told apart where host time goes, and so no program is where KVM_RUN returns. */
NOTE_AT(note_put, kvm_arch_vcpu_put)
NOTE_AT(note_tsc_write, __kvm_synchronize_tsc)

/*
 * The same where KVM is about to overwrite the moment with that of its clock for the guest, or on SVM the reason: in the
 * functions that programs.rs lists, whose first argument is a vCPU. By kprobes, which cost more, because other programs are
 * skipped where a vCPU was preempted in them, and one attached twice could not tell what both missed: see twice.bpf.h.
 */
SEC("?kprobe")
int note_overwritten(struct pt_regs *ctx)
{
	return note_unseen(slot_of((void *)ctx->di));
}

/* A thread that runs a vCPU leaves its CPU: the vCPU's preempt notifier, in virt/kvm/kvm_main.c. */
SEC("?fentry/kvm_sched_out")
int BPF_PROG(note_sched_out, struct preempt_notifier *notifier)
{
	u64 vcpu = (u64)notifier - bpf_core_field_offset(struct kvm_vcpu, preempt_notifier);

	return note_unseen(slot_of((struct kvm_vcpu *)vcpu));
}

/* Handlers of KVM's fast path, by the names that kernels have for them. */
#define FAST_AT(name, function)                                                                      \
	SEC("?fentry/" #function) int BPF_PROG(name, struct kvm_vcpu *vcpu)                          \
	{                                                                                            \
		struct vcpu_slot *slot = hinted((u64)vcpu);                                          \
                                                                                                     \
		if (slot->key != (u64)vcpu)                                                          \
			return 0;                                                                    \
		slot->fast_tsc = slot->last_tsc;                                                     \
		slot->fast_ns = bpf_ktime_get_ns();                                                  \
		return 0;                                                                            \
	}

FAST_AT(fast_set_msr, handle_fastpath_set_msr_irqoff)
FAST_AT(fast_wrmsr, handle_fastpath_wrmsr)
FAST_AT(fast_wrmsr_imm, handle_fastpath_wrmsr_imm)
FAST_AT(fast_hlt, handle_fastpath_hlt)
FAST_AT(fast_invd, handle_fastpath_invd)
FAST_AT(fast_timer, kvm_lapic_expired_hv_timer)

#endif
