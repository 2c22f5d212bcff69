//! Promise: the members of many sessions are one query, each list belongs to the session of the same bytes, and what
//! MySQL says no to is told apart from what an operator can mend.

use std::time::Duration;

use mysql::prelude::Queryable;
use task_engine::config::{HostPort, MysqlConfig, Secret};
use task_engine::edge::mysql::MysqlMembers;
use task_engine::model::ids::SessionId;
use task_engine::ports::{LookupError, Members};

use testkit::mysql_etcd::Maria;

fn settings(server: &Maria) -> MysqlConfig {
    MysqlConfig {
        at: HostPort { host: "localhost".into(), port: server.port },
        username: "engine".into(),
        password: Secret::new("sesame"),
        database: "resonance".into(),
        connect_timeout: Duration::from_secs(2),
        timeout: Duration::from_secs(10),
        conn_max_lifetime: Duration::from_secs(600),
        ..MysqlConfig::default()
    }
}

fn ids(names: &[&str]) -> Vec<SessionId> {
    names.iter().map(|&name| name.into()).collect()
}

fn lookup(members: &MysqlMembers, sessions: &[&str]) -> Vec<Vec<String>> {
    let lists = members.open().members(&ids(sessions)).expect("an answer");
    lists.iter().map(|list| list.iter().map(str::to_owned).collect()).collect()
}

fn executed(server: &Maria) -> u64 {
    let row: Option<(String, u64)> =
        server.root("").query_first("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'").expect("a status");
    row.expect("a row").1
}

fn why(settings: MysqlConfig) -> String {
    match MysqlMembers::new(settings).open().members(&ids(&["s"])) {
        Err(LookupError::NotReached(why) | LookupError::Unavailable(why)) => why,
        other => panic!("not unavailable: {other:?}"),
    }
}

#[test]
fn members_come_from_mysql() {
    let server = Maria::start();
    many_sessions_are_one_query(&server);
    sessions_match_by_bytes_and_names_are_checked(&server);
    faults_are_named(&server);
    a_mariadb_user_with_ed25519_may_log_in(&server);
}

fn many_sessions_are_one_query(server: &Maria) {
    let rows: Vec<(String, String)> =
        (0..200).flat_map(|s| (0..s % 7).map(move |u| (format!("group:{s}"), format!("user-{u}")))).collect();
    server.add(&rows.iter().map(|(session, user)| (session.as_str(), user.as_str())).collect::<Vec<_>>());
    let members = MysqlMembers::new(settings(server));
    let mut reader = members.open();
    reader.ping().expect("MySQL is there");
    let before = executed(server);
    let sessions: Vec<SessionId> = (0..200).rev().map(|s| format!("group:{s}").into()).collect();
    let lists = reader.members(&sessions).expect("an answer");
    assert_eq!(executed(server) - before, 1, "200 sessions are one query");
    for (list, session) in lists.iter().zip((0..200).rev()) {
        let expected: Vec<String> = (0..session % 7).map(|u| format!("user-{u}")).collect();
        assert_eq!(list.iter().collect::<Vec<_>>(), expected, "group:{session}");
    }
    for count in [1, 2, 3, 255, 256] {
        let sessions: Vec<SessionId> = (0..count).map(|s| format!("group:{s}").into()).collect();
        assert_eq!(reader.members(&sessions).expect("an answer").len(), count);
    }
    assert!(matches!(reader.members(&vec!["s".into(); 257]), Err(LookupError::Rejected(_))));
    assert!(reader.members(&[]).expect("an answer").is_empty());
}

fn sessions_match_by_bytes_and_names_are_checked(server: &Maria) {
    let long = "x".repeat(65);
    let most = "\u{1f600}".repeat(64);
    // The table's collation holds "Case" and "case" for the same, so their rows share the key and need other users.
    server.add(&[("Case", "upper"), ("case", "lower"), ("quote'\\\"%_", "o'brien\\"), ("\u{e9}t\u{e9}", "ann\u{e9}e")]);
    server.add(&[("odd", ""), ("odd", &long), ("odd", &most), ("odd", "fine"), ("odd", "with space")]);
    let members = MysqlMembers::new(settings(server));
    assert_eq!(lookup(&members, &["case", "Case", "CASE", "case"]), [&["lower"][..], &["upper"], &[], &["lower"]]);
    assert_eq!(
        lookup(&members, &["quote'\\\"%_", "\u{e9}t\u{e9}", "ete", "nobody's"]),
        [&["o'brien\\"][..], &["ann\u{e9}e"], &[], &[]]
    );
    assert_eq!(members.rows_skipped(), 0);
    assert_eq!(lookup(&members, &["odd"]), [["fine", "with space", most.as_str()]]);
    assert_eq!(members.rows_skipped(), 2, "the empty one and the long one");
}

fn faults_are_named(server: &Maria) {
    let here = format!("localhost:{}", server.port);
    for (wrong, says) in [
        (MysqlConfig { password: Secret::new("hunter2"), ..settings(server) }, "mysql.password"),
        (MysqlConfig { database: "elsewhere".into(), ..settings(server) }, "mysql.database"),
        (
            MysqlConfig {
                username: "root".into(),
                password: Secret::default(),
                database: "mysql".into(),
                ..settings(server)
            },
            "t_session_member",
        ),
    ] {
        let why = why(wrong);
        assert!(why.contains(&here) && why.contains(says) && !why.contains("hunter2"), "{why}");
    }
    let unknown = why(MysqlConfig {
        at: HostPort { host: "no-such-host.invalid".into(), port: server.port },
        ..settings(server)
    });
    assert!(unknown.contains("no-such-host.invalid") && unknown.contains("mysql.host"), "{unknown}");
}

fn a_mariadb_user_with_ed25519_may_log_in(server: &Maria) {
    let mut root = server.root("");
    for statement in [
        "INSTALL SONAME 'auth_ed25519'",
        "CREATE USER modern@'%' IDENTIFIED VIA ed25519 USING PASSWORD('sesame')",
        "GRANT SELECT ON resonance.* TO modern@'%'",
    ] {
        root.query_drop(statement).expect(statement);
    }
    let modern = MysqlConfig { username: "modern".into(), ..settings(server) };
    assert_eq!(lookup(&MysqlMembers::new(modern.clone()), &["case"]), [["lower"]]);
    let why = why(MysqlConfig { password: Secret::new("hunter2"), ..modern });
    assert!(why.contains("mysql.password"), "{why}");
}
