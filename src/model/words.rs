//! Numbers in sentences.

use std::fmt::Display;

/// A number and what it counts: `1 event`, `2 events`.
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(number: N, one: &str) -> String {
    let plural = match number == N::from(1) {
        true => "",
        false if one.ends_with("sh") => "es",
        false => "s",
    };
    format!("{number} {one}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(2_u8, "push"), "2 pushes");
        assert_eq!([0_u64, 1, 2].map(|number| counted(number, "event")), ["0 events", "1 event", "2 events"]);
    }
}
