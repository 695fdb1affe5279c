//! Help on the keys, and on the columns of the list.

use crate::top::row::List;
use crate::top::state::{Mode, State, View};
use exitscope_view::text;

/// Keys that do the same everywhere, each with its effect.
const KEYS: &[(&str, &str)] = &[
    ("↑ ↓ PgUp PgDn", "choose a row; Home: the first, whichever that is; End: the last"),
    ("Enter", "open it: a VM's reasons, then one reason"),
    ("Esc", "back"),
    ("Tab", "all VMs, all vCPUs, all reasons"),
    ("v", "the vCPUs of what is shown, and back"),
    ("x", "tell apart: VMs by reason, reasons by vCPU"),
    ("a", "figures of everything since the start, or of the last interval again"),
    ("< >", "sort by another column, as a click on a heading does; details by time, or by count"),
    ("i", "the other way round; or click again"),
    ("o", "sort by total or by exits/s"),
    ("/ f", "show only rows that a regular expression finds, as you type"),
    ("g", "show only VMs whose name a regular expression finds"),
    ("p", "show only the VMs of these processes"),
    ("c", "take filters away; where there is none, VMs that ended"),
    ("r", "count from here on: totals begin at 0"),
    ("s", "another time between two looks"),
    ("w", "write the figures of this screen to a file, as JSON"),
    ("? h", "this help"),
    ("q Ctrl-C", "the end"),
    ("Ctrl-Z", "to the shell; fg comes back"),
    ("any other", "look now"),
];

const LIVE: &[(&str, &str)] =
    &[("space", "freeze the screen, or let it go on; counting goes on meanwhile"), ("← →", "as < and >")];

const REPLAY: &[(&str, &str)] = &[
    ("space", "play, or stop; at the end, from the beginning"),
    ("← →", "an interval back, or further; with Shift ten"),
];

/// The help in lines, a heading where `true`.
pub fn lines(state: &State, width: usize) -> Vec<(bool, String)> {
    let mut lines = Vec::new();
    let pair = |what: &str, does: &str, indent: usize, lines: &mut Vec<(bool, String)>| {
        let room = width.saturating_sub(indent + 3).max(20);
        for (at, line) in text::wrap(does, room).into_iter().enumerate() {
            let head = if at == 0 { what } else { "" };
            lines.push((false, format!(" {}  {}", text::left(head, indent), line)));
        }
    };
    lines.push((true, "Keys".into()));
    let more = if matches!(state.mode, Mode::Live) { LIVE } else { REPLAY };
    KEYS.iter().chain(more).for_each(|(keys, does)| pair(keys, does, 14, &mut lines));
    if let View::List(list, _) = state.page().view {
        let heading = match list {
            List::Vms => "Columns of VMs",
            List::Vcpus => "Columns of vCPUs",
            List::Reasons => "Columns of reasons",
        };
        lines.push((false, String::new()));
        lines.push((true, heading.into()));
        for column in state.columns(list) {
            pair(column.heading, column.help, 14, &mut lines);
        }
    }
    lines.push((false, String::new()));
    let why = "Host time runs from an exit to the vCPU's next entry. The total line compares our count with KVM's own.";
    lines.extend(
        text::wrap(why, width.saturating_sub(1).max(20)).into_iter().map(|line| (false, format!(" {line}"))),
    );
    lines
}
