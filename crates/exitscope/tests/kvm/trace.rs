//! Counts, sums and logs of the kernel itself at KVM's tracepoints, with no code of ours in between.

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

/// A trace instance that writes down events of the threads that run vCPUs, until it is dropped.
pub struct Log {
    instance: PathBuf,
    enabled: Vec<PathBuf>,
}

/// One event.
pub struct Event {
    /// The thread, and its name.
    pub thread: u32,
    pub comm: String,
    /// The event's name.
    pub name: String,
    /// Text of the event.
    pub text: String,
}

impl Log {
    /// Starts a log of these events of KVM.
    pub fn start(events: &[&str]) -> Log {
        let instance = Path::new("/sys/kernel/tracing/instances/exitscope-test-log").to_path_buf();
        fs::create_dir(&instance).expect("tracefs must be mounted, and this needs root");
        let mut log = Log { instance, enabled: Vec::new() };
        fs::write(log.instance.join("buffer_size_kb"), "8192").unwrap();
        for event in events {
            let folder = log.instance.join("events/kvm").join(event);
            fs::write(folder.join("filter"), "comm ~ \"vcpu*\"").unwrap();
            fs::write(folder.join("enable"), "1").unwrap();
            log.enabled.push(folder.join("enable"));
        }
        log
    }

    /// Returns the events since the last call.
    pub fn take(&self) -> Vec<Event> {
        let file = self.instance.join("trace");
        let text = fs::read_to_string(&file).unwrap();
        let kept = text.lines().find_map(|line| line.strip_prefix("# entries-in-buffer/entries-written: "));
        let (in_buffer, written) = kept.unwrap().split_whitespace().next().unwrap().split_once('/').unwrap();
        assert_eq!(in_buffer, written, "the buffer is too small");
        // Cuts it off.
        fs::write(&file, "").unwrap();
        text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(Event::read).collect()
    }
}

impl Event {
    /// `          vcpu 0-192     [001] d..1.     8.284519: kvm_entry: vcpu 0, rip 0x108000`
    fn read(line: &str) -> Event {
        let read = || {
            let (task, rest) = line.split_once(" [")?;
            let (comm, thread) = task.trim().rsplit_once('-')?;
            let (_, event) = rest.split_once(": ")?;
            let (name, text) = event.split_once(':')?;
            let (comm, name, text) = (comm.to_owned(), name.to_owned(), text.to_owned());
            Some(Event { thread: thread.trim().parse().ok()?, comm, name, text })
        };
        read().unwrap_or_else(|| panic!("no event: {line}"))
    }

    /// The exit reason that it names.
    pub fn reason(&self) -> String {
        let after = self.text.split_once("reason ").unwrap_or_else(|| panic!("no reason in {}", self.text)).1;
        after.split_once(" rip").map_or(after, |(reason, _)| reason).trim().to_owned()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        for file in &self.enabled {
            let _ = fs::write(file, "0");
        }
        let _ = fs::remove_dir(&self.instance);
    }
}
