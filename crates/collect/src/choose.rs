//! Choice of the source: which ones are tried on this host, in which order, and what came of each.
//!
//! `stat` and all that count start with it, and `doctor` shows it.

use super::bpf::Bpf;
use super::host::{self, Backend, SourceFacts};
use super::kernel::Kernel;
use super::kvmstat::KvmStat;
use super::{Collect, Error, Options, Probes, Select};
use exitscope_model::{Measured, Source};

/// A source that was tried and does not work here.
#[derive(Debug)]
pub struct Refused {
    /// The source.
    pub source: Source,
    /// Cause of the refusal.
    pub error: Error,
}

/// Result of trying the sources that there are for some options.
pub struct Choice {
    /// The first one that works, which counts until it is dropped; or the error to mend first.
    pub result: Result<Box<dyn Collect>, Error>,
    /// Sources that were tried before it, in that order.
    pub refused: Vec<Refused>,
}

/// Starts the first source that works here of those that are [`candidates`] for `options`.
pub fn choose(options: &Options) -> Choice {
    // Asked once, and only if something fails.
    let mut facts = None;
    let explain = |error: Error| error.or_not_permitted(facts.get_or_insert_with(host::Facts::probe));
    choose_with(&SourceFacts::probe(), options, |source, because| start(source, options, because), explain)
}

/// Sources to try, the best first. Whatever depends on facts about this host alone is decided here; the rest shows itself
/// when they are started.
///
/// # Errors
/// [`Error::NoKvm`] if there is no KVM (yet); [`Error::PidNamespace`] if processes cannot be chosen; [`Error::NotOne`] if
/// [`Probes::One`] does not go with the other options.
pub fn candidates(facts: &SourceFacts, options: &Options) -> Result<Vec<Source>, Error> {
    // Without a backend nothing can run a VM: it is a module that is still to be loaded.
    if matches!(facts.backend, Backend::NoKvm | Backend::None) {
        return Err(Error::NoKvm);
    }
    if options.select != Select::All && !facts.host_pids {
        return Err(Error::PidNamespace);
    }
    // No other source has that choice.
    if options.probes == Probes::One {
        return one(facts, options).map_err(Error::NotOne);
    }
    if let Some(source) = options.source {
        return Ok(vec![source]);
    }
    // The exits of other backends never pass kvm_exit.
    if !matches!(facts.backend, Backend::Vendor(_)) {
        return Ok(vec![Source::KvmStat]);
    }
    let kernel = (facts.counters == Some(true)).then_some(Source::Kernel);
    Ok([Source::Btf, Source::Raw, Source::Tracepoint]
        .into_iter()
        .chain(kernel)
        .chain([Source::KvmStat])
        .collect())
}

/// Returns the source that has one program for each exit, or the reason why these options cannot have it.
fn one(facts: &SourceFacts, options: &Options) -> Result<Vec<Source>, String> {
    match options.source {
        Some(source) if source != Source::Btf => {
            return Err(format!("is a choice of the source btf, not of {}", source.word()));
        }
        _ if options.measure == Measured::Counts => {
            return Err(
                "is for exits that are timed; --no-time has a single one anyway, at the exit".to_owned()
            );
        }
        _ if options.guest => {
            return Err("sees an exit too late to look at the guest, as boot and --console do".to_owned());
        }
        _ => {}
    }
    match &facts.backend {
        Backend::Software(modules) => {
            Err(format!("hangs on kvm_entry, which {} never passes", modules.join(" and ")))
        }
        _ => Ok(vec![Source::Btf]),
    }
}

/// Tries the candidates with `start`, which also gets the reason that the best one does not work. `explain` finds the cause
/// behind an error.
fn choose_with(
    facts: &SourceFacts,
    options: &Options,
    mut start: impl FnMut(Source, Option<String>) -> Result<Box<dyn Collect>, Error>,
    mut explain: impl FnMut(Error) -> Error,
) -> Choice {
    let mut refused: Vec<Refused> = Vec::new();
    let candidates = match candidates(facts, options) {
        Ok(candidates) => candidates,
        Err(error) => return Choice { result: Err(error), refused },
    };
    for source in candidates {
        let because = refused.first().map(|best| best.error.to_string());
        match start(source, because) {
            Ok(started) => return Choice { result: Ok(started), refused },
            // The counters of KVM itself need no BPF.
            Err(error) if source == Source::Kernel => refused.push(Refused { source, error }),
            Err(error) => refused.push(Refused { source, error: explain(error) }),
        }
    }
    // The best one is to be mended first.
    let first = refused.first().map_or(Error::NoKvm, |best| best.error.clone());
    Choice { result: Err(first), refused }
}

