//! Takes the uncompressed kernel out of a bzImage.
//!
//! QEMU boots an uncompressed kernel through its PVH entry at once; a bzImage unpacks itself first,
//! which under emulation takes as long as the rest of the boot.

use std::io::{Seek, Write};
use std::path::PathBuf;

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD, PT_NOTE};
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader};

use crate::cache::{Cache, fingerprint};
use crate::command::{output, tool};
use crate::error::Error;
use crate::kernel::Kernel;

/// The file to boot: the uncompressed kernel, kept in the cache, or the image itself if it cannot be taken
/// out or has no PVH entry.
pub(crate) fn boot_image(cache: &Cache, kernel: &Kernel) -> Result<PathBuf, Error> {
    let key = fingerprint(&kernel.image)?;
    let file = cache.keep(&format!("vmlinux-{}", kernel.release), &[&key], &|| {
        // An empty file says that the image itself must do, and is not made again either.
        unpacked(&std::fs::read(&kernel.image).map_err(Error::io(&kernel.image))?)
    })?;
    let empty = std::fs::metadata(&file).map_err(Error::io(&file))?.len() == 0;
    Ok(if empty { kernel.image.clone() } else { file })
}

/// The uncompressed kernel in a bzImage; nothing if it cannot be taken out or has no PVH entry.
pub(crate) fn unpacked(image: &[u8]) -> Result<Vec<u8>, Error> {
    let unpacked = match payload(image) {
        Some((program, payload)) => unpack(program, payload)?,
        None => Vec::new(),
    };
    Ok(if has_pvh_entry(&unpacked) { unpacked } else { Vec::new() })
}

/// The compressed kernel in a bzImage and the program that unpacks it (Documentation/arch/x86/boot.rst:
/// `setup_sects` at 0x1f1, `payload_offset` at 0x248, `payload_length` at 0x24c).
fn payload(image: &[u8]) -> Option<(&'static str, &[u8])> {
    let word = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = ((sectors + 1) * 512).checked_add(word(0x248)?)?;
    let payload = image.get(start..start.checked_add(word(0x24c)?)?)?;
    // Behind xz and zstd data the kernel's build appends the unpacked size (scripts/Makefile.lib).
    let without_size = &payload[..payload.len().checked_sub(4)?];
    match payload {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(("xz", without_size)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(("zstd", without_size)),
        [0x1f, 0x8b, ..] => Some(("gzip", payload)),
        _ => None,
    }
}

fn unpack(program: &'static str, payload: &[u8]) -> Result<Vec<u8>, Error> {
    // Not every machine has zstd; without it the image boots as it is, only later.
    let Ok(mut unpacker) = tool(program) else { return Ok(Vec::new()) };
    let mut file = tempfile::tempfile().map_err(Error::io("a temporary file"))?;
    file.write_all(payload).and_then(|()| file.rewind()).map_err(Error::io("a temporary file"))?;
    output(unpacker.arg("-dc").stdin(file))
}

/// Returns true if an ELF file has a PVH entry, which QEMU needs to boot it.
fn has_pvh_entry(elf: &[u8]) -> bool {
    Flat::from_elf(elf).is_some()
}

/// A kernel as it lies in memory.
pub(crate) struct Flat {
    /// Its 32-bit PVH entry, a physical address.
    pub(crate) entry: u32,
    /// The physical address of the first byte.
    pub(crate) address: u32,
    /// Its bytes, without the zeros at the end.
    pub(crate) bytes: Vec<u8>,
}

impl Flat {
    /// Reads an ELF file with the note `XEN_ELFNOTE_PHYS32_ENTRY`; `None` for any other file.
    pub(crate) fn from_elf(elf: &[u8]) -> Option<Self> {
        let mut entry = None;
        let mut segments = Vec::new();
        for header in FileHeader64::parse(elf).ok()?.program_headers(LittleEndian, elf).ok()? {
            let bytes = header.data(LittleEndian, elf).ok()?;
            match header.p_type(LittleEndian) {
                PT_LOAD => segments.push((usize::try_from(header.p_paddr(LittleEndian)).ok()?, bytes)),
                PT_NOTE => entry = entry.or(pvh_entry(header.notes(LittleEndian, elf).ok()??)),
                _ => {}
            }
        }
        let address = segments.iter().map(|(address, _)| *address).min()?;
        let mut flat = Vec::new();
        for (at, bytes) in segments {
            let start = at - address;
            let end = start.checked_add(bytes.len())?;
            // No kernel is larger than this; a broken header may say so.
            if end > 1 << 30 {
                return None;
            }
            flat.resize(flat.len().max(end), 0);
            flat[start..end].copy_from_slice(bytes);
        }
        Some(Self { entry: entry?, address: u32::try_from(address).ok()?, bytes: flat })
    }
}

/// The address, in 4 or 8 bytes.
fn pvh_entry(mut notes: NoteIterator<'_, FileHeader64<LittleEndian>>) -> Option<u32> {
    /// include/xen/interface/elfnote.h.
    const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
    while let Some(note) = notes.next().ok()? {
        if note.name() == b"Xen" && note.n_type(LittleEndian) == XEN_ELFNOTE_PHYS32_ENTRY {
            return Some(u32::from_le_bytes(*note.desc().first_chunk()?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage of nothing but a header and `payload`.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend([0; 16]);
        image.extend(payload);
        image.extend([9; 32]);
        image
    }

    #[test]
    fn the_payload_comes_out() {
        let mut xz = tool("xz").unwrap();
        let input = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(input.path(), b"the kernel").unwrap();
        let mut packed = output(xz.arg("-c").arg(input.path())).unwrap();
        packed.extend(10u32.to_le_bytes());
        let image = image(&packed);
        let (program, packed) = payload(&image).unwrap();
        assert_eq!(unpack(program, packed).unwrap(), b"the kernel");
    }

    #[test]
    fn broken_images_are_left_alone() {
        assert_eq!(payload(b""), None);
        assert_eq!(payload(&image(b"LZO?1234")), None);
        let mut beyond = image(b"\xfd7zXZ\0");
        beyond[0x24c..0x250].copy_from_slice(&[0xff; 4]);
        assert_eq!(payload(&beyond), None);
        assert!(!has_pvh_entry(b"\x7fELF\x02\x01"));
        let mut wild = vec![0xff; 80];
        wild[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert!(!has_pvh_entry(&wild));
    }
}
