//! Promise: no query for members reads more than 16,384 rows, and none for one session more than 8,192, however large it is; a list of
//! more than 4,096 members is refreshed by the pages that changed; and who joined or left is seen.

use std::collections::BTreeSet;

use task_engine::ports::{MemberReader, Members};
use testkit::databases::{Database, Kind, Login};
use testkit::on_both;

const LARGE: usize = 50_000;

fn user(number: usize) -> String {
    format!("user-{number:06}")
}

fn add(server: &Database, session: &str, users: impl Iterator<Item = usize>) {
    server.add(users.map(|number| (session.to_owned(), user(number))));
}

fn list(reader: &mut dyn MemberReader, session: &str) -> Vec<String> {
    let mut lists = reader.members(&[session.into()]).expect("an answer");
    lists.remove(0).iter().map(str::to_owned).collect()
}

fn expected(server: &Database, session: &str) -> BTreeSet<String> {
    let binary = server.either("BINARY ", "");
    let sql = format!("SELECT username FROM t_session_member WHERE {binary}session_id = '{session}'");
    server.root().texts(&sql).into_iter().collect()
}

fn account_of_rows(server: &Database) {
    if server.kind() == Kind::Maria {
        let all = "SET GLOBAL slow_query_log = 1";
        server.run(&["SET GLOBAL log_output = 'TABLE'", "SET GLOBAL long_query_time = 0", all]);
    }
}

/// `MAX` or `SUM` of the rows that each query has sent, by the account of MariaDB; it begins anew. Nothing where no server keeps one.
fn rows_sent(server: &Database, of_all: &str) -> Option<i64> {
    if server.kind() == Kind::Postgres {
        return None;
    }
    let sql = format!(
        "SELECT COALESCE({of_all}(rows_sent), 0) FROM mysql.slow_log WHERE sql_text LIKE '%t_session_member%' AND sql_text LIKE '%max_statement_time%'"
    );
    let rows = server.root().number(&sql);
    server.run(&["TRUNCATE mysql.slow_log"]);
    Some(rows)
}

fn pages(members: &dyn Members) -> (u64, u64) {
    (members.pages_checked(), members.pages_read())
}

on_both!(large_lists_are_read_by_pages lists_at_the_bounds_are_refreshed_by_what_changed);

fn large_lists_are_read_by_pages(server: &Database) {
    add(server, "large", 0..LARGE);
    add(server, "LARGE", LARGE..LARGE + 10);
    for session in 0..200 {
        add(server, &format!("small-{session}"), session * 7..session * 7 + 3);
    }
    for session in 0..20 {
        add(server, &format!("middle-{session}"), 0..3_000);
    }
    account_of_rows(server);
    let members = server.members(&Login::default());
    let mut reader = members.open();
    sets_are_cut(server, &mut *reader);
    changes_are_seen(server, &*members, &mut *reader);
    a_session_that_empties_is_empty(server, &mut *reader);
}

fn sets_are_cut(server: &Database, reader: &mut dyn MemberReader) {
    let names: Vec<String> = (0..20)
        .map(|session| format!("middle-{session}"))
        .chain(["LARGE".into(), "large".into(), "nobody's".into()])
        .chain((0..200).map(|session| format!("small-{session}")))
        .collect();
    let sessions: Vec<_> = names.iter().map(|name| name.as_str().into()).collect();
    for _ in 0..2 {
        let lists = reader.members(&sessions).expect("an answer");
        let sizes: Vec<usize> = lists.iter().map(|list| list.len()).collect();
        assert!(sizes[..20].iter().all(|size| *size == 3_000), "{sizes:?}");
        assert_eq!(sizes[20..23], [10, LARGE, 0]);
        assert!(sizes[23..].iter().all(|size| *size == 3), "{sizes:?}");
        let large: BTreeSet<String> = lists[21].iter().map(str::to_owned).collect();
        assert_eq!(large.len(), LARGE, "each once");
        let most = rows_sent(server, "MAX");
        assert!(most.is_none_or(|most| (1..=16_384).contains(&most)), "{most:?} rows in one query");
    }
}

fn changes_are_seen(server: &Database, members: &dyn Members, reader: &mut dyn MemberReader) {
    list(reader, "large");
    let before = pages(members);
    assert_eq!(list(reader, "large").len(), LARGE);
    let after = pages(members);
    assert!(after.0 > before.0 && after.1 == before.1, "nothing changed, and nothing was read: {before:?} {after:?}");
    let mut root = server.root();
    for round in 0..10 {
        let gone = user(round * 700);
        root.run(&[&format!("DELETE FROM t_session_member WHERE session_id = 'large' AND username = '{gone}'")]);
        add(server, "large", std::iter::once(LARGE + 100 + round));
        let found: BTreeSet<String> = list(reader, "large").into_iter().collect();
        assert!(found == expected(server, "large"), "round {round}: {} names", found.len());
    }
    let newer = pages(members).1 - after.1;
    assert!(newer <= 20, "two pages changed each time, and {newer} were read");
    // One page grows beyond its bound.
    add(server, "large", 200_000..215_000);
    for _ in 0..2 {
        let found: BTreeSet<String> = list(reader, "large").into_iter().collect();
        assert!(found == expected(server, "large"), "{} names", found.len());
    }
    nothing_is_read(server, members, reader, &["large"], 15);
    let most = rows_sent(server, "MAX");
    assert!(most.is_none_or(|most| most <= 8_192), "{most:?} rows in one query");
}

