//! What the kernel itself counts and sums up at KVM's tracepoints, with no code of ours in between.

use std::fs;
use std::path::{Path, PathBuf};

/// A trace instance with a histogram of one event of the threads that run vCPUs, until it is dropped.
pub struct Histogram {
    instance: PathBuf,
    event: &'static str,
    trigger: String,
}

/// One line of a histogram.
pub struct Row(String);

impl Histogram {
    /// `fields` are those of the trigger, e.g. `keys=vcpu_id:vals=ns` (Documentation/trace/histogram.rst).
    pub fn start(event: &'static str, fields: &str) -> Histogram {
        let instance = Path::new("/sys/kernel/tracing/instances").join(format!("exitscope-test-{event}"));
        fs::create_dir(&instance).expect("tracefs must be mounted, and this needs root");
        let histogram = Histogram { instance, event, trigger: format!("hist:{fields}") };
        fs::write(histogram.file("trigger"), format!("{} if comm ~ \"vcpu*\"", histogram.trigger))
            .expect("the kernel needs CONFIG_HIST_TRIGGERS");
        histogram
    }

    fn file(&self, name: &str) -> PathBuf {
        self.instance.join("events/kvm").join(self.event).join(name)
    }

    pub fn read(&self) -> Vec<Row> {
        let text = fs::read_to_string(self.file("hist")).unwrap();
        assert!(text.contains("Dropped: 0"), "the kernel dropped events:\n{text}");
        text.lines().filter(|line| line.starts_with('{')).map(|line| Row(line.to_owned())).collect()
    }
}

impl Row {
    /// A key or a value.
    pub fn number(&self, name: &str) -> u64 {
        let words = self.0.split([' ', ',']).filter(|word| !word.is_empty());
        let mut after = words.skip_while(|word| word.strip_suffix(':') != Some(name)).skip(1);
        let number = after.next().and_then(|word| word.parse().ok());
        number.unwrap_or_else(|| panic!("no number {name} in {}", self.0))
    }
}

impl Drop for Histogram {
    fn drop(&mut self) {
        let _ = fs::write(self.file("trigger"), format!("!{}", self.trigger));
        let _ = fs::remove_dir(&self.instance);
    }
}
