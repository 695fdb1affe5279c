//! Choice of the programs that are loaded.

use super::clock::Clock;
use super::features;
use super::functions::Functions;
use super::object::Task;
use crate::host;
use exitscope_model::{DetailKind, Measured, Source};

/// Programs that see an exit, of those typed by BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One on `kvm_entry`: bpf/entry.bpf.h.
    One(Clock),
    /// One on `kvm_exit`, and one on `kvm_entry` where times are measured.
    Pair,
}

/// Programs that are loaded where the kernel can.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// Those that see an exit.
    pub form: Form,
    /// Those that hear of what an exit is about.
    pub hooks: Hooks,
}

/// Programs of bpf/hooks.bpf.h that are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooks {
    /// All for the kinds that are counted.
    All,
    /// Without the one that hears of doorbells, which hangs on a function that the compiler may have put elsewhere.
    NoDoorbells,
    /// None.
    None,
}

/// Program that notes an exit that KVM is about to overwrite something of, by kprobes.
pub const NOTE_OVERWRITTEN: &str = "note_overwritten";

/// Function that overwrites the moment of an exit.
const OVERWRITES_MOMENT: &str = "kvm_guest_time_update";

/// Functions that overwrite its reason on SVM.
const OVERWRITE_REASON: &[&str] = &[
    "shutdown_interception",
    "sev_handle_vmgexit",
    "svm_check_nested_events",
    "nested_svm_triple_fault",
    "nested_svm_inject_npf_exit",
    "svm_check_intercept",
];

/// One more of them, which not every kernel has.
const OVERWRITES_REASON_TOO: &str = "svm_hv_inject_synthetic_vmexit_post_tlb_flush";

/// Returns the functions for [`NOTE_OVERWRITTEN`].
///
/// # Errors
/// The first one that this kernel lacks: it gets the pair.
pub fn overwriting(kvm: &Functions) -> Result<Vec<&'static str>, &'static str> {
    let mut functions = vec![OVERWRITES_MOMENT];
    if !vmx() {
        functions.extend(OVERWRITE_REASON);
    }
    if let Some(missing) = functions.iter().find(|function| !kvm.has(function)) {
        return Err(missing);
    }
    functions.extend(Some(OVERWRITES_REASON_TOO).filter(|function| !vmx() && kvm.has(function)));
    Ok(functions)
}

/// Choice of the programs for a task.
pub struct Choice<'a> {
    task: Task,
    parts: Parts,
    kvm: &'a Functions,
    /// Load those twice that this kernel may preempt: `TWICE()` in bpf/twice.bpf.h.
    twice: bool,
}

