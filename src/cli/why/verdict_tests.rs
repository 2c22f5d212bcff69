use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::super::cause;
use super::super::facts::{EngineSeen, LetterSeen};
use super::super::tables::RowSeen;
use super::*;

fn facts(ends: Vec<EndSeen>) -> Facts {
    Facts {
        database: "MySQL",
        session: "s".to_owned(),
        user: "ann".to_owned(),
        msg: Some(7),
        has_inbox: true,
        stores_all: false,
        reads_content: false,
        is_member: Ok(true),
        members: Ok(2),
        route: Ok(RouteSeen::At { gateways: vec!["gw-1".to_owned()], ttl: Some(Duration::from_secs(30)) }),
        listed: Ok(vec!["gw-1".to_owned()]),
        rows: Ok(Vec::new()),
        content: Ok(None),
        letters: Ok(Vec::new()),
        engines: vec![EngineSeen { address: SocketAddr::from(([127, 0, 0, 1], 9100)), ends: Ok(Some(ends)) }],
    }
}

fn end(end: End) -> EndSeen {
    let gateway = Some("gw-1".to_owned());
    EndSeen { msg: 7, end, gateway, ended_unix_millis: 1_800_000_000_000, took: Duration::from_millis(1500) }
}

fn all_ends() -> Vec<End> {
    let recipients = RecipientOutcome::ALL.iter().map(|end| End::Recipient(*end));
    recipients.chain(EventOutcome::ALL.iter().map(|end| End::Event(*end))).collect()
}

#[test]
fn each_end_has_words_of_its_own_and_is_read_back_from_its_label() {
    let words: BTreeSet<_> = all_ends().into_iter().map(cause::of).collect();
    assert_eq!(words.len(), RecipientOutcome::COUNT + EventOutcome::COUNT, "two ends in the same words");
    for end in all_ends() {
        assert_eq!(cause::end_of(end.label(), end.is_recipients()), Some(end));
    }
    assert_eq!(cause::end_of("elsewhere", true), None);
}

#[test]
fn each_end_that_an_engine_remembers_is_one_sentence_about_it() {
    for of in all_ends() {
        let sentence = verdict(&facts(vec![end(of)]));
        let words = cause::of(of).replace("{gateway}", "gateway gw-1");
        assert!(
            sentence.starts_with(&format!("message 7 of session s: ann {words}, at 2027-01-15T08:00:00Z")),
            "{sentence}"
        );
        assert!(sentence.ends_with('.') && !sentence.contains(['{', '\n']), "{sentence}");
    }
}

#[test]
fn a_final_end_counts_for_more_than_one_that_comes_again_and_the_row_is_told() {
    let cut = EndSeen { ended_unix_millis: 1_900_000_000_000, ..end(End::Event(EventOutcome::CutByStop)) };
    let offline = end(End::Recipient(RecipientOutcome::Offline));
    let mut seen = facts(vec![cut, offline.clone()]);
    assert!(
        verdict(&seen).contains("not connected anywhere") && verdict(&seen).ends_with("the inbox has no row of it.")
    );
    seen.rows = Ok(vec![RowSeen { msg: 7, seq: 70, is_read: false }]);
    assert!(verdict(&seen).ends_with("the message is in the inbox, not read yet."), "{}", verdict(&seen));
    seen.msg = None;
    assert!(verdict(&seen).starts_with("session s: ann "), "{}", verdict(&seen));
}

#[test]
fn without_an_engine_letters_rows_and_members_tell() {
    let mut seen = facts(Vec::new());
    let away =
        || EngineSeen { address: SocketAddr::from(([127, 0, 0, 1], 1)), ends: Err("no answer: refused".to_owned()) };
    seen.engines = vec![away()];
    assert!(
        verdict(&seen).contains("is connected to a registered gateway now; nothing tells of the message"),
        "{}",
        verdict(&seen)
    );
    seen.rows = Ok(vec![RowSeen { msg: 7, seq: 70, is_read: true }]);
    assert!(
        verdict(&seen).contains("could not be reached when it came, and has a row in the inbox, and was read"),
        "{}",
        verdict(&seen)
    );
    seen.content = Ok(Some("ann".to_owned()));
    assert!(verdict(&seen).contains("sent it"), "{}", verdict(&seen));
    let letter = LetterSeen { id: "17".to_owned(), reason: "no_members".to_owned(), is_of_recipient: false };
    seen.letters = Ok(vec![letter]);
    assert!(
        verdict(&seen).contains("had no members") && verdict(&seen).contains("dead letter 17"),
        "{}",
        verdict(&seen)
    );
    let mut seen = facts(Vec::new());
    seen.is_member = Ok(false);
    assert!(verdict(&seen).contains("no member of the session"));
    for (route, says) in [(RouteSeen::None, "not connected anywhere now"), (RouteSeen::Bad, "is none now")] {
        let seen = Facts { route: Ok(route), ..facts(Vec::new()) };
        assert!(verdict(&seen).contains(says) && verdict(&seen).contains("no engine remembers"), "{}", verdict(&seen));
    }
    let seen = Facts { listed: Ok(Vec::new()), ..facts(Vec::new()) };
    assert!(verdict(&seen).contains("a route to a gateway that is not registered now"));
    let err = || Err("away".to_owned());
    let seen = Facts {
        rows: Err("away".to_owned()),
        letters: Err("away".to_owned()),
        listed: err(),
        route: Err("away".to_owned()),
        ..facts(Vec::new())
    };
    assert!(verdict(&seen).ends_with("(not asked, since away: MySQL, the dead letters, etcd)."), "{}", verdict(&seen));
}
