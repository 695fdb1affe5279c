//! Counters that grow: adding two of them, and subtracting an earlier one.

use super::{Details, Extremes, Histogram, Modes};
use std::collections::BTreeMap;

/// A counter, or several together.
pub(crate) trait Accumulate: Sized {
    /// Adds what was counted elsewhere, or later.
    fn add(&mut self, more: &Self);

    /// Returns what was counted after `earlier`; `None` if a counter shrank.
    fn since(&self, earlier: &Self) -> Option<Self>;
}

impl Accumulate for u64 {
    fn add(&mut self, more: &u64) {
        *self += more;
    }

    fn since(&self, earlier: &u64) -> Option<u64> {
        self.checked_sub(*earlier)
    }
}

/// Counts by key; a key without a count is left out.
impl<K: Copy + Ord> Accumulate for BTreeMap<K, u64> {
    fn add(&mut self, more: &Self) {
        for (key, count) in more {
            *self.entry(*key).or_default() += count;
        }
    }

    fn since(&self, earlier: &Self) -> Option<Self> {
        let mut since = self.clone();
        for (key, count) in earlier {
            let now = since.get_mut(key)?;
            *now = now.checked_sub(*count)?;
        }
        since.retain(|_, count| *count > 0);
        Some(since)
    }
}

/// Extremes cannot be subtracted: a sample has those since the sample before it.
impl Accumulate for Option<Extremes> {
    fn add(&mut self, more: &Self) {
        *self = Extremes::merge(*self, *more);
    }

    fn since(&self, _: &Self) -> Option<Self> {
        Some(*self)
    }
}

/// Lets types with methods of these names be fields of an [`accumulated!`] struct.
macro_rules! by_own_methods {
    ($($type:ty),*) => {$(
        impl Accumulate for $type {
            fn add(&mut self, more: &Self) {
                <$type>::add(self, more);
            }

            fn since(&self, earlier: &Self) -> Option<Self> {
                <$type>::since(self, earlier)
            }
        }
    )*};
}

by_own_methods!(Details, Histogram, Modes);

/// Defines a struct of counters, with `add` and `since` over all its fields.
macro_rules! accumulated {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl $name {
            /// Adds what was counted elsewhere, or later.
            pub fn add(&mut self, more: &$name) {
                $($crate::accumulate::Accumulate::add(&mut self.$field, &more.$field);)*
            }

            /// Returns what was counted after `earlier`; `None` if a counter shrank.
            pub fn since(&self, earlier: &$name) -> Option<$name> {
                Some($name { $($field: $crate::accumulate::Accumulate::since(&self.$field, &earlier.$field)?,)* })
            }
        }

        impl $crate::accumulate::Accumulate for $name {
            fn add(&mut self, more: &Self) {
                <$name>::add(self, more);
            }

            fn since(&self, earlier: &Self) -> Option<Self> {
                <$name>::since(self, earlier)
            }
        }
    };
}

pub(crate) use accumulated;
