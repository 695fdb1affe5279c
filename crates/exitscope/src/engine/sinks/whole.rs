//! Sum of a session.

use crate::engine::{Observed, Sink};
use exitscope_model::Interval;
use std::collections::BTreeSet;

/// Adds up all intervals of a session.
#[derive(Default)]
pub struct Whole {
    vcpus: Option<BTreeSet<u32>>,
    /// Sum of the intervals so far; `None` before the first.
    pub sum: Option<Interval>,
}

impl Whole {
    /// Adds up these vCPUs alone, by number; all where there is `None`.
    pub fn of(vcpus: Option<BTreeSet<u32>>) -> Whole {
        Whole { vcpus, sum: None }
    }
}

impl Sink for Whole {
    fn take(&mut self, observed: &Observed<'_>) -> anyhow::Result<()> {
        let mut interval = observed.interval.clone();
        if let Some(vcpus) = &self.vcpus {
            interval.retain(|_, vcpu| vcpus.contains(&vcpu));
        }
        Interval::append(&mut self.sum, interval);
        Ok(())
    }
}
