//! The phases of a boot as a table.

use super::grid::{Cells, Grid};
use super::{text, unit};
use exitscope_analysis::series::{Slice, Stretch};
use exitscope_model::Isa;
use exitscope_reason as reason;

/// The longest name of a phase, in columns.
const NAME: usize = 32;

/// A line for each phase: when it began, how long it took, its exits, and what most of them were.
pub fn render(stretches: &[Stretch], whole: &Slice, width: Option<usize>) -> String {
    let all = || stretches.iter().map(|stretch| &stretch.whole).chain([whole]);
    let column = |heading: &str, right: bool, dispensable: u8, cell: &dyn Fn(&Slice) -> String| {
        let mut cells: Vec<String> = all().map(cell).collect();
        let total = cells.pop().unwrap_or_default();
        Cells::new(heading, right, dispensable, cells).with_total(total)
    };
    let names = stretches.iter().map(|stretch| text::clean(&stretch.name, NAME)).collect();
    let columns = vec![
        Cells::new("phase", false, 0, names).with_total("total".into()),
        column("from", true, 3, &|slice| unit::duration(slice.at)),
        column("time", true, 0, &|slice| unit::duration(slice.length)),
        column("exits", true, 0, &|slice| unit::count(slice.exits)),
        column("exits %", true, 2, &|slice| unit::share(whole.part(slice.exits))),
        column("exits/s", true, 0, &|slice| unit::rate(slice.rate())),
        column("most frequent", false, 1, &most),
    ];
    let grid = Grid::fit(columns, width.unwrap_or(usize::MAX));
    let lines = std::iter::once(grid.header()).chain(grid.rows()).chain([grid.total()]);
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The two most frequent reasons with their shares; classes of KVM's statistics with their counts, because they overlap, and
/// some count what is no exit.
pub(super) fn most(slice: &Slice) -> String {
    let kinds = slice.by_frequency().into_iter().take(2);
    let said = kinds.map(|(code, count)| match code.isa {
        Isa::KvmStat => format!("{} {}", reason::name(code), unit::count(count)),
        Isa::Vmx | Isa::Svm => format!("{} {}", reason::name(code), unit::share(slice.part(count))),
    });
    said.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::ExitCode;

    #[test]
    fn a_class_of_kvms_is_no_share_of_the_exits() {
        let of = |isa, code| (ExitCode { isa, code }, 37_435);
        let slice = |by| Slice { exits: 100, by_reason: [by].into(), ..Slice::default() };
        let class = most(&slice(of(Isa::KvmStat, 0)));
        assert!(class.ends_with(&format!(" {}", unit::count(37_435))) && !class.contains('%'), "{class}");
        assert!(most(&slice(of(Isa::Svm, 0x72))).contains('%'));
    }
}
