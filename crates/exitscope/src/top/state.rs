//! State of the screen: which view, which rows, in which order. Pure: it knows neither terminal nor clock.

use super::accumulator::Accumulator;
use super::column::{self, Column, ORDERS};
use super::filter::{Filter, Filters};
use super::hits::Hits;
use super::row::{Id, List, Row, RowInput, Scope, Which};
use exitscope_analysis::advice::Host;
use exitscope_model::{Interval, Measured, Vm};
use exitscope_record::Resolution;
use exitscope_view::Explanation;
use exitscope_view::names::Names;
use std::time::{Duration, SystemTime};

/// Subject of a screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A list.
    List(List, Scope),
    /// One reason of a scope.
    Reason(Scope, Which),
}

/// A screen, and where the reader is in it.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its subject.
    pub view: View,
    /// Filter for the rows that are shown.
    pub filter: Option<Filter>,
    /// The row that was chosen; `None` where that is still the first.
    pub chosen: Option<Id>,
    /// Last place of the chosen row, should it be gone.
    pub at: usize,
    /// The first row, or line, that is visible.
    pub top: usize,
}

impl Page {
    fn new(view: View) -> Page {
        Page { view, filter: None, chosen: None, at: 0, top: 0 }
    }
}

/// Order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Name of the column.
    pub key: &'static str,
    /// The order is reversed.
    pub reversed: bool,
}

/// Questions of the last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A regular expression that rows are filtered by.
    Filter,
    /// A regular expression for the names of VMs.
    Guest,
    /// Processes of VMs.
    Pid,
    /// Time between two looks.
    Delay,
}

/// A line that is being typed.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The question.
    pub asked: Asked,
    /// Text so far.
    pub text: String,
    /// Error in it.
    pub wrong: Option<String>,
    /// Filters before it, should it be given up.
    pub before: (Option<Filter>, Filters),
}

/// Source of the intervals.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// Intervals of the host, as they happen.
    Live,
    /// Intervals of a recording.
    Replay(Replay),
}

/// Place in a recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// Its name, harmless.
    pub name: String,
    /// The interval that is shown, from 0 on.
    pub at: usize,
    /// Number of intervals.
    pub count: usize,
    /// Time from the recording's beginning to the end of the interval that is shown.
    pub time: Duration,
    /// Length of the recording.
    pub length: Duration,
    /// Span that is shown: an interval, or a sum that took the place of several.
    pub resolution: Resolution,
    /// The place moves on by itself.
    pub playing: bool,
    /// Exits per second of each interval.
    pub rates: Vec<f64>,
}

/// A sentence that stands in the last line until the next key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Text, harmless.
    pub text: String,
    /// The message is an error.
    pub alarm: bool,
}

/// All that is shown.
pub struct State {
    /// Source of the intervals.
    pub mode: Mode,
    /// Length that intervals are meant to have, or time that they are shown.
    pub delay: Duration,
    /// Remarks about the figures.
    pub explanation: Explanation,
    /// Facts about the host, for advice.
    pub host: Host,
    /// Intervals so far.
    pub accumulator: Accumulator,
    /// Intervals up to the moment when the screen was frozen; `None` while it is not.
    frozen: Option<Accumulator>,
    /// Figures are of everything since the beginning, not of the last interval.
    pub since_start: bool,
    /// Rows are told apart further.
    pub apart: bool,
    /// Details of a reason are in the order of their host time, not of their number.
    pub details_by_time: bool,
    /// Order of each list.
    orders: [Order; 3],
    /// Filters for the VMs that are shown.
    pub filters: Filters,
    /// Screens; the last is shown.
    pages: Vec<Page>,
    /// First line of the help that is shown; `None` while it is closed.
    pub help: Option<usize>,
    /// Line that is being typed.
    pub prompt: Option<Prompt>,
    /// Message in the last line.
    pub message: Option<Message>,
    /// The rows of the screen.
    rows: Vec<Row>,
    /// Places of what was drawn last.
    pub hits: Hits,
}

impl State {
    /// Begins with the list of VMs and no interval.
    pub fn new(mode: Mode, delay: Duration) -> State {
        State {
            mode,
            delay,
            explanation: Explanation::default(),
            host: Host::default(),
            accumulator: Accumulator::default(),
            frozen: None,
            since_start: false,
            apart: false,
            details_by_time: false,
            orders: [Order { key: ORDERS[0], reversed: false }; 3],
            filters: Filters::default(),
            pages: vec![Page::new(View::List(List::Vms, Scope::default()))],
            help: None,
            prompt: None,
            message: None,
            rows: Vec::new(),
            hits: Hits::default(),
        }
    }

    /// Takes the interval that follows. A frozen screen does not change.
    pub fn take(&mut self, interval: Interval) {
        self.accumulator.take(interval);
        if self.frozen.is_none() {
            self.update();
        }
    }

    /// Shows something else, as after a jump in a recording.
    pub fn show(&mut self, accumulator: Accumulator) {
        self.accumulator = accumulator;
        self.update();
    }

    /// Intervals that the screen shows: those of the moment at which it was frozen, if it is.
    pub fn shown(&self) -> &Accumulator {
        self.frozen.as_ref().unwrap_or(&self.accumulator)
    }

