// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * Reads KVM's own statistics of every vCPU, for hosts where kvm_exit never fires. A walk over all open files
 * finds the vCPUs that exist; nothing runs when a vCPU exits. Hooks at a vCPU's first and last moment tell
 * what the walks in between have missed. Once met, a vCPU is known until it is destroyed, also if nobody has a
 * descriptor of it any more.
 */
#include "wire.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Names for user space to check its own against. */
#define NAME(class) #class,
const char class_names[KVM_CLASSES][CLASS_NAME_BYTES] SEC(".rodata.names") = { KVM_CLASS_LIST(NAME, NAME) };

/* magic.h's ANON_INODE_FS_MAGIC: only the kernel gives names in there. */
#define ANON_INODE_FS 0x09041934

/* A process with more files than that has its VM's among the first. */
#define MAX_FILES 65536
#define MAX_THREADS 65536

/* Flags of task_struct. */
#define PF_EXITING 0x4
#define PF_USER_WORKER 0x4000 /* a kernel's thread in a user's process, e.g. KVM's since 6.15 */
/* So many threads of that kind a process may have. */
#define MAX_WORKERS 256

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct mm_struct {
	unsigned long arg_start, arg_end;
};

struct file;

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct list_head {
	struct list_head *next;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
	struct list_head thread_head;
};

struct task_struct {
	int pid, tgid;
	unsigned int flags;
	struct list_head thread_node;
	struct files_struct *files;
	struct signal_struct *signal;
	struct task_struct *group_leader;
	u64 start_boottime;
	struct mm_struct *mm;
	char comm[COMM_BYTES];
};

struct super_block {
	unsigned long s_magic;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct super_block *d_sb;
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	void *private_data;
};

#define FIELD(class) u64 class;
#define NO_FIELD(class)
struct kvm_vcpu_stat_generic {
	KVM_CLASS_LIST(NO_FIELD, FIELD)
};

struct kvm_vcpu_stat {
	struct kvm_vcpu_stat_generic generic;
	u64 exits;
	KVM_CLASS_LIST(FIELD, FIELD)
};

struct kvm;

struct kvm_vcpu {
	struct kvm *kvm;
	int vcpu_id;
	struct kvm_vcpu_stat stat;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_map;

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
};

#pragma clang attribute pop

