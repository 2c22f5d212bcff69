//! The table of users: names, places, routes, and what is remembered of them.

use super::*;

#[test]
fn a_name_keeps_its_place_until_no_list_names_it() {
    let mut users = Users::default();
    let ann = users.name("ann");
    let long = users.name(&"x".repeat(200));
    assert_eq!(users.name("ann"), ann);
    assert_eq!(users.wire(ann), b"\x0a\x03ann");
    assert_eq!(users.text(long).len(), 200);
    users.set_route(ann, RouteState::At(GatewayIx(7)));
    users.unname(&[ann]);
    assert_eq!(users.find("ann"), Some(ann));
    users.unname(&[ann]);
    assert_eq!((users.find("ann"), users.known()), (None, 1));
    let bob = users.name("bob");
    assert_eq!((bob, users.route(bob)), (ann, RouteState::Unknown), "the place is used again, the route is not");
}

#[test]
fn a_doubted_route_holds_and_is_to_be_asked() {
    let mut users = Users::default();
    let (ann, bob) = (users.name("ann"), users.name("bob"));
    users.set_route(ann, RouteState::At(GatewayIx(7)));
    users.set_route(bob, RouteState::Offline);
    let epoch = users.epoch();
    users.mark_stale(ann, GatewayIx(8));
    assert_eq!((users.epoch(), users.is_stale(ann)), (epoch, false), "it is not there");
    users.mark_stale_to(|gateway| gateway == GatewayIx(7));
    users.mark_stale_to(|gateway| gateway == GatewayIx(7));
    assert_eq!((users.route(ann), users.is_stale(ann)), (RouteState::At(GatewayIx(7)), true));
    assert_eq!((users.epoch(), users.is_stale(bob)), (epoch + 1, false));
    users.set_route(ann, RouteState::At(GatewayIx(7)));
    assert_eq!((users.epoch(), users.is_stale(ann)), (epoch + 1, false), "it was right");
}

#[test]
fn where_a_user_was_before_a_loss_is_remembered_until_something_is_known() {
    let mut users = Users::default();
    let at = |number| RouteState::At(GatewayIx(number));
    let names = ["ann", "bob", "cid", "dan", "eve"];
    let all = names.map(|name| users.name(name));
    all.iter().zip(1..).for_each(|(user, number)| users.set_route(*user, at(number)));
    users.mark_stale(all[1], GatewayIx(2));
    users.lose_all_routes();
    users.lose_all_routes();
    users.forget_route(all[2]);
    users.is_not_at(all[3], GatewayIx(4));
    users.mark_stale_to(|gateway| gateway == GatewayIx(5));
    assert_eq!(all.map(|user| users.keep_route(user)), [true, false, false, false, false]);
    assert_eq!((users.route(all[0]), users.is_stale(all[0])), (at(1), false));
    users.forget_kept_routes();
    assert_eq!((users.route(all[0]), users.keep_route(all[0])), (RouteState::Unknown, false));
}

#[test]
fn the_epoch_moves_only_when_a_route_does() {
    let mut users = Users::default();
    let ann = users.name("ann");
    users.set_route(ann, RouteState::Offline);
    let epoch = users.epoch();
    users.set_route(ann, RouteState::Offline);
    assert_eq!(users.epoch(), epoch);
    users.forget_route(ann);
    assert_ne!(users.epoch(), epoch);
    users.set_asked(ann, 3);
    users.lose_all_routes();
    assert_eq!((users.route(ann), users.asked_in(ann)), (RouteState::Asked, 3), "an answer is on its way");
}

#[test]
fn changes_are_told_one_by_one_as_long_as_they_are_few() {
    let mut users = Users::default();
    let (ann, bob) = (users.name("ann"), users.name("bob"));
    let epoch = users.epoch();
    let since = |users: &Users, epoch| users.changed_since(epoch).map(Iterator::collect::<Vec<_>>);
    assert_eq!(since(&users, epoch), Some(vec![]));
    users.set_route(bob, RouteState::Offline);
    users.set_asked(ann, 1);
    assert_eq!(since(&users, epoch), Some(vec![bob, ann]));
    assert_eq!(since(&users, epoch + 1), Some(vec![ann]));
    for _ in 0..ROUTE_CHANGES_KEPT / 2 - 1 {
        users.set_route(bob, RouteState::Bad);
        users.set_route(bob, RouteState::Offline);
    }
    assert_eq!(since(&users, epoch).map(|all| (all.len(), all[0])), Some((ROUTE_CHANGES_KEPT, bob)));
    users.forget_route(bob);
    assert_eq!(since(&users, epoch), None, "one too many");
    let epoch = users.epoch();
    users.lose_all_routes();
    assert_eq!(since(&users, epoch), None);
}

