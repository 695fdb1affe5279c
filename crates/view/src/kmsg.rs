//! The lines for the kernel log.

use super::text;
use exitscope_model::{By, ExitCode, Interval, Isa, Level, group};
use exitscope_reason as reason;

/// The longest name in a line, in columns. The kernel log takes lines of about 1,000 bytes
/// (`PRINTK_MESSAGE_MAX`, before 6.6 `LOG_LINE_MAX`), ours are far below it.
const NAME: usize = 100;

/// Lines of an interval that began with the watching, for the kernel log: the total first, then each type
/// that occurred with its number and name, by number, then those of the guest's own guests (L2), then what
/// was missed. Each line is at most 200 bytes of ASCII and has no line break; the caller adds the level.
pub fn lines(interval: &Interval) -> Vec<String> {
    let mut lines = vec![format!("exitscope: {} exits in all", interval.exits())];
    for group in group(interval, By { level: true, reason: true, ..By::NOTHING }) {
        if let Some(code) = group.code {
            let whose = if group.level == Some(Level::L2) { "L2 " } else { "" };
            lines.push(format!("exitscope: {whose}{}: {}", title(code), group.counters.count));
        }
    }
    for (figure, number) in interval.loss.figures() {
        if number > 0 {
            lines.push(format!("exitscope: missed: {}: {number}", figure.key));
        }
    }
    lines
}

/// The same, each ending in a line feed.
pub fn render(interval: &Interval) -> Vec<u8> {
    lines(interval).into_iter().flat_map(|line| (line + "\n").into_bytes()).collect()
}

/// `exit 28 (CR_ACCESS)`, `exit 0x7b (IOIO)`, `class io_exits`: numbers as the manuals write them.
fn title(code: ExitCode) -> String {
    let name: String =
        reason::name(code).chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
    let name = text::clean(&name, NAME).replace('…', "...");
    match (code.isa, code.code) {
        (Isa::KvmStat, _) => format!("class {name}"),
        (Isa::Vmx, 0..0x1_0000) | (_, ..0) => format!("exit {} ({name})", code.code),
        _ => format!("exit {:#x} ({name})", code.code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::fixture;

    #[test]
    fn total_then_types_by_number() {
        insta::assert_snapshot!(lines(&fixture::busy()).join("\n"));
        insta::assert_snapshot!("statistics", lines(&fixture::statistics()).join("\n"));
        insta::assert_snapshot!("nested", lines(&fixture::nested()).join("\n"));
    }

    #[test]
    fn any_code_makes_a_short_line() {
        for isa in [Isa::Vmx, Isa::Svm, Isa::KvmStat] {
            for code in [i64::MIN, -1, 0, 28, 0x403, 0xbe00_0021, i64::MAX] {
                let title = title(ExitCode { isa, code });
                assert!(title.is_ascii() && title.len() < 140, "{title}");
            }
        }
        assert!(title(ExitCode { isa: Isa::Vmx, code: 0x8000_0021 }).starts_with("exit 0x80000021 ("));
        assert!(title(ExitCode { isa: Isa::Svm, code: -1 }).starts_with("exit -1 ("));
    }
}
