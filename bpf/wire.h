/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * The types that both sides share: the BPF programs write them in memory-mapped arrays, the collector
 * reads them there through bindings made from this file. Plain integers only; all times are
 * nanoseconds of CLOCK_MONOTONIC.
 *
 * Every struct has one writer at a time: the vCPU that it belongs to (KVM holds vcpu->mutex while a
 * vCPU runs), or the collector once the vCPU is gone. Hence no atomics.
 */
#ifndef EXITSCOPE_WIRE_H
#define EXITSCOPE_WIRE_H

#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;

enum {
	/* Times have a bucket for each power of two: 2^37 ns, the lower bound of the last, are 137 s. */
	HISTOGRAM_BUCKETS = 38,
	/* Codes below COMMON_CODES, and NPF_CODES codes from NPF_BASE on, find their row by index. */
	COMMON_CODES = 0xb0,
	NPF_BASE = 0x400,
	NPF_CODES = 0x10,
	DIRECT_ROWS = COMMON_CODES + NPF_CODES,
	/* Any other code is looked for among the vCPU's odd rows, and there are at most so many of them. */
	MAX_ODD_ROWS = 64,
	/* How much of a VMM's command line is kept with the VM, for one that is gone before it was looked at. */
	ARGS_BYTES = 1024,
	COMM_BYTES = 16,
	/* Where a vCPU was last found. A wrong entry only costs a hash look-up. */
	HINT_BITS = 14,
	HINTS = 1 << HINT_BITS,
};

/* What a vCPU is doing, as its last event told. */
enum vcpu_state {
	VCPU_NEW = 0,     /* its first exit is being counted */
	VCPU_GUEST = 1,   /* in the guest */
	VCPU_HOST = 2,    /* its last exit is being handled */
	VCPU_ENDED = 3,   /* destroyed: the counters are final */
	VCPU_IGNORED = 4, /* not to be counted */
};

/* Shortest and longest host time within one epoch, which is the span between two samples. */
struct extremes {
	u64 epoch;
	u64 min_ns;
	u64 max_ns;
};

/* The exits of one vCPU for one reason. Row 0 belongs to nobody. */
struct row {
	u64 count;
	u64 time_ns;
	s64 code;
	u32 next; /* the vCPU's next row, 0 at the end */
	u32 unused;
	struct extremes extremes[2]; /* by the epoch's lowest bit: one is written while the other is read */
	u64 histogram[HISTOGRAM_BUCKETS];
};

/* One vCPU. Slot 0 belongs to nobody. */
struct vcpu_slot {
	u64 key;     /* whose slot this is: a kernel address, or thread and number; 0: nobody's */
	u64 exit_ns; /* when the exit that is being handled happened */
	u32 seq;     /* odd while the vCPU writes */
	u32 state;   /* enum vcpu_state */
	u32 open_row; /* the row of the exit that is being handled */
	u32 first_row;
	u64 exits;
	u64 kvm_first; /* KVM's own count of exits before the first that was seen ... */
	u64 kvm_last;  /* ... and at the last entry, or at the end */
	u64 no_row;
	u64 entry_without_exit;
	u64 exit_without_entry;
	u32 kvm_known; /* kvm_first and kvm_last hold something */
	u32 isa;       /* 1: VMX, 2: SVM, as KVM numbers them */
	u32 vm;        /* index in vms */
	u32 vcpu_id;
	u32 thread;
	u32 next_of_thread;
	u32 odd_rows;  /* how many rows have no place in direct[] */
	u32 first_odd; /* the first of them ... */
	u16 direct[DIRECT_ROWS];
};

/* One VM. VM 0 belongs to nobody. */
struct vm_info {
	u64 id;  /* counts up from 1 and is never used again */
	u64 key; /* a kernel address or a process id */
	u64 started_ns; /* when its process began (CLOCK_BOOTTIME), 0 if not known */
	u32 pid;
	u32 args_len;
	char comm[COMM_BYTES]; /* of the process, not of the thread */
	char args[ARGS_BYTES];
};

/* Where the plain tracepoints have a field, as their format file tells. */
struct field {
	u32 offset;
	u32 size; /* 4 or 8 */
};

/* Set before load; the verifier takes them for constants. */
struct config {
	u32 only_selected; /* only the VMs of processes in `selected` are counted */
	u32 max_rows, max_vcpus, max_vms; /* the sizes of the tables */
	struct field exit_reason, exit_isa, exit_vcpu_id, entry_vcpu_id, fork_child;
};

/* Shared figures. */
struct control {
	u64 epoch;     /* written by the collector before each sample */
	u64 next_vm_id;
	u32 next_row;  /* indices from here on were never used */
	u32 next_vcpu;
	u32 next_vm;
	u32 unused;
	u64 no_vcpu;    /* exits that found no slot; several CPUs write it */
	u64 unfollowed; /* processes that found no room in `selected`, likewise */
};

#include "kvmstat.h"

#endif