/// Starts one source. `because` says why no better one counts.
fn start(source: Source, options: &Options, because: Option<String>) -> Result<Box<dyn Collect>, Error> {
    Ok(match source {
        Source::Btf | Source::Raw | Source::Tracepoint => {
            Box::new(with(start_bpf(source, options)?, because, Bpf::because))
        }
        Source::KvmStat => Box::new(with(KvmStat::start(options)?, because, KvmStat::because)),
        Source::Kernel => Box::new(with(Kernel::start(options)?, because, Kernel::because)),
    })
}

fn with<T>(started: T, because: Option<String>, note: impl FnOnce(T, String) -> T) -> T {
    match because {
        Some(because) => note(started, because),
        None => started,
    }
}

/// Starts the programs of `source`. The split hangs on functions of KVM that a kernel may not have as such, e.g. where
/// the compiler made one a part of another: without it there are still times, and a word about it.
fn start_bpf(source: Source, options: &Options) -> Result<Bpf, Error> {
    let first = match Bpf::start(source, options) {
        Err(error) if source != Source::Tracepoint && options.measure == Measured::Breakdown => error,
        done => return done,
    };
    let less = Options { measure: Measured::Latency, ..options.clone() };
    match Bpf::start(source, &less) {
        Ok(times) => Ok(times.because(first.to_string())),
        // The split was not what it failed for.
        Err(_) => Err(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::Sample;

    struct MadeUp(Source, Option<String>);

    impl Collect for MadeUp {
        fn sample(&mut self) -> Result<Sample, Error> {
            Err(Error::NoKvm)
        }
        fn stop_following(&mut self) -> Result<(), Error> {
            Ok(())
        }
        fn source(&self) -> Source {
            self.0
        }
        fn measured(&self) -> Measured {
            Measured::Counts
        }
        fn note(&self) -> Option<String> {
            self.1.clone()
        }
    }

    fn facts() -> SourceFacts {
        SourceFacts { backend: Backend::Vendor("kvm_amd".into()), host_pids: true, counters: None }
    }

    type Chosen = Result<(Source, Option<String>), String>;

    /// The source that is chosen if only these work, with its reason; those that were tried before; or the error.
    fn chosen(facts: &SourceFacts, options: &Options, work: &[Source]) -> (Chosen, Vec<Source>) {
        let start = |source, because| -> Result<Box<dyn Collect>, Error> {
            let failed = || Error::Kernel { what: format!("{source:?}"), cause: "no".into() };
            work.contains(&source).then(|| Box::new(MadeUp(source, because)) as _).ok_or_else(failed)
        };
        let explain = |error: Error| Error::Kernel { what: "explained".into(), cause: error.to_string() };
        let Choice { result, refused } = choose_with(facts, options, start, explain);
        let result = result.map(|source| (source.source(), source.note())).map_err(|error| error.to_string());
        (result, refused.into_iter().map(|refused| refused.source).collect())
    }

    #[test]
    fn the_first_that_works_is_chosen_and_says_why_no_better_one_does() {
        use Source::{Btf, Kernel, KvmStat, Raw, Tracepoint};
        let (options, all) = (Options::default(), [Btf, Raw, Tracepoint, KvmStat, Kernel]);
        let because = Some("explained: Btf: no".to_owned());
        assert_eq!(chosen(&facts(), &options, &all), (Ok((Btf, None)), vec![]));
        assert_eq!(chosen(&facts(), &options, &all[1..]), (Ok((Raw, because.clone())), vec![Btf]));
        let (result, tried) = chosen(&facts(), &options, &all[2..]);
        assert_eq!((result, tried), (Ok((Tracepoint, because.clone())), vec![Btf, Raw]));
        // KVM's own counters only where they are on; a kernel may refuse both kinds of program.
        let tried = vec![Btf, Raw, Tracepoint];
        assert_eq!(chosen(&facts(), &options, &all[3..]), (Ok((KvmStat, because.clone())), tried.clone()));
        let counting = SourceFacts { counters: Some(true), ..facts() };
        assert_eq!(chosen(&counting, &options, &all[3..]), (Ok((Kernel, because)), tried));
        // If nothing works, the best is to be mended.
        let none = chosen(&counting, &options, &[]);
        assert_eq!(none, (Err("explained: Btf: no".into()), vec![Btf, Raw, Tracepoint, Kernel, KvmStat]));
        // Where exits never pass kvm_exit, no program is tried.
        let software = SourceFacts { backend: Backend::Software(vec!["kvm_pvm".into()]), ..facts() };
        assert_eq!(chosen(&software, &options, &all), (Ok((KvmStat, None)), vec![]));
    }

    #[test]
    fn a_source_that_is_asked_for_is_the_only_one() {
        let options = Options { source: Some(Source::Tracepoint), ..Options::default() };
        let only = chosen(&facts(), &options, &[Source::Btf]);
        assert_eq!(only, (Err("explained: Tracepoint: no".into()), vec![Source::Tracepoint]));
        let options = Options { source: Some(Source::Kernel), ..Options::default() };
        assert_eq!(chosen(&facts(), &options, &[]).0, Err("Kernel: no".into()));
        // One program an exit is a choice that only one has.
        let options = Options { probes: Probes::One, ..Options::default() };
        let only = chosen(&facts(), &options, &[Source::Tracepoint]);
        assert_eq!(only, (Err("explained: Btf: no".into()), vec![Source::Btf]));
    }

    #[test]
    fn one_program_beside_what_it_cannot_do_is_refused() {
        let one = || Options { probes: Probes::One, ..Options::default() };
        let refused = |facts: &SourceFacts, options: &Options, why: &str| {
            let (result, tried) = chosen(facts, options, &[Source::Btf, Source::Tracepoint, Source::KvmStat]);
            let error = result.unwrap_err();
            assert!(error.contains(why) && tried.is_empty(), "{error}");
        };
        let of = |source| Options { source: Some(source), ..one() };
        refused(&facts(), &of(Source::Tracepoint), "not of tracepoint");
        refused(&facts(), &of(Source::KvmStat), "not of kvmstat");
        refused(&facts(), &Options { measure: Measured::Counts, ..one() }, "--no-time");
        refused(&facts(), &Options { guest: true, ..one() }, "too late to look at the guest");
        let software = SourceFacts { backend: Backend::Software(vec!["kvm_pvm".into()]), ..facts() };
        refused(&software, &one(), "kvm_pvm never passes");
        // The others choose for themselves.
        for probes in [Probes::Pair, Probes::Auto] {
            let options = Options { probes, ..of(Source::Tracepoint) };
            assert_eq!(chosen(&facts(), &options, &[Source::Tracepoint]).0, Ok((Source::Tracepoint, None)));
        }
        assert_eq!(chosen(&facts(), &of(Source::Btf), &[Source::Btf]).0, Ok((Source::Btf, None)));
    }

    #[test]
    fn without_kvm_or_host_pids_nothing_is_tried() {
        let all = [Source::Btf, Source::KvmStat];
        for backend in [Backend::NoKvm, Backend::None] {
            let (result, tried) = chosen(&SourceFacts { backend, ..facts() }, &Options::default(), &all);
            assert_eq!((result, tried), (Err(Error::NoKvm.to_string()), vec![]));
        }
        let container = SourceFacts { host_pids: false, ..facts() };
        for select in [Select::Pids(vec![1]), Select::Descendants] {
            let options = Options { select, ..Options::default() };
            assert_eq!(chosen(&container, &options, &all).0, Err(Error::PidNamespace.to_string()));
        }
        assert_eq!(chosen(&container, &Options::default(), &all).0, Ok((Source::Btf, None)));
    }
}
