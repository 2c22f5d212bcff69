use super::*;

/// Gateways of which those from this place on keep lists of users.
struct KeepLists(u32);

impl KnownGateways for KeepLists {
    fn id(&self, at: GatewayIx) -> GatewayId {
        format!("gw-{}", at.0).into()
    }

    fn keeps_lists(&self, at: GatewayIx) -> bool {
        at.0 >= self.0
    }

    fn lists_epoch(&self) -> u32 {
        7
    }
}

fn world(routes: &[RouteState]) -> (Users, Vec<UserIx>) {
    let mut users = Users::default();
    let members = (0..routes.len()).map(|n| users.name(&format!("user-{n}"))).collect::<Vec<_>>();
    for (user, route) in members.iter().zip(routes) {
        users.set_route(*user, *route);
    }
    (users, members)
}

#[test]
fn each_member_stands_in_exactly_one_place() {
    let (a, b) = (RouteState::At(GatewayIx(0)), RouteState::At(GatewayIx(5)));
    let (users, members) = world(&[a, b, RouteState::Offline, a, RouteState::Bad, b, a]);
    let mut lanes = vec![SessionLane { gateway: GatewayIx(9), sent: 3, done: 3 }];
    let held = [members[6]];
    let layout = Grouper::default().group(&members, &held, &users, &KeepLists(9), &mut lanes);
    let groups = layout.groups.iter().map(|laid| (&*laid.group.gateway_id, laid.group.users.to_vec()));
    let expected = vec![("gw-0", vec![members[0], members[3]]), ("gw-5", vec![members[1], members[5]])];
    assert_eq!(groups.collect::<Vec<_>>(), expected);
    assert_eq!((&layout.offline[..], &layout.bad[..], &layout.held[..]), (&members[2..3], &members[4..5], &held[..]));
    assert_eq!(lanes.iter().map(|lane| lane.gateway.0).collect::<Vec<_>>(), [0, 5], "quiet lanes are dropped");
    assert_eq!(layout.place_of(members[3], a), Place::InGroup { group: 0, at: 1 });
    assert_eq!(layout.place_of(members[2], RouteState::Offline), Place::Elsewhere);
    assert!(layout.still_holds(&users));
}

#[test]
fn a_large_group_is_cut_into_bounded_ones() {
    let (users, members) = world(&vec![RouteState::At(GatewayIx(0)); 20_000]);
    let layout = Grouper::default().group(&members, &[], &users, &KeepLists(9), &mut Vec::new());
    assert!(layout.groups.len() > 2);
    let all = layout.groups.iter().flat_map(|laid| laid.group.users.to_vec()).collect::<Vec<_>>();
    assert_eq!(all, members);
    let of_part = |laid: &LaidGroup| laid.group.is_part && laid.group.users.len() <= GROUP_USERS_MAX;
    assert!(layout.groups.iter().all(|laid| laid.group.wire.len() <= GROUP_WIRE_BYTES_MAX && of_part(laid)));
    let followed = layout.groups.iter().filter(|laid| laid.group.has_more_parts).count();
    assert_eq!(followed, layout.groups.len() - 1, "all but the last");
    assert!(!layout.groups.last().is_some_and(|laid| laid.group.has_more_parts));
    assert_eq!(layout.lists_epoch, Some(7));
    let layout = Grouper::default().group(&members[..9], &[], &users, &KeepLists(9), &mut Vec::new());
    assert!(!layout.groups[0].group.is_part && !layout.groups[0].group.has_more_parts);
}

#[test]
fn nobody_is_alone_in_the_last_part_of_several() {
    let (mut users, long) = (Users::default(), "x".repeat(250));
    let members: Vec<_> = (0..1_400).map(|number| users.name(&format!("{long}-{number:04}"))).collect();
    members.iter().for_each(|user| users.set_route(*user, RouteState::At(GatewayIx(0))));
    // Of names, and of bytes where the gateway keeps lists.
    for gateways in [KeepLists(9), KeepLists(0)] {
        for count in 2..members.len() {
            let layout = Grouper::default().group(&members[..count], &[], &users, &gateways, &mut Vec::new());
            let sizes: Vec<_> = layout.groups.iter().map(|laid| laid.group.users.len()).collect();
            assert!(sizes.iter().all(|size| *size > 1), "{count}: {sizes:?}");
            assert_eq!(sizes.iter().sum::<usize>(), count);
        }
    }
}

#[test]
fn parts_are_larger_where_the_gateway_keeps_lists() {
    let (few, many) = (RouteState::At(GatewayIx(0)), RouteState::At(GatewayIx(1)));
    let routes: Vec<_> = (0..2 * LISTED_USERS_MAX + 2).map(|user| if user % 2 == 0 { few } else { many }).collect();
    let (users, members) = world(&routes);
    let layout = Grouper::default().group(&members, &[], &users, &KeepLists(1), &mut Vec::new());
    let parts_on = |gateway| {
        let there = layout.groups.iter().filter(move |laid| laid.gateway == GatewayIx(gateway));
        there.map(|laid| laid.group.users.len()).collect::<Vec<_>>()
    };
    assert_eq!(parts_on(0), [256, 256, 256, 255, 2], "nobody is alone in the last one");
    assert_eq!(parts_on(1), [1023, 2]);
    assert!(layout.is_cut_for(7) && !layout.is_cut_for(8));
    let small = Grouper::default().group(&members[..500], &[], &users, &KeepLists(1), &mut Vec::new());
    assert!(small.is_cut_for(8), "no group of it would be another one");
}
