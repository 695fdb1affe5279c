//! Orders of rows.

use super::{BUSY_NS, COUNT, FIGURES, Figure, Order, REASON, TIME_NS};
use crate::UnknownWord;
use std::fmt;
use std::str::FromStr;

/// Order of rows: by a figure, numbers from the largest down, names upwards. By a figure that was not measured rows are
/// sorted by count.
#[derive(Clone, Copy)]
pub struct Sort(&'static Figure);

impl Sort {
    /// Order by host time that was not halted, so that idleness does not come first: the default.
    pub const BUSY: Sort = Sort(&BUSY_NS);
    /// Order by exits.
    pub const COUNT: Sort = Sort(&COUNT);
    /// Order by host time.
    pub const TIME: Sort = Sort(&TIME_NS);
    /// Order by the reason's name.
    pub const NAME: Sort = Sort(&REASON);

    /// Returns all orders: the default, then the other numbers, then names and what identifies.
    pub fn all() -> impl Iterator<Item = Sort> {
        let named = |names: bool| FIGURES.iter().filter(move |figure| (figure.is_key()) == names);
        let orders = named(false).chain(named(true)).filter(|figure| matches!(figure.sort, Order::By(_)));
        let others = orders.map(|figure| Sort(figure)).filter(|sort| *sort != Sort::BUSY);
        std::iter::once(Sort::BUSY).chain(others)
    }

    /// Returns the order that a figure gives or shows best; `None` where it shows none.
    pub fn of(figure: &Figure) -> Option<Sort> {
        match figure.sort {
            Order::No => None,
            Order::By(word) | Order::Shows(word) => Sort::all().find(|sort| sort.word() == word),
        }
    }

    /// Returns the word that chooses it.
    pub fn word(self) -> &'static str {
        match self.0.sort {
            Order::By(word) => word,
            Order::No | Order::Shows(_) => self.0.key,
        }
    }

    /// Returns the figure that rows are sorted by.
    pub fn figure(self) -> &'static Figure {
        self.0
    }

    /// Returns the figure that shows best in a table why rows are in this order.
    pub fn shown_by(self) -> &'static Figure {
        let shows =
            |figure: &&&'static Figure| figure.rank.is_some() && figure.sort == Order::Shows(self.word());
        FIGURES.iter().find(shows).map_or(self.0, |figure| *figure)
    }
}

impl Figure {
    /// Returns true if it tells rows apart, and is no number of its own.
    fn is_key(&self) -> bool {
        matches!(self.needs, super::Needs::Key(_))
    }
}

impl Default for Sort {
    fn default() -> Self {
        Sort::BUSY
    }
}

impl PartialEq for Sort {
    fn eq(&self, other: &Sort) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Sort {}

impl fmt::Debug for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sort({})", self.word())
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Sort {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Sort, UnknownWord> {
        let words = || Sort::all().map(Sort::word).collect::<Vec<_>>().join(", ");
        Sort::all().find(|sort| sort.word() == text).ok_or_else(|| UnknownWord::new("order", text, words()))
    }
}
