//! Promise: the bytes in the gateway author's guide, in both languages, are those that the core writes, and the answers there are
//! those that it takes.

mod annotated;

use std::path::Path;

use prost::Message;
use task_engine::model::ids::{Partition, fnv1a32};
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::gateway::{
    GroupAnswer, GroupFailure, PushBatchResponse, PushMessageResponse, PushResponse,
};
use task_engine::ports::Protocol;
use testkit::table::{Table, frame, only};

const GUIDES: [&str; 2] = ["docs/gateways.md", "docs/zh-CN/gateways.md"];
const NOBODY: &str = "user not connected";

/// The session `s` on the gateway A, which speaks just this; `bob` writes the first message.
fn world(protocol: Protocol, members: &[&str]) -> Table {
    let routes: Vec<_> = members.iter().map(|user| (*user, "A")).collect();
    let mut table = Table::new(members, &routes);
    table.list("A", only(protocol));
    table
}

/// What an answer looks like.
fn shown(answer: &impl Message, shape: &'static annotated::Shape) -> String {
    annotated::frames(&frame(answer), shape)
}

fn delivered(table: &Table) -> u64 {
    table.check();
    table.ended(RecipientOutcome::Delivered)
}

type Blocks = Vec<(&'static str, String)>;

fn unary(blocks: &mut Blocks) {
    let mut table = world(Protocol::Unary, &["ann", "bob", "cat"]);
    table.event_from("bob", 1);
    blocks.push(("unary request", annotated::frames(&table.take_bytes("A"), &annotated::REQUEST)));
    let answer = PushResponse { msg_id: 1, error: NOBODY.into(), failed_usernames: vec!["cat".into()] };
    blocks.push(("unary answer", shown(&answer, &annotated::ANSWER)));
    table.answer_call("A", Ok(answer.encode_to_vec()));
    assert_eq!(delivered(&table), 1, "ann has it");
}

fn stream(blocks: &mut Blocks) {
    let mut table = world(Protocol::Stream, &["ann", "bob", "cat"]);
    table.event_from("bob", 1);
    blocks.push(("stream request", annotated::frames(&table.take_bytes("A"), &annotated::REQUEST_TO_ONE)));
    let told = PushMessageResponse { msg_id: 1, seq_id: 10, error: String::new() };
    let failed = PushMessageResponse { error: NOBODY.into(), ..told.clone() };
    let text = shown(&told, &annotated::ANSWER_OF_ONE) + &shown(&failed, &annotated::ANSWER_OF_ONE);
    blocks.push(("stream answer", text));
    table.answer("A", &told);
    table.answer("A", &failed);
    assert_eq!(delivered(&table), 1, "ann has it");
}

fn stream_many(blocks: &mut Blocks) {
    let mut table = world(Protocol::StreamMany, &["ann", "bob", "cat"]);
    table.event_from("bob", 1);
    blocks.push(("stream-many request", annotated::frames(&table.take_bytes("A"), &annotated::REQUEST)));
    let answer = PushResponse { msg_id: 1, error: String::new(), failed_usernames: vec!["cat".into()] };
    blocks.push(("stream-many answer", shown(&answer, &annotated::ANSWER)));
    table.answer("A", &answer);
    assert_eq!(delivered(&table), 1, "ann has it");
}

fn batch(blocks: &mut Blocks) {
    let mut table = world(Protocol::Batch, &["ann", "bob", "cat"]);
    table.event_from("bob", 1);
    let first = table.take_bytes("A");
    blocks.push(("batch request", annotated::frames(&first, &annotated::BATCH)));
    table.event_from("bob", 2);
    table.take_bytes("A");
    let clean = PushBatchResponse { batch_id: 1, failures: Vec::new() };
    let failed = PushResponse { msg_id: 2, error: NOBODY.into(), failed_usernames: vec!["cat".into()] };
    let failure = PushBatchResponse { batch_id: 2, failures: vec![failed] };
    blocks.push(("batch answer", shown(&clean, &annotated::BATCH_ANSWER)));
    blocks.push(("batch failure", shown(&failure, &annotated::BATCH_ANSWER)));
    table.answer("A", &clean);
    table.answer("A", &failure);
    assert_eq!(delivered(&table), 3, "ann has both, cat the first");
}

fn group(blocks: &mut Blocks) {
    let names: Vec<_> = (0..100).map(|user| format!("user-{user:03}")).collect();
    let members: Vec<_> = names.iter().map(String::as_str).collect();
    let mut table = world(Protocol::Group, &members);
    table.event_from("user-001", 1);
    blocks.push(("group first", annotated::frames(&table.take_bytes("A"), &annotated::GROUPS)));
    table.event_from("user-001", 2);
    blocks.push(("group second", annotated::frames(&table.take_bytes("A"), &annotated::GROUPS)));
    table.event_from("user-001", 3);
    table.take_bytes("A");
    let clean = GroupAnswer { frame_id: 1, ..GroupAnswer::default() };
    let failure = GroupFailure { push: 0, places: vec![2], error: NOBODY.into() };
    let failure = GroupAnswer { frame_id: 2, failures: vec![failure], ..GroupAnswer::default() };
    let unknown = GroupAnswer { frame_id: 3, unknown_groups: vec![1], ..GroupAnswer::default() };
    for (name, answer) in [("group answer", clean), ("group failure", failure), ("group unknown", unknown)] {
        blocks.push((name, shown(&answer, &annotated::GROUPS_ANSWER)));
        table.answer("A", &answer);
    }
    assert_eq!(delivered(&table), 99 + 98, "all but who wrote it; then all but user-002, too");
    let again = annotated::frames(&table.take_bytes("A"), &annotated::GROUPS);
    assert!(again.contains("replace = 1"), "the list is said again: {again}");
}

/// The text between the marks of a block, as the page has it.
fn between<'a>(page: &'a str, name: &str) -> &'a str {
    let mark = format!("<!-- bytes: {name} -->\n");
    let from = page.find(&mark).unwrap_or_else(|| panic!("no place for {name}")) + mark.len();
    let to = page[from..].find("<!-- end -->").unwrap_or_else(|| panic!("{name} has no end"));
    &page[from..from + to]
}

#[test]
fn the_guide_shows_what_the_core_writes_and_takes() {
    let mut blocks = Vec::new();
    [unary, stream, stream_many, batch, group].iter().for_each(|of| of(&mut blocks));
    for guide in GUIDES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(guide);
        let mut page = std::fs::read_to_string(&path).expect("the guide");
        let before = page.clone();
        for (name, block) in &blocks {
            let (mark, block) = (format!("<!-- bytes: {name} -->\n"), format!("```text\n{block}```\n"));
            let is = between(&page, name).to_owned();
            page = page.replace(&format!("{mark}{is}"), &format!("{mark}{block}"));
        }
        if std::env::var_os("UPDATE_GUIDE").is_some() {
            std::fs::write(&path, &page).expect("the guide is written");
        } else {
            assert!(page == before, "{guide}: write it anew: UPDATE_GUIDE=1 cargo test --test core guide");
        }
    }
}

#[test]
fn the_guide_of_publishers_has_the_right_example_of_a_partition() {
    let (hash, partition) = (fnv1a32(b"ann+bob"), Partition::of(b"ann+bob", 64).0);
    assert_eq!((hash, partition), (2_805_007_304, 8));
    for guide in ["docs/publishers.md", "docs/zh-CN/publishers.md"] {
        let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(guide)).expect("the guide");
        assert!(page.contains("`ann+bob`") && page.contains("2,805,007,304") && page.contains(" 8 "), "{guide}");
    }
}
