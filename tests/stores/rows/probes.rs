//! Promise: an ask without rows says whether rows could be written now, and changes no other ask's answer.

use harness::servers::Maria;
use mysql::prelude::Queryable;
use task_engine::config::{MysqlConfig, Secret};
use task_engine::edge::mysql::MysqlInbox;
use task_engine::ports::{Inbox, InboxRows};

use super::{do_all, names, quick};
use crate::inbox_support::{root, rows, stored};

#[test]
fn a_probe_is_as_near_to_a_write_as_it_gets() {
    let server = Maria::start().expect("MariaDB");
    let mut root = root(&server);
    do_all(
        &mut root,
        [
            "CREATE USER 'engine'@'%' IDENTIFIED BY 'sesame'",
            "GRANT SELECT, INSERT, UPDATE ON resonance.t_inbox TO 'engine'@'%'",
        ],
    );
    let settings = MysqlConfig { username: "engine".into(), password: Secret::new("sesame"), ..quick(&server) };
    let mut writer = MysqlInbox::new(settings).open();
    let probe: InboxRows = rows::<&str>("", 0, 0, []);
    let alone = [probe.clone()];
    assert_eq!(writer.store(&alone), [names([])]);
    assert_eq!(writer.store(&[probe.clone(), rows("s", 1, 1, ["ann"]), probe]), [names([]), names([]), names([])]);
    let before: Option<u64> = root.query_first("SELECT MAX(id) FROM t_inbox").expect("a number");
    // What was done to it, and what undoes it.
    for (breaks, mends) in [
        ("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"),
        ("REVOKE INSERT ON resonance.t_inbox FROM 'engine'@'%'", "GRANT INSERT ON resonance.t_inbox TO 'engine'@'%'"),
        ("REVOKE SELECT ON resonance.t_inbox FROM 'engine'@'%'", "GRANT SELECT ON resonance.t_inbox TO 'engine'@'%'"),
        ("RENAME TABLE t_inbox TO elsewhere", "RENAME TABLE elsewhere TO t_inbox"),
    ] {
        do_all(&mut root, [breaks]);
        let answer = writer.store(&alone).remove(0);
        assert!(answer.is_err() && writer.ping().is_err(), "{breaks}: {answer:?}");
        do_all(&mut root, [mends]);
        assert_eq!((writer.store(&alone).remove(0), writer.ping()), (names([]), Ok(())), "{mends}");
    }
    assert_eq!(stored(&server).len(), 1);
    let after: Option<u64> = root.query_first("SELECT MAX(id) FROM t_inbox").expect("a number");
    assert_eq!(before, after, "probes write nothing");
}
