//! Sentences around the table.

pub use super::line::{Kind, Line, NAME, vm_name};

use super::line::line;
use super::names::Names;
use super::value::by_frequency;
use super::{Explanation, Options, advice, details, text, unit, vcpus, workers};
use exitscope_analysis::advice::advise;
use exitscope_model::figure::Context;
use exitscope_model::{
    By, Counters, ExitCode, Group, Holder, Interval, Isa, Level, Measured, Sort, Source, Thinned, Vm, float,
    group, sort,
};
use exitscope_reason as reason;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Number of VMs that the heading names.
const NAMED: usize = 4;

fn ended(vm: &Vm) -> &'static str {
    if vm.ended { ", ended" } else { "" }
}

/// Returns the subject of an interval: `web-1 (qemu, pid 4242, 4 vCPUs)`, `3 VMs (web-1, db-1, build)
/// with 9 vCPUs`.
fn who(interval: &Interval) -> String {
    let vcpus = unit::counted(interval.vcpus.len() as u64, "vCPU");
    if let Some(vm) = interval.vms.values().next().filter(|_| interval.vms.len() == 1) {
        let vmm = text::clean(&vm.vmm, NAME);
        return format!("{} ({vmm}, pid {}, {vcpus}{})", vm_name(vm), vm.pid, ended(vm));
    }
    let shown = Names::of(interval.vms.values());
    let mut names: Vec<String> =
        interval.vms.values().take(NAMED).map(|vm| shown.show(vm) + &ended(vm).replace(", ", " ")).collect();
    if interval.vms.len() > NAMED {
        names.push(format!("{} more", unit::count((interval.vms.len() - NAMED) as u64)));
    }
    format!("{} VMs ({}) with {vcpus}", unit::count(interval.vms.len() as u64), names.join(", "))
}

/// A moment to the second, in UTC.
fn moment(time: SystemTime) -> String {
    unit::moment(time).replace('T', " ").replace('Z', "")
}

/// The day of a moment, in UTC.
pub fn date(time: SystemTime) -> String {
    moment(time).split_once(' ').map_or(String::new(), |(date, _)| date.to_owned())
}

fn span(interval: &Interval) -> String {
    let (start, end) = (moment(interval.start), moment(interval.end));
    let end = match (start.split_once(' '), end.split_once(' ')) {
        (Some((first, _)), Some((last, clock))) if first == last => clock.to_string(),
        _ => end,
    };
    format!("{start} to {end} UTC")
}

/// Returns the heading of the table: VMs, length, begin and end. Without an exit that is all there is to say.
pub fn heading(interval: &Interval) -> Line {
    let (length, span) = (unit::duration(interval.length), span(interval));
    let text = if interval.vms.is_empty() {
        format!("No exit of what is watched in {length}, {span}: there is nothing to count.")
    } else if interval.is_idle() {
        let such = if interval.loss.filtered > 0 { "No such exit" } else { "No exit" };
        format!("{such} in {length}, {span}. Watched: {}.", who(interval))
    } else if interval.source == Source::KvmStat {
        format!("KVM's own statistics of {} in {length}, {span}", who(interval))
    } else {
        format!("VM exits of {} in {length}, {span}", who(interval))
    };
    line(Kind::Heading, text)
}

/// Returns the lines under the table.
pub fn notes(interval: &Interval, options: &Options) -> Vec<Line> {
    let mut lines = Vec::new();
    if interval.source == Source::KvmStat {
        if !interval.vms.is_empty() {
            lines.push(statistics_only(&options.explanation));
        }
    } else {
        if !options.answered {
            lines.extend(most_and_least(interval));
        }
        lines.extend(out_to_user(interval));
        lines.extend(details::lines(interval, !options.details.is_empty()));
        if !options.answered {
            let known = advise(interval, &options.host);
            lines.extend(advice::brief(&known, interval).into_iter().map(|text| line(Kind::Plain, text)));
        }
        lines.extend(nested(interval));
        lines.extend(vcpus::sentence(interval));
        lines.extend(halted(interval));
        if !interval.vms.is_empty() {
            lines.push(check(interval, &options.explanation));
        }
    }
    lines.extend(source_note(interval, &options.explanation));
    lines.extend(workers::sentence(interval));
    lines.extend(losses(interval));
    lines.extend(options.explanation.thinned.as_ref().map(thinned));
    lines
}

/// Returns the remark of a source that works and could do better. Others say theirs with what they lack.
fn source_note(interval: &Interval, explanation: &Explanation) -> Option<Line> {
    let note = explanation.source.as_ref().filter(|_| interval.source == Source::Btf)?;
    Some(line(Kind::Aside, format!("Note: {}.", tidy(note))))
}

/// Says how a recording was thinned.
pub fn thinned(thinned: &Thinned) -> Line {
    let Thinned { gone, hours, minutes, full } = *thinned;
    let all = gone + hours + minutes + full;
    let parts =
        [(gone, "are gone"), (hours, "are left as sums of hours"), (minutes, "are left as sums of minutes")];
    let parts = parts.into_iter().filter(|(length, _)| !length.is_zero());
    let words: Vec<String> = parts.map(|(length, what)| format!("{} {what}", unit::span(length))).collect();
    let last = match full.is_zero() {
        true => "no interval is left as it was recorded".to_owned(),
        false => format!("the last {} have every interval", unit::span(full)),
    };
    line(
        Kind::Aside,
        format!(
            "The recording is thinned: of {}, from its begin on, {}; {last}.",
            unit::span(all),
            words.join(", ")
        ),
    )
}

