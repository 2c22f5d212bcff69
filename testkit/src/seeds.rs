//! Which seeds a simulator plays: those of the environment, and those that failed once.

/// A variable of the environment that is a number; none when it is not set.
///
/// # Panics
/// When it is no number.
pub fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

/// The seeds of a list, one a line; what stands behind a `#` says what they showed.
pub fn that_failed(list: &str) -> Vec<u64> {
    let lines = list.lines();
    let numbers = lines.filter_map(|line| line.split('#').next().map(str::trim).filter(|number| !number.is_empty()));
    numbers.map(|number| number.parse().expect("a seed a line")).collect()
}

/// `SIM_SEED` alone; else these that failed and, from `SIM_FROM` on, `SIM_SEEDS` more, or so many as are usual.
pub fn to_play(failed: &str, usual: u64) -> Vec<u64> {
    if let Some(alone) = number_of("SIM_SEED") {
        return vec![alone];
    }
    let (first, count) = (number_of("SIM_FROM").unwrap_or(1), number_of("SIM_SEEDS").unwrap_or(usual));
    that_failed(failed).into_iter().chain(first..first + count).collect()
}

/// Whether so few are asked for that what they meet proves nothing about the rest.
pub fn are_few(usual: u64) -> bool {
    number_of("SIM_SEED").is_some() || number_of("SIM_SEEDS").is_some_and(|count| count < usual)
}

#[cfg(test)]
mod tests {
    use super::that_failed;

    #[test]
    fn a_list_has_a_seed_a_line_and_words_behind() {
        assert_eq!(that_failed("# none yet\n\n17\n 23 # a lost event\n"), [17, 23]);
    }
}
