//! The types of `bpf/wire.h`, made from it by bindgen.
#![allow(missing_docs, non_camel_case_types, non_snake_case, dead_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // offset assertions that bindgen writes

include!(concat!(env!("OUT_DIR"), "/wire.rs"));
