//! Loads and attaches the BPF programs. The only module that talks to libbpf.

use super::super::Error;
use super::super::host;
use super::clock::Clock;
use super::features;
use super::functions::{Functions, kernel_has};
use super::patch;
use super::programs::{AGAIN, Choice, Form, Hooks, NOTE_OVERWRITTEN, NOTING, Parts, overwriting, vmx};
use super::skipped::{Skipped, StoodIn};
use super::table::Table;
use super::target;
use super::wire;
use crate::Probes;
use crate::image::image;
use crate::skipped::skipped_runs;
use exitscope_model::{Filter, Measured, Source};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, PrintLevel};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::AsFd;
use std::sync::Mutex;

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
    /// The kinds of detail to count: a bit for each [`exitscope_model::DetailKind`]. With [`Source::Btf`] or
    /// [`Source::Raw`], and [`Measured::Breakdown`].
    pub kinds: u32,
    /// Programs that see an exit.
    pub probes: Probes,
    /// Address of KVM's table of statistics, which [`Source::Raw`] looks through; `None` where there is none.
    pub kvm_stats: Option<u64>,
}

impl Task {
    /// Returns the kinds of detail that are counted, as [`Task::kinds`] has them.
    pub fn kinds(&self) -> u32 {
        if matches!(self.source, Source::Btf | Source::Raw) && self.measured == Measured::Breakdown {
            self.kinds
        } else {
            0
        }
    }
}

/// Programs that are counting. They stop when this is dropped.
pub struct Loaded {
    /// They detach when dropped, and before the object does.
    links: Vec<Link>,
    /// The program that notes exits where they happen, while that is needed.
    noting: Option<Link>,
    /// Functions that [`NOTE_OVERWRITTEN`] hangs on.
    overwriting: Vec<&'static str>,
    form: Form,
    /// Reason why it had to be the pair, where that was not asked for.
    why_pair: Option<String>,
    object: Object,
}

impl Loaded {
    /// Loads the programs for a task, and for the exits that are asked for.
    pub fn load(task: Task, sizes: Sizes, filter: &Filter) -> Result<Loaded, Error> {
        let said = Said::listen();
        let explain = |(what, error): (String, String)| said.explain(what, &error);
        let why_pair = match task.probes {
            Probes::Pair => None,
            Probes::One | Probes::Auto => {
                let one = "counting with one BPF program for each exit".to_owned();
                let found = Clock::find().map_err(|why| (one, why));
                match found.and_then(|clock| Self::load_form(task, sizes, Form::One(clock), filter)) {
                    Ok(loaded) => return Ok(loaded),
                    Err((what, why)) if task.probes == Probes::One => {
                        return Err(explain((what, format!("{why}; --probes auto takes two there"))));
                    }
                    Err((_, why)) => Some(why),
                }
            }
        };
        let mut loaded = Self::load_form(task, sizes, Form::Pair, filter).map_err(explain)?;
        loaded.why_pair = why_pair;
        Ok(loaded)
    }

    /// Loads the programs that see an exit in one form, with as many others as this kernel takes.
    fn load_form(task: Task, sizes: Sizes, form: Form, filter: &Filter) -> Result<Loaded, (String, String)> {
        let functions = Functions::of_kvm(vmx());
        let overwriting = match form {
            Form::Pair => Vec::new(),
            Form::One(_) => overwriting(&functions).map_err(|missing| {
                let what = format!("attaching the BPF program {NOTE_OVERWRITTEN}");
                (what, format!("KVM has no function {missing} here"))
            })?,
        };
        let either = |hooks: Hooks| Self::try_load(task, sizes, Parts { form, hooks }, &functions, filter);
        // Without the programs that hear of some details, which hang on more of KVM, those are not told apart.
        let loaded = either(Hooks::All)
            .or_else(|error| either(Hooks::NoDoorbells).or_else(|_| either(Hooks::None)).map_err(|_| error));
        loaded.map(|loaded| Loaded { overwriting, ..loaded })
    }

