use super::*;

fn nonce() -> Nonce {
    Nonce("a/4f1d/7".into())
}

#[test]
fn the_texts_are_what_the_design_says() {
    let owner = Owner { instance: "a".into(), boot: "4f1d".into(), epoch: 13, how: How::Cut, by: nonce() };
    assert_eq!(write(&owner), r#"{"v":1,"instance":"a","boot":"4f1d","epoch":13,"how":"cut","by":"a/4f1d/7"}"#);
    let epoch =
        Epoch { epoch: 13, generation: 4, start: 100, old: 3, state: State::Open, by: nonce(), ..Epoch::default() };
    let text = r#"{"v":1,"epoch":13,"gen":4,"start":100,"old":3,"state":"open","by":"a/4f1d/7"}"#;
    assert_eq!(write(&epoch), text);
    assert_eq!(read(text.as_bytes()), Ok(epoch));
    let plan = Plan { version: 2, by: nonce(), names: vec!["a".into(), "b".into()], owners: vec![0, 1, -1] };
    assert_eq!(write(&plan), r#"{"v":1,"version":2,"by":"a/4f1d/7","names":["a","b"],"owners":[0,1,-1]}"#);
    assert_eq!(plan.owner(Partition(1)).map(|name| &**name), Some("b"));
    assert_eq!([2, 3].map(|partition| plan.owner(Partition(partition))), [None, None]);
}

#[test]
fn an_unknown_version_is_told_and_a_member_of_one_is_still_read() {
    let why = read::<Plan>(br#"{"v":2,"shape":"another"}"#).unwrap_err();
    assert_eq!(why.to_string(), "it has version 2, and this program reads up to 1");
    assert!(matches!(read::<Plan>(b"{"), Err(Unreadable::Damaged(_))));
    assert!(matches!(read::<Plan>(br#"{"version":2}"#), Err(Unreadable::Damaged(_))), "a record says its version");
    let member = read_member(br#"{"v":2,"weight":4,"reads":2,"colour":"red"}"#).unwrap();
    assert_eq!((member.weight, member.reads), (4, 2));
}

#[test]
fn what_was_published_of_another_stream_does_not_count() {
    let layout = Layout { stream_created: "2026-11-29".into(), ..Layout::default() };
    let settled = Settled { floor: 9, above: vec![11, 40] };
    let published: Published = read(write(&Published::of(&settled, &layout)).as_bytes()).unwrap();
    assert_eq!(published.settled(&layout), Some(settled));
    assert_eq!(published.settled(&Layout { stream_created: "2026-11-30".into(), ..layout }), None);
}

#[test]
fn fuzzed_ownership() {
    crate::fuzz::run("ownership", 2_000, |bytes| {
        // What was read, written again, is read the same; what is settled is ascending and above the floor.
        if let Ok(epoch) = read::<Epoch>(bytes) {
            assert_eq!(read(write(&epoch).as_bytes()), Ok(epoch.clone()));
            let settled = epoch.settled();
            assert!(settled.above.is_sorted_by(|one, other| one < other));
            assert!(settled.above.first().is_none_or(|first| *first > settled.floor));
        }
        if let Ok(plan) = read::<Plan>(bytes) {
            assert_eq!(read(write(&plan).as_bytes()), Ok(plan.clone()));
            assert!((0..9).all(|at| plan.owner(Partition(at)).is_none_or(|name| plan.names.contains(name))));
        }
        if let Ok(owner) = read::<Owner>(bytes) {
            assert_eq!(read(write(&owner).as_bytes()), Ok(owner));
        }
        if let Ok(member) = read_member(bytes) {
            assert_eq!(read_member(write(&member).as_bytes()), Ok(member));
        }
        if let Ok(layout) = read::<Layout>(bytes) {
            assert_eq!(read(write(&layout).as_bytes()), Ok(layout));
        }
        if let Ok(published) = read::<Published>(bytes) {
            assert!(published.settled(&Layout::default()).is_none_or(|settled| settled.floor == published.floor));
        }
    });
}
