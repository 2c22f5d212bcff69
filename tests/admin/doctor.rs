//! Promise: `task-engine doctor` finds nothing wrong with a world that is right, and of each broken one it names what is broken, by its own
//! check and by no other; it changes nothing, and shows no secret.

mod world;

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::databases::Kind;

use self::world::{Broken, World, broken, hurt};

/// Breaks something, in the configuration or in a server; what is run afterwards mends it.
type Case = (&'static str, fn(&World) -> Broken);

const CASES_OF_NATS: &[Case] = &[
    ("nats.name", |_| broken("nats", "url", "nats://nowhere.invalid:4222")),
    ("nats.tcp", |world| broken("nats", "url", format!("nats://127.0.0.1:{}", world.closed))),
    ("nats.tls", |_| broken("nats", "tls", "{mode: required}")),
    ("nats.login", |_| broken("nats", "password", "wrong-secret")),
    ("nats.permissions", |_| broken("nats", "username", "lesser")),
    ("nats.jetstream", |_| broken("nats", "username", "streamless")),
    ("nats.stream", |_| broken("consumer", "stream", "NOWHERE")),
    ("nats.stream", |_| broken("consumer", "topic", "another.topic")),
    ("nats.consumers", |_| broken("consumer", "durable", "pushes")),
    ("nats.ack_wait", |_| broken("consumer", "ack_wait", "77s")),
    ("nats.limits", |_| broken("consumer", "max_ack_pending", "777")),
    ("nats.limits", |world| {
        let bound = |bytes: i64| move |world: &World| world.change_stream("EVENTS", &json!({ "max_bytes": bytes }));
        hurt(world, bound(1 << 30), bound(-1))
    }),
    ("nats.dead_letters", |world| {
        hurt(world, |world| drop(world.jetstream("STREAM.DELETE.EVENTS_DLQ", &json!({}))), World::setup)
    }),
];

const CASES_OF_MYSQL: &[Case] = &[
    ("mysql.name", |_| broken("mysql", "host", "nowhere.invalid")),
    ("mysql.tcp", |world| broken("mysql", "port", world.closed)),
    ("mysql.tls", |_| broken("mysql", "tls", "{mode: required}")),
    ("mysql.login", |_| broken("mysql", "password", "wrong-secret")),
    ("mysql.database", |_| broken("mysql", "database", "nothing")),
    ("mysql.tables", |world| world.sql("RENAME TABLE t_inbox TO t_away", "RENAME TABLE t_away TO t_inbox")),
    ("mysql.columns", |world| {
        world.sql("ALTER TABLE t_inbox ADD needed INT NOT NULL", "ALTER TABLE t_inbox DROP COLUMN needed")
    }),
    ("mysql.columns", |world| {
        world.sql(
            "ALTER TABLE t_inbox CHANGE is_read was_read TINYINT",
            "ALTER TABLE t_inbox CHANGE was_read is_read TINYINT NOT NULL DEFAULT 0",
        )
    }),
    ("mysql.unique_key", |world| {
        let key = "ALTER TABLE t_inbox ADD UNIQUE KEY uk_owner_session_seq (owner_username, session_id, seq_id)";
        world.sql("ALTER TABLE t_inbox DROP KEY uk_owner_session_seq", key)
    }),
    ("mysql.collation", |world| {
        let as_set = |set: &str| {
            format!("ALTER TABLE t_session_member MODIFY username VARCHAR(64) CHARACTER SET {set} NOT NULL")
        };
        world.sql(&as_set("latin1"), &as_set("utf8mb4 COLLATE utf8mb4_unicode_ci"))
    }),
    ("mysql.grants", |_| broken("mysql", "username", "lesser")),
    ("mysql.read_only", |world| world.sql("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0")),
    ("mysql.connections", |world| {
        world.sql("ALTER USER engine WITH MAX_USER_CONNECTIONS 5", "ALTER USER engine WITH MAX_USER_CONNECTIONS 0")
    }),
    ("mysql.clock", |world| {
        world.sql("SET GLOBAL init_connect = 'SET timestamp = 1700000000'", "SET GLOBAL init_connect = ''")
    }),
];

const CASES_OF_POSTGRES: &[Case] = &[
    ("postgres.name", |_| broken("postgres", "host", "nowhere.invalid")),
    ("postgres.tcp", |world| broken("postgres", "port", world.closed)),
    ("postgres.tls", |_| broken("postgres", "tls", "{mode: required}")),
    ("postgres.login", |_| broken("postgres", "password", "wrong-secret")),
    ("postgres.database", |_| broken("postgres", "database", "nothing")),
    ("postgres.database", |world| {
        world.sql("REVOKE CONNECT ON DATABASE resonance FROM PUBLIC", "GRANT CONNECT ON DATABASE resonance TO PUBLIC")
    }),
    ("postgres.tables", |world| {
        world.sql("ALTER TABLE t_inbox RENAME TO t_away", "ALTER TABLE t_away RENAME TO t_inbox")
    }),
    ("postgres.tables", |world| {
        world.sql("ALTER ROLE engine SET search_path = elsewhere", "ALTER ROLE engine RESET search_path")
    }),
    ("postgres.columns", |world| {
        world.sql("ALTER TABLE t_inbox ADD needed INT NOT NULL", "ALTER TABLE t_inbox DROP COLUMN needed")
    }),
    ("postgres.columns", |world| {
        let rename = |from: &str, to: &str| format!("ALTER TABLE t_inbox RENAME COLUMN {from} TO {to}");
        world.sql(&rename("is_read", "was_read"), &rename("was_read", "is_read"))
    }),
    ("postgres.columns", |world| {
        let as_type = |of: &str, from: &str, default: &str| {
            format!(
                "ALTER TABLE t_inbox ALTER is_read DROP DEFAULT, ALTER is_read TYPE {of} USING {from}, \
                 ALTER is_read SET DEFAULT {default}"
            )
        };
        world.sql(&as_type("BOOLEAN", "is_read <> 0", "false"), &as_type("SMALLINT", "is_read::int::smallint", "0"))
    }),
    ("postgres.columns", |world| {
        let takes = |chars: u8| format!("ALTER TABLE t_session_member ALTER username TYPE VARCHAR({chars})");
        world.sql(&takes(20), &takes(64))
    }),
    ("postgres.unique_key", |world| {
        world.sql(&format!("DROP INDEX {KEY}"), &format!("CREATE UNIQUE INDEX {KEY} {ON}"))
    }),
    ("postgres.unique_key", |world| {
        let again = |condition: &str| format!("DROP INDEX {KEY}; CREATE UNIQUE INDEX {KEY} {ON} {condition}");
        world.sql(&again("WHERE is_read = 0"), &again(""))
    }),
    ("postgres.encoding", |world| {
        let as_encoding = |encoding: &str| {
            format!(
                "UPDATE pg_database SET encoding = pg_char_to_encoding('{encoding}') WHERE datname = current_database()"
            )
        };
        world.sql(&as_encoding("LATIN1"), &as_encoding("UTF8"))
    }),
    ("postgres.grants", |_| broken("postgres", "username", "lesser")),
    ("postgres.grants", |world| {
        let sequence = "USAGE ON SEQUENCE t_inbox_id_seq";
        world.sql(&format!("REVOKE {sequence} FROM engine"), &format!("GRANT {sequence} TO engine"))
    }),
    ("postgres.read_only", |world| {
        let key = "default_transaction_read_only";
        world.sql(&format!("ALTER ROLE engine SET {key} = on"), &format!("ALTER ROLE engine RESET {key}"))
    }),
    ("postgres.connections", |world| {
        world.sql("ALTER ROLE engine CONNECTION LIMIT 5", "ALTER ROLE engine CONNECTION LIMIT -1")
    }),
    ("postgres.clock", |world| {
        world.sql(
            "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT to_timestamp(1700000000)'; \
             ALTER ROLE engine SET search_path = public, pg_catalog",
            "DROP FUNCTION public.clock_timestamp(); ALTER ROLE engine RESET search_path",
        )
    }),
];
/// The key of its inbox.
const KEY: &str = "uniq_owner_sess_seq";
const ON: &str = "ON t_inbox (owner_username, session_id, seq_id)";

const CASES_OF_REDIS: &[Case] = &[
    ("redis.name", |_| broken("redis", "addr", "nowhere.invalid:6379")),
    ("redis.tcp", |world| broken("redis", "addr", format!("127.0.0.1:{}", world.closed))),
    ("redis.tls", |_| broken("redis", "tls", "{mode: required}")),
    ("redis.login", |_| broken("redis", "password", "wrong-secret")),
    ("redis.login", |_| broken("redis", "password", "\"\"")),
    ("redis.resp3", |world| broken("redis", "addr", world.odd_redis("rename-command HELLO \"\""))),
    ("redis.tracking", |world| broken("redis", "addr", world.odd_redis("rename-command CLIENT \"\""))),
    ("redis.cluster", |world| broken("redis", "addr", world.odd_redis("cluster-enabled yes"))),
    ("redis.db", |_| broken("redis", "db", 99)),
    ("redis.acl", |_| broken("redis", "username", "lesser")),
    ("redis.acl", |_| broken("redis", "username", "untold")),
    ("redis.eviction", |world| {
        world.redis_says(&["CONFIG SET maxmemory 100mb", "CONFIG SET maxmemory-policy allkeys-lru"]);
        world.mends(|world| world.redis_says(&["CONFIG SET maxmemory-policy noeviction", "CONFIG SET maxmemory 0"]))
    }),
    ("redis.replica", |world| {
        world.redis_says(&[&format!("REPLICAOF 127.0.0.1 {}", world.closed)]);
        world.mends(|world| world.redis_says(&["REPLICAOF NO ONE"]))
    }),
    ("redis.clock", |world| broken("redis", "addr", world.redis_of_another_time())),
];

const CASES_OF_ETCD: &[Case] = &[
    ("etcd.name", |_| broken("etcd", "endpoints", "[\"nowhere.invalid:2379\"]")),
    ("etcd.tcp", |world| broken("etcd", "endpoints", format!("[\"127.0.0.1:{}\"]", world.closed))),
    ("etcd.tls", |_| broken("etcd", "tls", "{mode: required}")),
    ("etcd.login", |_| broken("etcd", "password", "wrong-secret")),
    ("etcd.rights", |_| broken("etcd", "username", "lesser")),
    ("etcd.prefix", |_| broken("registry", "namespace", "/elsewhere")),
    ("etcd.entries", |world| world.registers("?")),
    ("gateway.tcp", |world| {
        world.registers(&format!(r#"{{"id":"gw-2","endpoints":["grpc://127.0.0.1:{}"]}}"#, world.closed))
    }),
    ("gateway.tls", |world| {
        world.registers(&format!(r#"{{"id":"gw-2","endpoints":["grpcs://{}"]}}"#, world.gateway()))
    }),
    ("gateway.protocol", |world| {
        let announced = r#"{"push_protocols":"stream,batch"}"#;
        world
            .registers(&format!(r#"{{"id":"gw-2","metadata":{announced},"endpoints":["grpc://{}"]}}"#, world.gateway()))
    }),
    ("gateway.protocol", |world| {
        world.registers(&format!(r#"{{"id":"gw-2","endpoints":["grpc://{}"]}}"#, world.redis.addr()))
    }),
];

const CASES_OF_THE_MACHINE: &[Case] = &[
    ("machine.memlock", |_| Broken::limited("-l 64")),
    ("machine.files", |_| Broken::limited("-n 120")),
    ("machine.cpus", |_| broken("engine", "cores", 60)),
    ("dead_letters.path", |_| broken("dead_letters", "path", "/no-such-folder/letters")),
];

/// Breaks a right world in each of these ways.
fn each_is_named(world: &World, cases: &[Case]) {
    let right = world.doctor(&Broken::default());
    assert_eq!(right.wrong(), Vec::<String>::new(), "{right}");
    assert_eq!(right.code, 0, "{right}");
    let before = world.state();
    let mut not_named = Vec::new();
    for (check, breaks) in cases {
        let mut broken = breaks(world);
        let seen = world.doctor(&broken);
        broken.mend(world);
        if seen.wrong() != [*check] || seen.code == 0 || !seen.has_advice() {
            not_named.push(format!("{check} is not what was named:\n{seen}"));
        }
        assert!(!seen.to_string().contains("secret"), "{check}: a secret is shown\n{seen}");
    }
    assert!(not_named.is_empty(), "{}", not_named.join("\n"));
    assert_eq!(world.doctor(&Broken::default()).code, 0, "all is mended");
    assert_eq!(world.state(), before, "nothing was changed");
}

#[test]
fn each_broken_world_is_named_by_its_own_check() {
    let world = World::start(Kind::Maria);
    let all = [CASES_OF_NATS, CASES_OF_MYSQL, CASES_OF_REDIS, CASES_OF_ETCD, CASES_OF_THE_MACHINE].concat();
    each_is_named(&world, &all);

    // One that hangs costs no other its look, and is named.
    world.redis.stop().expect("it runs");
    let (began, hung) = (Instant::now(), world.doctor(&Broken::default()));
    world.redis.cont().expect("it runs");
    assert_eq!((hung.wrong(), hung.code), (vec!["redis.login".to_owned()], 2), "{hung}");
    assert!(began.elapsed() < Duration::from_secs(30));
    world.database.run(&["SELECT 1"]);
}

#[test]
fn a_gateway_in_go_is_answered_as_its_clients_are() {
    let world = World::start(Kind::Maria);
    let mut broken =
        world.registers(&format!(r#"{{"id":"gw-2","endpoints":["grpc://{}"]}}"#, world.gateway_as_in_go()));
    let seen = world.doctor(&broken);
    broken.mend(&world);
    assert_eq!((seen.wrong(), seen.code), (Vec::<String>::new(), 0), "{seen}");
}

#[test]
fn so_is_each_with_postgresql() {
    each_is_named(&World::start(Kind::Postgres), CASES_OF_POSTGRES);
}
