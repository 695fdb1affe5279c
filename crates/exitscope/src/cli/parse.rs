//! Parsers of the values on the command line.

use crate::top;
use exitscope_model::figure::{FIGURES, Figure};
use exitscope_model::{DetailKind, ExitCode, KINDS, Keys};
use exitscope_reason as reason;
use exitscope_record::{LEAST_SIZE, When};
use std::collections::BTreeSet;
use std::time::Duration;

/// Set of numbers, e.g. of vCPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers(pub BTreeSet<u32>);

/// Some kinds of details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds(pub Vec<DetailKind>);

pub fn parse_kinds(text: &str) -> Result<Kinds, String> {
    let mut kinds = Vec::new();
    for word in text.split(',').map(str::trim) {
        match word {
            "all" => kinds.extend(KINDS.iter().map(|info| info.kind)),
            "default" => kinds.extend(DetailKind::defaults()),
            "none" => {}
            _ => kinds.push(DetailKind::from_word(word).ok_or_else(|| {
                let words: Vec<&str> = KINDS.iter().map(|info| info.word).collect();
                format!(
                    "there is no kind of detail {word:?}; choose from {}, default, all and none",
                    words.join(", ")
                )
            })?),
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    Ok(Kinds(kinds))
}

/// Some columns.
#[derive(Clone, Debug)]
pub struct Columns(pub Vec<&'static Figure>);

/// Returns the word that chooses a column.
pub fn column_word(figure: &Figure) -> String {
    let is_free = |short: &&str| FIGURES.iter().all(|other| other.key != *short);
    figure.key.strip_suffix("_ns").filter(is_free).unwrap_or(figure.key).replace('_', "-")
}

pub fn parse_columns(text: &str) -> Result<Columns, String> {
    let column = |word: &str| {
        let wanted = word.trim().to_ascii_lowercase().replace('_', "-");
        let called = |figure: &&&'static Figure| {
            column_word(figure) == wanted || figure.key.replace('_', "-") == wanted
        };
        let headed = || FIGURES.iter().find(|figure| figure.heading == wanted);
        FIGURES.iter().find(called).or_else(headed).copied().ok_or_else(|| {
            let words: Vec<String> = FIGURES.iter().map(|figure| column_word(figure)).collect();
            format!("there is no column {word:?}; choose from {}", words.join(", "))
        })
    };
    text.split(',').map(column).collect::<Result<_, _>>().map(Columns)
}

/// Some reasons.
#[derive(Clone, Debug)]
pub struct Reasons(pub Vec<ExitCode>);

pub fn parse_reasons(text: &str) -> Result<Reasons, String> {
    let mut codes = Vec::new();
    for word in text.split(',').map(str::trim) {
        // A number may be one that no manual names.
        let numbered = reason::codes(None, word);
        let named = reason::find(None, word).into_iter().map(|found| found.code);
        let before = codes.len();
        codes.extend(numbered.chain(named));
        if codes.len() == before {
            let near: Vec<&str> = reason::nearest(None, word).iter().map(|reason| reason.name).collect();
            let near = if near.is_empty() { String::new() } else { format!("; near: {}", near.join(", ")) };
            return Err(format!("there is no reason {word:?}{near}; `exitscope reasons` lists all"));
        }
    }
    codes.sort_unstable();
    codes.dedup();
    Ok(Reasons(codes))
}

/// Keys of one kind of detail.
#[derive(Clone, Debug)]
pub struct ChosenKeys(pub Vec<Keys>);

pub fn parse_detail(text: &str) -> Result<ChosenKeys, String> {
    let (word, key) = text.split_once(':').map_or((text, None), |(word, key)| (word, Some(key)));
    let kind = DetailKind::from_word(word.trim()).ok_or_else(|| {
        let words: Vec<&str> = KINDS.iter().map(|info| info.word).collect();
        format!("there is no kind of detail {word:?}; choose from {}", words.join(", "))
    })?;
    let Some(key) = key.map(str::trim) else {
        return Ok(ChosenKeys(vec![Keys { kind, keys: 0..=u64::MAX }]));
    };
    if let Some(key) = kind.info().key_from(key) {
        return Ok(ChosenKeys(vec![Keys { kind, keys: key..=key }]));
    }
    let named = reason::names(kind).iter().filter(|known| known.name.eq_ignore_ascii_case(key));
    let keys: Vec<Keys> = named.map(|known| Keys { kind, keys: known.first..=known.last }).collect();
    if keys.is_empty() {
        return Err(format!("{key:?} is no {word}; `exitscope reasons {word}` lists their names"));
    }
    Ok(ChosenKeys(keys))
}

/// The highest vCPU number that KVM gives on x86 (`KVM_MAX_VCPU_IDS`, arch/x86/include/asm/kvm_host.h).
const MAX_VCPU_ID: u32 = 16_383;

pub fn parse_numbers(text: &str) -> Result<Numbers, String> {
    let number = |text: &str| {
        let number: u32 =
            text.trim().parse().map_err(|_| format!("{text:?} is no number; give e.g. 0,2-3"))?;
        if number > MAX_VCPU_ID {
            return Err(format!("KVM numbers vCPUs from 0 to {MAX_VCPU_ID}, found {number}"));
        }
        Ok(number)
    };
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (from, to) = match part.split_once('-') {
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(part)?, number(part)?),
        };
        if from > to {
            return Err(format!("the range {part} ends before it begins"));
        }
        numbers.extend(from..=to);
    }
    Ok(Numbers(numbers))
}

