//! Compiles the BPF programs, and binds the types that they share with user space.

use libbpf_cargo::SkeletonBuilder;
use std::env;
use std::path::PathBuf;

/// Options for the kernel's headers of this system, which a cross compiler's own directories lack.
const KERNEL_HEADERS: [&str; 4] =
    ["-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Objects by their sources; those that read the kernel's memory with bpf_rdonly_cast, and without: bpf/compat.bpf.h.
    let cast = Some("-DHAS_RDONLY_CAST");
    for (object, name, define) in [
        ("exits", "exits", cast),
        ("exits_probing", "exits", None),
        ("plain", "plain", None),
        ("kvmstat", "kvmstat", None),
        ("twin", "twin", cast),
        ("madeup", "madeup", None),
        ("convert", "convert", None),
    ] {
        let source = format!("bpf/{name}.bpf.c");
        SkeletonBuilder::new()
            .source(&source)
            .clang_args(["-Wall", "-Werror", "-mcpu=v3"].into_iter().chain(define).chain(KERNEL_HEADERS))
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
