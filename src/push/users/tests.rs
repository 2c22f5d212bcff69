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
