//! KVM's statistics out of the kernel's memory: a BPF program walks over all open files.

use super::track::{CLASSES, Event, Figures, Process, Reading};
use super::wire;
use crate::image::image;
use crate::skipped::skipped_runs;
use libbpf_rs::{
    Iter, Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, RingBuffer, RingBufferBuilder,
};
use std::cell::RefCell;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::rc::Rc;

/// Name of the program that meets vCPUs which run.
const MEET: &str = "on_load";

/// Maps that it shares with the others.
const SHARED: [&str; 4] = ["selected", "changes", "known", "owners"];

/// The loaded programs.
pub struct Walk {
    walk: Link,
    /// Reads vCPUs that were met before, where these are kept.
    walk_known: Option<Link>,
    /// Meets vCPUs that run, while it is there. Dropped before the object that it is of.
    meet: Option<(Link, Object)>,
    changes: RingBuffer<'static>,
    changed: Rc<RefCell<Vec<Reading>>>,
    selected: MapHandle,
    lost: MapHandle,
    /// A vCPU's first and last moment are told.
    pub told: bool,
    _links: Vec<Link>,
    object: Object,
}

/// Counts of what found no room in the programs' tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Births and ends of vCPUs, with those that the kernel skipped the programs for.
    pub changes: u64,
    /// Processes to be followed.
    pub processes: u64,
}

impl Walk {
    /// Loads the programs, with those that follow forks if wanted.
    pub fn load(follow: bool) -> Result<Walk, libbpf_rs::Error> {
        // A kernel that may refuse a program refuses it at load, and libbpf says so; here that is no more than a
        // question.
        let print = libbpf_rs::set_print(None);
        let loaded = Self::load_with(follow, true, true)
            .or_else(|_| Self::load_with(follow, false, true))
            .or_else(|_| Self::load_with(follow, true, false))
            .or_else(|_| Self::load_with(follow, false, false));
        libbpf_rs::set_print(print);
        loaded
    }

