//! What was probably meant where a name is unknown.

use super::keys::{KEYS, Key, SECTIONS, join};

/// The key nearest to one that is unknown, as messages name it; a key of the same section is preferred.
pub(super) fn key(section: &str, name: &str) -> Option<String> {
    let mut best = (0.72, None);
    let mut offer = |score: f64, full: String| {
        if score > best.0 {
            best = (score, Some(full));
        }
    };
    for key in KEYS {
        for candidate in std::iter::once(key.name).chain(key.aliases.iter().copied()) {
            let near = likeness(name, candidate);
            let score = if key.section == section { near } else { near * 0.9 };
            offer(score, join(key.section, candidate, "."));
        }
    }
    if section.is_empty() {
        for (candidate, _) in SECTIONS.iter().filter(|(candidate, _)| !candidate.is_empty()) {
            offer(likeness(name, candidate), (*candidate).to_owned());
        }
    }
    best.1
}

/// Whether a name is that key with a slip or two, so that it may be told: it is no value.
pub(super) fn is_nearly(name: &str, key: &str) -> bool {
    let last = |name: &str| name.rfind('.').map_or(0, |at| at + 1);
    let (name, key) = (&name[last(name)..], &key[last(key)..]);
    strsim::damerau_levenshtein(&name.to_lowercase(), &key.to_lowercase()) <= (key.len() / 4).max(1)
}

/// The variable nearest to a `RESONANCE_` one that is unknown.
pub(super) fn variable(name: &str) -> Option<String> {
    let all = KEYS.iter().flat_map(Key::variables);
    let scored = all.map(|candidate| (strsim::normalized_damerau_levenshtein(name, &candidate), candidate));
    scored.filter(|(score, _)| *score > 0.6).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}

fn likeness(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(&a.to_lowercase(), &b.to_lowercase())
}
