//! Twins of the programs that see an exit: what their common way takes, in time, on this machine and without a VM.

use super::patch;
use super::wire;
use crate::image::image;
use libbpf_rs::{Object, ObjectBuilder, ProgramInput};
use std::time::Duration;

/// A program of bpf/twin.bpf.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Prepares an exit and counts nothing: the part of the others that is not theirs.
    None,
    /// One program an exit.
    One,
    /// A program at the exit and one at the entry.
    Pair,
    /// The program that counts alone.
    Only,
}

impl Kind {
    /// All, in the order of the tables.
    pub const ALL: [Kind; 4] = [Kind::None, Kind::One, Kind::Pair, Kind::Only];

    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::None => "twin_none",
            Kind::One => "twin_one",
            Kind::Pair => "twin_pair",
            Kind::Only => "twin_only",
        }
    }
}

/// Twins that are loaded.
pub struct Twin {
    object: Object,
}

/// Length of the tables: a power of two, with room for 1,024 vCPUs of up to 32 reasons.
const ROWS: u32 = 1 << 15;
const VCPUS: u32 = 1 << 11;

impl Twin {
    /// Loads the twins for so many made-up vCPUs, whose exits have so many reasons in turn: both powers of two, of at most
    /// 1,024 and 32.
    ///
    /// # Errors
    /// If the kernel refuses, with its reason: that needs root.
    pub fn load(vcpus: u32, reasons: u32) -> Result<Twin, String> {
        assert!(vcpus.is_power_of_two() && vcpus <= 1024 && reasons.is_power_of_two() && reasons <= 32);
        let at = |what: &'static str| move |error: libbpf_rs::Error| format!("{what}: {error:#}");
        let image = patch::with_masks(image!("twin"), &patch::masks(ROWS, VCPUS, 1, 1));
        let mut open = ObjectBuilder::default().open_memory(&image).map_err(at("opening the twins"))?;
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            let bytes = |elements: u32, size: usize| elements * u32::try_from(size).unwrap_or(u32::MAX);
            match name.rsplit('.').next() {
                Some("rows") => map
                    .set_value_size(bytes(ROWS + wire::SLACK_ROWS, size_of::<wire::row>()))
                    .map_err(at("sizing the rows"))?,
                Some("vcpus") => map
                    .set_value_size(bytes(VCPUS, size_of::<wire::vcpu_slot>()))
                    .map_err(at("sizing the vCPUs"))?,
                Some("twin") if name.contains("rodata") => {
                    let config: Vec<u8> = [vcpus, reasons].iter().flat_map(|n| n.to_ne_bytes()).collect();
                    map.set_initial_value(&config).map_err(at("configuring the twins"))?;
                }
                Some("config") if name.contains("rodata") => {
                    let config = wire::config { max_rows: ROWS, max_vcpus: VCPUS, ..wire::config::default() };
                    // SAFETY: a struct of integers without padding; any bytes may be looked at.
                    let bytes = unsafe {
                        std::slice::from_raw_parts((&raw const config).cast::<u8>(), size_of_val(&config))
                    };
                    map.set_initial_value(bytes).map_err(at("configuring the programs"))?;
                }
                _ => {}
            }
        }
        Ok(Twin { object: open.load().map_err(at("loading the twins"))? })
    }

    /// Runs one so many times, and returns the time that this thread had a CPU meanwhile.
    ///
    /// # Errors
    /// If the kernel refuses, with its reason.
    pub fn run(&mut self, kind: Kind, times: u32) -> Result<Duration, String> {
        let program = self.object.progs_mut().find(|program| program.name() == kind.name());
        let program = program.ok_or_else(|| format!("there is no program {}", kind.name()))?;
        // The least that is taken for a packet.
        let packet = [0; 64];
        let input = ProgramInput { data_in: Some(&packet), repeat: times, ..ProgramInput::default() };
        let start = cpu_time();
        program.test_run(input).map_err(|error| format!("running {}: {error:#}", kind.name()))?;
        Ok(cpu_time() - start)
    }

    /// Returns the number of exits that were prepared, and of those that took the rare way.
    ///
    /// # Errors
    /// If the kernel refuses, with its reason.
    pub fn turns(&self) -> Result<(u64, u64), String> {
        use libbpf_rs::{MapCore, MapFlags};
        let name = ".data.twin";
        let map = self.object.maps().find(|map| map.name().to_string_lossy().ends_with(name));
        let map = map.ok_or_else(|| format!("there is no map {name}"))?;
        let read = map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).map_err(|error| error.to_string())?;
        let read = read.ok_or_else(|| format!("{name} is empty"))?;
        let number = |at: usize| {
            let bytes = read.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_ne_bytes).ok_or_else(|| format!("{name} has {} bytes", read.len()))
        };
        Ok((number(0)?, number(8)?))
    }
}

/// Returns the time for which this thread has had a CPU.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec there.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