/// Returns lines on whether the figures can be trusted: the comparison with KVM's own count, and what was
/// missed.
pub fn trust(interval: &Interval, explanation: &Explanation) -> Vec<Line> {
    let mut lines = Vec::new();
    if interval.source == Source::KvmStat {
        lines.push(statistics_only(explanation));
    } else if !interval.vms.is_empty() {
        lines.push(check(interval, explanation));
    }
    lines.extend(source_note(interval, explanation));
    lines.extend(losses(interval));
    lines.extend(explanation.thinned.as_ref().map(thinned));
    lines
}

/// Says that only KVM's own statistics were counted, and why.
pub fn statistics_only(explanation: &Explanation) -> Line {
    let why = explanation.source.as_ref().map_or(String::new(), |why| format!(", because {}", tidy(why)));
    line(
        Kind::Warning,
        format!(
            "Only KVM's own statistics could be read{why}. They give the number of exits and classes of \
             them, which overlap and do not add up to the total. They cannot give exit reasons and times."
        ),
    )
}

/// The callers' words may quote what they found; keep them harmless.
fn tidy(words: &str) -> String {
    text::clean(words, 400)
}

/// The most frequent and the least frequent reason.
fn most_and_least(interval: &Interval) -> Option<Line> {
    let mut groups = group(interval, By { level: true, reason: true, ..By::NOTHING });
    groups.retain(|group| group.counters.count > 0);
    sort(&mut groups, Sort::COUNT, &Context::new(interval), reason::name);
    let describe = |group: &Group| {
        #[allow(clippy::cast_precision_loss)]
        let share = group.counters.count as f64 / interval.exits().max(1) as f64;
        let name = group.code.map_or(String::new(), name);
        let whose = if group.level == Some(Level::L2) { " of L2" } else { "" };
        format!("{name}{whose}, {} ({})", unit::counted(group.counters.count, "exit"), unit::share(share))
    };
    let (first, last) = (groups.first()?, groups.last()?);
    if groups.len() == 1 {
        return Some(line(Kind::Plain, format!("The only type: {}.", describe(first))));
    }
    let equals = groups.iter().filter(|group| group.counters.count == last.counters.count).count() - 1;
    let equals = match equals {
        0 => String::new(),
        1 => ", like one other".into(),
        more => format!(", like {more} others"),
    };
    let text = format!("Most frequent: {}. Least frequent: {}{equals}.", describe(first), describe(last));
    Some(line(Kind::Plain, text))
}

fn name(code: ExitCode) -> String {
    text::clean(&reason::name(code), NAME)
}

/// Line on the exits that KVM did not handle alone, and their most frequent return.
fn out_to_user(interval: &Interval) -> Option<Line> {
    if interval.measured != Measured::Breakdown || interval.is_idle() {
        return None;
    }
    let counters = Group::total(interval).counters;
    let exits = counters.split.user_exits;
    let returns = by_frequency(&counters.returns);
    #[allow(clippy::cast_precision_loss)]
    let share = exits as f64 / interval.exits().max(1) as f64;
    let text = match returns.first() {
        None if exits == 0 => "No exit went out to user space.".into(),
        most => {
            let most = most.map_or(String::new(), |(name, count)| {
                let most = if returns.len() > 1 { ", most often" } else { "," };
                format!("{most} with {name}: {}", unit::counted(*count, "time"))
            });
            let exits = unit::counted(exits, "exit");
            format!("Out to user space: {exits} ({}){most}.", unit::share(share))
        }
    };
    Some(line(Kind::Plain, text))
}

/// Line on the exits of L2 and their cost to L1.
fn nested(interval: &Interval) -> Option<Line> {
    let groups = group(interval, By { level: true, ..By::NOTHING });
    let Counters { count, nested, .. } =
        groups.into_iter().find(|group| group.level == Some(Level::L2))?.counters;
    #[allow(clippy::cast_precision_loss)]
    let share = nested.to_l1 as f64 / count.max(1) as f64;
    let exits = unit::counted(count, "exit");
    let to_l1 = format!("{} ({}) of them went to L1", unit::count(nested.to_l1), unit::share(share));
    let mut text = format!("Guests of the guest's own (L2): {exits}; {to_l1}");
    if nested.l1_done > 0 {
        #[allow(clippy::cast_precision_loss)]
        let each = unit::rate(nested.l1_exits as f64 / nested.l1_done as f64);
        let own = unit::counted(nested.l1_exits, "exit");
        text += &format!(", which made {own} itself to handle them, {each} for each");
        if interval.measured != Measured::Counts {
            text += &format!(", and took {}", unit::time(nested.l1_ns));
        }
    }
    Some(line(Kind::Plain, text + "."))
}

