//! Promise: an ask without rows says whether rows could be written now, and changes no other ask's answer.

use task_engine::ports::InboxRows;
use testkit::databases::{Database, Login};
use testkit::on_both;

use super::names;
use crate::inbox_support::rows;

on_both!(a_probe_is_as_near_to_a_write_as_it_gets);

/// What a user who may write rows is given.
const USER: [&[&str]; 2] = [
    &["CREATE USER engine IDENTIFIED BY 'sesame'", "GRANT SELECT, INSERT, UPDATE ON resonance.t_inbox TO engine"],
    &[
        "CREATE USER engine PASSWORD 'sesame'",
        "GRANT SELECT, INSERT ON t_inbox TO engine",
        "GRANT USAGE ON SEQUENCE t_inbox_id_seq TO engine",
    ],
];
const UNIQUE: &str = "CREATE UNIQUE INDEX again ON t_inbox (owner_username, session_id, seq_id)";
/// What is done to it, and what undoes it.
const BREAKS: [&[[&str; 2]]; 2] =
    [&[["SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"]], &[["DROP INDEX uniq_owner_sess_seq", UNIQUE]]];
const BREAKS_BOTH: [[&str; 2]; 3] = [
    ["REVOKE INSERT ON t_inbox FROM engine", "GRANT INSERT ON t_inbox TO engine"],
    ["REVOKE SELECT ON t_inbox FROM engine", "GRANT SELECT ON t_inbox TO engine"],
    ["ALTER TABLE t_inbox RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO t_inbox"],
];

fn a_probe_is_as_near_to_a_write_as_it_gets(server: &Database) {
    let mut root = server.root();
    let [of_mariadb, of_postgres] = USER;
    root.run(server.either(of_mariadb, of_postgres));
    let mut writer = server.writer(&Login { user: "engine".into(), password: "sesame".into(), ..Login::quick() });
    let probe: InboxRows = rows::<&str>("", 0, 0, []);
    let alone = [probe.clone()];
    assert_eq!(writer.store(&alone), [names([])]);
    assert_eq!(writer.store(&[probe.clone(), rows("s", 1, 1, ["ann"]), probe]), [names([]), names([]), names([])]);
    let last = "SELECT MAX(id) FROM t_inbox";
    let before = root.number(last);
    let [of_mariadb, of_postgres] = BREAKS;
    for [breaks, mends] in server.either(of_mariadb, of_postgres).iter().chain(&BREAKS_BOTH) {
        root.run(&[breaks]);
        let answer = writer.store(&alone).remove(0);
        assert!(answer.is_err() && writer.ping().is_err(), "{breaks}: {answer:?}");
        root.run(&[mends]);
        assert_eq!((writer.store(&alone).remove(0), writer.ping()), (names([]), Ok(())), "{mends}");
    }
    assert_eq!(server.stored().len(), 1);
    assert_eq!(root.number(last), before, "probes write nothing");
}
