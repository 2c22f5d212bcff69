//! From when to when a certificate is valid: read out of its DER, for a word about our own before a server has one.
//!
//! Promises to read no byte twice and none beyond the certificate. What cannot be read says nothing: others judge certificates.

use std::time::{Duration, SystemTime};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which is left out in version 1.
const VERSION: u8 = 0xa0;

/// From when and until when.
pub(super) fn validity(certificate: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let (outer, _) = element(certificate, SEQUENCE)?;
    let (mut signed, _) = element(outer, SEQUENCE)?;
    if let Some((_, rest)) = element(signed, VERSION) {
        signed = rest;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        signed = element(signed, tag)?.1;
    }
    let (times, _) = element(signed, SEQUENCE)?;
    let (from, rest) = time(times)?;
    let (until, _) = time(rest)?;
    Some((from, until))
}

/// The content of the element that begins here, if it has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [first, length, rest @ ..] = bytes else { return None };
    if *first != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `YYMMDDHHMMSSZ` (from 1950 on) or `YYYYMMDDHHMMSSZ`, and what follows it.
fn time(bytes: &[u8]) -> Option<(SystemTime, &[u8])> {
    let (text, rest) = element(bytes, UTC_TIME).or_else(|| element(bytes, GENERALIZED_TIME))?;
    let digits = text.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) || digits.len() % 2 != 0 {
        return None;
    }
    let mut pairs = digits.chunks_exact(2).map(|pair| u64::from(pair[0] - b'0') * 10 + u64::from(pair[1] - b'0'));
    let mut next = || pairs.next();
    let year = match digits.len() {
        12 => next().map(|year| if year < 50 { 2000 + year } else { 1900 + year })?,
        14 => next()? * 100 + next()?,
        _ => return None,
    };
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some((SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), rest))
}

/// Days from 1970 on. Years begin in March here, so that a leap day is a year's last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    // 1970-01-01 is day 719,468 of a count that begins in March of the year 0.
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("../../../fuzz/corpus/certificate/leaf.der");

    fn shown(of: SystemTime) -> String {
        humantime::format_rfc3339_seconds(of).to_string()
    }

    #[test]
    fn both_times_are_read() {
        let (from, until) = validity(CERTIFICATE).expect("a certificate");
        assert_eq!((shown(from), shown(until)), ("2024-02-29T01:02:03Z".into(), "2051-12-31T23:59:59Z".into()));
        for (time_of, want) in [
            (&b"\x17\x0d700101000000Z"[..], Some("1970-01-01T00:00:00Z")),
            (b"\x17\x0d000229120000Z", Some("2000-02-29T12:00:00Z")),
            (b"\x17\x0d491231235959Z", Some("2049-12-31T23:59:59Z")),
            (b"\x18\x0f21000301000000Z", Some("2100-03-01T00:00:00Z")),
            (b"\x18\x0f99991231235959Z", Some("9999-12-31T23:59:59Z")),
            (b"\x17\x0d500101000000Z", None),
            (b"\x17\x0d701301000000Z", None),
            (b"\x17\x0b7001010000Z", None),
            (b"\x17\x0d70010100000xZ", None),
            (b"\x17\x0e700101000000Z", None),
        ] {
            assert_eq!(time(time_of).map(|(time, _)| shown(time)).as_deref(), want, "{time_of:?}");
        }
    }

    /// Whatever it is, a time that is read is one that can be shown.
    #[test]
    fn fuzzed_certificate() {
        crate::fuzz::run("certificate", 20_000, |certificate| {
            let Some((from, until)) = validity(certificate) else { return };
            assert!(shown(from).len() <= 20 && shown(until).len() <= 20);
        });
    }
}
