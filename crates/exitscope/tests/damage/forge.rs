//! Makes databases that no SQLite would write: rows that share their bytes, trees whose pages are in them many times.
//! The format is <https://www.sqlite.org/fileformat2.html>.

use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};

/// A value of a row.
#[derive(Clone)]
pub enum Value {
    Null,
    Int(i64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

/// A text of so many bytes.
pub fn text(bytes: usize) -> Value {
    Value::Text(vec![b'A'; bytes])
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(number & 0x7f).unwrap()];
    number >>= 7;
    while number > 0 {
        bytes.push(u8::try_from(number & 0x7f | 0x80).unwrap());
        number >>= 7;
    }
    bytes.reverse();
    bytes
}

/// A row in the record format.
pub fn record(values: &[Value]) -> Vec<u8> {
    let (mut header, mut body) = (Vec::new(), Vec::new());
    for value in values {
        match value {
            Value::Null => header.push(0),
            Value::Int(number) => {
                header.push(6);
                body.extend(number.to_be_bytes());
            }
            Value::Text(bytes) => {
                header.extend(varint(13 + 2 * bytes.len() as u64));
                body.extend(bytes);
            }
            Value::Blob(bytes) => {
                header.extend(varint(12 + 2 * bytes.len() as u64));
                body.extend(bytes);
            }
        }
    }
    let length = header.len() + if header.len() < 127 { 1 } else { 2 };
    [varint(length as u64), header, body].concat()
}

/// A database as bytes, by pages.
pub struct Forge {
    path: PathBuf,
    bytes: Vec<u8>,
    page: usize,
}

/// Kinds of trees: a table with a rowid, or one by its primary key, which is made as an index.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    Table,
    Index,
}

