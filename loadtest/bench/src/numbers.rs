//! Numbers as people read them.
//!
//! Promises about three digits, which is what a histogram knows. Refuses to show `NaN` or `inf`: they are `-`.

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits, without an exponent: `0.0123`, `1.21`, `36.1`, `1,234`.
pub fn short(number: f64) -> String {
    if !number.is_finite() {
        return "-".to_owned();
    }
    let size = number.abs();
    match size {
        _ if size >= 99.95 && number > 0.0 => count(number.round() as u64),
        _ if size >= 9.995 => format!("{number:.1}"),
        _ if size >= 0.9995 => format!("{number:.2}"),
        _ if size >= 0.099_95 => format!("{number:.3}"),
        _ if size >= 0.000_000_5 => {
            let digits = (2.0 - size.log10().floor()).clamp(3.0, 6.0) as usize;
            format!("{number:.digits$}").trim_end_matches('0').to_owned()
        }
        _ => "0".to_owned(),
    }
}

/// At most seven characters, for where there is little room: `19,996`, `12.3 M`, `1.20 G`.
pub fn compact(number: f64) -> String {
    match number.abs() {
        size if size < 999_999.5 || !size.is_finite() => short(number),
        size if size < 999.95e6 => format!("{} M", short(number / 1e6)),
        size if size < 999.95e9 => format!("{} G", short(number / 1e9)),
        _ => format!("{} T", short(number / 1e12)),
    }
}

/// As [`compact`], of a whole number.
pub fn compact_count(number: u64) -> String {
    if number < 1_000_000 { count(number) } else { compact(number as f64) }
}

/// A whole number of something per second.
pub fn rate(number: f64) -> String {
    if number < 99.95 { short(number) } else { count(number.round() as u64) }
}

/// A latency with the unit that suits it; for ticks of an axis, where it is short: `20 µs`, `5 ms`, `1 s`.
pub fn latency(ms: f64) -> String {
    // Ticks come from powers of ten: without rounding, 0.2 would be 0.19999.
    let plain = |number: f64| {
        let text = format!("{number:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match ms {
        _ if ms < 0.000_999 => format!("{} ns", plain(ms * 1e6)),
        _ if ms < 0.999 => format!("{} µs", plain(ms * 1e3)),
        _ if ms < 999.0 => format!("{} ms", plain(ms)),
        _ if ms < 9.99e6 => format!("{} s", plain(ms / 1e3)),
        _ if ms < 9.99e8 => format!("{} ks", plain(ms / 1e6)),
        _ => format!("{} Ms", plain(ms / 1e9)),
    }
}

/// A share of a whole, as a percentage without needless zeros: `99.9%`.
pub fn percent(quantile: f64) -> String {
    let text = format!("{:.9}", quantile * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `1 push`, `2 pushes`.
pub fn plural(number: u64, one: &str, more: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_short() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567"), (100_000, "100,000")]
        {
            assert_eq!(count(number), text);
        }
        for (number, text) in [
            (0.0, "0"),
            (1e-9, "0"),
            (0.000_012, "0.000012"),
            (0.012_34, "0.0123"),
            (0.003_093, "0.00309"),
            (0.5, "0.500"),
            (1.214, "1.21"),
            (36.14, "36.1"),
            (99.97, "100"),
            (1_234.4, "1,234"),
            (f64::NAN, "-"),
            (f64::INFINITY, "-"),
        ] {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn latencies_take_the_unit_that_suits_them() {
        for (ms, text) in [(0.000_1, "100 ns"), (0.02, "20 µs"), (0.2, "200 µs"), (1.0, "1 ms"), (500.0, "500 ms")] {
            assert_eq!(latency(ms), text);
        }
        assert_eq!((latency(1_000.0).as_str(), latency(60_000.0).as_str()), ("1 s", "60 s"));
        assert_eq!((compact(19_996.2).as_str(), compact(1_234_567.0).as_str()), ("19,996", "1.23 M"));
        assert_eq!((compact_count(7).as_str(), compact_count(3_000_000_014).as_str()), ("7", "3.00 G"));
        assert_eq!((compact(7.49e8).as_str(), compact(1.2e12).as_str()), ("749 M", "1.20 T"));
        assert_eq!((percent(0.5).as_str(), percent(0.9999).as_str(), percent(0.0).as_str()), ("50%", "99.99%", "0%"));
    }
}
