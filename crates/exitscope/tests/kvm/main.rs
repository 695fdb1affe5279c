//! Tests on real KVM, with VMX or SVM, as root. `make test` runs them in the lab's outer VM on several kernels; on a host
//! that has both, `cargo test --features lab-tests --test kvm -- --test-threads=1` runs them as they are. One at a
//! time, because some load and unload KVM and others count every VM of the host.

mod bad_input;
mod beside;
mod boot;
mod container;
mod counts;
mod details;
mod guest;
mod hostile;
mod marks;
mod modes;
mod names;
mod nested;
mod probes;
mod record;
mod scale;
#[path = "../common/screen.rs"]
mod screen;
mod serve;
mod split;
mod story;
#[path = "../common/mod.rs"]
mod tool;
mod top;
mod trace;
mod turns;
