// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * The same counting on raw tracepoints, for kernels before 5.16 without the type information of KVM's modules, which 5.10
 * never has. There kvm_exit has the arguments reason, vCPU and vendor: a kernel where it has fewer refuses to attach a
 * program that reads the third (bpf_raw_tracepoint_open() and __bpf_probe_register(), kernel/trace/bpf_trace.c).
 *
 * KVM's structures are not known, but for what stands first in struct kvm_vcpu (include/linux/kvm_host.h): the VM, a
 * struct preempt_notifier, of which the kernel's own types tell the size, the CPU, and the vCPU's number. That the
 * CPU is the one that this runs on is looked at when a vCPU is met: one of another layout is not counted, and told.
 */
#define WITHOUT_KVM_TYPES
#define KEYS_ARE_NUMBERS
/* What notes an exit that no program has seen: these see all. */
#pragma clang diagnostic ignored "-Wunused-function"
#include "count.bpf.h"
#include "compat.bpf.h"
#include "split.bpf.h"
#include "details.bpf.h"
#include "follow.bpf.h"
#include "hooks.bpf.h"
#include "stats.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Used by the programs that know the guest's registers alone. */
static __noinline int note_mode(struct vcpu_slot *slot)
{
	return 0;
}

/* True for an address in the kernel's half, which no exit reason and no vendor's number is. */
static __always_inline int is_kernel_address(u64 value)
{
	return (s64)value < 0;
}

/* Returns where struct kvm_vcpu has the CPU and, behind it, the vCPU's number; 0 if that is not known. */
static __always_inline u32 cpu_offset(void)
{
	return bpf_core_type_exists(struct preempt_notifier) ? 8 + bpf_core_type_size(struct preempt_notifier) : 0;
}

static __noinline u32 meet_vcpu(u64 key, u32 isa)
{
	struct task_struct *leader, *task = (void *)bpf_get_current_task();
	struct vcpu_slot *slot = slot_of((void *)key);
	struct {
		int cpu, id;
	} of = { -1, 0 };
	struct vm_key vm = {};
	u32 index;

	if (slot)
		return slot->index;
	if (cpu_offset())
		bpf_probe_read_kernel(&of, sizeof(of), (void *)key + cpu_offset());
	vm.key = load_u64((void *)key);
	if (of.cpu != bpf_get_smp_processor_id() || !is_kernel_address(vm.key))
		return 0;
	find_stats();
	leader = BPF_CORE_READ(task, group_leader);
	vm.started_ns = BPF_CORE_READ(leader, start_boottime);
	vm.args_from = BPF_CORE_READ(task, mm, arg_start);
	vm.args_to = BPF_CORE_READ(task, mm, arg_end);
	bpf_core_read(vm.comm, sizeof(vm.comm), &leader->comm);
	index = new_vcpu(key, of.id, isa, &vm);
	if (index) {
		vcpu_at(index)->polled = polled(key);
		run_by(vcpu_at(index), (u64)task, run_delay());
	}
	return index;
}

/* KVM's own count of a vCPU's exits, 0 if it is not known. */
static __always_inline u64 kvm_exits(u64 vcpu)
{
	return control.exits_at ? load_u64((void *)vcpu + control.exits_at) : 0;
}

/* The reason as a code. The barrier keeps clang from comparing one copy of it and using another, which the verifier minds. */
static __always_inline s64 code_of(u32 reason)
{
	s64 code = reason;

	barrier_var(code);
	return code;
}

/* The slot of a vCPU that has exited; none if it cannot be counted, which is told. */
static __always_inline struct vcpu_slot *exited(u64 vcpu, u32 isa)
{
	struct vcpu_slot *slot = hinted(vcpu);

	if (slot->key == vcpu)
		return slot;
	slot = is_kernel_address(vcpu) ? slot_at(meet_vcpu(vcpu, isa)) : 0;
	if (!slot)
		__sync_fetch_and_add(&control.no_vcpu, 1);
	return slot;
}

SEC("?raw_tp/kvm_exit")
int BPF_PROG(on_exit, u32 reason, u64 vcpu, u32 isa)
{
	struct vcpu_slot *slot = exited(vcpu, isa);

	if (!slot)
		return 0;
	if (slot->state == VCPU_GUEST)
		count_exit(slot, code_of(reason));
	else
		odd_exit(slot, code_of(reason), 0, MODE_UNKNOWN);
	return 0;
}

