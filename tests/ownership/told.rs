//! Facts as lines of the trace.

use task_engine::ownership::facts::Fact;

/// A fact.
pub fn told(fact: &Fact) -> String {
    match fact {
        Fact::Watched { revision, changes } => {
            let text = |value: &Option<std::sync::Arc<[u8]>>| match value {
                Some(value) => String::from_utf8_lossy(value).into_owned(),
                None => "gone".to_owned(),
            };
            let changes = changes.iter().map(|(at, state)| format!("{at} {}: {}", state.key, text(&state.value)));
            cut(format!("watch {revision}: {}", changes.collect::<Vec<_>>().join(", ")))
        }
        Fact::Listed { revision, keys } => format!("list {revision}: {} keys", keys.len()),
        other => cut(format!("{other:?}")),
    }
}

/// The beginning of a text.
pub fn cut(text: String) -> String {
    text.chars().take(420).collect()
}