impl<'a> Choice<'a> {
    /// Chooses for a host with these functions.
    pub fn new(task: Task, parts: Parts, kvm: &'a Functions) -> Choice<'a> {
        let twice = matches!(task.source, Source::Btf | Source::Tracepoint) && features::preempts_programs();
        Choice { task, parts, kvm, twice }
    }

    /// Returns true if a program is to be loaded, which hangs on what `section` says.
    pub fn loads(&self, program: &str, section: &str) -> bool {
        match program.strip_suffix(AGAIN) {
            Some(first) => self.twice && self.loads_once(first, section),
            None => self.loads_once(program, section),
        }
    }

    fn loads_once(&self, program: &str, section: &str) -> bool {
        let Task { source, measured, follow, guest, .. } = self.task;
        let Parts { form, hooks } = self.parts;
        let timed = measured != Measured::Counts;
        let pair = form == Form::Pair;
        match program {
            "on_fork" => follow,
            // The plain source learns from it that a vCPU ended; the other has a better sign for that.
            "on_leave" => follow || source == Source::Tracepoint,
            "on_entry" => timed && !guest && pair,
            "on_entry_guest" => guest,
            ON_MARK => guest,
            "nest_by_vmm_svm" => !vmx(),
            "nest_by_vmm_vmx" => vmx(),
            // A kernel may be built without system management mode (CONFIG_KVM_SMM).
            "nest_by_smm_svm" => !vmx() && self.has_function_of(section),
            "nest_by_smm_vmx" => vmx() && self.has_function_of(section),
            "on_exit" => timed,
            "on_exit_only" => !timed,
            "on_entry_alone_vmx" => !pair && vmx(),
            "on_entry_alone_svm" => !pair && !vmx(),
            NOTING => !pair,
            "note_put" => !pair && measured != Measured::Breakdown,
            "note_sched_out" => !pair && measured == Measured::Breakdown,
            name if name.starts_with("on_exit") => pair && name == self.on_exit(),
            "note_tsc_write" => !pair,
            NOTE_OVERWRITTEN => !pair,
            // KVM's fast paths differ from one kernel to the next.
            name if name.starts_with("fast_") => !pair && self.has_function_of(section),
            DOORBELL => {
                let has = |kind: DetailKind| self.task.kinds() >> kind as u32 & 1 != 0;
                hooks == Hooks::All && (has(DetailKind::Port) || has(DetailKind::Gpa))
            }
            name if name.starts_with(HOOK) => {
                hooks != Hooks::None && hook_is_wanted(name, section, self.task.kinds())
            }
            name if is_split(name) => measured == Measured::Breakdown,
            _ => true,
        }
    }

    /// Returns true if KVM has the function that a section of `fentry` or `fexit` names.
    fn has_function_of(&self, section: &str) -> bool {
        section.rsplit('/').next().is_some_and(|function| self.kvm.has(function))
    }

    /// Returns the name of the program on exits with [`Source::Btf`].
    fn on_exit(&self) -> String {
        let vendor = if vmx() { "vmx" } else { "svm" };
        let kind = match self.task {
            Task { measured: Measured::Counts, .. } => "_only",
            Task { guest: true, .. } => "_guest",
            Task { .. } => "",
        };
        format!("on_exit_{vendor}{kind}")
    }
}

/// Returns true if Intel's module drives KVM.
pub fn vmx() -> bool {
    host::backend() == host::Backend::Vendor("kvm_intel".to_owned())
}

/// Program that is attached only while exits have to be seen where they happen: bpf/entry.bpf.h.
pub const NOTING: &str = "on_exit_noted";

/// Program that hears bytes that guests write for marks: bpf/marks.bpf.h.
pub const ON_MARK: &str = "on_pio";

/// End of the name of a program that is another one once more: `TWICE()` in bpf/twice.bpf.h.
pub const AGAIN: &str = "_again";

/// Beginning of the names of bpf/hooks.bpf.h's programs.
const HOOK: &str = "hook_";

/// The one of them that is for two kinds: ports and addresses.
const DOORBELL: &str = "hook_doorbell";

/// Returns true if a program of bpf/hooks.bpf.h, which hangs on what `section` says, is for one of `kinds` and can be
/// attached. Its name is `hook_KIND…`, or `hook_vmx_KIND…` where only VMX needs it.
fn hook_is_wanted(name: &str, section: &str, kinds: u32) -> bool {
    let rest = name.strip_prefix(HOOK).unwrap_or(name);
    let (rest, vendor) = rest.strip_prefix("vmx_").map_or((rest, true), |rest| (rest, vmx()));
    let kind = DetailKind::from_word(rest.split('_').next().unwrap_or(rest));
    let is_counted = kind.is_some_and(|kind| kinds >> kind as u32 & 1 != 0);
    // A kernel may be built without it. Where tracefs cannot be read, loading shows.
    let event = ["tp_btf/", "raw_tp/"].iter().find_map(|kind| section.split_once(kind));
    let is_there = match event {
        Some((_, event)) => host::has_event("kvm", event).unwrap_or(true),
        None => true,
    };
    vendor && is_counted && is_there
}

/// Returns true if a program only tells apart where host time went, or what an exit was about.
pub fn is_split(program: &str) -> bool {
    if program.starts_with(HOOK) {
        return true;
    }
    ["on_return", "on_run", "on_load", "on_block", "on_wakeup"].contains(&program)
}
