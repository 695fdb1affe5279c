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

#include "kinds.bpf.h"

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
	/* With how many different reasons the exits of one row may return to user space. */
	MAX_RETURNS = 64,
	/* Greatest number of details of one row that are told apart. */
	MAX_DETAILS = 256,
	/* Maximum number of reasons, and of ranges of keys, that the programs know to be asked for. */
	MAX_CHOSEN = 16,
	/* Attributes of a detail: it was written; its size in bytes in bits 8 to 15; flags of its kind from bit 16 on. */
	DETAIL_WRITE = 1,
	DETAIL_SIZE_SHIFT = 8,
	DETAIL_FLAG_SHIFT = 16,
	/* Maximum number of marks (bytes written to ports) of one vCPU that are told between two looks. */
	MAX_MARKS = 1024,
	/* Bytes of a VMM's command line that are kept with the VM, should the VMM end before it is looked at. */
	ARGS_BYTES = 1024,
	COMM_BYTES = 16,
	/* Where a vCPU was last found. A wrong entry only costs a hash look-up. */
	HINT_BITS = 14,
	HINTS = 1 << HINT_BITS,
	/*
	 * Rows after the last, for the verifier. It knows of a bucket only that it lies within a byte's range; with this
	 * much room that is enough for it, and a comparison is saved at every exit.
	 */
	SLACK_ROWS = 1,
	/* Immediates of the programs that stand for the lengths of tables less one; see within() in tables.bpf.h. */
	ROW_MASK_MARK = 0x5ca1ab01,
	VCPU_MASK_MARK = 0x5ca1ab02,
	RETURN_MASK_MARK = 0x5ca1ab03,
	DETAIL_MASK_MARK = 0x5ca1ab04,
	/* A process, or a user, that takes a place may hold less than so many times what is free; see fair.bpf.h. */
	PROCESS_SHARE = 6,
	USER_SHARE = 16,
	/* Counters of held places, of which each owner has two, found by hash. */
	HOLDINGS_BITS = 12,
	HOLDINGS = 1 << HOLDINGS_BITS,
};

/* Tables whose places are given out fairly. */
enum fair_table {
	FAIR_VCPUS = 0,
	FAIR_ROWS = 1,
	FAIR_RETURNS = 2,
	FAIR_DETAILS = 3,
	FAIR_TABLES = 4,
};

/* Places of each enum fair_table that somebody holds. Programs add with atomics, and the collector subtracts so. */
struct holding {
	u32 places[FAIR_TABLES];
};

/* Where the process and the user of a vCPU have their counters. */
struct owners {
	u16 process[2];
	u16 user[2];
};

/*
 * State of a vCPU by its last event. Whoever writes what belongs to a vCPU sets VCPU_WRITING before and
 * another state afterwards, so that a reader who finds the same state, exit and turn before and after it has read
 * has read one moment.
 */
enum vcpu_state {
	VCPU_NEW = 0,       /* known, and not counted yet */
	VCPU_GUEST = 1,     /* in the guest */
	VCPU_HOST = 2,      /* its last exit is being handled ... */
	VCPU_HOST_MORE = 3, /* ... and there is more to do at the next entry than to count it */
	VCPU_WRITING = 4,
	VCPU_ENDED = 5,     /* destroyed: the counters are final */
	VCPU_IGNORED = 6,   /* not to be counted */
	VCPU_GUEST_NESTED = 7, /* in the guest, or in a guest of the guest's: which of them, each exit and entry asks */
};

/* Where the time of the exit that is being handled goes. */
enum vcpu_phase {
	PHASE_KERNEL = 0, /* KVM handles it */
	PHASE_USER = 1,   /* the VMM does */
	PHASE_HALTED = 2, /* it waits for an event */
};

/* Knowledge of a vCPU's guest: has it guests of its own (L2), as far as it was seen to enter one? */
enum vcpu_nests {
	NESTS_NOT = 0,
	NESTS = 1,
	NESTS_UNTOLD = 2, /* it does, and its exits cannot be told from theirs */
};

/*
 * Reasons why exits have to be seen where they happen, beside at their entries; bits. This is the whole list: whoever needs
 * more of an exit than KVM keeps until the entry adds one here, sets it in the vCPU's slot or for all, and the collector
 * attaches the program on kvm_exit (on_exit_noted() in entry.bpf.h) while any is set.
 */
