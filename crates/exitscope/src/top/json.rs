//! Content of a screen as JSON: the object of `exitscope stat -f json` (`docs/json.md`), narrowed to the
//! screen.

use super::row::{List, Scope};
use super::state::{State, View};
use exitscope_model::{By, Interval, Sort};
use exitscope_view::{self as view, Format, Options};

/// The beginning of a name for the file, and its bytes; `None` where nothing was seen yet.
pub fn screen(state: &State) -> Option<(String, Vec<u8>)> {
    let mut interval = state.span()?.clone();
    let (name, by, scope, list) = match state.page().view {
        View::List(List::Vms, scope) if state.apart => ("vms", By::default(), scope, Some(List::Vms)),
        View::List(List::Vms, scope) => ("vms", By { vm: true, ..By::NOTHING }, scope, Some(List::Vms)),
        View::List(List::Vcpus, scope) => {
            ("vcpus", By { vm: true, vcpu: true, ..By::NOTHING }, scope, Some(List::Vcpus))
        }
        View::List(List::Reasons, scope) if state.apart => ("reasons", By::ALL, scope, Some(List::Reasons)),
        View::List(List::Reasons, scope) => ("reasons", By::default(), scope, Some(List::Reasons)),
        View::Reason(scope, _) => ("reason", By::ALL, scope, None),
    };
    narrow(state, scope, &mut interval);
    let sorted_by = list.and_then(|list| {
        let key = state.order(list).key;
        state.columns(list).into_iter().find(|column| column.key == key)
    });
    let sort = sorted_by.map_or(Sort::COUNT, |column| column.nearest());
    let options = Options { format: Format::Json, by, sort, ..Options::default() };
    let mut bytes = Vec::new();
    view::write(&interval, &options, &mut bytes).ok()?;
    let end = view::unit::moment(interval.end).replace(['-', ':'], "");
    Some((format!("exitscope-top-{name}-{end}"), bytes))
}

/// Leaves what the screen is about.
fn narrow(state: &State, scope: Scope, interval: &mut Interval) {
    let view = state.page().view;
    let filtered = state.page().filter.is_some();
    let rows = state.rows();
    interval.retain(|vm, vcpu| {
        let in_scope =
            scope.vm.is_none_or(|mine| mine == vm.id) && scope.vcpu.is_none_or(|mine| mine == vcpu);
        // Of VMs and vCPUs those that are listed.
        let listed = || match view {
            View::List(List::Vms, _) => rows.iter().any(|row| row.id.vm == Some(vm.id)),
            View::List(List::Vcpus, _) => {
                rows.iter().any(|row| row.id.vm == Some(vm.id) && row.id.vcpu == Some(vcpu))
            }
            _ => true,
        };
        in_scope && state.filters.shows(vm) && (!filtered || listed())
    });
    match view {
        View::Reason(_, which) => interval.rows.retain(|row| (row.level, row.code) == which),
        View::List(List::Reasons, _) if filtered => {
            interval.rows.retain(|row| {
                rows.iter().any(|shown| {
                    shown.id.reason == Some((row.level, row.code))
                        && shown.id.vm.is_none_or(|vm| vm == row.vm)
                        && (!state.apart || shown.id.vcpu.is_none_or(|vcpu| vcpu == row.vcpu))
                })
            });
        }
        View::List(..) => {}
    }
}
