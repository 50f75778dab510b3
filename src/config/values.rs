//! Spans of time, sizes in bytes, plain numbers: each with its bounds, and an error that shows how to write it.

use crate::base::{Micros, time::SECOND};

const MILLISECOND: Micros = SECOND / 1000;

/// Units of time by their names, smallest first.
const TIMES: [(&str, u64); 4] = [("ms", MILLISECOND), ("s", SECOND), ("m", 60 * SECOND), ("h", 3600 * SECOND)];

/// Units of size in bytes by their names, smallest first.
const SIZES: [(&str, u64); 4] = [("", 1), ("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30)];

/// No timeout is longer: a week.
const LONGEST: Micros = 168 * 3600 * SECOND;

/// A timeout, `1ms` to `168h`.
pub fn timeout(text: &str) -> Result<Micros, String> {
    time_between(text, MILLISECOND, LONGEST)
}

/// A timeout that may also be `0s`: do not wait.
pub fn timeout_or_none(text: &str) -> Result<Micros, String> {
    time_between(text, 0, LONGEST)
}

/// A time as one would write it.
pub fn show_time(time: Micros) -> String {
    if time.is_multiple_of(MILLISECOND) { show(&TIMES, time) } else { format!("{time}us") }
}

fn time_between(text: &str, min: Micros, max: Micros) -> Result<Micros, String> {
    let (number, unit) =
        split(text).ok_or("not a time: write a whole number and ms, s, m or h, such as 500ms or 10s")?;
    if unit.is_empty() {
        return Err(format!("a time without its unit: write '{number}s' for seconds, or use ms, m or h"));
    }
    let factor = factor(&TIMES, unit).ok_or_else(|| format!("'{unit}' is no unit of time: use ms, s, m or h"))?;
    let time = times(number, factor);
    if time < min {
        return Err(format!("too short: at least {}", show(&TIMES, min)));
    }
    if time > max {
        return Err(format!("too long: at most {}", show(&TIMES, max)));
    }
    Ok(time)
}

/// A size of `min` to `max` bytes: plain, or in units of 1024 as `16k`, `1m`, `2g`.
pub fn size(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let (number, unit) = split(text).ok_or("not a size: write bytes, or a whole number and k, m or g, such as 16k")?;
    let factor =
        factor(&SIZES, unit).ok_or_else(|| format!("'{unit}' is no unit of size: use k, m or g, or none for bytes"))?;
    let size = times(number, factor);
    if size < min {
        return Err(format!("too small: at least {}", show(&SIZES, min)));
    }
    if size > max {
        return Err(format!("too large: at most {}", show(&SIZES, max)));
    }
    Ok(size)
}

/// [`size`] of something that is held in memory.
pub fn memory(text: &str, min: usize, max: usize) -> Result<usize, String> {
    Ok(size(text, min as u64, max as u64)? as usize)
}

/// A size, or `off`: `u64::MAX`.
pub fn size_or_off(text: &str) -> Result<u64, String> {
    match text {
        "off" => Ok(u64::MAX),
        "0" => Err("forbids every body: write 'off' for no limit, or a size such as 10m".to_string()),
        _ => size(text, 1, u64::MAX - 1),
    }
}

/// A whole number, `min` to `max`.
pub fn number(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let (number, unit) = split(text).unwrap_or_default();
    if number.is_empty() || !unit.is_empty() {
        return Err(format!("not a whole number: write {min} to {max}"));
    }
    let value = times(number, 1);
    if value < min as u64 || value > max as u64 {
        Err(format!("out of range: write {min} to {max}"))
    } else {
        Ok(value as usize)
    }
}

/// The digits and what follows them.
fn split(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    // What follows has to be one word: "1.5s" and "1m30s" are not a number with a wrong unit.
    let word = text.bytes().skip(digits).all(|b| b.is_ascii_alphabetic());
    (digits > 0 && word).then(|| text.split_at(digits))
}

/// The product; one that no `u64` holds is as large as one can be, which every upper bound refuses.
fn times(digits: &str, factor: u64) -> u64 {
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).unwrap_or(u64::MAX)
}

fn factor(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor)
}

/// In the largest unit that leaves no rest.
fn show(units: &[(&str, u64)], value: u64) -> String {
    let whole = units.iter().rev().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    let (name, factor) = whole.or(units.first()).copied().unwrap_or(("", 1));
    format!("{}{name}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(timeout("500ms"), Ok(500_000));
        assert_eq!(timeout("10s"), Ok(10 * SECOND));
        assert_eq!(timeout("2m"), Ok(120 * SECOND));
        assert_eq!(timeout("1H"), Ok(3600 * SECOND));
        assert_eq!(timeout_or_none("0s"), Ok(0));
    }

    #[test]
    fn wrong_times_say_how_to_write_them() {
        let cases = [
            ("10", "a time without its unit: write '10s' for seconds, or use ms, m or h"),
            ("10sec", "'sec' is no unit of time: use ms, s, m or h"),
            ("0s", "too short: at least 1ms"),
            ("169h", "too long: at most 168h"),
            ("99999999999999999999h", "too long: at most 168h"),
        ];
        for (text, message) in cases {
            assert_eq!(timeout(text).unwrap_err(), message, "{text}");
        }
        for text in ["", "s", "1.5s", "-1s", "+1s", "1 s", "1m30s", "ten", "off"] {
            assert!(timeout(text).unwrap_err().starts_with("not a time"), "{text}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_powers_of_1024() {
        let any = |text| size(text, 0, u64::MAX);
        assert_eq!(any("0"), Ok(0));
        assert_eq!(any("1000"), Ok(1000));
        assert_eq!(any("16k"), Ok(16_384));
        assert_eq!(any("1M"), Ok(1_048_576));
        assert_eq!(any("2g"), Ok(2_147_483_648));
        assert_eq!(size_or_off("off"), Ok(u64::MAX));
        assert_eq!(size_or_off("10m"), Ok(10 << 20));
    }

    #[test]
    fn wrong_sizes_say_how_to_write_them() {
        assert_eq!(size("16kb", 0, 9).unwrap_err(), "'kb' is no unit of size: use k, m or g, or none for bytes");
        assert_eq!(size("1k", 4096, 1 << 20).unwrap_err(), "too small: at least 4k");
        assert_eq!(size("2m", 4096, 1 << 20).unwrap_err(), "too large: at most 1m");
        assert_eq!(size("99999999999999g", 0, 1000).unwrap_err(), "too large: at most 1000");
        assert!(size_or_off("99999999999999g").is_err());
        assert!(size_or_off("0").unwrap_err().contains("'off'"));
        for text in ["", "k", "1.5k", "-1", "+1", "off"] {
            assert!(size(text, 0, 9).unwrap_err().starts_with("not a size"), "{text}");
        }
    }

    #[test]
    fn numbers_are_whole_and_within_bounds() {
        assert_eq!(number("0", 0, 3), Ok(0));
        assert_eq!(number("3", 0, 3), Ok(3));
        assert_eq!(number("4", 0, 3).unwrap_err(), "out of range: write 0 to 3");
        assert_eq!(number("99999999999999999999", 0, 3).unwrap_err(), "out of range: write 0 to 3");
        for text in ["", "x", "1x", "-1", "1.0", " 1"] {
            assert_eq!(number(text, 1, 3).unwrap_err(), "not a whole number: write 1 to 3", "{text}");
        }
    }
}
