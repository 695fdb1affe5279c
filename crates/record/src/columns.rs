//! Rows that SQLite hands out, whose columns have the types and lengths that recorders write.

use super::Error;
use super::histogram;
use exitscope_model::Histogram;
use rusqlite::types::ValueRef;
use std::path::Path;

/// Checks that keys come in their order, which no page can be in twice.
pub struct Order<K>(Option<K>);

impl<K: PartialOrd> Order<K> {
    /// Before the first key.
    pub fn new() -> Order<K> {
        Order(None)
    }

    /// Takes the next key, which must be greater than the one before.
    pub fn next(&mut self, key: K) -> Result<(), ()> {
        if self.0.as_ref().is_some_and(|last| *last >= key) {
            return Err(());
        }
        self.0 = Some(key);
        Ok(())
    }
}

/// A row of a table. A column that has another type, or is longer than a recorder makes it, is an error.
pub struct Columns<'a> {
    /// The row.
    pub row: &'a rusqlite::Row<'a>,
    /// Its file, for messages.
    pub path: &'a Path,
}

impl Columns<'_> {
    fn value(&self, column: usize) -> Result<ValueRef<'_>, Error> {
        self.row.get_ref(column).map_err(|cause| Error::sqlite("read", self.path, cause))
    }

    fn wrong(&self, column: usize, expected: &str, found: ValueRef<'_>) -> Error {
        let name = self.row.as_ref().column_name(column).unwrap_or("?");
        let found = match found {
            ValueRef::Null => "nothing".to_owned(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            ValueRef::Text(text) => format!("a text of {} bytes", text.len()),
            ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
        };
        Error::damaged(self.path, format!("a column {name} has {found} instead of {expected}"))
    }

    /// Any integer.
    pub fn int(&self, column: usize) -> Result<i64, Error> {
        match self.value(column)? {
            ValueRef::Integer(number) => Ok(number),
            other => Err(self.wrong(column, "an integer", other)),
        }
    }

    /// Any integer, or nothing.
    pub fn maybe_int(&self, column: usize) -> Result<Option<i64>, Error> {
        match self.value(column)? {
            ValueRef::Null => Ok(None),
            _ => self.int(column).map(Some),
        }
    }

    /// An integer of at least 0, or nothing.
    pub fn maybe(&self, column: usize) -> Result<Option<u64>, Error> {
        match self.value(column)? {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(number @ 0..) => Ok(Some(number.unsigned_abs())),
            other => Err(self.wrong(column, "a number of at least 0", other)),
        }
    }

    /// An integer of at least 0.
    pub fn number(&self, column: usize) -> Result<u64, Error> {
        self.maybe(column)?.ok_or_else(|| self.wrong(column, "a number of at least 0", ValueRef::Null))
    }

    /// An integer of fewer bits.
    pub fn narrow<T: TryFrom<i64>>(&self, column: usize) -> Result<T, Error> {
        let number = self.int(column)?;
        T::try_from(number).map_err(|_| self.wrong(column, "a number of 32 bits", ValueRef::Integer(number)))
    }

    /// A text of at most so many bytes.
    pub fn text(&self, column: usize, most: usize) -> Result<String, Error> {
        let found = self.value(column)?;
        let text = match found {
            ValueRef::Text(text) if text.len() <= most => std::str::from_utf8(text).ok(),
            _ => None,
        };
        let expected = || format!("a text in UTF-8 of at most {most} bytes");
        text.map(str::to_owned).ok_or_else(|| self.wrong(column, &expected(), found))
    }

    /// At most so many bytes.
    pub fn blob(&self, column: usize, most: usize) -> Result<&[u8], Error> {
        match self.value(column)? {
            ValueRef::Blob(bytes) if bytes.len() <= most => Ok(bytes),
            other => Err(self.wrong(column, &format!("at most {most} bytes"), other)),
        }
    }

    /// A histogram.
    pub fn histogram(&self, column: usize) -> Result<Histogram, Error> {
        let buckets = histogram::decode(self.blob(column, histogram::MOST)?)
            .map_err(|what| Error::damaged(self.path, format!("a histogram is none: {what}")))?;
        Ok(buckets.into_iter().collect())
    }
}
