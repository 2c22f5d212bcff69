//! Promises: ids that are heard of no longer are forgotten, so that their number has no bound over time; what is meant for
//! one gateway never comes to another, whatever places they had; a full table is said and counted as what it is; and ids
//! that are long gone cost nothing.

use std::time::Duration;

use task_engine::model::limits::GATEWAYS_MAX;
use task_engine::model::outcome::RecipientOutcome;
use task_engine::push::TableBounds;

use super::world::{Shards, bounds, settings};

const SECOND: Duration = Duration::from_secs(1);
/// As [`Shards::pass`] takes them.
const TICK: Duration = Duration::from_millis(20);

/// One after the other, each user of a few moves to a gateway that was never there before and leaves again.
fn roll_out(shards: u16, ids: usize, each: Duration) -> Shards {
    let settings = (0..shards).map(|shard| settings(shard, shards, TableBounds::default())).collect();
    let mut world = Shards::new(settings);
    let sessions = (0..usize::from(shards)).map(|shard| world.session_of(shard)).collect::<Vec<_>>();
    for (at, session) in sessions.iter().enumerate() {
        world.members.insert(session.clone(), vec![format!("user-{at}")]);
    }
    for number in 0..ids {
        let (id, at) = (format!("pod-{number}"), number % sessions.len());
        world.list(&id);
        world.moves(&format!("user-{at}"), &id);
        world.event(&sessions[at], number as i64 + 1);
        let pushed = world.pushed.remove(&id).unwrap_or_default();
        assert_eq!(pushed, [(format!("user-{at}"), number as i64 + 1)], "what came to {id}");
        assert!(world.pushed.is_empty(), "came to others than {id}: {:?}", world.pushed);
        world.unlist(&id);
        world.now = world.now.after(each);
        world.run();
    }
    assert_eq!(world.ended(RecipientOutcome::Delivered), ids as u64);
    world
}

#[test]
fn more_ids_than_there_are_places_find_one_over_time() {
    let world = roll_out(1, GATEWAYS_MAX + 10_000, Duration::from_millis(20));
    let known = world.shards[0].gateways_known();
    assert!(known < GATEWAYS_MAX / 2, "{known} are known");
    assert!(world.shards[0].activity().gateways_forgotten > GATEWAYS_MAX as u64 / 2);
}

#[test]
fn the_same_where_the_home_and_the_owner_are_two_shards() {
    let mut world = roll_out(2, 3_000, Duration::from_secs(1));
    for shard in &world.shards {
        assert!(shard.gateways_known() < 400, "{} are known", shard.gateways_known());
    }
    world.pass(200 * SECOND);
    assert!(world.shards.iter().all(|shard| shard.gateways_known() == 0), "minutes later nobody is");
}

#[test]
fn a_full_table_has_its_own_name_and_is_left_when_others_are_forgotten() {
    let mut world = Shards::new(vec![settings(0, 1, bounds(8))]);
    let names = (0..9).map(|number| format!("user-{number}")).collect::<Vec<_>>();
    world.members.insert("s".into(), names.clone());
    for (number, name) in names.iter().enumerate() {
        world.routes.insert(name.clone(), format!("stranger-{number}"));
    }
    world.event("s", 1);
    assert_eq!(world.ended(RecipientOutcome::GatewayTableFull), 1, "the ninth finds no place");
    assert_eq!(world.ended(RecipientOutcome::BadRoute), 0, "its route is a good one");
    assert!(world.warned.contains(&"gateway_table_full"));
    world.pass(SECOND);
    assert_eq!(world.ended(RecipientOutcome::TimedOut), 8, "the others wait for gateways that never come");

    // A listed one has a place whatever routes name.
    world.list("real");
    world.moves("user-0", "real");
    world.event("s", 2);
    assert_eq!(world.pushed["real"], [("user-0".to_owned(), 2)]);

    // Minutes later the strangers are forgotten, and whoever found no place is asked for again.
    world.pass(10 * SECOND);
    world.list("stranger-8");
    world.event("s", 3);
    world.pass(SECOND);
    assert_eq!(world.pushed["stranger-8"], [("user-8".to_owned(), 3)]);
    assert_eq!(world.ended(RecipientOutcome::GatewayTableFull), 2, "in the first two events only");
}

