/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * KVM's own statistics of one vCPU, as kvmstat.bpf.c hands them over. Part of wire.h: plain
 * integers only.
 */
#ifndef EXITSCOPE_KVMSTAT_H
#define EXITSCOPE_KVMSTAT_H

/*
 * The classes; the order is that of reason::kvm. The generic ones are in a struct of their own since 5.14
 * (struct kvm_vcpu_stat, arch/x86/include/asm/kvm_host.h).
 */
#define KVM_CLASS_LIST(CLASS, GENERIC) \
	CLASS(io_exits) CLASS(mmio_exits) CLASS(signal_exits) CLASS(irq_window_exits) \
	CLASS(nmi_window_exits) CLASS(halt_exits) CLASS(request_irq_exits) CLASS(irq_exits) \
	CLASS(notify_window_exits) CLASS(insn_emulation) CLASS(insn_emulation_fail) CLASS(hypercalls) \
	CLASS(invlpg) CLASS(pf_taken) CLASS(pf_fixed) CLASS(pf_emulate) CLASS(pf_spurious) \
	CLASS(pf_fast) CLASS(pf_mmio_spte_created) CLASS(pf_guest) CLASS(irq_injections) \
	CLASS(nmi_injections) CLASS(req_event) CLASS(nested_run) CLASS(tlb_flush) CLASS(l1d_flush) \
	CLASS(host_state_reload) CLASS(fpu_reload) CLASS(directed_yield_attempted) \
	CLASS(directed_yield_successful) CLASS(preemption_reported) CLASS(preemption_other) \
	GENERIC(halt_attempted_poll) GENERIC(halt_successful_poll) GENERIC(halt_poll_invalid) \
	GENERIC(halt_wakeup)

enum {
	KVM_CLASSES = 36,
	CLASS_NAME_BYTES = 32,
};

/* Why a record was written. */
enum kvmstat_event {
	KVMSTAT_SEEN = 0,  /* the walk over all open files came across it */
	KVMSTAT_BORN = 1,  /* it is being created */
	KVMSTAT_ENDED = 2, /* it is being destroyed: the figures are final */
	KVMSTAT_LEFT = 3,  /* its process is ending, and no other may have it */
	KVMSTAT_KNOWN = 4, /* it was met before, and has not been destroyed */
	KVMSTAT_MET = 5,   /* it runs, and was not met before: nobody may have a descriptor of it */
};

/* One vCPU of one process. The same vCPU is met more than once if several processes hold its file. */
struct kvmstat_vcpu {
	u64 time_ns; /* when it was read: which order things happened in */
	u64 vcpu; /* kernel addresses: to tell vCPUs and VMs apart, never to be shown */
	u64 kvm;
	u64 started_ns; /* when the process began (CLOCK_BOOTTIME) */
	u64 exits;
	u64 classes[KVM_CLASSES];
	u64 known; /* bit n: this kernel has class n */
	u32 vcpu_id;
	u32 pid;
	u32 event;    /* enum kvmstat_event */
	u32 followed; /* the process is one of those in `selected` */
	char comm[COMM_BYTES]; /* of the process, not of the thread */
};

/* The same for a vCPU that is created or destroyed, with the head of the process's command line. */
struct kvmstat_change {
	struct kvmstat_vcpu vcpu;
	u32 args_len;
	u32 unused;
	char args[ARGS_BYTES];
};

#endif
