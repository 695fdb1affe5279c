//! The types of `bpf/kvmstat.h`, made from it by bindgen.
#![allow(missing_docs, non_camel_case_types, non_snake_case, dead_code, unreachable_pub)]
#![allow(clippy::undocumented_unsafe_blocks)]

include!(concat!(env!("OUT_DIR"), "/wire.rs"));
