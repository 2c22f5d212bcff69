//! Promise: no query for members reads more than 16,384 rows, however large a session is; a large list is refreshed by the pages
//! that changed; and who joined or left is seen.

use std::collections::BTreeSet;

use crate::inbox_support::{root, settings};
use harness::servers::Maria;
use mysql::prelude::Queryable;
use task_engine::edge::mysql::MysqlMembers;
use task_engine::ports::{MemberReader, Members};

const LARGE: usize = 50_000;

fn user(number: usize) -> String {
    format!("user-{number:06}")
}

fn add(server: &Maria, session: &str, users: impl Iterator<Item = usize>) {
    let users: Vec<_> = users.collect();
    let mut root = root(server);
    for some in users.chunks(5_000) {
        let rows: Vec<String> = some.iter().map(|number| format!("('{session}', '{}')", user(*number))).collect();
        let sql = format!("INSERT INTO t_session_member (session_id, username) VALUES {}", rows.join(","));
        root.query_drop(sql).expect("added");
    }
}

fn list(reader: &mut dyn MemberReader, session: &str) -> Vec<String> {
    let mut lists = reader.members(&[session.into()]).expect("an answer");
    lists.remove(0).iter().map(str::to_owned).collect()
}

fn expected(server: &Maria, session: &str) -> BTreeSet<String> {
    let sql = "SELECT username FROM t_session_member WHERE BINARY session_id = ?";
    root(server).exec(sql, (session,)).expect("rows").into_iter().collect()
}

/// The most rows that one query has sent, by the server's own account; it begins anew.
fn most_rows_sent(server: &Maria) -> u64 {
    let sql = "SELECT MAX(rows_sent) FROM mysql.slow_log WHERE sql_text LIKE '%t_session_member%' AND sql_text LIKE '%max_statement_time%'";
    let most: Option<Option<u64>> = root(server).query_first(sql).expect("a log");
    root(server).query_drop("TRUNCATE mysql.slow_log").expect("emptied");
    most.flatten().unwrap_or(0)
}

#[test]
fn large_lists_are_read_by_pages() {
    let server = Maria::start().expect("MariaDB");
    add(&server, "large", 0..LARGE);
    add(&server, "LARGE", LARGE..LARGE + 10);
    for session in 0..200 {
        add(&server, &format!("small-{session}"), session * 7..session * 7 + 3);
    }
    for session in 0..20 {
        add(&server, &format!("middle-{session}"), 0..3_000);
    }
    for sql in ["SET GLOBAL log_output = 'TABLE'", "SET GLOBAL long_query_time = 0", "SET GLOBAL slow_query_log = 1"] {
        root(&server).query_drop(sql).expect(sql);
    }
    let members = MysqlMembers::new(settings(&server));
    let mut reader = members.open();
    sets_are_cut(&server, &mut *reader);
    changes_are_seen(&server, &members, &mut *reader);
    a_session_that_empties_is_empty(&server, &mut *reader);
}

fn sets_are_cut(server: &Maria, reader: &mut dyn MemberReader) {
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
        assert!((1..=16_384).contains(&most), "{most} rows in one query");
    }
}

fn changes_are_seen(server: &Maria, members: &MysqlMembers, reader: &mut dyn MemberReader) {
    list(reader, "large");
    let read = |members: &MysqlMembers| (members.pages_checked(), members.pages_read());
    let before = read(members);
    assert_eq!(list(reader, "large").len(), LARGE);
    let after = read(members);
    assert!(after.0 > before.0 && after.1 == before.1, "nothing changed, and nothing was read: {before:?} {after:?}");
    let mut root = root(server);
    for round in 0..10 {
        root.query_drop(format!(
            "DELETE FROM t_session_member WHERE session_id = 'large' AND username = '{}'",
            user(round * 700)
        ))
        .expect("left");
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
    assert!(most <= 8_192, "{most} rows in one query");
}

fn a_session_that_empties_is_empty(server: &Maria, reader: &mut dyn MemberReader) {
    root(server)
        .query_drop("DELETE FROM t_session_member WHERE session_id = 'large' AND username > 'user-000100'")
        .expect("left");
    for _ in 0..2 {
        assert_eq!(list(reader, "large").into_iter().collect::<BTreeSet<_>>(), expected(server, "large"));
    }
    root(server)
        .query_drop("DELETE FROM t_session_member WHERE session_id = 'large' AND username <= 'user-000100'")
        .expect("left");
    assert!(list(reader, "large").is_empty());
}
