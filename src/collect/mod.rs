//! Kernel to [`crate::model::Sample`]: what this host offers, the BPF programs, KVM's own statistics.
