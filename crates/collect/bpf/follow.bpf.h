/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Programs that keep the list of selected processes, where the kernel's types are known.
 */
#ifndef EXITSCOPE_FOLLOW_BPF_H
#define EXITSCOPE_FOLLOW_BPF_H

#include "attach.bpf.h"
#include "tables.bpf.h"

/*
 * The processes that a selected process starts are selected too ... Here with the run queue locked, and below in a
 * softirq: a newer kernel preempts the programs on sched_process_fork and sched_process_exit, and skips them where
 * another process gets there meanwhile on that CPU.
 */
SEC(EVENT "sched_wakeup_new")
int BPF_PROG(on_fork, struct task_struct *child)
{
	follow(bpf_get_current_pid_tgid() >> 32, BPF_CORE_READ(child, tgid));
	return 0;
}

/* ... until they have ended and were waited for. */
SEC(EVENT "sched_process_free")
int BPF_PROG(on_leave, struct task_struct *task)
{
	u32 pid = BPF_CORE_READ(task, tgid);

	if (BPF_CORE_READ(task, pid) == pid)
		bpf_map_delete_elem(&selected, &pid);
	return 0;
}

#endif
