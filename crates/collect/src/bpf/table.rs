//! The programs' memory-mapped arrays: reading them costs the vCPUs nothing, and no system call.

use super::wire;
use memmap2::{MmapOptions, MmapRaw};
use std::marker::PhantomData;
use std::mem::size_of;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

/// Types that the kernel writes while we read: plain integers, valid whatever their bytes.
///
/// # Safety
/// Every bit pattern must be a value of the type, and its size a multiple of 8, which is the distance of two
/// elements of a BPF array.
pub unsafe trait Wire {}
// SAFETY: structs of integers and arrays of integers, made by bindgen from bpf/wire.h; sizes checked in `map`.
unsafe impl Wire for wire::row {}
// SAFETY: as above.
unsafe impl Wire for wire::vcpu_slot {}
// SAFETY: as above.
unsafe impl Wire for wire::user_return {}
// SAFETY: as above.
unsafe impl Wire for wire::detail {}
// SAFETY: as above.
unsafe impl Wire for wire::vm_info {}
// SAFETY: as above.
unsafe impl Wire for wire::control {}
// SAFETY: as above.
unsafe impl Wire for wire::holding {}

/// An array that the kernel shares with us.
pub struct Table<T> {
    memory: MmapRaw,
    len: usize,
    of: PhantomData<*mut T>,
}

impl<T: Wire> Table<T> {
    /// Maps a BPF array of `len` elements.
    pub fn map(map: &impl AsFd, len: u32) -> std::io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let memory =
            MmapOptions::new().len(len as usize * size_of::<T>()).map_raw(map.as_fd().as_raw_fd())?;
        Ok(Table::over(memory, len))
    }

    /// The array of `len` elements in this memory.
    ///
    /// # Panics
    /// If it is too small.
    pub fn over(memory: MmapRaw, len: u32) -> Self {
        let len = len as usize;
        assert!(memory.len() >= len * size_of::<T>());
        Table { memory, len, of: PhantomData }
    }

    /// Returns the place of an element. The kernel may write it at any time: read it with `read_volatile`.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn at(&self, index: u32) -> *mut T {
        let index = index as usize;
        assert!(index < self.len, "element {index} of a table of {}", self.len);
        // SAFETY: the mapping holds `len` elements, and `index` is below it.
        unsafe { self.memory.as_mut_ptr().cast::<T>().add(index) }
    }

    /// Returns the number of elements.
    pub fn len(&self) -> u32 {
        u32::try_from(self.len).unwrap_or(u32::MAX)
    }

    /// Fills an element with zeros. The kernel must be done with it.
    pub fn clear(&self, index: u32) {
        // SAFETY: `at` checked the index, and zeros are a value of every wire type.
        unsafe { self.at(index).write_bytes(0, 1) }
    }
}

/// Reads one field that the kernel may be writing.
macro_rules! peek {
    ($pointer:expr, $($field:tt)+) => {{
        let pointer = $pointer;
        // SAFETY: the pointer comes from `Table::at`, so it points into a live mapping; aligned integers
        // that another CPU writes are read whole.
        unsafe { (&raw const (*pointer).$($field)+).read_volatile() }
    }};
}
pub(super) use peek;
