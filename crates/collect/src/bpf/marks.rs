//! Marks that guests wrote to ports, read from the programs' ring buffer.

use super::super::{Error, PortMark, PortMarks};
use super::object::Loaded;
use super::wire;
use exitscope_model::VmId;
use libbpf_rs::{RingBuffer, RingBufferBuilder};
use std::cell::RefCell;
use std::rc::Rc;

/// Size of the ring buffer: room for 16,384 marks, of which a vCPU may make `MAX_MARKS` between two looks.
pub const BYTES: u32 = 1 << 19;
/// Least size that the kernel takes.
pub const LEAST_BYTES: u32 = 4096;

/// Maximum number of marks that are held until they are taken.
const MOST: usize = 65_536;

/// The ring buffer, and what came out of it.
pub struct Marks {
    ring: RingBuffer<'static>,
    held: Rc<RefCell<PortMarks>>,
    /// Number of marks that the programs had lost at the last [`Marks::take`].
    lost: u64,
}

impl Marks {
    /// Opens the ring buffer of the loaded programs.
    pub fn open(loaded: &Loaded) -> Result<Marks, Error> {
        let held = Rc::new(RefCell::new(PortMarks::default()));
        let (map, into) = (loaded.map("marks")?, Rc::clone(&held));
        let mut builder = RingBufferBuilder::new();
        let build = || {
            builder.add(&map, move |bytes| {
                hold(&mut into.borrow_mut(), bytes);
                0
            })?;
            builder.build()
        };
        let ring = build().map_err(|error| failed("opening the ring buffer for marks", &error))?;
        Ok(Marks { ring, held, lost: 0 })
    }

    /// Takes what is there out of the ring buffer.
    pub fn read(&mut self) -> Result<(), Error> {
        self.ring.consume().map_err(|error| failed("reading the ring buffer for marks", &error))
    }

    /// Returns the marks since the last call; `lost` is the number that the programs have lost since the
    /// start.
    pub fn take(&mut self, lost: u64) -> Result<PortMarks, Error> {
        self.read()?;
        let mut taken = self.held.take();
        taken.marks.sort_unstable();
        taken.lost += lost.saturating_sub(self.lost);
        self.lost = lost;
        Ok(taken)
    }
}

fn hold(held: &mut PortMarks, bytes: &[u8]) {
    if bytes.len() < size_of::<wire::port_mark>() {
        return;
    }
    // SAFETY: long enough, and any bytes are a value of a struct of integers.
    let mark: wire::port_mark = unsafe { bytes.as_ptr().cast::<wire::port_mark>().read_unaligned() };
    let wire::port_mark { ns, vm, vcpu, port, value, .. } = mark;
    if held.marks.len() < MOST {
        held.marks.push(PortMark { monotonic_ns: ns, vm: VmId(vm), vcpu, port, value });
    } else {
        held.lost += 1;
    }
}

fn failed(what: &str, error: &libbpf_rs::Error) -> Error {
    Error::Kernel { what: what.to_owned(), cause: error.to_string() }
}
