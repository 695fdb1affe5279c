//! A list: its headings and its rows.

use super::paint::{self, Look};
use crate::top::column::{Cell, Column};
use crate::top::hits::{Heading, Hits};
use crate::top::row::{List, Row};
use crate::top::state::State;
use exitscope_view::text;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

/// Columns with their widths, from left to right.
struct Fitted {
    columns: Vec<(&'static Column, usize)>,
    gap: usize,
}

/// Takes out what finds no room, and gives the rest what is left.
fn fit(columns: Vec<&'static Column>, rows: &[Row], sorted_by: &str, width: usize) -> Fitted {
    let gap = if width >= 100 { 2 } else { 1 };
    // Names are shortened only where there is little room.
    let longest = |column: &Column| {
        let texts = rows.iter().filter_map(|row| match column.cell(row) {
            Cell::Text(text) if !column.right => Some(text.width().min(column.max)),
            _ => None,
        });
        texts.max().unwrap_or(0)
    };
    let enough = if width >= 100 { 20 } else { 0 };
    let start = |column: &'static Column| (column, column.min.max(longest(column).min(enough)));
    let mut columns: Vec<(&Column, usize)> = columns.into_iter().map(start).collect();
    let taken = |columns: &[(&Column, usize)]| {
        (columns.iter().map(|(_, width)| width + gap).sum::<usize>()).saturating_sub(gap)
    };
    while taken(&columns) > width {
        // What rows are sorted by is the last to go.
        let rank = |column: &Column| if column.key == sorted_by { column.rank.min(1) } else { column.rank };
        match columns.iter().map(|(column, _)| rank(column)).max().filter(|rank| *rank > 0) {
            Some(highest) => columns.retain(|(column, _)| rank(column) < highest),
            None => break,
        }
    }
    // Where even that is too much: from the right, as far as it goes.
    while taken(&columns) > width && columns.len() > 1 {
        columns.pop();
    }
    let mut left = width.saturating_sub(taken(&columns));
    if taken(&columns) > width
        && let Some((_, only)) = columns.first_mut()
    {
        *only = width;
    }
    // Text first, as much as its longest needs; then what is drawn, evenly.
    for (column, width) in columns.iter_mut().filter(|(column, _)| !column.right) {
        let more = longest(column).saturating_sub(*width).min(left);
        *width += more;
        left -= more;
    }
    let drawn = |column: &Column| matches!(column.key, "minute" | "time");
    while left > 0 {
        let grows = |(column, width): &&mut (&Column, usize)| drawn(column) && *width < column.max;
        let Some((_, width)) = columns.iter_mut().filter(grows).min_by_key(|(_, width)| *width) else {
            break;
        };
        *width += 1;
        left -= 1;
    }
    for (column, width) in columns.iter_mut().filter(|(column, _)| column.right) {
        let more = column.max.saturating_sub(*width).min(left);
        *width += more;
        left -= more;
    }
    Fitted { columns, gap }
}

fn narrow(x: usize) -> u16 {
    u16::try_from(x).unwrap_or(u16::MAX)
}

/// Draws headings and rows into `area`.
pub fn draw(state: &State, list: List, look: Look, area: Rect, buf: &mut Buffer) -> Hits {
    let rows = state.rows();
    let order = state.order(list);
    let fitted = fit(state.columns(list), rows, order.key, usize::from(area.width));
    let mut hits = Hits::default();
    let mut x = area.x;
    for (column, width) in &fitted.columns {
        let sorted = column.key == order.key;
        // What sorts text from A to Z sorts numbers from the greatest.
        let arrow = if order.reversed { "▴" } else { "▾" };
        let heading = if sorted { format!("{}{arrow}", column.heading) } else { column.heading.to_owned() };
        let style = if sorted {
            look.strong().add_modifier(ratatui::style::Modifier::UNDERLINED)
        } else {
            look.strong()
        };
        let heading = text::clean(&heading, *width);
        if column.right {
            paint::put_right(buf, area, x, area.y, *width, &heading, style);
        } else {
            paint::put(buf, area, x, area.y, *width, &heading, style);
        }
        let hit = Rect { x, y: area.y, width: narrow(*width), height: 1 }.intersection(area);
        hits.headings.push(Heading { key: column.key, area: hit });
        x = x.saturating_add(narrow(width + fitted.gap));
    }
    hits.rows = Rect { y: area.y.saturating_add(1), height: area.height.saturating_sub(1), ..area };
    let visible = usize::from(hits.rows.height);
    let at = state.page().at;
    hits.top = state.page().top.min(rows.len().saturating_sub(visible)).min(at);
    if at >= hits.top + visible {
        hits.top = (at + 1).saturating_sub(visible);
    }
    let y = (hits.rows.y..).zip(rows.iter().enumerate().skip(hits.top).take(visible));
    for (y, (number, row)) in y {
        line(state, row, number == at, look, &fitted, Rect { y, height: 1, ..hits.rows }, buf);
    }
    hits
}

/// One row.
fn line(state: &State, row: &Row, chosen: bool, look: Look, fitted: &Fitted, area: Rect, buf: &mut Buffer) {
    let plain = if row.ended || row.child { look.faint() } else { ratatui::style::Style::new() };
    let plain = if chosen { look.chosen() } else { plain };
    if chosen {
        buf.set_style(area.intersection(buf.area), plain);
    }
    let mut x = area.x;
    for (column, width) in &fitted.columns {
        match column.cell(row) {
            Cell::Text(text) => {
                let text = text::clean(&text, *width);
                let name = matches!(column.key, "vm" | "reason") && !chosen && !row.ended && !row.child;
                let style = if name { look.name() } else { plain };
                if column.right {
                    paint::put_right(buf, area, x, area.y, *width, &text, style);
                } else {
                    paint::put(buf, area, x, area.y, *width, &text, style);
                }
            }
            Cell::Minute => {
                let rates = state.with_input(|source| {
                    let keys = source.keys(row);
                    if keys.is_empty() { Vec::new() } else { source.accumulator.history.rates(keys, *width) }
                });
                let text = paint::sparkline(&rates.unwrap_or_default());
                let style = if row.ended || row.child { look.faint() } else { look.figure() };
                // Reversed, it would show the opposite.
                blank(buf, area, x, *width);
                paint::put(buf, area, x, area.y, *width, &text, style);
            }
            Cell::Bar(parts) => {
                blank(buf, area, x, *width);
                paint::bar(buf, area, x, area.y, *width, parts, look);
            }
        }
        x = x.saturating_add(narrow(width + fitted.gap));
    }
}

/// Leaves nothing of what was in these columns, the style included.
fn blank(buf: &mut Buffer, area: Rect, x: u16, width: usize) {
    let cells =
        Rect { x, y: area.y, width: narrow(width), height: 1 }.intersection(area).intersection(buf.area);
    for position in cells.positions() {
        buf[position].reset();
    }
}
