//! Promise: config/task.yaml is the table of keys, in both directions, and means exactly the defaults; the small
//! variants are right.

use std::collections::BTreeSet;
use std::path::Path;

use task_engine::config::keys::KEYS;
use task_engine::config::yaml::{self, Body};
use task_engine::config::{self, Assignment, Checked, Config, ConsumerMode, Database, Flags, Language, Partitioner};

fn read(name: &str) -> (String, Checked) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let checked = config::load(Some(&path), [], &Flags::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    (text, checked)
}

/// A file of `config/` is this text, or becomes it with UPDATE_SAMPLE.
fn is_written(name: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    if std::env::var_os("UPDATE_SAMPLE").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text == wanted, "{name}: write it anew: UPDATE_SAMPLE=1 cargo test --test config");
}

#[test]
fn the_samples_are_written_from_the_table() {
    is_written("task.yaml", &config::sample(Language::English));
    is_written("task.zh-CN.yaml", &config::sample(Language::Chinese));
}

#[test]
fn the_references_are_written_from_the_table() {
    for (name, language) in [("REFERENCE.md", Language::English), ("REFERENCE.zh-CN.md", Language::Chinese)] {
        let text = config::reference(language);
        is_written(name, &text);
        for key in KEYS {
            assert!(text.contains(&format!("`{}`", key.full())), "{name}: {}", key.full());
        }
    }
}

#[test]
fn the_samples_of_both_languages_mean_the_same() {
    assert_eq!(read("task.zh-CN.yaml").1.config, read("task.yaml").1.config);
}

#[test]
fn the_sample_means_exactly_the_defaults() {
    let (_, checked) = read("task.yaml");
    assert_eq!(checked.config, Config::default());
    let notes = &checked.notes;
    let of_other_modes = [
        "has no effect with consumer.mode core",
        "has no effect with consumer.ownership none",
        "has no effect: no rule of priority gives an event the class fleeting",
    ];
    assert!(notes.iter().all(|note| of_other_modes.contains(&note.what.as_str())), "{notes:?}");
}

/// Sections that say something by being there stand in it as comments.
fn with_all_sections(text: &str) -> String {
    let mut is_comment = false;
    let lines = text.lines().map(|line| {
        let name = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(':'));
        is_comment =
            name.is_some_and(|name| KEYS.iter().any(|key| key.section == name)) || (is_comment && !line.is_empty());
        if is_comment { &line[2..] } else { line }
    });
    lines.map(|line| format!("{line}\n")).collect()
}

fn take_names(written: &mut BTreeSet<String>, name: String, body: Body) {
    let Body::Map(inner) = body else { return assert!(written.insert(name)) };
    for (key, value) in inner {
        let Body::Scalar(inner) = key.body else { panic!("a key is no name") };
        take_names(written, format!("{name}.{inner}"), value.body);
    }
}

#[test]
fn every_key_is_in_the_sample_and_every_key_of_the_sample_is_known() {
    let (text, _) = read("task.yaml");
    let (root, troubles) = yaml::parse(&with_all_sections(&text));
    assert!(troubles.is_empty(), "{troubles:?}");
    let Body::Map(top) = root.body else { panic!("no map") };
    let mut written = BTreeSet::new();
    for (key, value) in top {
        let Body::Scalar(name) = key.body else { panic!("a key is no name") };
        // A section of keys without effect.
        if !matches!(value.body, Body::Null) {
            take_names(&mut written, name, value.body);
        }
    }
    let used: BTreeSet<_> = KEYS.iter().filter(|key| key.is_used()).map(|key| key.full()).collect();
    assert_eq!(written, used);
    for key in KEYS.iter().filter(|key| !key.is_used()) {
        assert!(text.contains(&format!("# {}:   accepted, without effect", key.name)), "{}", key.full());
    }
    assert!(KEYS.iter().all(|key| !key.doc.is_empty()));
}

#[test]
fn the_variants_say_what_their_names_say() {
    let small = read("small.yaml").1;
    assert_eq!((small.config.engine.cores, small.notes.len()), (1, 0));
    let jetstream = read("jetstream.yaml").1;
    assert_eq!((jetstream.config.consumer.mode, jetstream.notes.len()), (ConsumerMode::JetStream, 0));
    let partitioned = read("partitioned.yaml").1;
    assert_eq!((partitioned.config.consumer.assignment, partitioned.notes.len()), (Assignment::Partitioned, 0));
    let priority = read("priority.yaml").1;
    assert_eq!((priority.config.priority.types.len(), priority.notes.len()), (4, 0));
    let resonance = read("resonance.yaml").1;
    assert_eq!(resonance.config.database, Database::Postgres);
    // One note says what it means for publishers.
    let partitioner = read("partitioner.yaml").1;
    assert_eq!((partitioner.config.consumer.partitioner, partitioner.notes.len()), (Partitioner::On, 1));
}
