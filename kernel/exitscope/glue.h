/* SPDX-License-Identifier: GPL-2.0 */
/* Between glue.c and the Rust object; each side's functions are called by the other alone. */
#ifndef __KVM_X86_EXITSCOPE_GLUE_H
#define __KVM_X86_EXITSCOPE_GLUE_H

#include <linux/sched.h>
#include <linux/types.h>

#include "exitscope.h"

struct seq_file;

/* The process of a vCPU. Of its ancestors, nearest first, those below init; zero is none. vcpus.rs has the same. */
struct exitscope_owner {
	int pid;
	int parents[15];
	u64 started;
	char comm[TASK_COMM_LEN];
};

/* In Rust, exitscope.rs. */
int exitscope_start(void);
void exitscope_stop(void);
void *exitscope_add(const struct kvm_vcpu *vcpu, const void *vm, const struct exitscope_owner *owner, unsigned int id, bool vmx);
void exitscope_remove(void *counters);
void exitscope_report(void);
void exitscope_reset(void);
void *exitscope_seq_start(struct seq_file *file, loff_t *at);
void *exitscope_seq_next(struct seq_file *file, void *item, loff_t *at);
void exitscope_seq_stop(struct seq_file *file, void *item);
int exitscope_seq_show(struct seq_file *file, void *item);

/* In C, glue.c. */
extern unsigned long exitscope_every;
void exitscope_report_soon(void);
unsigned long exitscope_percpu_alloc(size_t size, size_t align);
void exitscope_percpu_free(unsigned long memory);
void *exitscope_percpu_of(unsigned long memory, unsigned int cpu);
void *exitscope_percpu_here(unsigned long memory);
int exitscope_next_cpu(int cpu);
unsigned int exitscope_online_cpus(void);
bool exitscope_is_on(void);
u64 exitscope_kvm_exits(const struct kvm_vcpu *vcpu);
bool exitscope_has_nested(const struct kvm_vcpu *vcpu);

#endif