    /// Returns true if the screen is frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Freezes the screen, or lets it go on.
    pub fn freeze(&mut self, freeze: bool) {
        self.frozen = freeze.then(|| self.accumulator.clone());
        self.update();
    }

    /// The interval that figures are of.
    pub fn span(&self) -> Option<&Interval> {
        if self.since_start { self.shown().total.as_ref() } else { self.shown().last.as_ref() }
    }

    /// Level of detail of the interval.
    pub fn measured(&self) -> Measured {
        self.span().map_or(Measured::Breakdown, |span| span.measured)
    }

    /// Calls `make` with the input of rows. Returns `None` before the first interval.
    pub fn with_input<T>(&self, make: impl FnOnce(&RowInput) -> T) -> Option<T> {
        let (span, all) = (self.span()?, self.shown().total.as_ref()?);
        let shows = |vm: &Vm| self.filters.shows(vm);
        Some(make(&RowInput { accumulator: self.shown(), span, all, shows: &shows }))
    }

    /// Makes the rows of the screen anew.
    pub fn update(&mut self) {
        self.rows = self.make_rows();
        // Where a row was chosen, the reader stays with it.
        let chosen = self.page().chosen;
        if let Some(at) = chosen.and_then(|id| self.rows.iter().position(|row| row.id == id)) {
            self.page_mut().at = at;
        } else if let View::List(..) = self.page().view {
            let at = if chosen.is_some() { self.page().at.min(self.rows.len().saturating_sub(1)) } else { 0 };
            self.page_mut().at = at;
        }
    }

    fn make_rows(&self) -> Vec<Row> {
        let View::List(list, scope) = self.page().view else { return Vec::new() };
        let rows = self.with_input(|source| source.rows(list, scope, self.apart)).unwrap_or_default();
        let rows = match &self.page().filter {
            Some(filter) => filter.rows(rows),
            None => rows,
        };
        let order = self.order(list);
        match self.columns(list).into_iter().find(|column| column.key == order.key) {
            Some(column) => column::sort(rows, column, order.reversed),
            None => rows,
        }
    }

    /// The rows of the screen, sorted.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The columns of a list.
    pub fn columns(&self, list: List) -> Vec<&'static Column> {
        let source = self.span().map_or(exitscope_model::Source::Btf, |span| span.source);
        column::columns(list, self.apart, source, self.measured())
    }

    /// Order of a list.
    pub fn order(&self, list: List) -> Order {
        self.orders[list as usize]
    }

    /// Sorts the list that is shown.
    pub fn sort_by(&mut self, order: Order) {
        if let View::List(list, _) = self.page().view {
            self.orders[list as usize] = order;
            self.update();
        }
    }

    /// The screen that is shown.
    pub fn page(&self) -> &Page {
        // There is always one.
        &self.pages[self.pages.len() - 1]
    }

    /// The same, to change it.
    pub fn page_mut(&mut self) -> &mut Page {
        let last = self.pages.len() - 1;
        &mut self.pages[last]
    }

    /// The screens that lead to this one, and this.
    pub fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// Begins with another screen.
    pub fn begin(&mut self, view: View) {
        self.pages = vec![Page::new(view)];
        self.update();
    }

    /// Opens a screen.
    pub fn open(&mut self, view: View) {
        self.pages.push(Page::new(view));
        self.update();
    }

    /// Goes back to the screen before; false where there is none.
    pub fn back(&mut self) -> bool {
        if self.pages.len() == 1 {
            return false;
        }
        self.pages.pop();
        self.update();
        true
    }

    /// Screen that the chosen row opens.
    pub fn behind(&self) -> Option<View> {
        let row = self.rows.get(self.page().at)?;
        let scope = Scope { vm: row.id.vm, vcpu: row.id.vcpu };
        Some(match row.id.reason {
            Some(which) => View::Reason(scope, which),
            None => View::List(List::Reasons, scope),
        })
    }

    /// Chooses a row.
    pub fn choose(&mut self, at: usize) {
        let at = at.min(self.rows.len().saturating_sub(1));
        let id = self.rows.get(at).map(|row| row.id);
        let page = self.page_mut();
        (page.at, page.chosen) = (at, id);
    }

    /// Forgets what was chosen: the first row is, whichever that becomes.
    pub fn choose_first(&mut self) {
        let page = self.page_mut();
        (page.at, page.top, page.chosen) = (0, 0, None);
    }

    /// The VM of this number, among those that are shown.
    pub fn vm(&self, id: exitscope_model::VmId) -> Option<&Vm> {
        self.shown().total.as_ref()?.vms.get(&id)
    }

    /// The name of the VM of this number.
    pub fn vm_name(&self, id: exitscope_model::VmId) -> Option<String> {
        let all = self.shown().total.as_ref()?;
        Some(Names::of(all.vms.values()).show(all.vms.get(&id)?))
    }

    /// When what is shown ended.
    pub fn moment(&self) -> Option<SystemTime> {
        self.shown().last.as_ref().map(|now| now.end)
    }

    /// Says something until the next key.
    pub fn say(&mut self, text: impl Into<String>, alarm: bool) {
        self.message = Some(Message { text: exitscope_view::text::clean(&text.into(), 400), alarm });
    }
}
