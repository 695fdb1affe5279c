//! Compiles the BPF programs, and binds the types that they share with user space.

use libbpf_cargo::SkeletonBuilder;
use std::env;
use std::path::PathBuf;

/// Options for the kernel's headers of this system, which a cross compiler's own directories lack.
const KERNEL_HEADERS: [&str; 4] =
    ["-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"];

/// Options for current kernels.
const CURRENT: [&str; 1] = ["-mcpu=v3"];

/// Options for kernels that have `bpf_rdonly_cast`: bpf/compat.bpf.h.
const CASTING: [&str; 2] = ["-mcpu=v3", "-DHAS_RDONLY_CAST"];

/// Options for kernels without atomics that have a result and without large values of maps: bpf/tables.bpf.h. Without 32-bit
/// instructions too: with these alone, and without jumps on them, clang 14 compares 64 bits in their place.
const OLDER: [&str; 2] = ["-mcpu=v2", "-DOLDER_KERNEL"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Objects by their sources.
    let objects: [(&str, &str, &[&str]); 10] = [
        ("exits", "exits", &CASTING),
        ("exits_probing", "exits", &CURRENT),
        ("plain", "plain", &CURRENT),
        ("plain_older", "plain", &OLDER),
        ("raw", "raw", &OLDER),
        ("kvmstat", "kvmstat", &CURRENT),
        ("twin", "twin", &CASTING),
        ("madeup", "madeup", &CURRENT),
        ("convert", "convert", &CURRENT),
        ("addresses", "addresses", &CURRENT),
    ];
    // Objects name their sources for the verifier's log: below /exitscope, wherever they lie, so that packages are the same.
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let named = format!("-ffile-prefix-map={here}=/exitscope/crates/collect");
    for (object, name, options) in objects {
        let source = format!("bpf/{name}.bpf.c");
        SkeletonBuilder::new()
            .source(&source)
            .clang_args(["-Wall", "-Werror", &named].iter().chain(options).chain(&KERNEL_HEADERS))
            .obj(out.join(format!("{object}.bpf.o")))
            .build()
            .unwrap_or_else(|error| panic!("{source} does not compile (clang is needed): {error:#}"));
    }
    bindgen::Builder::default()
        .header("bpf/wire.h")
        .clang_args(KERNEL_HEADERS)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        .generate()
        .expect("bpf/wire.h does not parse (libclang is needed)")
        .write_to_file(out.join("wire.rs"))
        .expect("OUT_DIR is writable");
    println!("cargo:rerun-if-changed=bpf");
}
