//! Leaves of CPUID: the processor's, KVM's, Hyper-V's and Xen's. A name is that of a leaf, whatever its subleaf.
//!
//! SDM vol. 2, CPUID; APM vol. 3, appendix E; Documentation/virt/kvm/x86/cpuid.rst; Hypervisor Top Level Functional
//! Specification, "Hypervisor Discovery"; xen/include/public/arch-x86/cpuid.h. Where a VMM offers both KVM's and
//! Hyper-V's, Hyper-V's are at 0x40000000 and KVM's from 0x40000100 on.

use super::detail::{Known, table};

const SERIALIZE: &str = "Programs that use CPUID as a barrier exit each time: RDTSCP, LFENCE or SERIALIZE need no exit. JVMs, \
     databases and benchmarks that read the TSC are the usual ones.";
const TOPOLOGY: &str = "A program asks for the topology again and again: RDPID, RDTSCP or getcpu() tell the CPU without an exit.";

/// Every leaf that has a name, in order.
pub const TABLE: &[Known] = table! {
    0x0 "vendor, highest leaf" => SERIALIZE;
    0x1 "family, features" => SERIALIZE;
    0x2 "caches and TLBs";
    0x4 "caches";
    0x5 "MONITOR/MWAIT";
    0x6 "power management";
    0x7 "extended features";
    0xa "performance monitoring";
    0xb "topology" => TOPOLOGY;
    0xd "XSAVE";
    0xf "resource monitoring";
    0x10 "resource allocation";
    0x12 "SGX";
    0x14 "processor trace";
    0x15 "TSC and crystal clock";
    0x16 "frequencies";
    0x19 "key locker";
    0x1c "last branch records";
    0x1d "tile information";
    0x1e "TMUL";
    0x1f "topology (V2)" => TOPOLOGY;
    0x20 "HRESET";
    0x21 "TDX";
    0x23 "performance monitoring (extended)";
    0x24 "AVX10";
    0x4000_0000 "hypervisor: vendor";
    0x4000_0001 "hypervisor: interface, KVM's features";
    0x4000_0002 "Hyper-V: version";
    0x4000_0003 "Hyper-V: features";
    0x4000_0004 "Hyper-V: recommendations";
    0x4000_0005 "Hyper-V: limits";
    0x4000_0006 "Hyper-V: hardware features";
    0x4000_000a "Hyper-V: nested features";
    0x4000_0010 "VMware: timing";
    0x4000_0080..=0x4000_0082 "Hyper-V: debugger";
    0x4000_0100 "second hypervisor: vendor";
    0x4000_0101 "second hypervisor: features, version";
    0x4000_0102 "Xen: hypercall pages";
    0x4000_0103 "Xen: time";
    0x4000_0104 "Xen: HVM features";
    0x8000_0000 "highest extended leaf";
    0x8000_0001 "extended features (AMD)";
    0x8000_0002..=0x8000_0004 "brand string";
    0x8000_0005..=0x8000_0006 "caches (AMD)";
    0x8000_0007 "power management (AMD)";
    0x8000_0008 "address sizes";
    0x8000_000a "SVM";
    0x8000_001a "performance hints (AMD)";
    0x8000_001b "instruction-based sampling";
    0x8000_001d "caches (AMD)";
    0x8000_001e "topology (AMD)" => TOPOLOGY;
    0x8000_001f "memory encryption";
    0x8000_0020 "resource allocation (AMD)";
    0x8000_0021 "extended features 2 (AMD)";
    0x8000_0022 "performance monitoring (AMD)";
    0x8000_0026 "topology (AMD, extended)" => TOPOLOGY;
};
