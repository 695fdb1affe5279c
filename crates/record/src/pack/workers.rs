//! Times of workers as columns.

use super::column::{Decoder, Encoder, Runs};
use super::content::{Content, WorkerRow};
use super::place::{by_place, read_places, runs, write_places};
use exitscope_model::{WorkerFigure, WorkerTimes};

/// Writes the VMs whose workers were looked at, then their times; of figures, by their names, those that are not 0 throughout.
pub fn write_workers(encoder: &mut Encoder, contents: &[Content]) {
    let mut vms: Vec<u64> = contents.iter().flat_map(|content| &content.workers).map(|row| row.vm).collect();
    vms.sort_unstable();
    vms.dedup();
    encoder.number(vms.len() as u64);
    encoder.column(&vms, &Runs::series(vms.len()));
    let key =
        |row: &WorkerRow| (0, u32::try_from(vms.partition_point(|vm| *vm < row.vm)).unwrap_or(u32::MAX));
    let (places, rows) = by_place(contents, |content| &content.workers, key);
    let runs = write_places(encoder, &places);
    let holds = |figure: &&WorkerFigure| rows.iter().any(|row| figure.ns(&row.times) != 0);
    let figures: Vec<&WorkerFigure> = WorkerTimes::FIGURES.iter().filter(holds).collect();
    encoder.number(figures.len() as u64);
    for figure in figures {
        encoder.text(figure.key);
        let column: Vec<u64> = rows.iter().map(|row| figure.ns(&row.times)).collect();
        encoder.column(&column, &runs);
    }
}

/// Reads what [`write_workers`] wrote.
///
/// # Errors
/// With what is wrong with it.
pub fn read_workers(
    decoder: &mut Decoder<'_>,
    contents: &mut [Content],
    room: &mut usize,
) -> Result<(), String> {
    let count = usize::try_from(decoder.number()?).unwrap_or(usize::MAX);
    if count > *room {
        return Err("it has more VMs than its bytes allow".into());
    }
    let vms: Vec<u64> = decoder.column(&Runs::series(count))?.iter().collect();
    if !vms.is_sorted_by(|a, b| a < b) {
        return Err("its VMs are not in order".into());
    }
    let places = read_places(decoder, contents.len(), room)?;
    let runs = runs(&places);
    let mut times = vec![WorkerTimes::default(); places.len()];
    for _ in 0..decoder.number()? {
        let key = decoder.text()?;
        let figure = WorkerTimes::FIGURES.iter().find(|figure| figure.key == key);
        let figure = figure.ok_or_else(|| format!("it tells of workers' {key:?}, which is not known"))?;
        for (times, ns) in times.iter_mut().zip(decoder.column(&runs)?.iter()) {
            *figure.ns_mut(times) = ns;
        }
    }
    for (&(_, vm, at), times) in places.iter().zip(times) {
        let vm = usize::try_from(vm).ok().and_then(|vm| vms.get(vm));
        let vm = *vm.ok_or("it has workers of a VM that it does not name")?;
        contents[at].workers.push(WorkerRow { vm, times });
    }
    contents.iter_mut().for_each(|content| content.workers.sort_unstable_by_key(|row| row.vm));
    Ok(())
}
