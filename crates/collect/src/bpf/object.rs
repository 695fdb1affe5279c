//! Loads and attaches the BPF programs. The only module that talks to libbpf.

use super::super::Error;
use super::super::host;
use super::patch;
use super::wire;
use crate::skipped::skipped_runs;
use exitscope_model::{DetailKind, Measured, Source};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, PrintLevel};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Mutex;

/// A compiled object, at an address that an ELF reader can work with.
#[repr(align(8))]
struct Aligned<T: ?Sized>(T);

static EXITS: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/exits.bpf.o")));
static PLAIN: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/plain.bpf.o")));

/// The sizes of the kernel's tables.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub rows: u32,
    pub vcpus: u32,
    pub vms: u32,
    pub returns: u32,
    pub details: u32,
    pub selected: u32,
    /// Bytes of the ring buffer for marks: a power of two, and whole pages.
    pub marks: u32,
}

/// Returns the length of a table for so many elements: see `config` in bpf/wire.h.
pub fn table_len(elements: u32) -> u32 {
    elements.next_power_of_two()
}

/// Choice of the programs, and of what they count.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Source that the programs belong to.
    pub source: Source,
    /// Level of detail to measure.
    pub measured: Measured,
    /// Count the VMs of selected processes alone.
    pub only_selected: bool,
    /// The processes that a selected one starts are selected too.
    pub follow: bool,
    /// Look at the guest: its mode, and the bytes that it writes to ports for marks. With [`Source::Btf`] and
    /// [`Measured::Breakdown`] alone.
    pub guest: bool,
    /// The kinds of detail to count: a bit for each [`exitscope_model::DetailKind`]. With [`Source::Btf`] and
    /// [`Measured::Breakdown`] alone.
    pub kinds: u32,
}

/// Programs that are loaded where the kernel can.
#[derive(Clone, Copy, Debug)]
struct Parts {
    /// Those that rely on being told when a vCPU changes its VMCB.
    switches: bool,
    /// Those that hear of what an exit is about.
    hooks: bool,
}

/// Runs of programs that the kernel skipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Skipped {
    /// Runs of programs that count.
    pub counting: u64,
    /// Runs of programs that only tell apart where host time goes.
    pub split: u64,
    /// Runs of the program that hears marks.
    pub marks: u64,
}

/// Programs that are counting. They stop when this is dropped.
pub struct Loaded {
    /// They detach when dropped, and before the object does.
    links: Vec<Link>,
    object: Object,
}

impl Loaded {
    /// Loads the programs for a task.
    pub fn load(task: Task, sizes: Sizes) -> Result<Loaded, Error> {
        let said = Said::listen();
        // Without the sign that a vCPU changes its VMCB, which hangs on a function of KVM that the compiler may have made a
        // part of another, each exit asks.
        let asks = task.source == Source::Btf && !vmx();
        let either = |hooks: bool| {
            let first = Self::try_load(task, sizes, Parts { switches: true, hooks });
            let less = Parts { switches: false, hooks };
            if asks { first.or_else(|_| Self::try_load(task, sizes, less)) } else { first }
        };
        // Without the programs that hear of some details, which hang on more of KVM, those are not told apart.
        let loaded = either(true).or_else(|error| either(false).map_err(|_| error));
        loaded.map_err(|(what, error)| said.explain(what, &error))
    }

