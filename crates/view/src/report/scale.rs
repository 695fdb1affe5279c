//! From figures to places, and the round figures that axes show.

use exitscope_model::float;
use std::time::Duration;

/// A straight axis.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// With 0 at the place `from` and `most` at `to`.
    pub fn new(most: f64, from: f64, to: f64) -> Scale {
        Scale::between(0.0, most, from, to)
    }

    /// With `least` at the place `from` and `most` at `to`.
    pub fn between(least: f64, most: f64, from: f64, to: f64) -> Scale {
        Scale { least, most: if most > least { most } else { least + 1.0 }, from, to }
    }

    /// The place of a figure; what is beyond an end is at that end.
    pub fn at(&self, figure: f64) -> f64 {
        self.from + (self.to - self.from) * ((figure - self.least) / (self.most - self.least)).clamp(0.0, 1.0)
    }
}

/// The least round figure, of 1, 2 or 5 and zeros, that has at most `parts` of it in `most`.
pub fn step(most: f64, parts: u32) -> f64 {
    let rough = most / f64::from(parts.max(1));
    if !rough.is_finite() || rough <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough * 0.999).unwrap_or(power)
}

/// Round figures from `least` to `most`, at most `parts` and one.
pub fn ticks(least: f64, most: f64, parts: u32) -> Vec<f64> {
    multiples(step(most - least, parts), least, most)
}

fn multiples(step: f64, least: f64, most: f64) -> Vec<f64> {
    let first = (least / step).ceil();
    (0..1000u64).map(|n| (first + float(n)) * step).take_while(|tick| *tick <= most + step * 1e-6).collect()
}

/// Round times in seconds, likewise: of minutes and hours the parts that clocks have.
pub fn times(least: Duration, most: Duration, parts: u32) -> Vec<f64> {
    const ROUND: [f64; 13] = [
        30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0, 21_600.0, 43_200.0,
        86_400.0,
    ];
    let (least, most) = (least.as_secs_f64(), most.as_secs_f64());
    let rough = (most - least) / f64::from(parts.max(1));
    if rough <= 20.0 {
        return ticks(least, most, parts);
    }
    let round = ROUND.into_iter().find(|step| *step >= rough);
    multiples(round.unwrap_or_else(|| step((most - least) / 86_400.0, parts) * 86_400.0), least, most)
}

/// A moment as the axis of something so long names it: `0.5 s`, `12 s`, `2:30`, `1:02:30`.
pub fn clock(seconds: f64, most: Duration) -> String {
    let rounded = Duration::from_secs_f64(seconds.max(0.0).round()).as_secs();
    let (hours, minutes, rest) = (rounded / 3600, rounded / 60 % 60, rounded % 60);
    match most.as_secs() {
        0..300 => format!("{} s", (seconds * 1e6).round() / 1e6),
        300..3600 => format!("{}:{rest:02}", rounded / 60),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

/// A moment to a hundredth of a second, for lists.
pub fn moment(at: Duration) -> String {
    let (seconds, hundredths) = (at.as_secs(), at.subsec_millis() / 10);
    match seconds {
        0..60 => format!("{seconds}.{hundredths:02}"),
        60..3600 => format!("{}:{:02}.{hundredths:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}.{hundredths:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_figures() {
        assert_eq!(ticks(0.0, 9_700.0, 5), [0.0, 2000.0, 4000.0, 6000.0, 8000.0]);
        assert_eq!(ticks(0.0, 1.0, 4), [0.0, 0.5, 1.0]);
        assert_eq!(ticks(0.0, 0.0, 4), [0.0]);
        assert_eq!(ticks(3.2, 5.1, 4), [3.5, 4.0, 4.5, 5.0]);
        let times = |most, parts| times(Duration::ZERO, Duration::from_secs(most), parts);
        assert_eq!(times(63, 7), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(times(300, 6), [0.0, 60.0, 120.0, 180.0, 240.0, 300.0]);
        assert_eq!(times(7200, 5).len(), 5);
        assert_eq!(times(30 * 86_400, 6).len(), 7);
    }

    #[test]
    fn moments_are_as_long_as_they_must() {
        let clock = |seconds, most| clock(seconds, Duration::from_secs(most));
        assert_eq!(
            [clock(0.5, 3), clock(20.0, 60), clock(150.0, 900), clock(3750.0, 9000)],
            ["0.5 s", "20 s", "2:30", "1:02:30"]
        );
        let moment = |ms| moment(Duration::from_millis(ms));
        assert_eq!([moment(1_239), moment(61_000), moment(3_661_500)], ["1.23", "1:01.00", "1:01:01.50"]);
    }
}
