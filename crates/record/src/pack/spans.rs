//! vCPUs as columns: compared with what their rows of exits tell.

use super::column::{Decoder, Encoder};
use super::content::{Content, ExitRow, SpanRow};
use super::place::{Place, apart, from_apart, read_columns, read_places, runs, write_by_place};
use exitscope_model::{Split, VcpuTime};

/// Columns of a vCPU.
const SPAN_COLUMNS: usize = 9;

/// Exits and parts of their host time, as the rows of one vCPU tell them.
#[derive(Clone, Copy, Default)]
struct Told {
    exits: u64,
    time: VcpuTime,
}

/// Sums over the rows of an interval by vCPU, which are asked for in ascending order.
struct Teller<'a> {
    rows: std::iter::Peekable<std::slice::Iter<'a, ExitRow>>,
}

impl<'a> Teller<'a> {
    fn new(content: &'a Content) -> Teller<'a> {
        Teller { rows: content.rows.iter().peekable() }
    }

    fn tell(&mut self, vcpu: u32) -> Told {
        let mut told = Told::default();
        while let Some(row) = self.rows.next_if(|row| row.vcpu <= vcpu) {
            if row.vcpu < vcpu {
                continue;
            }
            let Split { user_ns, waiting_ns, halted_ns, polled_ns, .. } = row.split;
            let others = user_ns.wrapping_add(waiting_ns).wrapping_add(halted_ns);
            let add = |sum: &mut u64, more: u64| *sum = sum.wrapping_add(more);
            add(&mut told.exits, row.count);
            add(&mut told.time.kernel_ns, row.time_ns.wrapping_sub(others));
            add(&mut told.time.user_ns, user_ns);
            add(&mut told.time.waiting_ns, waiting_ns);
            add(&mut told.time.halted_ns, halted_ns);
            add(&mut told.time.polled_ns, polled_ns);
        }
        told
    }
}

/// Host time with wrapping, for figures that nobody has checked yet.
fn host_ns(time: &VcpuTime) -> u64 {
    time.kernel_ns.wrapping_add(time.user_ns).wrapping_add(time.halted_ns).wrapping_add(time.waiting_ns)
}

fn span_columns(span: &SpanRow, told: Told, length_ns: u64) -> [u64; SPAN_COLUMNS] {
    let kvm = span.kvm_exits.map_or(0, |exits| apart(exits, span.exits).wrapping_add(1));
    let Some(time) = span.time else {
        return [apart(span.exits, told.exits), kvm, 0, 0, 0, 0, 0, 0, 0];
    };
    [
        apart(span.exits, told.exits),
        kvm,
        1,
        apart(time.guest_ns, length_ns.wrapping_sub(host_ns(&time))),
        apart(time.kernel_ns, told.time.kernel_ns),
        apart(time.user_ns, told.time.user_ns),
        apart(time.waiting_ns, told.time.waiting_ns),
        apart(time.halted_ns, told.time.halted_ns),
        apart(time.polled_ns, told.time.polled_ns),
    ]
}

fn span(vcpu: u32, columns: [u64; SPAN_COLUMNS], told: Told, length_ns: u64) -> SpanRow {
    let [exits, kvm, has_time, guest, kernel, user, waiting, halted, polled] = columns;
    let exits = from_apart(exits, told.exits);
    let kvm_exits = (kvm != 0).then(|| from_apart(kvm.wrapping_sub(1), exits));
    let time = (has_time != 0).then(|| {
        let mut time = VcpuTime {
            guest_ns: 0,
            kernel_ns: from_apart(kernel, told.time.kernel_ns),
            user_ns: from_apart(user, told.time.user_ns),
            waiting_ns: from_apart(waiting, told.time.waiting_ns),
            halted_ns: from_apart(halted, told.time.halted_ns),
            polled_ns: from_apart(polled, told.time.polled_ns),
        };
        time.guest_ns = from_apart(guest, length_ns.wrapping_sub(host_ns(&time)));
        time
    });
    SpanRow { vcpu, exits, kvm_exits, time }
}

/// Writes the vCPUs of some intervals, whose rows are written already.
pub fn write_spans(encoder: &mut Encoder, contents: &[Content]) {
    let mut all: Vec<(Place, [u64; SPAN_COLUMNS])> = Vec::new();
    for (at, content) in contents.iter().enumerate() {
        let mut teller = Teller::new(content);
        for row in &content.spans {
            let told = teller.tell(row.vcpu);
            all.push(((0, row.vcpu, at), span_columns(row, told, content.length_ns)));
        }
    }
    write_by_place(encoder, all);
}

/// Reads the vCPUs of some intervals, whose rows were read.
///
/// # Errors
/// With what is wrong with them.
pub fn read_spans(
    decoder: &mut Decoder<'_>,
    contents: &mut [Content],
    room: &mut usize,
) -> Result<(), String> {
    let places = read_places(decoder, contents.len(), room)?;
    let columns = read_columns::<SPAN_COLUMNS>(decoder, &runs(&places))?;
    let mut found: Vec<Vec<(u32, usize)>> = vec![Vec::new(); contents.len()];
    for (number, &(_, vcpu, at)) in places.iter().enumerate() {
        found[at].push((vcpu, number));
    }
    for (content, mut found) in contents.iter_mut().zip(found) {
        found.sort_unstable();
        if found.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err("a vCPU is there twice".into());
        }
        let mut teller = Teller::new(content);
        let spans = found.into_iter().map(|(vcpu, number)| {
            let columns = std::array::from_fn(|column| columns[column].get(number));
            span(vcpu, columns, teller.tell(vcpu), content.length_ns)
        });
        content.spans = spans.collect();
    }
    Ok(())
}
