//! Writes the recording of a big, busy host, through the same writer as `exitscope record`:
//!
//!     cargo run --release --example big_recording -- FILE VMS VCPUS SECONDS
//!
//! Its figures are random, with a fixed seed: twelve reasons on each vCPU, in intervals of a second.

use exitscope_model::generator::{Generator, REASONS};
use exitscope_record::{Notes, Writer};
use std::error::Error;
use std::path::Path;

const USAGE: &str = "usage: big_recording FILE VMS VCPUS SECONDS";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [file, vms, vcpus, seconds] = words.as_slice() else { return Err(USAGE.into()) };
    let number = |word: &str| word.parse::<u32>().map_err(|cause| format!("{word:?}: {cause}; {USAGE}"));
    let (vms, vcpus, seconds) = (number(vms)?, number(vcpus)?, number(seconds)?);
    let path = Path::new(file);
    let mut writer = Writer::create(path, false, &Generator::about())?;
    for interval in Generator::new(vms.into(), vcpus).take(usize::try_from(seconds)?) {
        writer.write(&interval, &Notes::default())?;
    }
    writer.finish("as asked")?;
    let (size, rows) = (path.metadata()?.len(), u64::from(vms) * u64::from(vcpus) * REASONS as u64);
    #[allow(clippy::cast_precision_loss)]
    let each = size as f64 / (rows * u64::from(seconds)).max(1) as f64;
    println!("{file}: {size} bytes, {each:.1} for each of {rows} rows and interval");
    Ok(())
}
