//! Identity of a VM by `/proc/PID` of its process, and the advice that reads its command line.
//!
//! Input: `cmdline`, `comm`, `exe`, `cwd`, `cgroup` and `stat`, separated by the byte 0xff, which is in no text.
#![no_main]

use exitscope_analysis::advice::{self, Host};
use exitscope_collect::fuzzing;
use exitscope_model::{Interval, fixture};
use exitscope_view::text;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// Number of bytes of a name or a label at most.
const MAX_NAME: usize = 256;

static INTERVAL: LazyLock<Interval> = LazyLock::new(fixture::busy);

fuzz_target!(|bytes: &[u8]| {
    let mut fields = bytes.split(|&byte| byte == 0xff);
    let args = fields.next().unwrap_or_default();
    let text = |field: Option<&[u8]>| String::from_utf8_lossy(field.unwrap_or_default()).into_owned();
    let comm = text(fields.next());
    let (exe, cwd, cgroup) = (fields.next(), fields.next(), text(fields.next()));
    fuzzing::stat(fields.next().unwrap_or_default());

    let found = fuzzing::identify(args, &comm, exe, cwd, &cgroup);
    assert!(found.name.len() <= MAX_NAME && found.vmm.len() <= MAX_NAME);
    assert!(found.labels.pairs().iter().all(|(_, text)| text.is_none_or(|text| text.len() <= MAX_NAME)));
    assert!(!text::clean(&found.name, 40).chars().any(text::is_unsafe));

    let mut interval = INTERVAL.clone();
    for vm in interval.vms.values_mut() {
        *vm = found.vm(vm.id, vm.pid, vm.ended);
    }
    let advice = advice::advise(&interval, &Host::default());
    let shown = exitscope_view::advice::render(&advice, &interval, Some(100));
    assert!(shown.chars().all(|c| c == '\n' || !text::is_unsafe(c)), "{shown:?}");
});
