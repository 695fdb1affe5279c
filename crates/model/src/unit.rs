//! Numbers as people read them.

use std::time::Duration;

/// With a comma between thousands: `84,562`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number and its noun: `1 exit`, `2,000 exits`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A share of 1 in percent: `79.11%`; what is more than nothing or less than all says so:
/// `<0.01%`, `>99.99%`.
pub fn share(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        p if p > 0.0 && p < 0.005 => "<0.01%".into(),
        p if (99.995..100.0).contains(&p) => ">99.99%".into(),
        p => format!("{p:.2}%"),
    }
}

/// A rate to three digits, whole from 100 on: `0.05`, `8.46`, `84.6`, `8,456`.
pub fn rate(rate: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    match rate {
        r if r >= 99.95 => count(r.round() as u64),
        r if r >= 9.995 => format!("{r:.1}"),
        r if r > 0.0 && r < 0.005 => "<0.01".into(),
        r => format!("{r:.2}"),
    }
}

/// A time to three digits: `830 ns`, `1.23 µs`, `45.6 ms`, `10.0 s`, `86,400 s`.
pub fn time(ns: u64) -> String {
    const SECOND: u128 = 1_000_000_000;
    if ns < 1000 {
        return format!("{ns} ns");
    }
    let last_digit = 10u128.pow(ns.ilog10() - 2).min(SECOND);
    let rounded = (u128::from(ns) + last_digit / 2) / last_digit * last_digit;
    let (unit, name) = [(SECOND, "s"), (1_000_000, "ms"), (1000, "µs")]
        .into_iter()
        .find(|(unit, _)| rounded >= *unit)
        .unwrap_or((1, "ns"));
    let (whole, part) = (rounded / unit, rounded % unit);
    match whole {
        0..10 => format!("{whole}.{:02} {name}", part * 100 / unit),
        10..100 => format!("{whole}.{} {name}", part * 10 / unit),
        _ => format!("{} {name}", count(u64::try_from(whole).unwrap_or(u64::MAX))),
    }
}

/// A length of time, likewise.
pub fn duration(length: Duration) -> String {
    time(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX))
}

/// A length of time by its two largest units: `9 d 4 h`, `2 h 0 min`, `5 min 7 s`, `1.50 s`.
pub fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let two = |(unit, name), (next, next_name)| {
        format!("{} {name} {} {next_name}", count(seconds / unit), seconds % unit / next)
    };
    match seconds {
        0..60 => duration(length),
        60..3600 => two((60, "min"), (1, "s")),
        3600..86_400 => two((3600, "h"), (60, "min")),
        _ => two((86_400, "d"), (3600, "h")),
    }
}

/// A size to three digits: `512 bytes`, `12.3 kB`, `1.20 MB`.
pub fn bytes(number: u64) -> String {
    if number < 1000 {
        return counted(number, "byte");
    }
    #[allow(clippy::cast_precision_loss)]
    let size = number as f64;
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    // What rounds to a thousand of one is one of the next.
    let (unit, name) = units.into_iter().find(|(unit, _)| size >= unit * 0.9995).unwrap_or((1e3, "kB"));
    format!("{} {name}", rate(size / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_rounded() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 0.00001, 0.79106, 0.99999, 1.0].map(share),
            ["0.00%", "<0.01%", "79.11%", ">99.99%", "100.00%"]
        );
        assert_eq!(
            [0.0, 0.001, 8.456, 9.996, 84.56, 99.96, 8456.2].map(rate),
            ["0.00", "<0.01", "8.46", "10.0", "84.6", "100", "8,456"]
        );
        assert_eq!(
            [0, 999, 1000, 1234, 999_499, 999_500, 45_600_000, 10_000_000_000, 86_400_400_000_000].map(time),
            ["0 ns", "999 ns", "1.00 µs", "1.23 µs", "999 µs", "1.00 ms", "45.6 ms", "10.0 s", "86,400 s"]
        );
        assert_eq!(
            [0, 1, 999, 1000, 12_345, 999_949, 999_950, 1_204_000, 25_000_000_000].map(bytes),
            [
                "0 bytes",
                "1 byte",
                "999 bytes",
                "1.00 kB",
                "12.3 kB",
                "1.00 MB",
                "1.00 MB",
                "1.20 MB",
                "25.0 GB"
            ]
        );
        assert_eq!(time(u64::MAX), "18,446,744,074 s");
    }
}
