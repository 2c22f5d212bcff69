//! Throw-away servers start, can be frozen, killed and brought back with their data, and end with their value.

use std::time::Duration;

use harness::servers::{Etcd, EtcdOptions, Maria, Nats, NatsAuth, NatsOptions, NatsVersion, Redis, RedisOptions};
use mysql::prelude::Queryable;

#[test]
fn redis_comes_back_with_its_data() {
    let redis = Redis::start(&RedisOptions { password: "geheim".into(), ..Default::default() }).unwrap();
    let client = redis::Client::open(redis.url()).unwrap();
    redis::cmd("SET").arg("k").arg("v").exec(&mut client.get_connection().unwrap()).unwrap();

    redis.kill9();
    assert!(client.get_connection().is_err(), "killed");
    redis.restart().unwrap();
    let value: String = redis::cmd("GET").arg("k").query(&mut client.get_connection().unwrap()).unwrap();
    assert_eq!(value, "v");

    redis.stop().unwrap();
    let mut waiting = client.get_connection_with_timeout(Duration::from_millis(200));
    assert!(waiting.as_mut().is_err(), "frozen");
    redis.cont().unwrap();
    let folder = redis.folder().to_owned();
    let pid = redis.pid().unwrap();
    drop(redis);
    assert!(!folder.exists() && !std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn maria_has_the_schema_and_keeps_rows() {
    let maria = Maria::start().unwrap();
    let insert = "INSERT INTO t_session_member (session_id, username) VALUES ('s', 'anna')";
    maria.connect().unwrap().query_drop(insert).unwrap();
    maria.kill9();
    maria.restart().unwrap();
    let mut conn = maria.connect().unwrap();
    let names: Vec<String> = conn.query("SELECT username FROM t_session_member WHERE session_id = 's'").unwrap();
    assert_eq!(names, ["anna"]);
    assert!(conn.query_drop(insert).is_err(), "the primary key holds");
    let tables: Vec<String> = conn.query("SHOW TABLES").unwrap();
    assert_eq!(tables, ["t_inbox", "t_message_content", "t_session", "t_session_member"]);
}

#[test]
fn etcd_keeps_keys_and_asks_for_the_password() {
    let etcd = Etcd::start(&EtcdOptions { root_password: "geheim".into(), tls: None }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connect = || etcd_client::Client::connect([etcd.addr()], etcd.connect_options());
    runtime.block_on(async { connect().await.unwrap().put("k", "v", None).await.unwrap() });
    etcd.kill9();
    etcd.restart().unwrap();
    let answer = runtime.block_on(async { connect().await.unwrap().get("k", None).await.unwrap() });
    assert_eq!(answer.kvs()[0].value(), b"v");
    let nobody =
        runtime.block_on(async { etcd_client::Client::connect([etcd.addr()], None).await?.get("k", None).await });
    assert!(nobody.is_err());
}

#[test]
fn nats_greets_and_wants_its_token() {
    let auth = NatsAuth::Token("geheim".into());
    let nats = Nats::start(&NatsOptions { auth, jetstream: true, ..Default::default() }).unwrap();
    let greeting = String::from_utf8(read_greeting(nats.port())).unwrap();
    assert!(greeting.contains("\"auth_required\":true") && greeting.contains("\"jetstream\":true"), "{greeting}");
    nats.kill9();
    nats.restart().unwrap();
    assert!(read_greeting(nats.port()).starts_with(b"INFO"));
}

#[test]
fn the_current_nats_is_another_than_the_installed_one() {
    let version = |version| {
        let nats = Nats::start(&NatsOptions { version, ..Default::default() }).unwrap();
        let greeting = String::from_utf8(read_greeting(nats.port())).unwrap();
        greeting.split("\"version\":\"").nth(1).and_then(|rest| rest.split('"').next().map(String::from)).unwrap()
    };
    let minor = |text: &str| text.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok()).unwrap();
    let (installed, current) = (version(NatsVersion::Installed), version(NatsVersion::Current));
    assert!(minor(&current) >= 12 && minor(&current) >= minor(&installed), "{installed} and {current}");
}

#[test]
fn a_server_that_cannot_start_says_what_it_logged() {
    let words =
        Nats::start(&NatsOptions { config: "nonsense: [".into(), ..Default::default() }).err().unwrap().to_string();
    assert!(words.contains("nats-server ended with") && words.contains("Parse error on line 1"), "{words}");
}

fn read_greeting(port: u16) -> Vec<u8> {
    use std::io::Read;
    let mut buffer = vec![0; 4096];
    let length = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap().read(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}
