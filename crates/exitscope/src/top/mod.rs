//! The live view of `exitscope top`: from [`exitscope_model::Interval`]s and keys to a screen.
//!
//! Pure: [`State`] takes intervals ([`State::take`]) and keys ([`handle`]), and [`draw`] makes cells of it. Where intervals
//! come from, what time it is, the terminal and files are the caller's. Bounded: of each VM and reason it keeps the last
//! interval, the sum of all, and a minute; of VMs that ended so many as [`accumulator::ENDED`].

mod accumulator;
mod column;
mod draw;
mod filter;
mod history;
mod hits;
mod json;
mod keys;
mod row;
mod state;

pub use accumulator::{Accumulator, Adding, ENDED};
pub use draw::draw;
pub use draw::paint::Look;
pub use history::Key;
pub use hits::Hits;
pub use keys::{Effect, handle};
pub use state::{Mode, Replay, State};

use std::time::Duration;

/// The shortest time between two looks.
pub const SHORTEST_DELAY: Duration = Duration::from_millis(100);

/// The longest.
pub const LONGEST_DELAY: Duration = Duration::from_secs(3600);

impl State {
    /// Draws the screen, and remembers where what is.
    pub fn draw(&mut self, look: Look, area: ratatui::layout::Rect, buf: &mut ratatui::buffer::Buffer) {
        let hits = draw(self, look, area, buf);
        if self.help.is_none()
            && let state::View::List(..) = self.page().view
        {
            self.page_mut().top = hits.top;
        }
        self.hits = hits;
    }
}

#[cfg(test)]
mod tests;