enum exit_need {
	NEED_CLOCK = 1,  /* the kernel's clock is not the TSC, so that KVM's moment of an exit says nothing */
	NEED_NESTED = 2, /* the guest has guests of its own, and KVM may put another reason in place of one of theirs */
	NEED_SECRET = 4, /* the guest keeps its registers from the host, and the reason that it exits with is replaced */
};

/* Programs that are attached twice and say which of the two has run: is_done() in split.bpf.h. */
enum twice {
	TWICE_RETURN = 1,
	TWICE_RUN = 2,
	TWICE_BLOCK = 3,
	TWICE_WAKEUP = 4,
	TWICE_MARK = 5,
	TWICE_FAULT = 6,
	TWICE_FAST_MMIO = 7,
	TWICE_MMIO = 8,
	TWICE_DOORBELL = 9,
	TWICE_CPUID = 10,
	TWICE_HYPERCALL = 11,
};

/* In which mode a guest exited: model::Mode. */
enum guest_mode {
	MODE_UNKNOWN = 0,
	MODE_REAL = 1,
	MODE_PROTECTED = 2,
	MODE_LONG_LOW = 3,  /* the instruction pointer is in the lower half of the addresses ... */
	MODE_LONG_HIGH = 4, /* ... or in the upper half */
	MODES = 5,
};

/* Shortest and longest host time of an epoch, which is the span between two samples. */
struct extremes {
	u64 epoch;
	u64 min_ns;
	u64 max_ns;
};

/* Detail of an exit. Kind 0: it is not known. */
struct detail_key {
	u64 key;
	u32 attributes;
	u32 kind; /* enum detail_kind */
};

/* Exits that were about one thing. */
struct detail_counters {
	u64 count;
	u64 time_ns;
	u64 max_ns; /* the longest of `epoch` ... */
	u64 epoch;
	u64 last_max_ns; /* ... and of an epoch before */
	u64 last_epoch;
};

/* The exits of one vCPU for one reason. Row 0 belongs to nobody. */
struct row {
	u64 time_ns;
	/*
	 * The extremes of `epoch`. A time is none of them where ns - min_ns < span, which is one comparison for both;
	 * the collector sets span to 0 when it begins an epoch, so that the next exit looks closer.
	 */
	u64 min_ns;
	u64 span;
	u64 max_ns;
	u64 timeless; /* exits that have no time; all others are in the histogram */
	u64 epoch;
	struct extremes last; /* those of an epoch before */
	s64 code;
	u32 next; /* the vCPU's next row, 0 at the end */
	u32 first_return;
	u32 low, high; /* all buckets that hold anything lie from the first to the second: no need to read the others */
	u64 user_exits; /* how many went out to user space */
	/* Where the time of those went that have entered again. */
	u64 user_ns;
	u64 halted_ns; /* polled_ns included */
	u64 polled_ns;
	u64 waiting_ns;
	u64 histogram[HISTOGRAM_BUCKETS];
	u32 l2; /* these exits are those of the guest's guests */
	u32 kind; /* enum detail_kind of what they are about, where that is counted; else 0 */
	u32 first_detail;
	u32 details; /* number of different ones */
	struct detail_counters other_details; /* exits that are in none of them */
	u64 births; /* number of details that were ever put into the list */
	/* How often a detail found no place; and what this has to come to until one is cold. See cold_detail(). */
	u64 floor, warm;
	u64 modes[MODES];  /* exits by enum guest_mode, where that is counted */
	/* Of L2's exits: how many went to L1 to be handled, and what that cost until L1 entered an L2 again. */
	u64 to_l1;
	u64 l1_done; /* how many of those L1 has handled: it entered an L2 again ... */
	u64 l1_exits; /* ... after so many exits of its own, that entry's included ... */
	u64 l1_ns;    /* ... and after so long, counted from the entry into L1 */
};

/* Count of KVM_RUN's returns with one reason, while exits of one row were handled. Return 0 is nobody's. */
struct user_return {
	u64 count;
	int reason; /* KVM_EXIT_*, or a negative error */
	u32 next;   /* the row's next one, 0 at the end */
};

/* Exits of one row that were about one thing. Detail 0 is nobody's. */
struct detail {
	u64 key;
	u32 attributes;
	u32 next; /* the row's next one, 0 at the end; the one that was met last comes first */
	struct detail_counters counters;
	u64 born;  /* the row's `births` when it was put into the list, it included ... */
	u64 floor; /* ... and the row's `floor` */
};

/*
 * One vCPU. Slot 0 belongs to nobody. An exit is counted when the vCPU enters again; until then it is here: `state`
 * says so, and is written after `code` and `exit_ns`.
 */
