//! Size and speed of recordings of a big host.
//!
//!     cargo bench --bench recording -- [VMS VCPUS SECONDS]     default: 200 8 300
//!
//! Each figure of speed is CPU time of this process, the median of three runs; the disk's time is not in it.

use exitscope_model::generator::{Generator, REASONS};
use exitscope_record::{Notes, Part, Recording, When, Writer};
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Number of runs of each measurement.
const RUNS: usize = 3;

/// A file that is gone with this.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// CPU time that this process has taken.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Median of the CPU time that `work` takes.
fn median(mut work: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begin = cpu();
        work()?;
        times.push(cpu() - begin);
    }
    times.sort();
    Ok(times[RUNS / 2])
}

/// Writes the recording. Returns the CPU time that the writer took.
fn write(path: &Path, vms: u64, vcpus: u32, seconds: usize) -> Result<Duration, Box<dyn Error>> {
    let mut writer = Writer::create(path, true, &Generator::about())?;
    let mut taken = Duration::ZERO;
    for interval in Generator::new(vms, vcpus).take(seconds) {
        let begin = cpu();
        writer.write(&interval, &Notes::default())?;
        taken += cpu() - begin;
    }
    let begin = cpu();
    writer.finish("as asked")?;
    Ok(taken + cpu() - begin)
}

fn main() -> Result<(), Box<dyn Error>> {
    // Without `--bench` it is a test that this program works, and small.
    let measured = std::env::args().any(|word| word == "--bench");
    let words: Vec<u32> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let [vms, vcpus, seconds] = match *words.as_slice() {
        [vms, vcpus, seconds] => [vms, vcpus, seconds],
        _ if measured => [200, 8, 300],
        _ => [2, 2, 30],
    };
    let file = Scratch(std::env::temp_dir().join(format!("exitscope-bench-{}", std::process::id())));
    let path = &file.0;
    let taken = write(path, vms.into(), vcpus, usize::try_from(seconds)?)?;
    let size = path.metadata()?.len();
    let rows = f64::from(vms) * f64::from(vcpus) * f64::from(u32::try_from(REASONS)?);
    println!("{vms} VMs of {vcpus} vCPUs with {REASONS} reasons each, {seconds} s:");
    #[allow(clippy::cast_precision_loss)]
    let each = size as f64 / rows / f64::from(seconds);
    println!(
        "  size          {:>9.1} MB, {each:.1} bytes a row and interval",
        each * rows * f64::from(seconds) / 1e6
    );
    let share = taken.as_secs_f64() / f64::from(seconds) * 100.0;
    println!("  write         {share:>9.2} % of a core");
    let say = |what: &str, time: Duration| println!("  {what:<13} {:>9.1} ms", time.as_secs_f64() * 1e3);

    let report = |from: Option<u32>, to: Option<u32>| {
        let after = |seconds: Option<u32>| seconds.map(|at| When::After(Duration::from_secs(at.into())));
        let part = Part { from: after(from), to: after(to), ..Part::default() };
        median(|| {
            let boot = Recording::open(path)?.boot_report(part.clone())?.ok_or("nothing in the part")?;
            assert!(boot.whole.exits() > 0);
            Ok(())
        })
    };
    say("report", report(None, None)?);
    say("part of 10 s", report(Some(seconds / 2), Some(seconds / 2 + 10))?);
    say("part of 1 s", report(Some(0), Some(1))?);
    say(
        "open",
        median(|| {
            let recording = Recording::open(path)?;
            let exits = recording.exits()?.ok_or("its exits are not told apart from its rows")?;
            assert_eq!(exits.len(), recording.len());
            Ok(())
        })?,
    );
    let recording = Recording::open(path)?;
    let middle = recording.len() / 2;
    say(
        "step",
        median(|| {
            recording.each_of(middle..middle + 1, |interval| {
                assert!(interval.exits() > 0);
                Ok::<_, exitscope_record::Error>(())
            })?;
            Ok(())
        })?,
    );
    Ok(())
}