/// Reads a size in bytes: a number with K, M, G or T, which are powers of 1024, or without.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let wrong = || format!("{text:?} is no size; give e.g. 500M or 2G");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let shift = match text[digits..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        "T" | "TIB" => 40,
        _ => return Err(wrong()),
    };
    let size =
        number.checked_mul(1 << shift).filter(|size| i64::try_from(*size).is_ok()).ok_or_else(wrong)?;
    if size < LEAST_SIZE {
        return Err(format!("a recording takes at least {}M", LEAST_SIZE >> 20));
    }
    Ok(size)
}

pub fn parse_time(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        Err(_) => {
            humantime::parse_duration(text).map_err(|error| format!("{error}; give e.g. 10s or 500ms"))?
        }
    };
    if time.is_zero() {
        return Err("the duration must be greater than zero".into());
    }
    if time > Duration::from_secs(100 * 365 * 24 * 3600) {
        return Err("at most a hundred years".into());
    }
    Ok(time)
}

/// Zero is a moment too, that of the beginning.
pub fn parse_when(text: &str) -> Result<When, String> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(When::At(time));
    }
    match text.parse::<f64>() {
        Ok(0.0) => Ok(When::After(Duration::ZERO)),
        _ => parse_time(text)
            .map(When::After)
            .map_err(|_| format!("{text:?} is no moment; give e.g. 90, 1min30s or 2026-11-05T14:30:00Z")),
    }
}

pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time < Duration::from_millis(10) { Err("an interval takes at least 10ms".into()) } else { Ok(time) }
}

pub fn parse_delay(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if (top::SHORTEST_DELAY..=top::LONGEST_DELAY).contains(&time) {
        Ok(time)
    } else {
        Err("give a time from 100ms to 1h".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_lists_and_ranges() {
        assert_eq!(parse_numbers("0,2-4,3").unwrap().0, BTreeSet::from([0, 2, 3, 4]));
        for wrong in ["", "x", "1-", "4-2", "-1", "1,,2", "99999999999", "16384"] {
            assert!(parse_numbers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn kinds_are_words_and_sets_of_them() {
        let parsed = |text| parse_kinds(text).map(|kinds| kinds.0);
        assert_eq!(parsed("msr, port,msr"), Ok(vec![DetailKind::Port, DetailKind::Msr]));
        assert_eq!(parsed("all").unwrap().len(), KINDS.len());
        assert_eq!(parsed("default"), Ok(DetailKind::defaults()));
        assert_eq!(parsed("none"), Ok(vec![]));
        assert!(parsed("disk").unwrap_err().contains("\"disk\"; choose from port, msr"));
    }

    #[test]
    fn every_column_has_a_word() {
        for figure in FIGURES {
            assert_eq!(parse_columns(&column_word(figure)).unwrap().0[0].key, figure.key);
            assert_eq!(parse_columns(figure.key).unwrap().0[0].key, figure.key);
        }
        let keys = |text| parse_columns(text).unwrap().0.iter().map(|figure| figure.key).collect::<Vec<_>>();
        assert_eq!(keys("reason, Count,busy %,p99"), ["reason", "count", "busy_share", "p99_ns"]);
        assert!(
            parse_columns("vm,cost")
                .unwrap_err()
                .starts_with("there is no column \"cost\"; choose from vm, pid")
        );
    }

    #[test]
    fn reasons_are_names_and_numbers_of_either_processor() {
        let codes = |text| {
            let found = parse_reasons(text).map(|reasons| reasons.0);
            found.map(|codes| codes.iter().map(|code| (code.isa, code.code)).collect::<Vec<_>>())
        };
        use exitscope_model::Isa::{Svm, Vmx};
        assert_eq!(codes("cpuid,EXIT_NPF"), Ok(vec![(Vmx, 10), (Svm, 0x72), (Svm, 0x400)]));
        assert_eq!(codes("0x7b"), Ok(vec![(Vmx, 0x7b), (Svm, 0x7b)]));
        assert!(codes("cpuidd").unwrap_err().contains("near: CPUID"));
        assert!(codes("cpuid,").is_err());
    }

    #[test]
    fn details_are_a_kind_with_a_number_or_a_name() {
        let keys = |text| {
            let found = parse_detail(text).map(|keys| keys.0);
            found.map(|keys| keys.into_iter().map(|keys| (keys.kind, keys.keys)).collect::<Vec<_>>())
        };
        assert_eq!(keys("port:0x3f8"), Ok(vec![(DetailKind::Port, 0x3f8..=0x3f8)]));
        assert_eq!(keys("port:com1"), Ok(vec![(DetailKind::Port, 0x3f8..=0x3ff)]));
        assert_eq!(keys("msr"), Ok(vec![(DetailKind::Msr, 0..=u64::MAX)]));
        let call = 0x1_0000_005c;
        assert_eq!(keys("hypercall:hyperv:0x5c"), Ok(vec![(DetailKind::Hypercall, call..=call)]));
        for wrong in ["disk:1", "port:", "port:0x10000", "port:com9", ""] {
            assert!(keys(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments_are_lengths_or_times_of_the_clock() {
        assert_eq!(parse_when("0"), Ok(When::After(Duration::ZERO)));
        assert_eq!(parse_when("1min30s"), Ok(When::After(Duration::from_secs(90))));
        let moment = When::At(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_762_353_000));
        assert_eq!(parse_when("2025-11-05T14:30:00Z"), Ok(moment));
        assert_eq!(parse_when("2025-11-05 14:30:00"), Ok(moment));
        for wrong in ["", "-1", "soon", "2025-11-05", "14:30"] {
            assert!(parse_when(wrong).unwrap_err().contains("is no moment"), "{wrong}");
        }
    }

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        assert_eq!(parse_time("1.5").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse_time("500ms").unwrap(), Duration::from_millis(500));
        for wrong in ["", "0", "-1", "1x", "nan", "inf", "1e300", "9e18"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
