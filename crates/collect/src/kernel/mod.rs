//! A KVM that counts its own exits (`kernel/`): reasons and counts, no times, and no BPF.

mod file;
mod track;

use super::host::COUNTERS_SWITCH as SWITCH;
use super::{Collect, Error, Options, Select, host, identity, monotonic_ns};
use exitscope_model::{Measured, Sample, Source, Vm, VmId};
use file::Counts;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::time::SystemTime;
use track::{Seen, Tracker};

/// Reads KVM's counters from [`Kernel::start`] on.
pub struct Kernel {
    /// Kept open, so that KVM stays, and with it the numbers by which vCPUs are known.
    counts: File,
    path: PathBuf,
    tracker: Tracker,
    names: HashMap<u64, identity::Identity>,
    follow: bool,
    because: Option<String>,
    /// The switch was off at a look.
    was_off: bool,
}

impl Kernel {
    /// Starts counting, from the figures that are found now.
    ///
    /// # Errors
    /// If KVM has no such counters, they are off, or their file cannot be read; the text says what to do.
    pub fn start(options: &Options) -> Result<Kernel, Error> {
        let failed = |cause: String| Error::Source { source_name: Source::Kernel.word(), cause };
        match host::counters() {
            Some(true) => {}
            Some(false) => {
                return Err(failed(format!(
                    "KVM's counters are switched off; switch them on with: echo 1 >{SWITCH}"
                )));
            }
            None => {
                return Err(failed(format!(
                    "this KVM does not count its own exits (there is no {SWITCH}); docs/kernel.md tells of modules \
                     that do"
                )));
            }
        }
        let mounted = host::debugfs().ok_or_else(|| {
            failed(
                "debugfs is not mounted; mount it with: mount -t debugfs debugfs /sys/kernel/debug"
                    .to_owned(),
            )
        })?;
        let path = mounted.join("exitscope/counts");
        let mut counts = File::open(&path).map_err(|error| failed(format!("{}: {error}", path.display())))?;
        let first = read(&mut counts).map_err(|cause| failed(format!("{}: {cause}", path.display())))?;
        let tracker = Tracker::new(options.select.clone(), std::process::id(), &first);
        let follow = options.select == Select::Descendants;
        Ok(Kernel { counts, path, tracker, names: HashMap::new(), follow, because: None, was_off: false })
    }

    /// Has [`Collect::note`] say why it had to be this source.
    pub fn because(mut self, cause: String) -> Kernel {
        self.because = Some(cause);
        self
    }

    fn name(&mut self, seen: &Seen) -> identity::Identity {
        let vcpu = &seen.vcpu;
        let make = || identity::identify(vcpu.pid, Some(vcpu.started_ns), b"", &vcpu.comm);
        self.names.entry(vcpu.vm).or_insert_with(make).clone()
    }
}

/// Returns the vCPUs of the last of these texts, counted since the first, for the fuzz targets.
#[cfg(feature = "fuzzing")]
pub(crate) fn samples<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<exitscope_model::VcpuSample>, String> {
    let mut texts = texts.into_iter();
    let first = Counts::parse(texts.next().unwrap_or_default())?;
    let mut tracker = Tracker::new(Select::All, std::process::id(), &first);
    let mut samples = Vec::new();
    for text in texts {
        let counts = Counts::parse(text)?;
        let vmx = counts.vmx;
        samples = tracker.look(counts).iter().map(|seen| tracker.sample(&seen.vcpu, vmx)).collect();
        tracker.loss();
        tracker.unseen();
    }
    Ok(samples)
}

fn read(file: &mut File) -> Result<Counts, String> {
    let mut text = String::new();
    file.rewind()
        .and_then(|()| file.read_to_string(&mut text))
        .map_err(|error: io::Error| error.to_string())?;
    Counts::parse(&text)
}

impl Collect for Kernel {
    fn source(&self) -> Source {
        Source::Kernel
    }

    fn measured(&self) -> Measured {
        Measured::Counts
    }

    fn sample(&mut self) -> Result<Sample, Error> {
        let counts = read(&mut self.counts)
            .map_err(|cause| Error::Kernel { what: format!("reading {}", self.path.display()), cause })?;
        let (monotonic_ns, wall) = (monotonic_ns(), SystemTime::now());
        let vmx = counts.vmx;
        self.was_off |= !counts.on;
        let mut vms: Vec<Vm> = Vec::new();
        let mut vcpus = Vec::new();
        for seen in self.tracker.look(counts) {
            vcpus.push(self.tracker.sample(&seen.vcpu, vmx));
            let id = VmId(seen.vcpu.vm);
            if vms.last().is_none_or(|vm| vm.id != id) {
                vms.push(self.name(&seen).vm(id, seen.vcpu.pid, seen.vm_ended));
            }
        }
        self.names.retain(|id, _| vms.iter().any(|vm| vm.id.0 == *id && !vm.ended));
        let loss = self.tracker.loss();
        Ok(Sample {
            monotonic_ns,
            wall,
            source: Source::Kernel,
            measured: Measured::Counts,
            vms,
            vcpus,
            workers: Vec::new(),
            loss,
        })
    }

    fn stop_following(&mut self) -> Result<(), Error> {
        if self.follow {
            let roots = children(std::process::id())
                .map_err(|error| Error::Kernel { what: "/proc".into(), cause: error.to_string() })?;
            self.tracker.stop_following(roots);
        }
        Ok(())
    }

    fn note(&self) -> Option<String> {
        let mut notes = Vec::new();
        if let Some(cause) = &self.because {
            notes.push(format!("the programs that count more do not work here ({cause})"));
        }
        if self.was_off {
            notes.push(format!("KVM's counters were switched off meanwhile ({SWITCH})"));
        }
        if self.tracker.cut_off > 0 {
            notes.push(format!(
                "what {} vCPUs did between the last look at them and their end is not counted",
                self.tracker.cut_off
            ));
        }
        let unseen = self.tracker.unseen();
        if unseen > 0 {
            notes.push(format!(
                "up to {unseen} vCPUs, of whatever VM, came and went between two looks uncounted"
            ));
        }
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

/// The processes that `parent` has started and that are there.
fn children(parent: u32) -> io::Result<HashSet<u32>> {
    let mut found = HashSet::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ended meanwhile is none.
        let Ok(stat) = std::fs::read(format!("/proc/{pid}/stat")) else { continue };
        if identity::parent(&stat) == Some(parent) {
            found.insert(pid);
        }
    }
    Ok(found)
}
