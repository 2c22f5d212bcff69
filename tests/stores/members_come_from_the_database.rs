//! Promise: the members of many sessions are one query, each list belongs to the session of the same bytes, and what
//! the database says no to is told apart from what an operator can mend.

use std::time::Duration;

use mysql::prelude::Queryable;
use task_engine::model::ids::SessionId;
use task_engine::ports::{LookupError, Members};
use testkit::databases::{Database, Login, Root};
use testkit::on_both;

fn login() -> Login {
    let (connect_timeout, timeout) = (Duration::from_secs(2), Duration::from_secs(10));
    Login { host: "localhost".to_owned(), connect_timeout, timeout, ..Login::default() }
}

fn ids(names: &[&str]) -> Vec<SessionId> {
    names.iter().map(|&name| name.into()).collect()
}

fn lookup(members: &dyn Members, sessions: &[&str]) -> Vec<Vec<String>> {
    let lists = members.open().members(&ids(sessions)).expect("an answer");
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    lists.iter().map(|list| sorted(list.iter().map(str::to_owned).collect())).collect()
}

/// Statements that were executed, where the server says it.
fn executed(server: &Database) -> Option<u64> {
    let Root::Maria(mut conn) = server.root() else { return None };
    let row: Option<(String, u64)> = conn.query_first("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'").expect("a status");
    Some(row.expect("a row").1)
}

fn why(server: &Database, login: &Login) -> String {
    match server.members(login).open().members(&ids(&["s"])) {
        Err(LookupError::NotReached(why) | LookupError::Unavailable(why)) => why,
        other => panic!("not unavailable: {other:?}"),
    }
}

on_both!(members_come_from_the_database);

fn members_come_from_the_database(server: &Database) {
    many_sessions_are_one_query(server);
    sessions_match_by_bytes_and_names_are_checked(server);
    faults_are_named(server);
    if let Root::Maria(root) = server.root() {
        a_mariadb_user_with_ed25519_may_log_in(server, root);
    }
}

fn many_sessions_are_one_query(server: &Database) {
    let rows: Vec<(String, String)> =
        (0..200).flat_map(|s| (0..s % 7).map(move |u| (format!("group:{s}"), format!("user-{u}")))).collect();
    server.add(rows);
    let members = server.members(&login());
    let mut reader = members.open();
    reader.ping().expect("it is there");
    let before = executed(server);
    let sessions: Vec<SessionId> = (0..200).rev().map(|s| format!("group:{s}").into()).collect();
    let lists = reader.members(&sessions).expect("an answer");
    let queries = executed(server).zip(before).map(|(after, before)| after - before);
    assert!(queries.is_none_or(|queries| queries == 1), "200 sessions are one query: {queries:?}");
    for (list, session) in lists.iter().zip((0..200).rev()) {
        let expected: Vec<String> = (0..session % 7).map(|u| format!("user-{u}")).collect();
        let mut list: Vec<&str> = list.iter().collect();
        list.sort_unstable();
        assert_eq!(list, expected, "group:{session}");
    }
    for count in [1, 2, 3, 255, 256] {
        let sessions: Vec<SessionId> = (0..count).map(|s| format!("group:{s}").into()).collect();
        assert_eq!(reader.members(&sessions).expect("an answer").len(), count);
    }
    assert!(matches!(reader.members(&vec!["s".into(); 257]), Err(LookupError::Rejected(_))));
    assert!(reader.members(&[]).expect("an answer").is_empty());
}

fn sessions_match_by_bytes_and_names_are_checked(server: &Database) {
    let wider = "MODIFY username VARCHAR(80) NOT NULL";
    let change = server.either(wider, "ALTER COLUMN username TYPE VARCHAR(80)");
    server.run(&[&format!("ALTER TABLE t_session_member {change}")]);
    let long = "x".repeat(65);
    let most = "\u{1f600}".repeat(64);
    // The table's collation holds "Case" and "case" for the same, so their rows share the key and need other users.
    server.add([("Case", "upper"), ("case", "lower"), ("quote'\\\"%_", "o'brien\\"), ("\u{e9}t\u{e9}", "ann\u{e9}e")]);
    server.add([("odd", ""), ("odd", &long), ("odd", &most), ("odd", "fine"), ("odd", "with space")]);
    let members = server.members(&login());
    assert_eq!(lookup(&*members, &["case", "Case", "CASE", "case"]), [&["lower"][..], &["upper"], &[], &["lower"]]);
    assert_eq!(
        lookup(&*members, &["quote'\\\"%_", "\u{e9}t\u{e9}", "ete", "nobody's"]),
        [&["o'brien\\"][..], &["ann\u{e9}e"], &[], &[]]
    );
    assert_eq!(members.rows_skipped(), 0);
    assert_eq!(lookup(&*members, &["odd"]), [["fine", "with space", most.as_str()]]);
    assert_eq!(members.rows_skipped(), 2, "the empty one and the long one");
}

fn faults_are_named(server: &Database) {
    let (here, section) = (format!("localhost:{}", server.port()), server.section());
    let (root, other) = (server.either("root", "postgres"), server.either("mysql", "postgres"));
    for (wrong, says) in [
        (Login { password: "hunter2".into(), ..login() }, format!("{section}.password")),
        (
            Login { user: root.into(), database: "elsewhere".into(), password: String::new(), ..login() },
            format!("{section}.database"),
        ),
        (
            Login { user: root.into(), database: other.into(), password: String::new(), ..login() },
            "t_session_member".into(),
        ),
    ] {
        let why = why(server, &wrong);
        assert!(why.contains(&here) && why.contains(&says) && !why.contains("hunter2"), "{why}");
    }
    let unknown = why(server, &Login { host: "no-such-host.invalid".into(), ..login() });
    assert!(unknown.contains("no-such-host.invalid") && unknown.contains(&format!("{section}.host")), "{unknown}");
}

fn a_mariadb_user_with_ed25519_may_log_in(server: &Database, mut root: mysql::Conn) {
    for statement in [
        "INSTALL SONAME 'auth_ed25519'",
        "CREATE USER modern@'%' IDENTIFIED VIA ed25519 USING PASSWORD('sesame')",
        "GRANT SELECT ON resonance.* TO modern@'%'",
    ] {
        root.query_drop(statement).expect(statement);
    }
    let modern = Login { user: "modern".into(), password: "sesame".into(), ..login() };
    assert_eq!(lookup(&*server.members(&modern), &["case"]), [["lower"]]);
    let why = why(server, &Login { password: "hunter2".into(), ..modern });
    assert!(why.contains("mysql.password"), "{why}");
}