#[test]
fn a_bundle_without_a_place_on_its_owner_shard_goes_home_and_nowhere_else() {
    let mut world = Shards::new(vec![settings(0, 2, bounds(8)), settings(1, 2, bounds(1))]);
    let (listed, stranger, late) = (world.id_of(1, "listed"), world.id_of(1, "stranger"), world.id_of(1, "late"));
    let session = world.session_of(0);
    world.members.insert(session.clone(), vec!["ann".into(), "bob".into(), "eve".into()]);
    world.list(&listed);
    for (user, id) in [("ann", &listed), ("bob", &stranger), ("eve", &late)] {
        world.routes.insert(user.into(), id.clone());
    }
    world.event(&session, 1);
    assert_eq!(world.pushed.len(), 1, "{:?}", world.pushed);
    assert_eq!(world.pushed[&listed], [("ann".to_owned(), 1)], "the first place's gateway gets its own, no more");
    assert_eq!(world.ended(RecipientOutcome::GatewayTableFull), 1, "one stranger has a place, the other none");
    assert!(world.warned.contains(&"gateway_table_full"));
    world.pass(2 * SECOND);
    assert_eq!((world.ended(RecipientOutcome::TimedOut), world.ended(RecipientOutcome::Delivered)), (1, 1));
}

/// The home shard remembers for an hour what its owner shard has long given away.
#[test]
fn a_place_that_was_given_to_another_gateway_is_not_used_from_memory() {
    let hour = TableBounds { unlisted: 8, forget_after: 3600 * SECOND, forget_soon: 3600 * SECOND };
    let mut world = Shards::new(vec![settings(0, 2, hour), settings(1, 2, bounds(8))]);
    let (first, second) = (world.id_of(1, "first"), world.id_of(1, "second"));
    let session = world.session_of(0);
    world.members.insert(session.clone(), vec!["ann".into()]);
    world.routes.insert("ann".into(), first.clone());
    world.list(&first);
    world.event(&session, 1);
    world.unlist(&first);
    // The same group as before: the route was asked again, and is what it was.
    world.event(&session, 2);
    world.pass(70 * SECOND);
    assert_eq!((world.shards[0].gateways_known(), world.shards[1].gateways_known()), (1, 0));
    world.list(&second);
    world.event(&session, 3);
    world.pass(2 * SECOND);
    assert_eq!(world.pushed.get(&second), None, "nothing was meant for the second");
    assert!(world.pushed[&first].iter().all(|(user, _)| user == "ann"));
    world.list(&first);
    world.event(&session, 4);
    assert_eq!(world.pushed[&first].last(), Some(&("ann".to_owned(), 4)));
    assert_eq!(world.pushed.get(&second), None);
}

#[test]
fn routes_and_layouts_to_a_forgotten_gateway_are_forgotten_with_it() {
    let mut world = Shards::new(vec![settings(0, 1, bounds(8))]);
    world.members.insert("s".into(), vec!["ann".into(), "bob".into()]);
    world.list("A");
    world.list("B");
    world.routes.insert("ann".into(), "A".into());
    world.routes.insert("bob".into(), "B".into());
    world.event("s", 1);
    world.unlist("A");
    world.pass(70 * SECOND);
    assert_eq!(world.shards[0].gateways_known(), 1);
    world.list("C");
    world.event("s", 2);
    world.pass(2 * SECOND);
    assert_eq!(world.pushed.get("C"), None, "C has A's place, not its users");
    assert_eq!(world.pushed["A"], [("ann".to_owned(), 1)]);
    assert_eq!(world.pushed["B"], [("bob".to_owned(), 1), ("bob".to_owned(), 2)]);
    assert_eq!(world.ended(RecipientOutcome::TimedOut), 1, "the route still names A");
    world.moves("ann", "C");
    world.event("s", 3);
    assert_eq!(world.pushed["C"], [("ann".to_owned(), 3)]);
}