SEC("?raw_tp/kvm_exit")
int BPF_PROG(on_exit_only, u32 reason, u64 vcpu, u32 isa)
{
	struct vcpu_slot *slot = exited(vcpu, isa);

	if (!slot)
		return 0;
	if (control.exits_at)
		slot->kvm_last = kvm_exits(vcpu);
	if (slot->state != VCPU_GUEST || count_exit_only(slot, code_of(reason)))
		odd_exit_only(slot, code_of(reason), slot->kvm_last, control.exits_at != 0, 0);
	return 0;
}

SEC("?raw_tp/kvm_entry")
int BPF_PROG(on_entry, u64 vcpu)
{
	struct vcpu_slot *slot = hinted(vcpu);

	if (slot->key != vcpu)
		slot = slot_at(find_vcpu(vcpu));
	if (slot && slot->state == VCPU_HOST)
		count_entry(slot, kvm_exits(vcpu), control.exits_at != 0, 0);
	else
		odd_entry(slot, kvm_exits(vcpu), control.exits_at != 0, 0);
	return 0;
}

SEC("kprobe/kvm_arch_vcpu_destroy")
int ON_VCPU(on_destroy, struct kvm_vcpu *vcpu)
{
	u64 key = (u64)vcpu, vm;
	struct vcpu_slot *slot = slot_at(find_vcpu(key));

	if (!slot)
		return 0;
	vm = load_u64(vcpu);
	bpf_map_delete_elem(&vm_by_key, &vm);
	forget_task(slot);
	end_vcpu(slot, kvm_exits(key), control.exits_at && slot->first_ns);
	return 0;
}

/* What an exit is about, as KVM's tracepoints say it. */

SEC("?raw_tp/kvm_pio")
int BPF_PROG(hook_port, u32 rw, u32 port, u32 size)
{
	enum { PIO_OUT = 1 }; /* KVM_PIO_OUT of arch/x86/kvm/trace.h */

	return hear(slot_of_task(bpf_get_current_task()), KIND_PORT, (u16)port,
		    (rw == PIO_OUT ? DETAIL_WRITE : 0) | size << DETAIL_SIZE_SHIFT);
}

SEC("?raw_tp/kvm_msr")
int BPF_PROG(hook_msr, u32 write, u32 msr)
{
	return hear(slot_of_task(bpf_get_current_task()), KIND_MSR, msr, write ? DETAIL_WRITE : 0);
}

/*
 * A fault of guest-physical memory. On SVM the second argument is the fault's error code (APM vol. 2, 15.25.6), and on VMX
 * the exit qualification (SDM vol. 3, "Exit Qualification for EPT Violations"): both have a write in bit 1, but a fetch
 * in bit 4 and in bit 2.
 */
SEC("?raw_tp/kvm_page_fault")
int BPF_PROG(hook_gpa_fault, u64 gpa, u64 error)
{
	struct vcpu_slot *slot = slot_of_task(bpf_get_current_task());
	u64 fetch;

	if (!slot)
		return 0;
	fetch = slot->isa == ISA_SVM ? error & 16 : error & 4;
	return hear(slot, KIND_GPA, gpa & ~((2ull << 20) - 1), GPA_MEMORY | (error & 2 ? DETAIL_WRITE : fetch ? GPA_FETCH : 0));
}

/* A device's memory was read or written: also after a fault that did not know yet that there is none of the guest's. */
SEC("?raw_tp/kvm_mmio")
int BPF_PROG(hook_gpa_access, int type, int len, u64 gpa)
{
	enum { READ = 1, WRITE = 2 }; /* KVM_TRACE_MMIO_* of include/trace/events/kvm.h */

	if (type != READ && type != WRITE)
		return 0;
	return hear(slot_of_task(bpf_get_current_task()), KIND_GPA, gpa, type == WRITE ? DETAIL_WRITE : 0);
}

SEC("?raw_tp/kvm_fast_mmio")
int BPF_PROG(hook_gpa_fast, u64 gpa)
{
	return hear(slot_of_task(bpf_get_current_task()), KIND_GPA, gpa, DETAIL_WRITE);
}

SEC("?raw_tp/kvm_cr")
int BPF_PROG(hook_vmx_cr, u32 write, u32 cr)
{
	return hear(slot_of_task(bpf_get_current_task()), KIND_CR, cr, write ? DETAIL_WRITE : 0);
}