impl Forge {
    /// Copies a recording, with pages of another size, and what `change` does with it.
    pub fn of(good: &Path, path: &Path, page: usize, change: impl FnOnce(&Connection)) -> Forge {
        let _ = std::fs::remove_file(path);
        std::fs::copy(good, path).unwrap();
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(())).unwrap();
        connection.pragma_update(None, "page_size", i64::try_from(page).unwrap()).unwrap();
        change(&connection);
        connection.execute_batch("VACUUM").unwrap();
        drop(connection);
        Forge { path: path.to_owned(), bytes: std::fs::read(path).unwrap(), page }
    }

    /// Copies a recording, and keeps what `change` makes of it. Returns its length.
    pub fn as_it_is(good: &Path, path: &Path, change: impl FnOnce(&Connection)) -> u64 {
        let _ = std::fs::remove_file(path);
        std::fs::copy(good, path).unwrap();
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(())).unwrap();
        change(&connection);
        drop(connection);
        std::fs::metadata(path).unwrap().len()
    }

    /// The bytes of a page.
    pub fn page(&self, number: usize) -> Vec<u8> {
        self.bytes[(number - 1) * self.page..number * self.page].to_vec()
    }

    /// Changes a page, whose number is told too.
    pub fn change(&mut self, number: usize, change: impl FnOnce(&mut [u8], u32)) {
        let page = &mut self.bytes[(number - 1) * self.page..number * self.page];
        change(page, u32::try_from(number).unwrap());
    }

    /// Makes a table's tree one leaf with one cell of these bytes.
    pub fn lie(&mut self, table: &str, tree: Tree, cell: &[u8]) {
        let root = self.root(table);
        let page = self.node(tree, &[cell.to_vec()], None, 0);
        self.put(root, &page);
    }

    /// Does the same as [`Forge::share`], with a chain whose last page leads back by so many.
    pub fn share_cycle(
        &mut self,
        table: &str,
        tree: Tree,
        rows: u64,
        row: impl Fn(u64) -> Vec<Value>,
        back: usize,
    ) {
        // The chain has so many pages and no more, whatever the length says.
        let first = self.bytes.len() / self.page + 1;
        for place in 0..back {
            let next = u32::try_from(first + (place + 1) % back).unwrap();
            let mut page = next.to_be_bytes().to_vec();
            page.resize(self.page, b'A');
            self.add(&page);
        }
        self.share_over(table, tree, rows, row, Some(first));
    }

    /// The root of a table's tree.
    pub fn root(&self, table: &str) -> usize {
        let connection = Connection::open(&self.path).unwrap();
        let root: i64 = connection
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = ?", [table], |row| row.get(0))
            .unwrap();
        usize::try_from(root).unwrap()
    }

    fn add(&mut self, page: &[u8]) -> usize {
        assert_eq!(page.len(), self.page);
        self.bytes.extend(page);
        self.bytes.len() / self.page
    }

    fn put(&mut self, number: usize, page: &[u8]) {
        self.bytes[(number - 1) * self.page..number * self.page].copy_from_slice(page);
    }

    /// Puts bytes into a chain of overflow pages; its first.
    fn chain(&mut self, bytes: &[u8]) -> usize {
        let first = self.bytes.len() / self.page + 1;
        let parts = bytes.chunks(self.page - 4);
        let last = parts.len() - 1;
        for (place, part) in parts.enumerate() {
            let next = if place < last { u32::try_from(first + place + 1).unwrap() } else { 0 };
            let mut page = next.to_be_bytes().to_vec();
            page.extend(part);
            page.resize(self.page, 0);
            self.add(&page);
        }
        first
    }

    /// Returns the number of a payload's bytes that lie in its page (SQLite's file format, "B-tree Pages").
    fn local(&self, payload: usize, tree: Tree) -> usize {
        let most = match tree {
            Tree::Table => self.page - 35,
            Tree::Index => (self.page - 12) * 64 / 255 - 23,
        };
        let least = (self.page - 12) * 32 / 255 - 23;
        let with = least + payload.saturating_sub(least) % (self.page - 4);
        match payload {
            _ if payload <= most => payload,
            _ if with <= most => with,
            _ => least,
        }
    }

    /// Pages of cells; `right` for those of inner nodes.
    fn node(&self, tree: Tree, cells: &[Vec<u8>], right: Option<usize>, offset: usize) -> Vec<u8> {
        let kind = match (tree, right) {
            (Tree::Table, None) => 13,
            (Tree::Table, Some(_)) => 5,
            (Tree::Index, None) => 10,
            (Tree::Index, Some(_)) => 2,
        };
        let mut page = vec![0; self.page];
        let (mut end, mut at) = (self.page, offset + if right.is_some() { 12 } else { 8 });
        for cell in cells {
            end -= cell.len();
            page[end..end + cell.len()].copy_from_slice(cell);
            page[at..at + 2].copy_from_slice(&u16::try_from(end).unwrap().to_be_bytes());
            at += 2;
        }
        assert!(at <= end);
        page[offset] = kind;
        page[offset + 3..offset + 5].copy_from_slice(&u16::try_from(cells.len()).unwrap().to_be_bytes());
        page[offset + 5..offset + 7].copy_from_slice(&u16::try_from(end).unwrap_or(0).to_be_bytes());
        if let Some(right) = right {
            page[offset + 8..offset + 12].copy_from_slice(&u32::try_from(right).unwrap().to_be_bytes());
        }
        page
    }

    /// A cell of a leaf; what does not fit is in the chain that is given, or one that is made for it.
    fn cell(&mut self, tree: Tree, rowid: u64, payload: &[u8], chain: &mut Option<usize>) -> Vec<u8> {
        let local = self.local(payload.len(), tree);
        let mut cell = varint(payload.len() as u64);
        if tree == Tree::Table {
            cell.extend(varint(rowid));
        }
        cell.extend(&payload[..local]);
        if local < payload.len() {
            let first = *chain.get_or_insert_with(|| self.chain(&payload[local..]));
            cell.extend(u32::try_from(first).unwrap().to_be_bytes());
        }
        cell
    }

    /// Puts so many rows into a table that all share the bytes that are not in their page: `row` makes the one of a number.
    pub fn share(&mut self, table: &str, tree: Tree, rows: u64, row: impl Fn(u64) -> Vec<Value>) {
        self.share_over(table, tree, rows, row, None);
    }

    fn share_over(
        &mut self,
        table: &str,
        tree: Tree,
        rows: u64,
        row: impl Fn(u64) -> Vec<Value>,
        mut chain: Option<usize>,
    ) {
        let root = self.root(table);
        let cells: Vec<Vec<u8>> =
            (1..=rows).map(|number| self.cell(tree, number, &record(&row(number)), &mut chain)).collect();
        let longest = cells.iter().map(Vec::len).max().unwrap();
        let fit = (self.page - 12) / (longest + 6);
        // Each node is its cells and the last rowid below it; of an index, a cell goes up between two.
        let mut level: Vec<(u64, usize, Option<Vec<u8>>)> = Vec::new();
        let mut rest = &cells[..];
        let mut number = 0;
        while !rest.is_empty() {
            let here = &rest[..fit.min(rest.len())];
            rest = &rest[here.len()..];
            number += here.len() as u64;
            let page = self.node(tree, here, None, 0);
            let up = match rest.split_first() {
                // One that would be alone in its leaf is left out.
                Some((up, left)) if tree == Tree::Index => {
                    rest = left;
                    (!left.is_empty()).then(|| up.clone())
                }
                _ => None,
            };
            level.push((number, self.add(&page), up));
        }
        let children = if tree == Tree::Table { (self.page - 12) / 20 } else { fit };
        while level.len() > 1 {
            level = level.chunks(children).map(|nodes| self.inner(tree, nodes)).collect();
        }
        let top = self.bytes[(level[0].1 - 1) * self.page..level[0].1 * self.page].to_vec();
        self.put(root, &top);
    }

    fn inner(
        &mut self,
        tree: Tree,
        nodes: &[(u64, usize, Option<Vec<u8>>)],
    ) -> (u64, usize, Option<Vec<u8>>) {
        let (last, before) = nodes.split_last().unwrap();
        let cells: Vec<Vec<u8>> = before
            .iter()
            .map(|(rowid, page, up)| {
                let mut cell = u32::try_from(*page).unwrap().to_be_bytes().to_vec();
                match tree {
                    Tree::Table => cell.extend(varint(*rowid)),
                    Tree::Index => cell.extend(up.as_ref().unwrap()),
                }
                cell
            })
            .collect();
        let page = self.node(tree, &cells, Some(last.1), 0);
        (last.0, self.add(&page), last.2.clone())
    }

    /// Makes a tree of eight levels in which each page points to one child only, again and again: rows without end.
    pub fn endless(&mut self, root: usize, tree: Tree, row: &[Value]) {
        let top = self.endless_top(tree, row, 0);
        let offset = if root == 1 { 100 } else { 0 };
        let page = self.node(tree, &[self.child(tree, top, row)], Some(top), offset);
        let header = self.bytes[..offset].to_vec();
        self.put(root, &page);
        self.bytes[..offset].copy_from_slice(&header);
    }

    fn child(&self, tree: Tree, page: usize, row: &[Value]) -> Vec<u8> {
        let mut cell = u32::try_from(page).unwrap().to_be_bytes().to_vec();
        match tree {
            Tree::Table => cell.extend(varint(1 << 20)),
            Tree::Index => {
                let payload = record(row);
                cell.extend(varint(payload.len() as u64));
                cell.extend(payload);
            }
        }
        cell
    }

    fn endless_top(&mut self, tree: Tree, row: &[Value], first: u64) -> usize {
        let payload = record(row);
        let fit = (self.page - 8) / (payload.len() + 10);
        let cells: Vec<Vec<u8>> =
            (0..fit as u64).map(|number| self.cell(tree, first + 1 + number, &payload, &mut None)).collect();
        let mut page = self.add(&self.node(tree, &cells, None, 0));
        for _ in 0..8 {
            let child = self.child(tree, page, row);
            let children = vec![child; (self.page - 12) / 80.max(payload.len() + 12)];
            page = self.add(&self.node(tree, &children, Some(page), 0));
        }
        page
    }

    /// Puts what is in the schema into a page of its own, and an endless tree of entries beside it.
    pub fn endless_schema(&mut self, row: &[Value]) {
        let old = self.bytes[..self.page].to_vec();
        // The page of a schema that fits has its header after that of the file, and everything else by its place.
        assert_eq!(old[100], 13, "the schema has more than one page; take larger pages");
        let mut moved = old.clone();
        let cells = usize::from(u16::from_be_bytes([old[103], old[104]]));
        moved[..8].copy_from_slice(&old[100..108]);
        moved[8..8 + 2 * cells].copy_from_slice(&old[108..108 + 2 * cells]);
        let moved = self.add(&moved);
        let top = self.endless_top(Tree::Table, row, 1000);
        let mut cell = u32::try_from(moved).unwrap().to_be_bytes().to_vec();
        cell.extend(varint(1000));
        let mut page = self.node(Tree::Table, &[cell], Some(top), 100);
        page[..100].copy_from_slice(&old[..100]);
        self.put(1, &page);
    }

    /// Writes it, with a header that is right; its length.
    pub fn save(mut self) -> u64 {
        let pages = u32::try_from(self.bytes.len() / self.page).unwrap().to_be_bytes();
        self.bytes[28..32].copy_from_slice(&pages);
        let changes: [u8; 4] = self.bytes[24..28].try_into().unwrap();
        self.bytes[92..96].copy_from_slice(&changes);
        std::fs::write(&self.path, &self.bytes).unwrap();
        self.bytes.len() as u64
    }
}
