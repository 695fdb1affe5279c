//! Boots a KVM host in software.
fn main() {}