#[test]
fn who_is_at_several_gateways_is_one_integer_too() {
    let mut users = Users::default();
    let (ann, bob) = (users.name("ann"), users.name("bob"));
    let ix = |places: &[u32]| places.iter().map(|place| GatewayIx(*place)).collect::<Vec<_>>();
    assert!(users.set_gateways(ann, &ix(&[7, 3, 7]), false) && users.set_gateways(bob, &ix(&[3, 7]), false));
    assert_eq!((users.gateways(ann), users.route(ann)), (ix(&[3, 7]), users.route(bob)));
    assert!(users.is_at(ann, GatewayIx(3)) && !users.is_at(ann, GatewayIx(4)));
    users.mark_stale(ann, GatewayIx(4));
    assert!(!users.is_stale(ann));
    users.mark_stale_to(|gateway| gateway == GatewayIx(7));
    assert_eq!((users.is_stale(ann), users.gateways(ann)), (true, ix(&[3, 7])), "doubted, and it holds");
    users.is_not_at(bob, GatewayIx(3));
    assert_eq!(users.route(bob), RouteState::Unknown);
    users.forget_routes_to(0, 9, |gateway| gateway == GatewayIx(3));
    assert_eq!(users.route(ann), RouteState::Unknown);
    users.set_gateways(ann, &ix(&[5, 5]), true);
    users.set_gateways(bob, &[], true);
    assert_eq!((users.route(ann), users.route(bob)), (RouteState::At(GatewayIx(5)), RouteState::NoPlace));
    users.forget_no_place();
    assert_eq!((users.route(ann), users.route(bob)), (RouteState::Unknown, RouteState::Unknown), "asked for again");
}

#[test]
fn of_several_gateways_from_before_a_loss_those_are_kept_that_said_nothing() {
    let mut users = Users::default();
    let ann = users.name("ann");
    let ix = |places: &[u32]| places.iter().map(|place| GatewayIx(*place)).collect::<Vec<_>>();
    users.set_gateways(ann, &ix(&[1, 2, 3]), false);
    users.lose_all_routes();
    users.set_asked(ann, 1);
    assert!(users.keep_route(ann));
    users.is_not_at(ann, GatewayIx(2));
    users.set_asked(ann, 2);
    assert!(users.keep_route(ann));
    assert_eq!(users.gateways(ann), ix(&[1, 3]));
    users.mark_stale_to(|gateway| gateway == GatewayIx(1));
    users.set_asked(ann, 3);
    assert!(users.keep_route(ann));
    assert_eq!(users.gateways(ann), ix(&[3]));
    users.is_not_at(ann, GatewayIx(3));
    users.set_asked(ann, 4);
    assert!(!users.keep_route(ann));
}

#[test]
fn who_is_asked_for_again_keeps_the_route_that_is_known_until_it_holds_no_longer() {
    let mut users = Users::default();
    let ann = users.name("ann");
    assert!(!users.knows(ann) && !users.is_asked(ann));
    users.set_asked_in(ann, 7, false);
    assert!(!users.knows(ann) && users.is_asked(ann));
    users.set_route(ann, RouteState::At(GatewayIx(3)));
    assert_eq!((users.known_in(ann), users.is_asked(ann)), (7, false));
    let epoch = users.epoch();
    users.set_asked_in(ann, 8, true);
    users.renumber_ask(ann, 9);
    assert!(users.knows(ann) && users.is_asked(ann) && users.epoch() == epoch, "no layout is touched");
    assert_eq!((users.known_in(ann), users.asked_in(ann)), (7, 9));
    users.set_route(ann, RouteState::At(GatewayIx(3)));
    assert_eq!((users.known_in(ann), users.is_asked(ann), users.epoch()), (9, false, epoch));
    for (ask, loses) in (10..).zip([|users: &mut Users| users.forget_route(UserIx(0)), Users::lose_all_routes]) {
        users.set_route(ann, RouteState::Offline);
        users.set_asked_in(ann, ask, true);
        loses(&mut users);
        assert_eq!(users.route(ann), RouteState::Asked, "an answer is on its way");
        users.set_route(ann, RouteState::Offline);
        assert!(!users.is_asked(ann));
    }
}
