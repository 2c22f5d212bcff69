//! Classes of messages by their words, as the header and the engine's configuration have them.

use serde::{Deserialize, Deserializer, Serializer, de};
use task_engine::model::priority::Priority;

pub(super) fn serialize<S: Serializer>(classes: &[Priority], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(classes.iter().map(|class| class.label()))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Priority>, D::Error> {
    let class = |word: &String| {
        let words = || de::Error::custom(format!("`{word}` is no class: urgent, normal, bulk or fleeting"));
        Priority::of_word(word.as_bytes()).ok_or_else(words)
    };
    Vec::<String>::deserialize(from)?.iter().map(class).collect()
}