/// A halted vCPU is out until it is woken, which makes idleness look like work where it is not told
/// apart.
fn halted(interval: &Interval) -> Option<Line> {
    if interval.measured != Measured::Latency {
        return None;
    }
    // VMX: HLT is 12 (SDM vol. 3, appendix C). SVM: HLT is 0x78, IDLE_HLT 0xa6 (APM vol. 2,
    // appendix C). MWAIT is none: KVM lets the vCPU go on at once (`kvm_emulate_mwait`).
    let sleeps = |code: ExitCode| match code.isa {
        Isa::Vmx => code.code == 12,
        Isa::Svm => [0x78, 0xa6].contains(&code.code),
        Isa::KvmStat => false,
    };
    let code = interval.rows.iter().map(|row| row.code).filter(|code| sleeps(*code)).min()?;
    Some(line(
        Kind::Aside,
        format!("The time of {} includes the vCPU's sleep until it was woken.", name(code)),
    ))
}

/// The comparison with KVM's own count.
pub fn check(interval: &Interval, explanation: &Explanation) -> Line {
    let Some(kvm) = interval.kvm_exits() else {
        let (missing, all) =
            (interval.vcpus.iter().filter(|span| span.kvm_exits.is_none()).count(), interval.vcpus.len());
        let why = match &explanation.kvm_missing {
            Some(why) => tidy(why),
            None => format!("it could not be read for {missing} of {}", unit::counted(all as u64, "vCPU")),
        };
        return line(Kind::Warning, format!("Not compared with KVM's own count: {why}."));
    };
    let (fewer, more) = differences(interval);
    if fewer == 0 && more == 0 {
        let text = match interval.loss.filtered {
            0 => format!("KVM's own count: {}, equal.", unit::count(kvm)),
            more => format!("KVM's own count of all exits: {}, equal.", unit::count(kvm + more)),
        };
        return line(Kind::Good, text);
    }
    let parts: Vec<String> = [(fewer, "fewer"), (more, "more")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{} {word}", unit::count(number)))
        .collect();
    let text = format!("KVM's own count is {}: {}", unit::count(kvm), parts.join(" and in another VM "));
    let (torn, skipped) = (interval.loss.torn, interval.loss.skipped);
    match &explanation.kvm_counts_fewer {
        Some(why) if more == 0 => line(Kind::Plain, format!("{text}, because {}.", tidy(why))),
        _ if fewer.max(more) <= torn => line(
            Kind::Warning,
            format!("{text}, no more than there are vCPUs that were read in the middle of an exit."),
        ),
        _ if fewer == 0 && more <= torn.saturating_add(skipped) => {
            line(Kind::Warning, format!("{text}, no more than the runs that the kernel skipped."))
        }
        _ => line(
            Kind::Alarm,
            format!("{text}, which nothing explains. Please report this with what `exitscope doctor` says."),
        ),
    }
}

/// Exits that KVM counted fewer, and more, than we did, added up over VMs: what one VM lacks
/// must not make up for what another has too many. Not over vCPUs, because some sources know
/// KVM's count only for whole VMs.
fn differences(interval: &Interval) -> (u64, u64) {
    let mut vms: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for span in &interval.vcpus {
        let (ours, kvm) = vms.entry(span.vm).or_default();
        *ours += span.exits;
        *kvm += span.kvm_exits.unwrap_or(0);
    }
    let fewer = vms.values().map(|(ours, kvm)| ours.saturating_sub(*kvm)).sum();
    let more = vms.values().map(|(ours, kvm)| kvm.saturating_sub(*ours)).sum();
    (fewer, more)
}

/// One line for each figure of loss that is not zero.
pub fn losses(interval: &Interval) -> impl Iterator<Item = Line> {
    interval.loss.figures().filter(|(_, number)| *number > 0).map(move |(figure, number)| {
        let meaning = if number == 1 { singular(figure.meaning) } else { figure.meaning.into() };
        if figure.asked_for {
            let share = unit::share(float(number) / float(number + interval.exits()));
            let text = format!("{} {meaning} ({share} of all). {}", unit::count(number), figure.advice);
            return line(Kind::Plain, text);
        }
        let holder = figure.holder(interval.loss).map_or(String::new(), |found| holder(interval, &found));
        let text = format!("Warning: {} {meaning}. {holder}{}", unit::count(number), figure.advice);
        line(Kind::Warning, text)
    })
}

/// A sentence on who holds the most of a table that was full.
fn holder(interval: &Interval, holder: &Holder) -> String {
    let process = format!("process {}", holder.pid);
    let who = match interval.vms.get(&holder.vm) {
        Some(vm) => format!("{} ({process})", vm_name(vm)),
        None => process,
    };
    let (held, of) = (unit::count(holder.held), unit::count(holder.of));
    format!("The largest holder is {who}, with {held} of {of} places. ")
}

/// A figure's meaning for the number one.
fn singular(meaning: &str) -> String {
    let (noun, rest) = meaning.split_once(' ').unwrap_or((meaning, ""));
    let noun = match noun.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => noun.trim_end_matches('s').into(),
    };
    format!("{noun} {}", rest.replace(" them", " it"))
}
