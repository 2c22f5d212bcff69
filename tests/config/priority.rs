//! Promise: the classes of events may be written as rules below a key, as a list or in one line; each mistake says which rule
//! it is; and what has no effect, or one that few want, is said.

use std::time::Duration;

use task_engine::Engine;
use task_engine::config::{
    self, Assignment, Checked, Config, ConsumerConfig, ConsumerMode, Flags, Ownership, Partitioner,
};
use task_engine::engine::StartError;
use task_engine::model::priority::{Priority, PriorityRules};

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Checked, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    config::parse("f.yaml", text, environment, &Flags::default()).map_err(|mistakes| mistakes.to_string())
}

fn rules(text: &str) -> PriorityRules {
    read(text, &[]).unwrap_or_else(|mistakes| panic!("{text}: {mistakes}")).config.priority
}

#[test]
fn rules_below_a_key_in_a_list_and_in_a_line_are_the_same() {
    let expected = [("call".to_owned(), Priority::Urgent), ("x=y".to_owned(), Priority::Fleeting)];
    for text in [
        "priority:\n  types: {call: urgent, 'x=y': fleeting}\n  members_above: {500: bulk, 2000: fleeting}",
        "priority:\n  types:\n    call: Urgent\n    x=y: fleeting\n  members_above:\n    2000: fleeting\n    500: bulk",
        "priority:\n  types: [call=urgent, x=y=fleeting]\n  members_above: [500=bulk, 2000=fleeting]",
        "priority:\n  types: call = urgent, x=y = fleeting\n  members_above: 2000=fleeting,500=bulk,",
    ] {
        let rules = rules(text);
        assert_eq!(rules.types, expected, "{text}");
        assert_eq!(rules.members_above, [(2000, Priority::Fleeting), (500, Priority::Bulk)], "{text}");
        assert_eq!((rules.default, rules.fleeting_ttl), (Priority::Normal, Duration::from_secs(5)));
    }
    let environment = [("RESONANCE_PRIORITY_TYPES", "call=urgent"), ("RESONANCE_PRIORITY_HEADER", "Class")];
    let by_environment = read("", &environment).expect("it is right").config.priority;
    assert_eq!((&*by_environment.header, by_environment.types.len()), ("Class", 1));
}

#[test]
fn nothing_written_is_no_rule() {
    for text in ["", "priority:", "priority:\n  types:\n  header: ''", "priority:\n  types: {}\n  default: normal"] {
        assert!(!rules(text).is_on(), "{text}");
    }
    assert!(rules("priority:\n  default: bulk").is_on());
}

#[test]
fn each_mistake_says_which_rule_it_is() {
    for (rules, what) in [
        (
            "types: {call: urgnt}",
            "f.yaml:2:10: priority.types: rule 1 has a class that is none; the classes are urgent,",
        ),
        (
            "types: {call: urgent, typing: }",
            "priority.types: rule 2 has no class; the classes are urgent, normal, bulk",
        ),
        ("types: call", "priority.types: rule 1 has no class"),
        (
            "types: {'': urgent}",
            "priority.types: rule 1 is for nothing; write a type without blanks and ; before the class",
        ),
        ("types: [call=urgent, typing=bulk, call=bulk]", "priority.types: rules 1 and 3 are for the same"),
        ("types: {call: {urgent: 1}}", "f.yaml:2:17: priority.types: has a rule with more than a class"),
        ("types: {'a,b': urgent}", "priority.types: has a rule with a comma in it"),
        (
            "types: 'call=urgent;typing=fleeting'",
            "priority.types: rule 1 is not for what it should be; write a type without",
        ),
        ("types: 'call=urgent typing=fleeting'", "priority.types: rule 1 is not for what it should be"),
        (
            "members_above: 500",
            "rule 1 has no class; the classes are urgent, normal, bulk, fleeting, the form is members=class",
        ),
        ("members_above: {many: bulk}", "rule 1 is not for what it should be; write a whole number of members"),
        ("members_above: {500: bulk, 0500: urgent}", "rules 1 and 2 are for the same"),
        ("members_above: {-1: bulk}", "rule 1 is not for what it should be"),
        ("default: slow", "priority.default: \"slow\" is not one of urgent, normal, bulk, fleeting"),
        ("header: Nats-Msg-Id", "priority.header: \"Nats-Msg-Id\" is a header that NATS or the engine acts on"),
        ("header: task-engine-replay", "is a header that NATS or the engine acts on"),
        ("header: 'a:b'", "\"a:b\" is no name of a header"),
        ("header: a b", "contains blanks"),
        ("header: TraceParent", "\"TraceParent\" is a header that NATS or the engine acts on"),
        ("header: resonance-published", "is a header that NATS or the engine acts on"),
        ("fleeting_ttl: 2h", "2h is not from 0s to 1h"),
    ] {
        let text = format!("priority:\n  {rules}\n");
        let mistakes = read(&text, &[]).map(|_| ()).expect_err(&text);
        assert!(mistakes.lines().count() == 1 && mistakes.contains(what), "{text}: {mistakes}");
    }
}

