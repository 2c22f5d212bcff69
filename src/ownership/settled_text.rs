//! The stream sequences that are settled above a floor, as text: the distance from each to the one before it (from the first to the
//! floor) as LEB128, in base64. A partition's sequences stand some partitions apart, so most take one or two bytes, where a bitmap
//! over stream sequences would take an eighth of a byte for each event of every partition.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

use crate::model::ownership::Settled;

/// More are not written: the lowest are kept, and an event that is left out is at worst pushed once more.
const ABOVE_MAX: usize = 16 * 1024;

/// The text; empty when nothing is settled above the floor.
pub fn encode(settled: &Settled) -> String {
    let mut bytes = Vec::with_capacity(settled.above.len().min(ABOVE_MAX) * 2);
    let mut before = settled.floor;
    for sequence in settled.above.iter().take(ABOVE_MAX) {
        let Some(mut distance) = sequence.checked_sub(before).filter(|distance| *distance > 0) else { continue };
        before = *sequence;
        while distance >= 0x80 {
            bytes.push(distance as u8 | 0x80);
            distance >>= 7;
        }
        bytes.push(distance as u8);
    }
    BASE64.encode(bytes)
}

/// The sequences of a text, ascending and above the floor; `None` when it is damaged.
pub fn decode(floor: u64, text: &str) -> Option<Vec<u64>> {
    if text.len() > ABOVE_MAX * 12 {
        return None;
    }
    let bytes = BASE64.decode(text).ok()?;
    let (mut above, mut last) = (Vec::new(), floor);
    let (mut distance, mut shift) = (0_u64, 0);
    for byte in &bytes {
        let part = u64::from(byte & 0x7f);
        if shift > 56 {
            return None;
        }
        distance |= part << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            last = last.checked_add(distance).filter(|next| *next > last)?;
            above.push(last);
            (distance, shift) = (0, 0);
        }
    }
    (shift == 0 && above.len() <= ABOVE_MAX).then_some(above)
}

/// What is settled by either account. Both must be true; neither need be new.
pub fn union(one: &Settled, other: &Settled) -> Settled {
    let floor = one.floor.max(other.floor);
    let mut above: Vec<u64> = one.above.iter().chain(&other.above).copied().filter(|at| *at > floor).collect();
    above.sort_unstable();
    above.dedup();
    Settled { floor, above }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_the_same(floor in 0..u64::MAX / 2, above in prop::collection::btree_set(1..1_u64 << 40, 0..200)) {
            let above: Vec<u64> = above.into_iter().map(|distance| floor + distance).collect();
            let text = encode(&Settled { floor, above: above.clone() });
            prop_assert_eq!(decode(floor, &text), Some(above));
        }
    }

    #[test]
    fn a_window_of_a_thousand_among_64_partitions_takes_less_than_two_kilobytes() {
        let above = (1..1_024).map(|at| at * 64 + at % 7).collect();
        let text = encode(&Settled { floor: 0, above });
        assert!(text.len() < 2_000, "{}", text.len());
    }

    #[test]
    fn a_damaged_text_is_none() {
        // A distance of 0, one that is not ended, one past the end of numbers, no base64.
        for (floor, text) in [(0, "AA"), (0, "gA"), (u64::MAX, "AQ"), (0, "****"), (0, "//////////////8B")] {
            assert_eq!(decode(floor, text), None, "{text}");
        }
        assert_eq!(decode(7, ""), Some(Vec::new()));
    }

    #[test]
    fn a_union_keeps_the_higher_floor_and_what_is_above_it() {
        let (one, other) = (Settled { floor: 5, above: vec![7, 9] }, Settled { floor: 7, above: vec![8, 9] });
        assert_eq!(union(&one, &other), Settled { floor: 7, above: vec![8, 9] });
        assert_eq!(union(&other, &one), union(&one, &other));
    }
}