    fn try_load(task: Task, sizes: Sizes, parts: Parts) -> Result<Loaded, (String, String)> {
        let Parts { switches, hooks } = parts;
        let Task { source, measured, only_selected, follow, guest, kinds } = task;
        let at = |what: &str| {
            let what = what.to_owned();
            move |error: libbpf_rs::Error| (what, format!("{error:#}"))
        };
        let mut config = wire::config {
            only_selected: only_selected.into(),
            max_rows: sizes.rows,
            max_vcpus: sizes.vcpus,
            max_vms: sizes.vms,
            max_returns: sizes.returns,
            max_details: sizes.details,
            kinds: if source == Source::Btf && measured == Measured::Breakdown { kinds } else { 0 },
            guest: guest.into(),
            ..wire::config::default()
        };
        let image = if source == Source::Tracepoint {
            let field = |event: &str, name: &str| {
                let (offset, size) = host::tracepoint_field(event, name).map_err(|error| {
                    (format!("reading the fields of the tracepoint {event}"), error.to_string())
                })?;
                Ok::<_, (String, String)>(wire::field { offset, size })
            };
            config.exit_reason = field("kvm/kvm_exit", "exit_reason")?;
            config.exit_isa = field("kvm/kvm_exit", "isa")?;
            config.exit_vcpu_id = field("kvm/kvm_exit", "vcpu_id")?;
            config.entry_vcpu_id = field("kvm/kvm_entry", "vcpu_id")?;
            if follow {
                config.fork_child = field("sched/sched_wakeup_new", "pid")?;
            }
            &PLAIN.0
        } else {
            &EXITS.0
        };

        let [rows, vcpus, returns, details] =
            [sizes.rows, sizes.vcpus, sizes.returns, sizes.details].map(table_len);
        let image = patch::with_masks(image, &patch::masks(rows, vcpus, returns, details));
        let mut open =
            ObjectBuilder::default().open_memory(&image).map_err(at("opening the BPF programs"))?;
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            let entries = match name.as_str() {
                "free_rows" => sizes.rows,
                "free_vcpus" | "vcpu_by_key" | "vcpu_by_thread" | "vcpu_by_task" => sizes.vcpus,
                "vms" | "free_vms" | "vm_by_key" => sizes.vms,
                "free_returns" => sizes.returns,
                "free_details" => sizes.details,
                "selected" => sizes.selected,
                "marks" => sizes.marks,
                _ => 0,
            };
            let bytes = match name.rsplit('.').next() {
                Some("rows") => bytes::<wire::row>(sizes.rows, wire::SLACK_ROWS),
                Some("vcpus") => bytes::<wire::vcpu_slot>(sizes.vcpus, 0),
                Some("returns") => bytes::<wire::user_return>(sizes.returns, 0),
                Some("details") => bytes::<wire::detail>(sizes.details, 0),
                _ => 0,
            };
            if entries != 0 {
                map.set_max_entries(entries).map_err(at("sizing the BPF tables"))?;
            } else if bytes != 0 {
                map.set_value_size(bytes).map_err(at("sizing the BPF tables"))?;
            } else if name.ends_with(".rodata.config") {
                map.set_initial_value(bytes_of(&config)).map_err(at("configuring the BPF programs"))?;
            }
        }
        let timed = measured != Measured::Counts;
        let kinds = config.kinds;
        for mut program in open.progs_mut() {
            let name = program.name().to_string_lossy().into_owned();
            let wanted = match name.as_str() {
                "on_fork" => follow,
                // The plain source learns from it that a vCPU ended; the other has a better sign for that.
                "on_leave" => follow || source == Source::Tracepoint,
                "on_entry" => timed && !guest,
                "on_entry_guest" => guest,
                "on_pio" => guest,
                "on_switch" => !vmx() && switches,
                "on_exit" => timed,
                "on_exit_only" => !timed,
                name if name.starts_with("on_exit") => name == on_exit(task, switches),
                name if name.starts_with(HOOK) => {
                    hooks && hook_is_wanted(name, &program.section().to_string_lossy(), kinds)
                }
                name if is_split(name) => measured == Measured::Breakdown,
                _ => true,
            };
            program.set_autoload(wanted);
        }
        let object = open.load().map_err(at("loading the BPF programs"))?;
        Ok(Loaded { links: Vec::new(), object })
    }

    /// Attaches the programs: from here on they count.
    pub fn attach(&mut self) -> Result<(), Error> {
        let said = Said::listen();
        // Exits last: only an exit makes a vCPU known, so that none is ever seen without what belongs to it.
        let mut programs: Vec<_> = self.object.progs_mut().filter(|program| program.autoload()).collect();
        programs.sort_by_key(|program| program.name().to_string_lossy().starts_with("on_exit"));
        for program in programs {
            let what = format!("attaching the BPF program {}", program.name().display());
            self.links.push(program.attach().map_err(|error| said.explain(what, &format!("{error:#}")))?);
        }
        Ok(())
    }

    /// A handle of one map.
    pub fn map(&self, name: &str) -> Result<MapHandle, Error> {
        let map = self
            .object
            .maps()
            .find(|map| map.name().to_str().is_some_and(|found| found == name || found.ends_with(name)));
        let map = map.ok_or_else(|| kernel(&format!("looking for the BPF map {name}"), "there is none"))?;
        MapHandle::try_from(&map)
            .map_err(|error| kernel(&format!("opening the BPF map {name}"), &error.to_string()))
    }

    /// Returns the runs that the kernel skipped because the program was running already on that CPU.
    pub fn skipped(&self) -> Result<Skipped, Error> {
        let mut skipped = Skipped::default();
        for program in self.object.progs() {
            if !program.autoload() {
                continue;
            }
            let runs = skipped_runs(program.as_fd())
                .map_err(|error| kernel("asking the kernel for skipped runs", &error.to_string()))?;
            *match &*program.name().to_string_lossy() {
                "on_pio" => &mut skipped.marks,
                name if is_split(name) => &mut skipped.split,
                _ => &mut skipped.counting,
            } += runs;
        }
        Ok(skipped)
    }
}

/// Gives an index back to the programs.
pub fn give_back(list: &MapHandle, index: u32) -> Result<(), Error> {
    list.update(&[], &index.to_ne_bytes(), MapFlags::ANY)
        .map_err(|error| kernel("giving a table's place back", &error.to_string()))
}

/// Returns true if the programs have taken all that was given back.
pub fn is_empty(list: &MapHandle) -> bool {
    !matches!(list.lookup(&[], MapFlags::ANY), Ok(Some(_)))
}

