//! A metric page in Prometheus text, as numbers.

/// The lines of a metric of ours, by its name without `task_engine_`: labels as they are written, and the value.
pub(super) fn series<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    page.lines().filter_map(move |line| {
        let rest = line.strip_prefix("task_engine_")?.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let is_it = labels.is_empty() || labels.starts_with('{');
        Some((labels, value.parse().ok()?)).filter(|_| is_it)
    })
}

/// The value of a label, as it was before it was written.
pub(super) fn label(labels: &str, name: &str) -> Option<String> {
    let mut rest = labels.strip_prefix('{')?;
    loop {
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, letter) => value.push(letter),
            }
        };
        if key == name {
            return Some(value);
        }
        rest = after[end + 1..].trim_start_matches(',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_labels_and_no_other_name_is_taken_for_theirs() {
        let page = "# TYPE task_engine_turns_total counter\ntask_engine_turns_total{shard=\"0\"} 5\n\
                    task_engine_turns_total_more 9\ntask_engine_ready 1\ntask_engine_turns_total{shard=\"1\"} many\n";
        assert_eq!(series(page, "turns_total").collect::<Vec<_>>(), [("{shard=\"0\"}", 5.0)]);
        assert_eq!(series(page, "ready").collect::<Vec<_>>(), [("", 1.0)]);
    }

    #[test]
    fn labels_are_what_they_were() {
        let labels = r#"{gateway="a\"b\\c,d=\"e",state="open"}"#;
        assert_eq!(label(labels, "gateway").as_deref(), Some("a\"b\\c,d=\"e"));
        assert_eq!((label(labels, "state").as_deref(), label(labels, "b"), label("", "b")), (Some("open"), None, None));
    }
}
