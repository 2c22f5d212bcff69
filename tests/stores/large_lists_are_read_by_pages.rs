//! Promise: no query for members reads more than 16,384 rows, however large a session is; a large list is refreshed by the pages
//! that changed; and who joined or left is seen.

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

/// The most rows that one query has sent, by the account of MariaDB; it begins anew. Nothing where no server keeps one.
fn most_rows_sent(server: &Database) -> Option<i64> {
    if server.kind() == Kind::Postgres {
        return None;
    }
    let sql = "SELECT COALESCE(MAX(rows_sent), 0) FROM mysql.slow_log WHERE sql_text LIKE '%t_session_member%' AND sql_text LIKE '%max_statement_time%'";
    let most = server.root().number(sql);
    server.run(&["TRUNCATE mysql.slow_log"]);
    Some(most)
}

on_both!(large_lists_are_read_by_pages);

fn large_lists_are_read_by_pages(server: &Database) {
    add(server, "large", 0..LARGE);
    add(server, "LARGE", LARGE..LARGE + 10);
    for session in 0..200 {
        add(server, &format!("small-{session}"), session * 7..session * 7 + 3);
    }
    for session in 0..20 {
        add(server, &format!("middle-{session}"), 0..3_000);
    }
    if server.kind() == Kind::Maria {
        let all = "SET GLOBAL slow_query_log = 1";
        server.run(&["SET GLOBAL log_output = 'TABLE'", "SET GLOBAL long_query_time = 0", all]);
    }
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
        let most = most_rows_sent(server);
        assert!(most.is_none_or(|most| (1..=16_384).contains(&most)), "{most:?} rows in one query");
    }
}

fn changes_are_seen(server: &Database, members: &dyn Members, reader: &mut dyn MemberReader) {
    list(reader, "large");
    let read = |members: &dyn Members| (members.pages_checked(), members.pages_read());
    let before = read(members);
    assert_eq!(list(reader, "large").len(), LARGE);
    let after = read(members);
    assert!(after.0 > before.0 && after.1 == before.1, "nothing changed, and nothing was read: {before:?} {after:?}");
    let mut root = server.root();
    for round in 0..10 {
        let gone = user(round * 700);
        root.run(&[&format!("DELETE FROM t_session_member WHERE session_id = 'large' AND username = '{gone}'")]);
        add(server, "large", std::iter::once(LARGE + 100 + round));
        let found: BTreeSet<String> = list(reader, "large").into_iter().collect();
        assert!(found == expected(server, "large"), "round {round}: {} names", found.len());
    }
    let pages = read(members).1 - after.1;
    assert!(pages <= 20, "two pages changed each time, and {pages} were read");
    // One page grows beyond its bound.
    add(server, "large", 200_000..215_000);
    for _ in 0..2 {
        let found: BTreeSet<String> = list(reader, "large").into_iter().collect();
        assert!(found == expected(server, "large"), "{} names", found.len());
    }
    let most = most_rows_sent(server);
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