fn a_session_that_empties_is_empty(server: &Database, reader: &mut dyn MemberReader) {
    server.run(&["DELETE FROM t_session_member WHERE session_id = 'large' AND username > 'user-000100'"]);
    for _ in 0..2 {
        assert_eq!(list(reader, "large").into_iter().collect::<BTreeSet<_>>(), expected(server, "large"));
    }
    server.run(&["DELETE FROM t_session_member WHERE session_id = 'large' AND username <= 'user-000100'"]);
    assert!(list(reader, "large").is_empty());
}

/// Asks when nothing has changed: the server counts so many pages, and sends a row for each.
fn nothing_is_read(
    server: &Database,
    members: &dyn Members,
    reader: &mut dyn MemberReader,
    sessions: &[&str],
    known: u64,
) {
    // MariaDB writes its account after the answer, and before it takes the connection's next query.
    reader.ping().expect("an answer");
    let most = rows_sent(server, "MAX");
    assert!(most.is_none_or(|most| most <= 16_384), "{most:?} rows in one query");
    let before = pages(members);
    let ids: Vec<_> = sessions.iter().copied().map(Into::into).collect();
    reader.members(&ids).expect("an answer");
    let after = pages(members);
    assert_eq!((after.0 - before.0, after.1 - before.1), (known, 0), "pages counted and read of {sessions:?}");
    reader.ping().expect("an answer");
    let (sent, known) = (rows_sent(server, "SUM"), known as i64);
    assert!(
        sent.is_none_or(|sent| (known..=known + 2).contains(&sent)),
        "{sent:?} rows sent of {sessions:?}, two of them by pings"
    );
}

fn lists_at_the_bounds_are_refreshed_by_what_changed(server: &Database) {
    let sizes = [4_097, 5_000, 8_191, 8_192, 16_383, 16_384];
    for size in sizes {
        add(server, &format!("of-{size}"), 0..size);
    }
    add(server, "of-4096", 0..4_096);
    account_of_rows(server);
    let members = server.members(&Login::default());
    let mut reader = members.open();
    for (size, known) in sizes.into_iter().zip([2, 2, 2, 3, 4, 5]) {
        let session = format!("of-{size}");
        for ask in 0..3 {
            assert_eq!(list(&mut *reader, &session).len(), size, "ask {ask}");
            let most = rows_sent(server, "MAX");
            assert!(most.is_none_or(|most| (1..=8_192).contains(&most)), "{most:?} rows in one query of {session}");
        }
        nothing_is_read(server, &*members, &mut *reader, &[&session], known);
    }
    let before = pages(&*members);
    assert_eq!(list(&mut *reader, "of-4096").len(), 4_096);
    assert_eq!(pages(&*members), before, "in one query");
    large_ones_of_a_set_are_told_from_the_others(server);
    one_that_shrinks_is_small_again(server, &*members, &mut *reader);
}

/// Whether the set fits into a query (as the first two) or not.
fn large_ones_of_a_set_are_told_from_the_others(server: &Database) {
    for (sessions, known) in [
        (&["of-5000", "of-4096"][..], 2),
        (&["of-4097", "of-5000", "of-4096"], 4),
        (&["of-16383", "of-4096"], 4),
        (&["of-8191", "of-8192", "of-5000", "of-4096"], 7),
    ] {
        let members = server.members(&Login::default());
        let mut reader = members.open();
        let ids: Vec<_> = sessions.iter().copied().map(Into::into).collect();
        for _ in 0..3 {
            for (session, list) in sessions.iter().zip(reader.members(&ids).expect("an answer")) {
                assert_eq!(format!("of-{}", list.len()), *session);
            }
        }
        let without = sessions.len() - 1;
        nothing_is_read(server, &*members, &mut *reader, &sessions[..without], known);
    }
}

fn one_that_shrinks_is_small_again(server: &Database, members: &dyn Members, reader: &mut dyn MemberReader) {
    let left = user(1_000);
    server.run(&[&format!("DELETE FROM t_session_member WHERE session_id = 'of-5000' AND username >= '{left}'")]);
    assert_eq!(list(reader, "of-5000").len(), 1_000);
    let before = pages(members);
    assert_eq!(list(reader, "of-5000").len(), 1_000);
    assert_eq!(pages(members), before, "in one query");
    add(server, "of-5000", 1_000..5_000);
    for _ in 0..4 {
        assert_eq!(list(reader, "of-5000").len(), 5_000);
    }
    nothing_is_read(server, members, reader, &["of-5000"], 2);
}