/// Returns the index that the programs have for a key.
pub fn find(map: &MapHandle, key: u64) -> Result<Option<u32>, Error> {
    let found = map
        .lookup(&key.to_ne_bytes(), MapFlags::ANY)
        .map_err(|error| kernel("looking a VM up", &error.to_string()))?;
    Ok(found.and_then(|bytes| Some(u32::from_ne_bytes(bytes.try_into().ok()?))))
}

/// Adds a process to those whose VMs are counted.
pub fn select(selected: &MapHandle, pid: u32) -> Result<(), Error> {
    selected
        .update(&pid.to_ne_bytes(), &[1], MapFlags::ANY)
        .map_err(|error| kernel("choosing a process", &error.to_string()))
}

/// Takes a process back out of those.
pub fn deselect(selected: &MapHandle, pid: u32) -> Result<(), Error> {
    selected.delete(&pid.to_ne_bytes()).map_err(|error| kernel("letting go of a process", &error.to_string()))
}

/// Returns true if Intel's module drives KVM.
fn vmx() -> bool {
    host::backend() == host::Backend::Vendor("kvm_intel".to_owned())
}

/// Returns the name of the program on exits with [`Source::Btf`]: see `Loaded::try_load` for `switches`.
fn on_exit(task: Task, switches: bool) -> String {
    let vendor = match (vmx(), switches) {
        (true, _) => "vmx",
        (false, true) => "svm",
        (false, false) => "svm_moving",
    };
    let kind = match task {
        Task { measured: Measured::Counts, .. } => "_only",
        Task { guest: true, .. } => "_guest",
        Task { .. } => "",
    };
    format!("on_exit_{vendor}{kind}")
}

/// Beginning of the names of bpf/hooks.bpf.h's programs.
const HOOK: &str = "hook_";

/// Returns true if a program of bpf/hooks.bpf.h, which hangs on what `section` says, is for one of `kinds` and can be
/// attached. Its name is `hook_KIND…`, or `hook_vmx_KIND…` where only VMX needs it.
fn hook_is_wanted(name: &str, section: &str, kinds: u32) -> bool {
    let rest = name.strip_prefix(HOOK).unwrap_or(name);
    let (rest, vendor) = rest.strip_prefix("vmx_").map_or((rest, true), |rest| (rest, vmx()));
    let kind = DetailKind::from_word(rest.split('_').next().unwrap_or(rest));
    let is_counted = kind.is_some_and(|kind| kinds >> kind as u32 & 1 != 0);
    // A kernel may be built without it. Where tracefs cannot be read, loading shows.
    let is_there = match section.split_once("tp_btf/") {
        Some((_, event)) => host::has_event("kvm", event).unwrap_or(true),
        None => true,
    };
    vendor && is_counted && is_there
}

/// Returns true if a program only tells apart where host time went, or what an exit was about.
fn is_split(program: &str) -> bool {
    if program.starts_with(HOOK) {
        return true;
    }
    ["on_return", "on_run", "on_load", "on_block", "on_wakeup"].contains(&program)
}

/// Returns the size of a table of elements of this type, with some more after the last, in bytes.
fn bytes<T>(elements: u32, more: u32) -> u32 {
    (table_len(elements) + more).saturating_mul(u32::try_from(size_of::<T>()).unwrap_or(u32::MAX))
}

fn kernel(what: &str, cause: &str) -> Error {
    Error::Kernel { what: what.to_owned(), cause: cause.to_owned() }
}

fn bytes_of(config: &wire::config) -> &[u8] {
    // SAFETY: a struct of 32-bit integers has no padding, and any bytes may be looked at.
    unsafe { std::slice::from_raw_parts((&raw const *config).cast(), size_of_val(config)) }
}

/// Keeper of libbpf's messages, which are not printed: its warnings belong to the error they explain.
struct Said;

static SAID: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

impl Said {
    fn listen() -> Said {
        SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        libbpf_rs::set_print(Some((PrintLevel::Warn, |_, text| {
            let mut said = SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            said.extend(text.lines().map(str::to_owned));
            let surplus = said.len().saturating_sub(200);
            said.drain(..surplus);
        })));
        Said
    }

    /// An error with the words that explain it.
    fn explain(&self, what: String, error: &str) -> Error {
        let cause = match self.last() {
            Some(line) => format!("{error} (libbpf: {line})"),
            None => error.to_owned(),
        };
        Error::Kernel { what, cause }
    }

    /// The line that tells most: the verifier's reason or last words, or the first warning.
    fn last(&self) -> Option<String> {
        let said = SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let telling = |line: &&String| {
            let frame = line.contains("-- BEGIN PROG LOAD LOG --") || line.starts_with("processed ");
            !frame && !line.trim().is_empty()
        };
        // Newer kernels explain at length, and give the reason a heading.
        let reason = said.iter().skip_while(|line| line.trim() != "Reason:").nth(1);
        let verifier = said.iter().position(|line| line.contains("-- END PROG LOAD LOG --"));
        let line = reason.or_else(|| match verifier {
            Some(end) => said.iter().take(end).rev().find(telling),
            None => said.iter().find(telling),
        });
        line.map(|line| line.trim_start_matches("libbpf: ").trim().to_owned())
    }
}
