//! BPF objects that were compiled into this program.

/// A compiled object, at an address that an ELF reader can work with.
#[repr(align(8))]
pub struct Aligned<T: ?Sized>(pub T);

/// The bytes of an object that build.rs has compiled, by its name.
macro_rules! image {
    ($name:literal) => {{
        static IMAGE: &$crate::image::Aligned<[u8]> =
            &$crate::image::Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".bpf.o")));
        &IMAGE.0
    }};
}
pub(crate) use image;
