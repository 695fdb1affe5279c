//! Sink of `stat`: a block for each interval, as a table, JSON, CSV, or lines of the kernel log.

use super::output::Output;
use crate::engine::{Observed, Sink};
use exitscope_model::Interval;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Prints intervals.
pub struct Blocks {
    /// Destination of the text.
    pub output: Output,
    /// vCPUs that are printed; `None` for all.
    vcpus: Option<BTreeSet<u32>>,
    /// Each interval is printed; otherwise only the whole.
    each: bool,
    /// The whole is printed: it grows with every VM that there ever was.
    sum: bool,
    whole: Option<Interval>,
    blocks: u64,
}

impl Blocks {
    /// Prints `each` interval, and in the end their `sum`, of these vCPUs.
    pub fn new(output: Output, vcpus: Option<BTreeSet<u32>>, each: bool, sum: bool) -> Blocks {
        Blocks { output, vcpus, each, sum, whole: None, blocks: 0 }
    }
}

impl Sink for Blocks {
    fn take(&mut self, observed: &Observed<'_>) -> anyhow::Result<()> {
        let mut block = Cow::Borrowed(observed.interval);
        if let Some(vcpus) = &self.vcpus {
            block.to_mut().retain(|_, vcpu| vcpus.contains(&vcpu));
        }
        self.output.explain(observed.explanation.clone());
        self.blocks += 1;
        if self.each {
            self.output.write(&block)?;
        }
        if self.sum {
            match &mut self.whole {
                Some(whole) => whole.extend(&block),
                whole => *whole = Some(block.into_owned()),
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        // One block was the whole.
        if let Some(whole) = self.whole.take_if(|_| !self.each || self.blocks > 1) {
            self.output.write(&whole)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_analysis::boot_report::IntervalEvents;
    use exitscope_model::fixture;
    use exitscope_view::{Explanation, Format, Options};

    /// Text of this many intervals.
    fn printed(
        format: Format,
        each: bool,
        sum: bool,
        vcpus: Option<BTreeSet<u32>>,
        intervals: usize,
    ) -> String {
        let name = format!("exitscope-blocks-{}-{format}-{each}-{sum}-{intervals}", std::process::id());
        let file = std::env::temp_dir().join(name);
        let output = Output::open(Some(&file), false, Options { format, ..Options::default() }).unwrap();
        let mut blocks = Blocks::new(output, vcpus, each, sum);
        let (interval, explanation) = (fixture::busy(), Explanation::default());
        for _ in 0..intervals {
            let events = IntervalEvents::default();
            blocks
                .take(&Observed { interval: &interval, events: &events, explanation: &explanation })
                .unwrap();
        }
        blocks.finish().unwrap();
        assert!(blocks.output.is_complete());
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        text
    }

    fn totals(text: &str) -> Vec<u64> {
        let total =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["total"].as_u64().unwrap();
        text.lines().map(total).collect()
    }

    #[test]
    fn intervals_their_sum_or_both() {
        let exits = fixture::busy().exits();
        assert_eq!(totals(&printed(Format::Json, true, false, None, 3)), [exits; 3]);
        assert_eq!(totals(&printed(Format::Json, false, true, None, 3)), [3 * exits]);
        assert_eq!(totals(&printed(Format::Json, true, true, None, 3)), [exits, exits, exits, 3 * exits]);
        // One block is the whole.
        assert_eq!(totals(&printed(Format::Json, true, true, None, 1)), [exits]);
        assert_eq!(printed(Format::Json, true, true, None, 0), "");
        let mut of_first = fixture::busy();
        of_first.retain(|_, vcpu| vcpu == 0);
        assert!(of_first.exits() < exits);
        let of_first = [of_first.exits(), of_first.exits(), 2 * of_first.exits()];
        assert_eq!(totals(&printed(Format::Json, true, true, Some([0].into()), 2)), of_first);
    }
}