    fn try_load(
        task: Task,
        sizes: Sizes,
        parts: Parts,
        functions: &Functions,
        filter: &Filter,
    ) -> Result<Loaded, (String, String)> {
        let Task { source, only_selected, follow, guest, .. } = task;
        let older = match source {
            Source::Raw => true,
            Source::Tracepoint => !features::takes_large_values(),
            _ => false,
        };
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
            kinds: task.kinds(),
            guest: guest.into(),
            kvm_stats: task.kvm_stats.unwrap_or(0),
            seed: u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(0),
            ..wire::config::default()
        };
        let isa = if vmx() { 1 } else { 2 };
        if source == Source::Btf {
            config.isa = isa;
        }
        if let Form::One(clock) = parts.form {
            config.one = isa;
            (config.tk_fast_mono, config.clocksource_tsc) = (clock.tk_fast_mono, clock.clocksource_tsc);
        }
        choose(&mut config, filter);
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
            if older { image!("plain_older") } else { image!("plain") }
        } else if source == Source::Raw {
            image!("raw")
        } else if kernel_has("bpf_rdonly_cast") {
            image!("exits")
        } else {
            image!("exits_probing")
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
            // Of tables that are global data the size of the value says how many there are, of arrays the number of elements.
            let (len, bytes) = match name.rsplit('.').next().unwrap_or_default() {
                "rows" => (sizes.rows, bytes::<wire::row>(sizes.rows, wire::SLACK_ROWS)),
                "vcpus" => (sizes.vcpus, bytes::<wire::vcpu_slot>(sizes.vcpus, 0)),
                "returns" => (sizes.returns, bytes::<wire::user_return>(sizes.returns, 0)),
                "details" => (sizes.details, bytes::<wire::detail>(sizes.details, 0)),
                _ => (0, 0),
            };
            let entries = if older && len != 0 { table_len(len) } else { entries };
            if entries != 0 {
                map.set_max_entries(entries).map_err(at("sizing the BPF tables"))?;
            } else if bytes != 0 {
                map.set_value_size(bytes).map_err(at("sizing the BPF tables"))?;
            } else if name.ends_with(".rodata.config") {
                map.set_initial_value(bytes_of(&config)).map_err(at("configuring the BPF programs"))?;
            }
        }
        let choice = Choice::new(task, parts, functions);
        for mut program in open.progs_mut() {
            let wanted =
                choice.loads(&program.name().to_string_lossy(), &program.section().to_string_lossy());
            program.set_autoload(wanted);
            if wanted {
                target::name_module(&mut program);
            }
        }
        let object = open.load().map_err(at("loading the BPF programs"))?;
        let loaded = Loaded {
            links: Vec::new(),
            noting: None,
            overwriting: Vec::new(),
            form: parts.form,
            why_pair: None,
            object,
        };
        if older {
            loaded
                .fill_lists(sizes)
                .map_err(|error| ("filling the BPF tables".to_owned(), error.to_string()))?;
        }
        Ok(loaded)
    }

    /// Puts all places into the lists of free ones, for programs that do not count up to them: `take()` in
    /// bpf/tables.bpf.h.
    fn fill_lists(&self, sizes: Sizes) -> Result<(), Error> {
        let Sizes { rows, vcpus, vms, returns, details, .. } = sizes;
        let lists = [
            ("free_rows", rows),
            ("free_vcpus", vcpus),
            ("free_vms", vms),
            ("free_returns", returns),
            ("free_details", details),
        ];
        for (list, len) in lists {
            let list = self.map(list)?;
            (1..len).try_for_each(|index| give_back(&list, index))?;
        }
        let control: Table<wire::control> = Table::map(&self.map("control")?, 1)
            .map_err(|error| kernel("mapping the BPF table control", &error.to_string()))?;
        let control = control.at(0);
        // SAFETY: the pointer is into a live mapping, and no program is attached yet.
        unsafe {
            (*control).next_row = rows;
            (*control).next_vcpu = vcpus;
            (*control).next_vm = vms;
            (*control).next_return = returns;
            (*control).next_detail = details;
        }
        Ok(())
    }

    /// Attaches the programs: from here on they count.
    pub fn attach(&mut self) -> Result<(), Error> {
        let said = Said::listen();
        // Exits last: only an exit makes a vCPU known, so that none is ever seen without what belongs to it.
        let mut programs: Vec<_> = self.object.progs_mut().filter(|program| program.autoload()).collect();
        let exits = |name: &str| name.starts_with("on_exit") || name.starts_with("on_entry_alone");
        // The kernel runs the programs on a tracepoint in the order in which they were attached (func_add() in
        // kernel/tracepoint.c), and those on a function the other way round (kernel/bpf/trampoline.c).
        let on_function = |section: &str| section.starts_with("fentry/") || section.starts_with("fexit/");
        programs.sort_by_key(|program| {
            let (name, section) = (program.name().to_string_lossy(), program.section().to_string_lossy());
            (exits(&name), name.ends_with(AGAIN) != on_function(section.trim_start_matches('?')))
        });
        for program in programs {
            if program.name() == NOTING {
                continue;
            }
            let what = format!("attaching the BPF program {}", program.name().display());
            let explain = |error: libbpf_rs::Error| said.explain(what.clone(), &format!("{error:#}"));
            if program.name() == NOTE_OVERWRITTEN {
                for function in &self.overwriting {
                    self.links.push(program.attach_kprobe(false, function).map_err(explain)?);
                }
            } else {
                self.links.push(program.attach().map_err(explain)?);
            }
        }
        Ok(())
    }

    /// Returns true if one program sees an exit.
    pub fn is_one(&self) -> bool {
        self.form != Form::Pair
    }

    /// Returns the reason why it had to be the pair, where [`Probes::Auto`] would have had one program.
    pub fn why_pair(&self) -> Option<&str> {
        self.why_pair.as_deref()
    }

    /// Has exits noted where they happen, or no more, beside being counted at their entries: bpf/entry.bpf.h. In either case
    /// each is counted once. The pair does that anyway.
    pub fn note_exits(&mut self, wanted: bool) -> Result<(), Error> {
        if self.form == Form::Pair || wanted == self.noting.is_some() {
            return Ok(());
        }
        if self.noting.take().is_some() {
            return Ok(());
        }
        let said = Said::listen();
        let program = self.object.progs_mut().find(|program| program.name() == NOTING);
        let program = program.ok_or_else(|| kernel("looking for the BPF program", NOTING))?;
        let link = program.attach();
        let what = || format!("attaching the BPF program {NOTING}");
        self.noting = Some(link.map_err(|error| said.explain(what(), &format!("{error:#}")))?);
        Ok(())
    }

    /// Opens one map: of this name, or global data in a section whose name ends with `.name`.
    ///
    /// # Errors
    /// If there is none, or the kernel refuses.
    pub fn map(&self, name: &str) -> Result<MapHandle, Error> {
        let is_it =
            |found: &str| found.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let map = self.object.maps().find(|map| map.name().to_str().is_some_and(is_it));
        let map = map.ok_or_else(|| kernel(&format!("looking for the BPF map {name}"), "there is none"))?;
        MapHandle::try_from(&map)
            .map_err(|error| kernel(&format!("opening the BPF map {name}"), &error.to_string()))
    }

    /// Returns the runs that the kernel skipped because the program was running already on that CPU; `stood_in` are those that
    /// the second of two equal programs did.
    ///
    /// # Errors
    /// If the kernel refuses, or runs the second of two programs first.
    pub fn skipped(&self, stood_in: StoodIn) -> Result<Skipped, Error> {
        let programs = self.object.progs().filter(|program| program.autoload());
        let runs = programs
            .map(|program| {
                Ok((program.name().to_string_lossy().into_owned(), skipped_runs(program.as_fd())?))
            })
            .collect::<io::Result<_>>()
            .map_err(|error| kernel("asking the kernel for skipped runs", &error.to_string()))?;
        Skipped::add_up(&runs, stood_in).ok_or_else(|| {
            kernel("counting with programs that are attached twice", "the kernel runs them in another order")
        })
    }
}

