//! Promise: no password, token, DSN or URL user part is in what is shown, in `Debug` or in a message about a mistake.

use proptest::prelude::*;
use task_engine::config::{self, Config, Flags, NatsAuth};

fn load(text: &str) -> Config {
    config::parse("f", text, [], &Flags::default()).unwrap_or_else(|mistakes| panic!("{mistakes}")).config
}

const ALL: &str = "mysql:\n  dsn: im:HIDDEN@p/w@tcp(db:3307)/im?parseTime=true\n  password: HIDDEN\n\
                   redis:\n  password: HIDDEN\nnats:\n  url: nats://task:HIDDEN%40x@a:4222,b\n\
                   etcd:\n  username: u\n  password: HIDDEN\n";

#[test]
fn shown_and_debugged_without_them() {
    let config = load(ALL);
    assert_eq!(config.mysql.password.reveal(), "HIDDEN@p/w", "as Go's driver cuts a DSN");
    let shown = config::show(&config);
    for text in [&shown, &format!("{config:?}"), &format!("{config:#?}")] {
        assert!(!text.contains("HIDDEN"), "{text}");
    }
    assert!(shown.contains("dsn: \"im:***@tcp(db:3307)/im?parseTime=true\""), "{shown}");
    assert!(shown.contains("nats://task:***@a:4222,nats://task:***@b:4222"), "{shown}");
    assert_eq!(shown.matches("password: \"***\"").count(), 3, "{shown}");
}

#[test]
fn what_is_shown_is_read_again_and_shown_the_same() {
    for text in
        ["", ALL, include_str!("../fixtures/go-service.yaml"), "nats:\n  url: nats://tok3n@h", "nats:\n  token: '%'"]
    {
        let shown = config::show(&load(text));
        assert_eq!(config::show(&load(&shown)), shown, "{text}");
    }
    let odd = "log:\n  output: \"/tmp/a'b\\\"c#d\"\nmysql:\n  username: 'null'\n  database: \"0123\"\n\
               nats:\n  name: \" two # words: here \"\nadmin:\n  listen: '[::1]:0'\netcd:\n  endpoints: ['[::1]:1', ':2', c]\n";
    assert_eq!(load(&config::show(&load(odd))), load(odd));
    assert_eq!(load(odd).mysql.username, "null");
}

#[test]
fn mistakes_do_not_repeat_them() {
    for text in [
        "mysql:\n  dsn: im:HIDDEN@tcp(db:3307)",
        "mysql:\n  dsn: im:HIDDEN(db)/x",
        "mysql:\n  dsn: im:HIDDEN@unix(/x)/y",
        "mysql:\n  dsn: im:HIDDEN@tcp(db:x)/y",
        "mysql:\n  dsn: im:HIDDEN@tcp(db)/y?tls=skip-verify",
        "mysql:\n  dsn: im:HIDDEN@tcp(db)/y?tls=custom",
        "mysql:\n  dsn: im:pass/HIDDEN@tcp(db)",
        "mysql:\n  password: [HIDDEN]",
        "nats:\n  url: nats://task:HIDDEN",
        "nats:\n  url: nats://task:HIDDEN@",
        "nats:\n  url: nats://task:%zzHIDDEN@h",
        "nats:\n  url: http://task:HIDDEN@h",
        "nats:\n  url: nats://a:HIDDEN@h,nats://b:HIDDEN@i",
        "redis:\n  addr: redis://:HIDDEN@h:1",
        "etcd:\n  endpoints: http://root:HIDDEN@h:1",
        "etcd:\n  password: HIDDEN",
        "nats:\n  token: HIDDEN\n  username: x",
    ] {
        match config::parse("f", text, [], &Flags::default()) {
            Err(mistakes) => assert!(!format!("{mistakes} {mistakes:?}").contains("HIDDEN"), "{mistakes}"),
            Ok(checked) => assert!(text.contains("HIDDEN@\"") || text.ends_with("HIDDEN@"), "{text}: {checked:?}"),
        }
    }
}

#[test]
fn a_nats_url_says_who_we_are() {
    let auth = |url: &str| load(&format!("nats:\n  url: {url}")).nats.auth;
    assert!(
        matches!(auth("nats://a%40b:p%3A@h"), NatsAuth::User { username, password } if username == "a@b" && password.reveal() == "p:")
    );
    assert!(matches!(auth("tok@h"), NatsAuth::Token(token) if token.reveal() == "tok"));
    assert_eq!(auth("h"), NatsAuth::None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Whatever YAML makes of what stands around it.
    #[test]
    fn no_mistake_of_form_repeats_what_stands_at_a_secret(
        form in 0..5_usize,
        before in "([!&*%@`{}\\[\\]|>'\":,#?~<= \n\t-]|: |, |\n  |\n    |---|x|!!|&x |\\*x){0,4}",
        after in "([!&*%@`{}\\[\\]|>'\":,#?~<= \n\t-]|: |, |\n  |\n    |---|x|HIDDEN|\n  port: 1\n){0,5}",
    ) {
        let secret = format!("{before}HIDDEN{after}");
        let text = match form {
            0 => format!("mysql:\n  password: {secret}\n"),
            1 => format!("mysql:\n  host: a\n  password: {secret}\n  port: 3306\n"),
            2 => format!("mysql: {{host: a, password: {secret}}}\n"),
            3 => format!("nats:\n  token:{secret}\nlog:\n"),
            _ => format!("redis:\n  password: &x {secret}\n  db: *x\n"),
        };
        if let Err(mistakes) = config::parse("f", &text, [], &Flags::default()) {
            prop_assert!(!mistakes.to_string().contains("HIDDEN"), "{text}\n{mistakes}");
        }
    }
}
