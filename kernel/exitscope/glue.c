// SPDX-License-Identifier: GPL-2.0
/*
 * Parts that must be C: fields of KVM's structures, for which Rust has no bindings, and macros of the
 * kernel: the static key, module parameters, per-CPU memory, the work, the file operations.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/workqueue.h>

#include "x86.h"
#include "glue.h"

/* From the end of a report to the next one: a second, and the rest of the tick in which it ended. */
#define QUIET	(HZ + 1)

DEFINE_STATIC_KEY_FALSE(exitscope_enabled);
EXPORT_SYMBOL_FOR_KVM_INTERNAL(exitscope_enabled);
EXPORT_SYMBOL_FOR_KVM_INTERNAL(exitscope_count);

/* The switch. */
static bool on = true;
static bool ready;

static void apply(void)
{
	if (on)
		static_branch_enable(&exitscope_enabled);
	else
		static_branch_disable(&exitscope_enabled);
}

/* Called while the parameters are locked, or while the module is loaded and nobody else knows it. */
static int set_on(const char *text, const struct kernel_param *param)
{
	int r = param_set_bool(text, param);

	if (!r && ready)
		apply();
	return r;
}

static const struct kernel_param_ops on_ops = {
	.flags = KERNEL_PARAM_OPS_FL_NOARG,
	.set = set_on,
	.get = param_get_bool,
};
module_param_cb(exitscope, &on_ops, &on, 0644);
MODULE_PARM_DESC(exitscope, "Count VM exits by reason");

unsigned long exitscope_every = 10000;
module_param_named(exitscope_every, exitscope_every, ulong, 0644);
MODULE_PARM_DESC(exitscope_every, "Report to the kernel log after so many exits, at most once a second; 0 is never");

/* The report. The due time is written by the work alone, which runs once at a time. */
static unsigned long due;

static void report(struct work_struct *work);
static DECLARE_DELAYED_WORK(report_work, report);

/* Returns true if it is due; if not, it is asked for again when it is. */
static bool is_due(void)
{
	unsigned long now = jiffies, then = READ_ONCE(due);

	if (!time_before(now, then))
		return true;
	schedule_delayed_work(&report_work, then - now);
	return false;
}

static void report(struct work_struct *work)
{
	/* Who asked while the last report was being printed did not know when that would end. */
	if (!is_due())
		return;
	exitscope_report();
	WRITE_ONCE(due, jiffies + QUIET);
}

void exitscope_report_soon(void)
{
	if (is_due())
		schedule_delayed_work(&report_work, 0);
}

/* Memory for each CPU, by its offset. */
unsigned long exitscope_percpu_alloc(size_t size, size_t align)
{
	return (__force unsigned long)__alloc_percpu(size, align);
}

void exitscope_percpu_free(unsigned long memory)
{
	free_percpu((void __percpu *)memory);
}

void *exitscope_percpu_of(unsigned long memory, unsigned int cpu)
{
	return per_cpu_ptr((void __percpu *)memory, cpu);
}

void *exitscope_percpu_here(unsigned long memory)
{
	return this_cpu_ptr((void __percpu *)memory);
}

/* The next CPU after @cpu that can ever be there, or -1. */
int exitscope_next_cpu(int cpu)
{
	unsigned int next = cpumask_next(cpu, cpu_possible_mask);

	return next < nr_cpu_ids ? next : -1;
}

unsigned int exitscope_online_cpus(void)
{
	return num_online_cpus();
}

bool exitscope_is_on(void)
{
	return static_key_enabled(&exitscope_enabled);
}

/* Fields of a vCPU. */
u64 exitscope_kvm_exits(const struct kvm_vcpu *vcpu)
{
	return READ_ONCE(vcpu->stat.exits);
}

bool exitscope_has_nested(const struct kvm_vcpu *vcpu)
{
	return READ_ONCE(vcpu->stat.nested_run);
}

/* This process, which makes a vCPU, and its ancestors below init. */
static void identify(struct exitscope_owner *owner)
{
	struct task_struct *task = current->group_leader;
	int i;

	owner->pid = task_tgid_nr(task);
	owner->started = task->start_boottime;
	get_task_comm(owner->comm, task);
	guard(rcu)();
	for (i = 0; i < ARRAY_SIZE(owner->parents); i++) {
		task = rcu_dereference(task->real_parent);
		if (task_tgid_nr(task) <= 1)
			break;
		owner->parents[i] = task_tgid_nr(task);
	}
}

int exitscope_vcpu_create(struct kvm_vcpu *vcpu)
{
	bool vmx = !strcmp(kvm_x86_ops.name, "kvm_intel");
	struct exitscope_owner owner = {};

	identify(&owner);
	vcpu->exitscope = exitscope_add(vcpu, vcpu->kvm, &owner, vcpu->vcpu_id, vmx);
	return vcpu->exitscope ? 0 : -ENOMEM;
}

void exitscope_vcpu_destroy(struct kvm_vcpu *vcpu)
{
	if (vcpu->exitscope)
		exitscope_remove(vcpu->exitscope);
	vcpu->exitscope = NULL;
}

/* The files. Each names its owner, so that KVM stays while one is open. */
static const struct seq_operations exitscope_counts_sops = {
	.start = exitscope_seq_start,
	.next = exitscope_seq_next,
	.stop = exitscope_seq_stop,
	.show = exitscope_seq_show,
};
DEFINE_SEQ_ATTRIBUTE(exitscope_counts);

static ssize_t reset_write(struct file *file, const char __user *text, size_t length, loff_t *at)
{
	bool wanted;
	int r = kstrtobool_from_user(text, length, &wanted);

	if (r)
		return r;
	if (!wanted)
		return -EINVAL;
	exitscope_reset();
	return length;
}

static const struct file_operations reset_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = reset_write,
};

static struct dentry *directory;

int exitscope_init(void)
{
	int r = exitscope_start();

	if (r)
		return r;
	/* Without debugfs there is no file; the kernel log is there still. */
	directory = debugfs_create_dir("exitscope", NULL);
	debugfs_create_file("counts", 0400, directory, NULL, &exitscope_counts_fops);
	debugfs_create_file("reset", 0200, directory, NULL, &reset_fops);
	kernel_param_lock(THIS_MODULE);
	ready = true;
	apply();
	kernel_param_unlock(THIS_MODULE);
	return 0;
}

void exitscope_exit(void)
{
	kernel_param_lock(THIS_MODULE);
	ready = false;
	static_branch_disable(&exitscope_enabled);
	kernel_param_unlock(THIS_MODULE);
	debugfs_remove(directory);
	cancel_delayed_work_sync(&report_work);
	exitscope_stop();
}
