//! Values of figures, as people and machines read them.

use super::{details, unit};
use exitscope_model::figure::Value;
use exitscope_model::{Histogram, Returns, Subject};
use exitscope_reason as reason;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::cmp::Reverse;

/// Returns a value as people read it.
pub fn human(value: &Value) -> String {
    match value {
        Value::Nothing => "-".into(),
        Value::Vm(name, _) => name.clone(),
        Value::Isa(isa) => isa.name().into(),
        Value::Reason(code) => reason::name(*code).into_owned(),
        Value::Id(id) => id.to_string(),
        Value::Level(level) => format!("L{}", level.number()),
        Value::Count(count) => unit::count(*count),
        Value::Share(share) => unit::share(*share),
        Value::Rate(rate) => unit::rate(*rate),
        Value::Ns(0) => "0".into(),
        Value::Ns(ns) => unit::time(*ns),
        Value::Buckets(buckets) => plain_buckets(buckets),
        Value::Returns(returns) => returned(returns),
        Value::Details(found) => details::plain(found),
        Value::Subject(Subject::Detail(detail)) => details::human(*detail),
        Value::Subject(Subject::Other) => OTHER.into(),
    }
}

/// Word for what is not told apart.
const OTHER: &str = "other";

fn plain_subject(subject: Subject) -> String {
    match subject {
        Subject::Detail(detail) => detail.plain(),
        Subject::Other => OTHER.into(),
    }
}

/// Returns a value as machines read it from text: plain numbers, nothing where there is none.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Nothing => String::new(),
        Value::Vm(..) | Value::Isa(_) | Value::Reason(_) | Value::Id(_) => human(value),
        Value::Level(level) => level.number().to_string(),
        Value::Count(whole) | Value::Ns(whole) => whole.to_string(),
        Value::Share(number) | Value::Rate(number) => number.to_string(),
        Value::Buckets(buckets) => plain_buckets(buckets),
        Value::Returns(returns) => {
            let pairs = by_frequency(returns).into_iter().map(|(name, count)| format!("{name}={count}"));
            pairs.collect::<Vec<_>>().join(";")
        }
        Value::Details(found) => details::plain(found),
        Value::Subject(subject) => plain_subject(*subject),
    }
}

fn plain_buckets(buckets: &Histogram) -> String {
    buckets.buckets().map(|count| count.to_string()).join(";")
}

/// A value in JSON.
pub struct Json(pub Value);

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Nothing => serializer.serialize_none(),
            Value::Vm(name, _) => serializer.serialize_str(name),
            Value::Isa(isa) => serializer.serialize_str(isa.name()),
            Value::Reason(code) => serializer.serialize_str(&reason::name(*code)),
            Value::Id(id) => serializer.serialize_i64(*id),
            Value::Level(level) => serializer.serialize_u8(level.number()),
            Value::Count(whole) | Value::Ns(whole) => serializer.serialize_u64(*whole),
            Value::Share(number) | Value::Rate(number) => serializer.serialize_f64(*number),
            Value::Buckets(buckets) => serializer.collect_seq(buckets.buckets()),
            Value::Returns(returns) => serializer.collect_map(by_frequency(returns)),
            Value::Details(found) => details::serialize(found, serializer),
            Value::Subject(subject) => serializer.serialize_str(&plain_subject(*subject)),
        }
    }
}

/// Returns of KVM_RUN by name, the most frequent first.
pub fn by_frequency(returns: &Returns) -> Vec<(Cow<'static, str>, u64)> {
    let mut pairs: Vec<_> = returns.iter().filter(|(_, count)| **count > 0).collect();
    pairs.sort_by_key(|(reason, count)| (Reverse(**count), **reason));
    pairs.into_iter().map(|(reason, count)| (reason::user::name(*reason), *count)).collect()
}

/// Columns that all returns may take for people, and those before `..., 2 more`.
const RETURNS: [usize; 2] = [32, 23];

/// The most frequent returns, and how many others there are: `IO 1,200, MMIO 3, 2 more`.
fn returned(returns: &Returns) -> String {
    let pairs = by_frequency(returns);
    let words: Vec<String> =
        pairs.iter().map(|(name, times)| format!("{name} {}", unit::count(*times))).collect();
    let [all, some] = RETURNS;
    let whole = words.join(", ");
    match words.len() {
        0 => "-".into(),
        1 => whole,
        _ if whole.len() <= all => whole,
        kinds => {
            let fit = (1..kinds).rev().find(|&first| words[..first].join(", ").len() <= some).unwrap_or(1);
            format!("{}, {} more", words[..fit].join(", "), kinds - fit)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::UserReason;

    #[test]
    fn returns_are_named_the_most_frequent_first_and_bounded() {
        let returns = |pairs: &[(i32, u64)]| {
            Value::Returns(pairs.iter().map(|(reason, count)| (UserReason(*reason), *count)).collect())
        };
        assert_eq!(human(&returns(&[(6, 3), (2, 1200), (10, 0)])), "IO 1,200, MMIO 3");
        assert_eq!(plain(&returns(&[(6, 3), (2, 1200)])), "IO=1200;MMIO=3");
        let many = returns(&[(6, 66_895), (2, 1_284_411), (10, 3), (-14, 1), (77, 9)]);
        assert_eq!(human(&many), "IO 1,284,411, 4 more");
        assert_eq!(human(&returns(&[(6, 66_895), (2, 1_284_411)])), "IO 1,284,411, MMIO 66,895");
        assert_eq!(human(&returns(&[(6, 95), (2, 411), (10, 33), (31, 2)])), "IO 411, MMIO 95, 2 more");
        assert_eq!(
            serde_json::to_string(&Json(many)).unwrap(),
            r#"{"IO":1284411,"MMIO":66895,"KVM_EXIT_77":9,"INTR":3,"EFAULT":1}"#
        );
        let none = returns(&[]);
        assert_eq!(
            (human(&none), plain(&none), serde_json::to_string(&Json(none)).unwrap()),
            ("-".into(), "".into(), "{}".into())
        );
    }
}