/// Whatever tick it is used again in, while references to it are being taken away.
#[test]
fn a_gateway_that_is_used_while_it_is_forgotten_keeps_the_order_of_who_moves() {
    let used_for_a_while =
        task_engine::push::Settings { registry_forget_after: 3 * SECOND, ..settings(0, 1, bounds(8)) };
    for tick in 0..100 {
        let mut world = Shards::new(vec![used_for_a_while.clone()]);
        world.members.insert("s".into(), vec!["ann".into()]);
        world.routes.insert("ann".into(), "A".into());
        world.list("A");
        world.list("B");
        world.event("s", 1);
        world.unlist("A");
        // Its route is asked for again and its address still answers, so that the third event asks for nothing.
        world.event("s", 2);
        world.pass(60 * SECOND + tick * TICK);
        world.event("s", 3);
        world.pass(3 * TICK);
        world.moves("ann", "B");
        world.event("s", 4);
        assert_eq!(world.pushed.get("B"), None, "tick {tick}: 4 waits for 3, which A has not taken yet");
        world.pass(2 * SECOND);
        let order = [("ann".to_owned(), 3), ("ann".to_owned(), 4)];
        assert_eq!(world.pushed["B"], order, "tick {tick}: 3 found A away");
    }
}

#[test]
fn who_has_nothing_to_do_is_not_looked_at() {
    let mut world = Shards::new(vec![settings(0, 1, TableBounds::default())]);
    world.members.insert("s".into(), vec!["ann".into()]);
    for number in 0..10_000 {
        world.list(&format!("idle-{number}"));
    }
    for number in 0..2_000 {
        let id = format!("gone-{number}");
        world.list(&id);
        world.moves("ann", &id);
        world.event("s", number + 1);
        world.unlist(&id);
    }
    world.pass(10 * SECOND);
    let before = world.shards[0].activity().outboxes_ticked;
    world.pass(10 * SECOND);
    assert_eq!(world.shards[0].activity().outboxes_ticked, before, "nobody has anything to do");
    assert_eq!(world.shards[0].outboxes().count(), 12_000, "and all are on the page");
    world.pass(200 * SECOND);
    assert_eq!(world.shards[0].outboxes().count(), 10_000, "until those that left are forgotten");
    world.moves("ann", "idle-7");
    world.event("s", 1_000_000);
    world.pass(SECOND);
    let ticks = world.shards[0].activity().outboxes_ticked - before;
    assert!((1..=60).contains(&ticks), "one with an open stream is looked at each tick: {ticks}");
}

#[test]
fn an_address_that_is_not_listed_is_used_while_it_answers_and_not_for_ever() {
    let long = task_engine::push::Settings { registry_forget_after: 60 * SECOND, ..settings(0, 1, bounds(8)) };
    let mut world = Shards::new(vec![long]);
    world.members.insert("s".into(), vec!["ann".into()]);
    world.routes.insert("ann".into(), "A".into());
    world.list("A");
    world.event("s", 1);
    world.unlist("A");
    world.pass(5 * SECOND);
    assert!(!world.shards[0].has_streams(), "a quiet stream of one that left is closed");
    world.event("s", 2);
    assert_eq!(world.pushed["A"].len(), 2, "and opened again, for the gateway lives");
    world.pass(30 * SECOND);
    world.refusing.push("A".into());
    world.event("s", 3);
    assert_eq!(
        (world.pushed["A"].len(), world.ended(RecipientOutcome::TimedOut)),
        (2, 0),
        "parked, as one that is unknown"
    );
    world.pass(2 * SECOND);
    assert_eq!(world.ended(RecipientOutcome::TimedOut), 1);
    world.refusing.clear();
    world.event("s", 4);
    world.pass(2 * SECOND);
    assert_eq!(world.pushed["A"].len(), 3, "it was away for a moment only");
    world.pass(30 * SECOND);
    let opened = world.opened.len();
    world.event("s", 5);
    world.pass(2 * SECOND);
    assert_eq!((world.opened.len(), world.ended(RecipientOutcome::TimedOut)), (opened, 2), "a minute is over");
    world.list("A");
    world.event("s", 6);
    assert_eq!(world.pushed["A"].len(), 4);
}
