//! Trial of the sources: what `stat` would start is started, and stopped again.

use exitscope_collect::{Choice, Collect, Options, Programs};
use exitscope_model::{Measured, Source};

/// Source that `stat` would use, started and stopped again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The source that works, or the error that `stat` would end with.
    pub result: Result<Works, String>,
    /// Sources that were tried before it, with their errors.
    pub refused: Vec<(Source, String)>,
}

/// A source that works here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Works {
    pub source: Source,
    pub measured: Measured,
    /// Programs that see an exit, where there is a choice of them.
    pub programs: Option<Programs>,
    /// Remark about its figures.
    pub note: Option<String>,
}

impl Trial {
    /// Starts what `stat` without options would start: programs are loaded and attached, and detached again.
    pub fn run() -> Trial {
        let Choice { result, refused } = exitscope_collect::choose(&Options::default());
        let works = |source: Box<dyn Collect>| Works {
            source: source.source(),
            measured: source.measured(),
            programs: source.programs(),
            note: source.note(),
        };
        Trial {
            result: result.map(works).map_err(|error| error.to_string()),
            refused: refused.into_iter().map(|refused| (refused.source, refused.error.to_string())).collect(),
        }
    }
}

impl Works {
    /// Figures that it gives, in words.
    pub fn figures(&self) -> &'static str {
        match self.source {
            Source::Btf if self.measured == Measured::Breakdown => {
                "every exit with its reason and host time, checked against KVM's own count"
            }
            Source::Btf => "every exit with its reason and host time, but not where that went",
            Source::Raw => "every exit with its reason, host time and where that went",
            Source::Tracepoint => "every exit with its reason and host time, at a higher cost for each",
            Source::Kernel => "every exit with its reason, counted by KVM itself; no times",
            Source::KvmStat => "exits in total and by KVM's classes; no reasons, no times",
        }
    }
}