/* Processes whose VMs are wanted, if not all are: one that they start becomes one too. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, u8);
} selected SEC(".maps");

/* Changes between two walks; some 1,800 fit. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} changes SEC(".maps");

/* A vCPU that exists, and whose it is. */
struct known_vcpu {
	u64 kvm;
	u64 started_ns;
	u32 vcpu_id;
	u32 pid;
	char comm[COMM_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* its kernel address */
	__type(value, struct known_vcpu);
} known SEC(".maps");

/* Processes that have, or had, a descriptor of a vCPU. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, u32);
	__type(value, u8);
} owners SEC(".maps");

/* Set before load: creations are told, and so all owners are known but those that a vCPU was handed to. */
const volatile u32 told SEC(".rodata.told") = 0;

/* Counts of what found no room in the tables above. */
u64 lost_changes SEC(".data.lost");
u64 lost_processes SEC(".data.lost");
u64 unknown_owners SEC(".data.owners");
/* Counts of descriptors that were looked at because their process ended. */
u64 visits SEC(".data.visits");

/* Says whose a vCPU is, by its number and VM, and by the process of a thread. */
static __always_inline void describe_owner(struct known_vcpu *out, struct kvm_vcpu *vcpu, struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	out->kvm = (u64)BPF_CORE_READ(vcpu, kvm);
	out->vcpu_id = BPF_CORE_READ(vcpu, vcpu_id);
	out->pid = BPF_CORE_READ(task, tgid);
	out->started_ns = BPF_CORE_READ(leader, start_boottime);
	bpf_core_read(out->comm, sizeof(out->comm), &leader->comm);
}

/* Keeps a vCPU, and that the process has a descriptor of it. */
static __always_inline void keep(u64 vcpu, struct known_vcpu *of, u64 flags)
{
	u32 pid = of->pid;
	u8 yes = 1;

	if (bpf_map_update_elem(&known, &vcpu, of, flags) && !bpf_map_lookup_elem(&known, &vcpu))
		__sync_fetch_and_add(&lost_changes, 1);
	if (bpf_map_update_elem(&owners, &pid, &yes, BPF_ANY))
		unknown_owners = 1;
}

static __always_inline void describe(struct kvmstat_vcpu *out, struct kvm_vcpu *vcpu, const struct known_vcpu *of)
{
	/* A key on the stack: old verifiers (6.1) take none that lies in a ring buffer. */
	u32 class = 0, pid = of->pid;

	out->time_ns = bpf_ktime_get_ns();
	out->vcpu = (u64)vcpu;
	out->kvm = of->kvm;
	out->vcpu_id = of->vcpu_id;
	out->pid = pid;
	out->started_ns = of->started_ns;
	__builtin_memcpy(out->comm, of->comm, COMM_BYTES);
	out->followed = bpf_map_lookup_elem(&selected, &pid) != 0;
	out->exits = BPF_CORE_READ(vcpu, stat.exits);
#define READ_FIELD(field)                                                \
	if (bpf_core_field_exists(vcpu->stat.field)) {                   \
		out->classes[class] = BPF_CORE_READ(vcpu, stat.field);   \
		out->known |= 1ull << class;                             \
	}
#define READ(name) READ_FIELD(name) class++;
#define READ_GENERIC(name) READ_FIELD(generic.name) else READ_FIELD(name) class++;
	KVM_CLASS_LIST(READ, READ_GENERIC)
}

/* KVM names a vCPU's file kvm-vcpu:NUMBER (virt/kvm/kvm_main.c). */
static __always_inline int is_vcpu(struct file *file)
{
	static const char prefix[] = "kvm-vcpu:";
	char name[sizeof(prefix)] = {};

	if (BPF_CORE_READ(file, f_path.dentry, d_sb, s_magic) != ANON_INODE_FS)
		return 0;
	bpf_probe_read_kernel(name, sizeof(name) - 1, BPF_CORE_READ(file, f_path.dentry, d_name.name));
	for (u32 i = 0; i < sizeof(name) - 1; i++)
		if (name[i] != prefix[i])
			return 0;
	return 1;
}

SEC("iter/task_file")
int walk(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct kvmstat_vcpu found = {};
	struct known_vcpu owner = {};
	struct kvm_vcpu *vcpu;

	if (!task || !file || !is_vcpu(file))
		return 0;
	vcpu = BPF_CORE_READ(file, private_data);
	if (!vcpu)
		return 0;
	describe_owner(&owner, vcpu, task);
	/* The first process that it was met with stays: others have it from that one. */
	keep((u64)vcpu, &owner, BPF_NOEXIST);
	found.event = KVMSTAT_SEEN;
	describe(&found, vcpu, &owner);
	bpf_seq_write(ctx->meta->seq, &found, sizeof(found));
	return 0;
}

/* Reads the vCPUs that are known, whether or not a process has a descriptor of them. */
SEC("?iter/bpf_map_elem")
int walk_known(struct bpf_iter__bpf_map_elem *ctx)
{
	struct kvmstat_vcpu found = {};
	u64 *key = ctx->key, vcpu_key;
	struct known_vcpu *value = ctx->value, of;
	struct kvm_vcpu *vcpu;

	if (!key || !value)
		return 0;
	vcpu_key = *key;
	of = *value;
	vcpu = (void *)vcpu_key;
	found.event = KVMSTAT_KNOWN;
	describe(&found, vcpu, &of);
	/* One whose end was not told, because the kernel skipped the program: this memory is somebody else's by now. */
	if ((u64)BPF_CORE_READ(vcpu, kvm) != of.kvm || BPF_CORE_READ(vcpu, vcpu_id) != of.vcpu_id)
		return 0;
	bpf_seq_write(ctx->meta->seq, &found, sizeof(found));
	return 0;
}

static __noinline int report(struct kvm_vcpu *vcpu, u32 event)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct known_vcpu owner = {};
	struct kvmstat_change *out;
	u64 key = (u64)vcpu, from, to;