#[test]
fn what_has_no_effect_or_a_wide_one_is_said() {
    for (rules, what) in [
        ("fleeting_ttl: 3s", "f.yaml:2:17: priority.fleeting_ttl: has no effect"),
        ("default: urgent", "all events that no rule names are urgent"),
        ("default: fleeting", "dropped when they are late, and stored nowhere"),
    ] {
        let notes = read(&format!("priority:\n  {rules}\n"), &[]).expect("a note is no mistake").notes;
        assert!(notes.len() == 1 && notes[0].line("f.yaml").contains(what), "{rules}: {notes:?}");
    }
    let all = "header: C\n  types: {typing: fleeting}\n  default: bulk\n  fleeting_ttl: 1s";
    assert_eq!(read(&format!("priority:\n  {all}\n"), &[]).expect("right").notes, []);
}

#[test]
fn the_name_of_a_header_is_short() {
    let of = |bytes| read(&format!("priority:\n  header: {}\n", "H".repeat(bytes)), &[]).map(|_| ());
    assert_eq!(of(128), Ok(()));
    assert!(of(129).expect_err("long").contains("has 128 bytes at the most, this one 129"));
}

#[test]
fn notices_and_rows_that_no_store_reads_are_said() {
    for (text, what) in [
        (
            "inbox:\n  rows_up_to: 500\ngateway:\n  notice_above: 100\n",
            "notices begin above inbox.rows_up_to (500), not above 100",
        ),
        ("inbox:\n  rows_up_to: 500\n  store: off\n", "inbox.rows_up_to: has no effect with inbox.store off"),
        ("inbox:\n  sender: true\n", "inbox.sender: has an effect with inbox.store all only"),
    ] {
        let notes = read(text, &[]).expect("a note is no mistake").notes;
        assert!(notes.len() == 1 && notes[0].line("f.yaml").contains(what), "{text}: {notes:?}");
    }
    for text in [
        "inbox:\n  rows_up_to: 100\ngateway:\n  notice_above: 100\n",
        "inbox:\n  sender: true\n  store: all\n",
        "inbox:\n  rows_up_to: 0\n  sender: false\n  store: off\n",
    ] {
        assert_eq!(read(text, &[]).expect("right").notes, [], "{text}");
    }
}

#[test]
fn a_subject_of_urgent_events_is_refused_where_it_would_not_be_read() {
    let with = |rest: &str| format!("consumer:\n  urgent_topic: calls\n  {rest}\n");
    let owned = "mode: jetstream\n  assignment: partitioned\n  ownership: etcd";
    let moved = "mode: jetstream\n  assignment: partitioned\n  partitioner: on";
    for (rest, what) in [
        ("mode: core", "f.yaml:2:17: consumer.urgent_topic: needs consumer.mode jetstream"),
        (owned, "consumer.urgent_topic: is not read with consumer.ownership etcd"),
        (moved, "give urgent events their class by priority.header"),
        ("mode: jetstream\n  topic: calls", "is consumer.topic as well"),
        ("mode: jetstream\n  topic: c\n  durable: d", ""),
    ] {
        let mistakes = read(&with(rest), &[]).map(|_| String::new()).unwrap_or_else(|mistakes| mistakes);
        let is_right = if what.is_empty() { mistakes.is_empty() } else { mistakes.lines().count() == 1 };
        assert!(is_right && mistakes.contains(what), "{rest}: {mistakes}");
    }
    let partition = "consumer:\n  mode: jetstream\n  topic: a\n  urgent_topic: a.7\n";
    assert!(read(partition, &[]).expect_err("a partition").contains("is the subject of a partition"));
    let letters = "consumer:\n  mode: jetstream\n  stream: S\n  urgent_topic: S_DLQ.refused\n";
    assert!(read(letters, &[]).expect_err("dead letters").contains("is a subject of the dead letters"));
    for assignment in ["queue", "partitioned"] {
        let config = read(&with(&format!("mode: jetstream\n  assignment: {assignment}")), &[]).expect("right").config;
        assert!(config.rules_of_classes().is_on() && !config.priority.is_on());
    }
}

/// A configuration that is made in a program is read by nobody before.
#[test]
fn an_engine_does_not_start_with_a_subject_of_urgent_events_that_it_would_not_read() {
    let refused = |change: fn(&mut ConsumerConfig)| {
        let mut config = Config::default();
        (config.engine.cores, config.admin.listen) = (1, ([127, 0, 0, 1], 0).into());
        config.consumer.urgent_topic = "calls".into();
        (config.consumer.mode, config.consumer.assignment) = (ConsumerMode::JetStream, Assignment::Partitioned);
        change(&mut config.consumer);
        match Engine::builder(config).start() {
            Err(StartError::Config(why)) => why,
            Err(other) => panic!("it is refused for something else: {other}"),
            Ok(_) => panic!("it started"),
        }
    };
    for why in [
        refused(|consumer| consumer.ownership = Ownership::Etcd),
        refused(|consumer| consumer.partitioner = Partitioner::On),
    ] {
        assert!(
            why.starts_with(
                "consumer.urgent_topic: is not read with consumer.ownership etcd or consumer.partitioner on"
            ),
            "{why}"
        );
        assert!(why.contains("give urgent events their class by priority.header"), "{why}");
    }
    let why = refused(|consumer| consumer.mode = ConsumerMode::Core);
    assert!(why.starts_with("consumer.urgent_topic: needs consumer.mode jetstream"), "{why}");
}