struct vcpu_slot {
	u64 key;     /* whose slot this is: a kernel address, or thread and number; 0: nobody's */
	u64 exit_ns; /* when the exit that is being handled happened ... */
	s64 code;    /* ... and its reason, as narrow or wide as KVM has it */
	u32 state;   /* enum vcpu_state */
	u32 turn;    /* changes with whatever is written between an exit and the next entry */
	u64 kvm_last;  /* KVM's own count of exits at the last entry, or at the end ... */
	u64 kvm_first; /* ... and before the first exit that was seen */
	u64 first_ns;  /* when that was ... */
	u64 end_ns;    /* ... and when the vCPU was destroyed */
	u64 no_row;
	u64 rowless_ns; /* host time of those exits, and of one that was being handled at the end */
	u64 no_detail; /* exits whose detail found no place */
	u64 entry_without_exit;
	u64 exit_without_entry;
	/* Where the time of the exit that is being handled went so far; see struct row. */
	u64 phase_ns; /* since when it is in `phase` */
	u64 user_ns;
	u64 halted_ns;
	u64 polled_ns;
	u64 waiting_ns;
	u64 code_at;    /* where the kernel has the exit code, or for SVM the VMCB's address */
	u64 kept_code_at; /* where it has the exit code itself, for SVM in L1's VMCB: while the vCPU does not nest */
	u64 task;       /* the thread that runs the vCPU ... */
	u64 run_delay;  /* ... and its run delay when we looked last */
	u64 wait_begin; /* waiting_ns when the vCPU began to halt ... */
	u64 polled;     /* how long KVM had polled for it when we looked last */
	u32 phase;      /* enum vcpu_phase */
	u32 went_out;   /* KVM_RUN has returned since the exit */
	u32 kvm_known;  /* kvm_first and kvm_last hold something */
	u32 isa;        /* 1: VMX, 2: SVM, as KVM numbers them */
	u32 vm;         /* index in vms */
	u32 vcpu_id;
	u32 thread;
	u32 next_of_thread;
	u32 first_row; /* its rows in direct[] ... */
	u32 first_odd; /* ... and those that have no place there */
	u32 odd_rows;  /* how many those are */
	u32 rows;      /* how many rows there are in all */
	u32 index;     /* of this slot */
	u32 levels;    /* whether L1's exits and L2's can be told apart */
	u32 nests;     /* enum vcpu_nests */
	u32 l2;        /* the exit that is being handled, or the last one, is L2's */
	u32 l1_row;    /* the row of the exit of L2 that L1 handles now; 0: none */
	u32 pid;       /* the process that ran the vCPU first */
	u64 l1_exits;  /* KVM's count of exits when L1 began with that ... */
	u64 l1_ns;     /* ... and when that was */
	/* What an exit is about: where the kernel has it ... */
	u64 regs_at;   /* the guest's registers, by their number */
	u64 qual_at;   /* VMX: the exit qualification ... */
	u64 avail_at;  /* ... which is that of this exit if in the bits there ... */
	u64 avail_bit; /* ... this one is set; 0 if there is nothing that says so */
	u64 intr_at;   /* VMX: the interruption information ... */
	u64 intr_bit;  /* ... likewise */
	struct detail_key hooked; /* what a program of hooks.bpf.h has heard of the exit that is being handled */
	u64 rang;      /* address of a doorbell that the exit rang, plus 1; else 0 */
	struct detail_key noted; /* of the exit that is being handled, if KVM_RUN has returned since it */
	u32 secret;    /* the guest keeps its registers from the host (SEV-ES, SEV-SNP, TDX) */
	u32 done_by;   /* enum twice: the program whose second has not run yet since its first has */
	u32 mode;      /* enum guest_mode, where that is counted: of the exit that is being handled, or of the last one */
	u32 marks; /* told since the look that ended the epoch before ... */
	u64 mark_epoch; /* ... this one */
	/* Where exits are counted at entries alone: see unseen.bpf.h and timekeeper.bpf.h. */
	u64 plain_key; /* `key` where the next exit can be counted the short way; else 0 */
	u64 last_tsc;  /* KVM's moment of the exit that was seen last, in L1's TSC */
	u64 fast_ns;   /* when a handler of KVM's fast path ran ... */
	u64 fast_tsc;  /* ... and what last_tsc was then */
	u64 untimed;   /* exits that have no time because their moment is not known */
	/* The line from L1's TSC to time: line_ns + (tsc * line_mult + line_add >> line_shift); no line where line_mult is 0 ... */
	u64 line_mult;
	u64 line_add;
	u64 line_shift;
	u64 line_ns;
	u64 line_tsc;  /* ... which begins here ... */
	u64 line_frac; /* ... with this part of a nanosecond, shifted ... */
	u64 line_offset; /* ... of a vCPU whose TSC differs by this from the host's ... */
	u64 line_ratio;  /* ... and goes so much faster ... */
	u64 line_jiffies; /* ... as the timekeeper had it at this jiffy ... */
	u64 line_tried;
	u32 line_tries;
	u32 line_seq;    /* ... and at this move of it */
	u32 entered_l2;  /* the vCPU has entered an L2 */
	u32 entry_failed; /* the last entry was none */
	u32 no_time;     /* the exit that is being handled is to have none */
	u32 needs;       /* enum exit_need of this vCPU */
	struct owners owners;
	u16 direct[DIRECT_ROWS];
	u16 detailed[DIRECT_ROWS]; /* likewise, of the rows that have details: these are not in direct[] */
};