	describe_owner(&owner, vcpu, task);
	if (event == KVMSTAT_ENDED)
		bpf_map_delete_elem(&known, &key);
	else if (event != KVMSTAT_LEFT)
		keep(key, &owner, BPF_ANY);
	out = bpf_ringbuf_reserve(&changes, sizeof(*out), 0);
	if (!out) {
		/* One that was just met is met again when it runs again. */
		if (event == KVMSTAT_MET)
			bpf_map_delete_elem(&known, &key);
		else
			__sync_fetch_and_add(&lost_changes, 1);
		return 0;
	}
	__builtin_memset(&out->vcpu, 0, sizeof(out->vcpu));
	out->vcpu.event = event;
	out->args_len = 0;
	describe(&out->vcpu, vcpu, &owner);
	/* A process that is ending has no memory any more. */
	from = BPF_CORE_READ(task, mm, arg_start);
	to = BPF_CORE_READ(task, mm, arg_end);
	if (from && to > from) {
		u64 length = to - from;

		if (length > ARGS_BYTES)
			length = ARGS_BYTES;
		if (bpf_probe_read_user(out->args, length, (void *)from) == 0)
			out->args_len = length;
	}
	bpf_ringbuf_submit(out, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("fentry/kvm_arch_vcpu_create")
int BPF_PROG(on_create, struct kvm_vcpu *vcpu)
{
	return report(vcpu, KVMSTAT_BORN);
}

/*
 * A thread that runs a vCPU gets a CPU. Attached while KVM counts exits of vCPUs that nobody is known to have, and no
 * longer: this runs at each KVM_RUN too.
 */
SEC("?fentry/kvm_arch_vcpu_load")
int BPF_PROG(on_load, struct kvm_vcpu *vcpu)
{
	u64 key = (u64)vcpu;

	return bpf_map_lookup_elem(&known, &key) ? 0 : report(vcpu, KVMSTAT_MET);
}

SEC("fentry/kvm_arch_vcpu_destroy")
int BPF_PROG(on_destroy, struct kvm_vcpu *vcpu)
{
	return report(vcpu, KVMSTAT_ENDED);
}

/* The same as in exits.bpf.c. */
SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(on_fork, struct task_struct *child)
{
	u32 from = bpf_get_current_pid_tgid() >> 32, to = BPF_CORE_READ(child, tgid);
	u8 yes = 1;

	if (from != to && bpf_map_lookup_elem(&selected, &from) && bpf_map_update_elem(&selected, &to, &yes, BPF_ANY))
		__sync_fetch_and_add(&lost_processes, 1);
	return 0;
}

static long visit(u32 fd, struct fdtable **known)
{
	struct fdtable *table = *known;
	struct file *file = 0, **files = BPF_CORE_READ(table, fd);
	struct kvm_vcpu *vcpu;

	__sync_fetch_and_add(&visits, 1);
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	if (!file || !is_vcpu(file))
		return 0;
	vcpu = BPF_CORE_READ(file, private_data);
	if (vcpu)
		report(vcpu, KVMSTAT_LEFT);
	return 0;
}

struct threads {
	struct list_head *at, *head;
	u32 alive;
};

/* Stops at the first thread that may still run the process's code. */
static long look_at_thread(u32 i, struct threads *threads)
{
	struct list_head *at = threads->at;
	struct task_struct *task;
	u32 flags;

	if (!at || at == threads->head)
		return 1;
	task = (void *)at - bpf_core_field_offset(struct task_struct, thread_node);
	flags = BPF_CORE_READ(task, flags);
	threads->alive = !(flags & (PF_EXITING | PF_USER_WORKER));
	threads->at = BPF_CORE_READ(at, next);
	return threads->alive;
}

/*
 * The last thread of a process that can run a vCPU ends, and the files are still open. Threads that end at
 * the same time may both be the last; the later figures count.
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_leave, struct task_struct *task)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct threads threads = {};
	struct list_head *head;
	struct fdtable *table;
	u32 pid = BPF_CORE_READ(task, tgid), files;

	if (BPF_CORE_READ(signal, live.counter) > MAX_WORKERS)
		return 0;
	head = (void *)signal + bpf_core_field_offset(struct signal_struct, thread_head);
	threads.head = head;
	threads.at = BPF_CORE_READ(head, next);
	bpf_loop(MAX_THREADS, look_at_thread, &threads, 0);
	if (threads.alive)
		return 0;
	/*
	 * Most processes have no vCPU, and their files are not looked at. Of one that was handed a vCPU since the last walk, the
	 * vCPU's end tells.
	 */
	table = 0;
	if (!told || unknown_owners || bpf_map_lookup_elem(&owners, &pid))
		table = BPF_CORE_READ(task, files, fdt);
	if (table) {
		files = BPF_CORE_READ(table, max_fds);
		bpf_loop(files < MAX_FILES ? files : MAX_FILES, visit, &table, 0);
	}
	bpf_map_delete_elem(&selected, &pid);
	bpf_map_delete_elem(&owners, &pid);
	return 0;
}