    fn load_with(follow: bool, hooks: bool, leave: bool) -> Result<Walk, libbpf_rs::Error> {
        let mut open = ObjectBuilder::default().open_memory(image!("kvmstat"))?;
        for mut map in open.maps_mut() {
            if map.name().to_string_lossy().ends_with(".rodata.told") {
                map.set_initial_value(&u32::from(hooks).to_ne_bytes())?;
            }
        }
        for mut program in open.progs_mut() {
            let name = program.name().to_string_lossy().into_owned();
            program.set_autoload(match name.as_str() {
                "walk" => true,
                "on_leave" => leave,
                "on_fork" => follow,
                MEET => false,
                _ => hooks,
            });
        }
        let object = open.load()?;
        let mut links = Vec::new();
        let map = |name: &str| {
            let found = object.maps().find(|map| map.name().to_string_lossy().ends_with(name));
            found.map(|map| MapHandle::try_from(&map)).transpose()?.ok_or_else(|| missing(name))
        };
        let (mut walk, mut walk_known) = (None, None);
        for program in object.progs_mut().filter(|program| program.autoload()) {
            match &*program.name().to_string_lossy() {
                "walk" => walk = Some(program.attach()?),
                "walk_known" => walk_known = Some(program.attach_iter(map("known")?.as_fd())?),
                _ => links.push(program.attach()?),
            }
        }
        let changed = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&changed);
        let ring = map("changes")?;
        let mut builder = RingBufferBuilder::new();
        builder.add(&ring, move |bytes| {
            sink.borrow_mut().extend(change(bytes));
            0
        })?;
        let changes = builder.build()?;
        Ok(Walk {
            walk: walk.ok_or_else(|| missing("walk"))?,
            walk_known,
            meet: None,
            changes,
            changed,
            selected: map("selected")?,
            lost: map(".data.lost")?,
            told: hooks,
            _links: links,
            object,
        })
    }

    /// Every vCPU that exists, and what was told since the last call.
    pub fn look(&self) -> Result<Vec<Reading>, String> {
        let mut bytes = Vec::new();
        for link in [Some(&self.walk), self.walk_known.as_ref()].into_iter().flatten() {
            let mut iter = Iter::new(link).map_err(|error| error.to_string())?;
            loop {
                match iter.read_to_end(&mut bytes) {
                    Ok(_) => break,
                    // The kernel pauses a long walk that finds nothing.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        let mut readings: Vec<Reading> = bytes
            .chunks_exact(size_of::<wire::kvmstat_vcpu>())
            .filter_map(|bytes| Some(reading(&read(bytes)?, &[])))
            .collect();
        // After the walk, so that what vanished before the walk came to it has been told of.
        self.changes.consume().map_err(|error| error.to_string())?;
        readings.append(&mut self.changed.borrow_mut());
        Ok(readings)
    }

    /// From now on, or no longer, meets vCPUs that run and were not met before.
    pub fn meet(&mut self, meet: bool) -> Result<(), String> {
        if !meet {
            self.meet = None;
        } else if self.meet.is_none() && self.told {
            self.meet = Some(self.load_meet().map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    /// Loads the program that meets vCPUs, on the maps of the others.
    fn load_meet(&self) -> Result<(Link, Object), libbpf_rs::Error> {
        let mut open = ObjectBuilder::default().open_memory(image!("kvmstat"))?;
        for mut map in open.maps_mut() {
            let name = map.name().to_os_string();
            if let Some(ours) = self
                .object
                .maps()
                .find(|ours| SHARED.iter().any(|shared| name == *shared) && ours.name() == name)
            {
                map.reuse_fd(ours.as_fd())?;
            }
        }
        for mut program in open.progs_mut() {
            let is_meet = program.name() == MEET;
            program.set_autoload(is_meet);
        }
        let object = open.load()?;
        let program =
            object.progs_mut().find(|program| program.name() == MEET).ok_or_else(|| missing(MEET))?;
        let link = program.attach()?;
        Ok((link, object))
    }

    /// Follows what this process starts from now on.
    pub fn follow(&self, pid: u32) -> Result<(), String> {
        self.selected.update(&pid.to_ne_bytes(), &[1], MapFlags::ANY).map_err(|error| error.to_string())
    }

    /// Follows what it starts no longer.
    pub fn unfollow(&self, pid: u32) -> Result<(), String> {
        self.selected.delete(&pid.to_ne_bytes()).map_err(|error| error.to_string())
    }

    /// Returns the number of descriptors that were looked at because their process ended.
    #[cfg(all(test, feature = "lab-tests"))]
    pub fn visits(&self) -> u64 {
        let visits = self.object.maps().find(|map| map.name().to_string_lossy().ends_with(".data.visits"));
        let bytes = visits.unwrap().lookup(&0u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
        u64::from_ne_bytes(bytes[..8].try_into().unwrap())
    }

    /// Returns what was lost since the start.
    pub fn lost(&self) -> Result<Lost, String> {
        let bytes =
            self.lost.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).map_err(|error| error.to_string())?;
        let mut words = bytes
            .iter()
            .flat_map(|bytes| bytes.chunks_exact(8))
            .map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()));
        let mut lost = Lost { changes: words.next().unwrap_or(0), processes: words.next().unwrap_or(0) };
        for program in self.object.progs().filter(|program| program.autoload()) {
            // Where the end of a vCPU is told, that of its process says nothing new.
            if !(self.told && program.name() == "on_leave") {
                lost.changes += skipped_runs(program.as_fd()).map_err(|error| error.to_string())?;
            }
        }
        Ok(lost)
    }
}

fn missing(name: &str) -> libbpf_rs::Error {
    io::Error::other(format!("there is no {name} in the BPF object")).into()
}

fn read<T: Copy>(bytes: &[u8]) -> Option<T> {
    // SAFETY: only used for the structs of kvmstat.h, which are integers: any bytes are a value of theirs.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn change(bytes: &[u8]) -> Option<Reading> {
    let found: wire::kvmstat_change = read(bytes)?;
    let args = found.args.map(i8::cast_unsigned);
    Some(reading(&found.vcpu, &args[..args.len().min(found.args_len as usize)]))
}

fn reading(found: &wire::kvmstat_vcpu, args: &[u8]) -> Reading {
    let comm = found.comm.map(i8::cast_unsigned);
    let comm = comm.split(|&byte| byte == 0).next().unwrap_or_default();
    let class = |class: usize| (found.known >> class & 1 == 1).then(|| found.classes[class]);
    Reading {
        time_ns: found.time_ns,
        event: match found.event {
            wire::KVMSTAT_BORN => Event::Born,
            wire::KVMSTAT_ENDED => Event::Ended,
            wire::KVMSTAT_LEFT => Event::Left,
            wire::KVMSTAT_KNOWN => Event::Known,
            wire::KVMSTAT_MET => Event::Met,
            _ => Event::Seen,
        },
        vcpu: found.vcpu,
        kvm: found.kvm,
        vcpu_id: found.vcpu_id,
        process: Process {
            pid: found.pid,
            started_ns: found.started_ns,
            comm: String::from_utf8_lossy(comm).into_owned(),
            args: args.to_vec(),
        },
        followed: found.followed != 0,
        figures: Figures { exits: found.exits, classes: std::array::from_fn::<_, CLASSES, _>(class) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::{ExitCode, Isa};

    #[test]
    fn classes_are_those_of_the_table_of_reasons() {
        let open = ObjectBuilder::default().open_memory(image!("kvmstat")).unwrap();
        let names = open.maps().find(|map| map.name().to_string_lossy().ends_with("names")).unwrap();
        let names: Vec<_> = names
            .initial_value()
            .unwrap()
            .chunks_exact(wire::CLASS_NAME_BYTES as usize)
            .map(|name| String::from_utf8_lossy(name.split(|&byte| byte == 0).next().unwrap()).into_owned())
            .collect();
        let table: Vec<_> = (0..)
            .zip(&names)
            .map(|(code, _)| exitscope_reason::name(ExitCode { isa: Isa::KvmStat, code }))
            .collect();
        assert_eq!(names.len(), CLASSES);
        assert_eq!(names, table);
        assert!(exitscope_reason::get(ExitCode { isa: Isa::KvmStat, code: 36 }).is_none());
    }
}