/* One VM. VM 0 belongs to nobody. */
struct vm_info {
	u64 id;  /* is never used again */
	u64 key; /* a kernel address or a process id */
	u64 started_ns; /* when its process began (CLOCK_BOOTTIME), 0 if not known */
	u32 pid;
	u32 args_len;
	u32 turn; /* how many VMs have had this place before */
	u32 unused;
	char comm[COMM_BYTES]; /* of the process, not of the thread */
	char args[ARGS_BYTES];
};

/* A byte that a guest wrote to a port for marks. */
struct port_mark {
	u64 ns; /* when it exited for that */
	u64 vm; /* the VM's id */
	u32 vcpu;
	u16 port;
	u8 value;
	u8 unused;
};

/* Where the plain tracepoints have a field, as their format file tells. */
struct field {
	u32 offset;
	u32 size; /* 4 or 8 */
};

/* Keys of one kind, from the first to the last. */
struct key_range {
	u64 first, last;
	u32 kind; /* enum detail_kind */
	u32 unused;
};

/* Set before load; the verifier takes them for constants. */
struct config {
	u64 tk_fast_mono, clocksource_tsc; /* addresses of the kernel's variables of these names */
	u64 kvm_stats; /* address of KVM's debugfs_entries, 0 if there is none; see stats.bpf.h */
	/* Only exits for these reasons have details, if there are any here ... */
	s64 only_codes[MAX_CHOSEN];
	/* ... and only these details are told apart. */
	struct key_range only_keys[MAX_CHOSEN];
	u32 codes, keys; /* how many there are */
	u32 only_selected; /* only the VMs of processes in `selected` are counted */
	u32 kinds; /* a bit for each enum detail_kind that is counted */
	u32 guest;   /* exits by the guest's mode are */
	u32 one;     /* exits are counted at entries alone: the vendor, as KVM numbers them; else 0 */
	u32 max_rows, max_vcpus, max_vms, max_returns, max_details; /* how many there may be, nobody's included */
	u32 seed; /* of hashes that nobody is to foresee */
	struct field exit_reason, exit_isa, exit_vcpu_id, entry_vcpu_id, fork_child;
	u32 isa; /* the vendor of every vCPU, as KVM numbers them; 0 where each tells */
	u32 unused;
};

/* Shared figures. */
struct control {
	u64 epoch;     /* written by the collector before each sample */
	u64 next_vm_id;
	u32 next_row;  /* indices from here on were never used */
	u32 next_vcpu;
	u32 next_vm;
	u32 next_return;
	u32 next_detail;
	u32 needs;      /* enum exit_need of all vCPUs; written by the collector */
	u64 no_vcpu;    /* exits that found no slot; several CPUs write it */
	u64 unfollowed; /* processes that found no room in `selected`, likewise */
	u64 no_return;  /* returns to user space that found no place, likewise */
	u64 no_mark;    /* bytes written to ports for marks that were not told, likewise */
	u64 moved_details; /* details that made room for others, likewise */
	struct holding held; /* by all together */
	/* Where struct kvm_vcpu has KVM's count of exits, and its times of polling, 0 if not known: see stats.bpf.h. */
	u32 exits_at, polled_at, polled_in_vain_at;
	u32 looked_for_stats;
	u64 stood_in;  /* runs that the second of two equal programs did where the first was skipped, likewise; see enum twice ... */
	u64 stood_in_marks; /* ... and those for marks */
	u64 no_level;   /* vCPUs whose exits cannot be told from those of their guest's guests, likewise */
};

#include "kvmstat.h"

#endif
