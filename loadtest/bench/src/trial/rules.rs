//! The rules by which engines tell classes apart, where the messages of a workload say theirs: those of `config/priority.yaml`.

use harness::error::{Error, Result};
use harness::servers::EngineConfig;
use harness::workload::Workload;
use task_engine::config::{self, Flags};
use task_engine::model::priority::PriorityRules;

const NAME: &str = "config/priority.yaml";
const TEXT: &str = include_str!("../../../../config/priority.yaml");

/// For the embedded engine; none where messages say no class.
///
/// # Errors
/// When the file is not understood.
pub(super) fn of(workload: &Workload) -> Result<PriorityRules> {
    if !workload.has_classes() {
        return Ok(PriorityRules::default());
    }
    let checked = config::parse(NAME, TEXT, [], &Flags::default());
    checked.map(|checked| checked.config.priority).map_err(|mistakes| Error::of("rules of classes", mistakes))
}

/// The same for an engine that reads a file.
pub(super) fn put(workload: &Workload, config: &mut EngineConfig) {
    let keys = TEXT.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(": "));
    for (key, value) in keys.filter(|_| workload.has_classes()) {
        config.set("priority", key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_engine_has_the_rules_of_the_embedded_one() {
        let workload = Workload::find("priority").expect("it is there");
        let mut config = EngineConfig::default();
        put(&workload, &mut config);
        let checked = config::parse("it", &config.text(), [], &Flags::default()).expect("it is understood");
        let rules = of(&workload).expect("it is understood");
        assert!(rules.is_on() && rules.header == "Resonance-Priority", "{rules:?}");
        assert_eq!(checked.config.priority, rules);
    }

    #[test]
    fn there_are_none_where_messages_say_no_class() {
        let workload = Workload::find("mixed").expect("it is there");
        let mut config = EngineConfig::default();
        put(&workload, &mut config);
        assert!(config.text().is_empty() && !of(&workload).expect("none").is_on());
    }
}