/// Has the programs tell apart what is asked for alone, as far as they can: `Filter::apply` looks closer.
fn choose(config: &mut wire::config, filter: &Filter) {
    let most = wire::MAX_CHOSEN as usize;
    // A code with modifiers is one that the programs do not compare.
    if filter.reasons.len() <= most && filter.reasons.iter().all(|reason| reason.code <= 0xffff) {
        config.codes = u32::try_from(filter.reasons.len()).unwrap_or(0);
        config.only_codes.iter_mut().zip(&filter.reasons).for_each(|(to, from)| *to = from.code);
    }
    let ranges: Vec<_> = filter.details.iter().filter_map(|keys| Some((keys, keys.read_as()?))).collect();
    if ranges.len() == filter.details.len() && ranges.len() <= most {
        config.keys = u32::try_from(ranges.len()).unwrap_or(0);
        for (to, (keys, range)) in config.only_keys.iter_mut().zip(ranges) {
            (to.first, to.last, to.kind) = (*range.start(), *range.end(), keys.kind as u32);
        }
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

/// Returns the size of a table of elements of this type, with some more after the last, in bytes.
fn bytes<T>(elements: u32, more: u32) -> u32 {
    (table_len(elements) + more).saturating_mul(u32::try_from(size_of::<T>()).unwrap_or(u32::MAX))
}

fn kernel(what: &str, cause: &str) -> Error {
    Error::Kernel { what: what.to_owned(), cause: cause.to_owned() }
}

/// Returns the bytes of a configuration, as the programs have them.
pub fn bytes_of(config: &wire::config) -> &[u8] {
    const { assert!(size_of::<wire::config>() == 8 * (3 + 16 + 3 * 16) + 4 * 24) };
    // SAFETY: the struct has no padding, as its fields of 64 bits come first and those of 32 are even in number, and any
    // bytes may be looked at.
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
