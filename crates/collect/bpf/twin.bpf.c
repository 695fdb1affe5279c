// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * Twins of the programs that see an exit, for benchmarks: the same inlines, on made-up vCPUs, in programs of a kind that
 * BPF_PROG_TEST_RUN takes. It refuses those on tracepoints. Each run prepares one exit of the vCPU whose turn it is, as KVM
 * would leave it behind, and counts it; twin_none prepares alone.
 */
/* The rare ways have no twin. */
#pragma clang diagnostic ignored "-Wunused-function"
#include "alone.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum {
	/* A struct kvm_vcpu fits in, and what stands for a VMCB behind it. */
	TWIN_BITS = 14,
	TWIN_CODE_AT = (1 << TWIN_BITS) - 64,
	TWINS = 1024,
	TWIN_NS = 900, /* host time of each exit, as it is prepared */
};

struct twin_config {
	u32 vcpus;   /* that take turns: a power of two, TWINS at most */
	u32 reasons; /* that their exits have in turn, likewise, 64 at most */
};

const volatile struct twin_config twin_config SEC(".rodata.twin") = {};
struct {
	u64 turn;
	u64 odd; /* exits that took the rare way */
} twin_control SEC(".data.twin");

/* Also after the last, for the verifier: a vCPU's fields lie within. */
static u8 twins[(TWINS + 1) << TWIN_BITS] SEC(".bss.twins");

__noinline int count_detail(u32 slot_index, u32 row_index, u64 ns)
{
	return 0;
}

/* A vCPU that has exited. */
static __always_inline struct kvm_vcpu *prepare(void)
{
	u64 turn = twin_control.turn++;
	u64 at = turn & (twin_config.vcpus - 1) & (TWINS - 1);
	struct kvm_vcpu *vcpu = (void *)&twins[at << TWIN_BITS];

	barrier_var(vcpu);
	*(u64 *)((u8 *)vcpu + TWIN_CODE_AT) = (turn / twin_config.vcpus) & (twin_config.reasons - 1) & 63;
	vcpu->arch.last_guest_tsc = bpf_ktime_get_ns() - TWIN_NS;
	vcpu->stat.exits++;
	return vcpu;
}

/* What the rare way leaves behind: the vCPU has a slot, and the line of this jiffy. A made-up TSC is a nanosecond. */
static __noinline int settle(struct kvm_vcpu *vcpu, u64 exits)
{
	u64 key = (u64)vcpu;
	u32 index;
	struct vcpu_slot *slot;

	if (!vcpu)
		return 0;
	index = ((u64)key >> TWIN_BITS & (TWINS - 1)) + 1;
	slot = vcpu_at(index);
	twin_control.odd++;
	*hint_of(key) = index;
	slot->key = slot->plain_key = key;
	slot->state = VCPU_GUEST;
	slot->isa = ISA_SVM;
	slot->index = index;
	slot->kept_code_at = key + TWIN_CODE_AT;
	slot->line_jiffies = bpf_jiffies64();
	slot->line_mult = 1;
	slot->kvm_last = exits;
	return 0;
}

SEC("tc")
int twin_none(void *context)
{
	return prepare() ? 0 : 1;
}

SEC("tc")
int twin_one(void *context)
{
	struct kvm_vcpu *vcpu = prepare();
	struct vcpu_slot *slot = hinted((u64)vcpu);

	if (count_plain(vcpu, slot, ISA_SVM))
		settle(vcpu, vcpu->stat.exits);
	return 0;
}

SEC("tc")
int twin_pair(void *context)
{
	struct kvm_vcpu *vcpu = prepare();
	struct vcpu_slot *slot = hinted((u64)vcpu);

	if (slot->key != (u64)vcpu || slot->state != VCPU_GUEST)
		return settle(vcpu, vcpu->stat.exits);
	count_exit(slot, svm_kept_code(slot));
	barrier();
	slot = hinted((u64)vcpu);
	if (slot->key != (u64)vcpu || slot->state != VCPU_HOST)
		return settle(vcpu, vcpu->stat.exits);
	count_entry(slot, vcpu->stat.exits, 1, 0);
	return 0;
}

SEC("tc")
int twin_only(void *context)
{
	struct kvm_vcpu *vcpu = prepare();
	struct vcpu_slot *slot = hinted((u64)vcpu);

	if (slot->plain_key != (u64)vcpu)
		return settle(vcpu, vcpu->stat.exits);
	slot->kvm_last = vcpu->stat.exits;
	barrier();
	if (count_exit_only(slot, svm_kept_code(slot)))
		settle(vcpu, vcpu->stat.exits);
	return 0;
}
