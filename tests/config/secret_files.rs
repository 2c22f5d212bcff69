//! Promise: each secret may stand in a file of its own; what is wrong with such a file is told with its key and its name, and
//! what stands in it is shown nowhere.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use task_engine::config::keys::KEYS;
use task_engine::config::kinds::Kind;
use task_engine::config::{self, Checked, Flags, Mistakes, NatsAuth};

const SECRET: &str = "HIDDEN p:w";

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Checked, Mistakes> {
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    config::parse("f", text, environment, &Flags::default())
}

fn written(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("written");
    path.display().to_string()
}

/// A file with each key that names a secret's file; what stands in them.
fn all(folder: &Path) -> String {
    let password = written(folder, "password", format!("{SECRET}\n"));
    format!(
        "mysql:\n  password_file: {password}\nredis:\n  password_file: {password}\n\
         nats:\n  username: u\n  password_file: {password}\netcd:\n  username: u\n  password_file: {password}\n"
    )
}

#[test]
fn each_secret_is_read_from_its_file_without_the_line_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = load(&all(folder.path()), &[]).unwrap_or_else(|wrong| panic!("{wrong}")).config;
    for secret in [&config.mysql.password, &config.redis.password, &config.etcd.password] {
        assert_eq!(secret.reveal(), SECRET);
    }
    assert!(matches!(&config.nats.auth, NatsAuth::User { password, .. } if password.reveal() == SECRET));
    let token = written(folder.path(), "token", format!("{SECRET}\r\n"));
    let config = load("", &[("RESONANCE_NATS_TOKEN_FILE", &token)]).unwrap().config;
    assert!(matches!(&config.nats.auth, NatsAuth::Token(token) if token.reveal() == SECRET));
    let dsn = written(folder.path(), "dsn", "im:HIDDEN@tcp(db:3307)/im\n");
    let config = load("", &[("RESONANCE_MYSQL_DSN_FILE", &dsn)]).unwrap().config;
    assert_eq!((config.mysql.at.port, config.mysql.password.reveal()), (3307, "HIDDEN"));
    let lines = written(folder.path(), "lines", "a\nb\n\n");
    let config = load("", &[("RESONANCE_REDIS_PASSWORD_FILE", &lines)]).unwrap().config;
    assert_eq!(config.redis.password.reveal(), "a\nb\n", "one line end is taken off");
}

#[test]
fn every_key_of_a_secret_has_one_of_its_file() {
    for key in KEYS.iter().filter(|key| matches!(key.kind, Kind::Secret | Kind::Dsn)) {
        let file = format!("{}_file", key.full());
        assert!(KEYS.iter().any(|key| key.full() == file), "{file}");
    }
}

#[test]
fn what_stands_in_a_file_is_shown_nowhere_and_what_is_shown_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = load(&all(folder.path()), &[]).unwrap().config;
    let shown = config::show(&config);
    for text in [&shown, &format!("{config:?}")] {
        assert!(!text.contains("HIDDEN"), "{text}");
    }
    assert!(
        shown.contains("  password: \"\"\n") && !shown.contains("***"),
        "the file's key is what one would write: {shown}"
    );
    assert_eq!(load(&shown, &[]).unwrap_or_else(|wrong| panic!("{wrong}")).config, config);
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_key_and_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().display();
    let empty = written(folder.path(), "empty", "\n");
    let large = written(folder.path(), "large", vec![b'x'; 64 * 1024 + 1]);
    let binary = written(folder.path(), "binary", [0xff, 0xfe]);
    let dsn = written(folder.path(), "dsn", "im:HIDDEN@tcp(db:x)/y");
    for (key, path, what) in [
        ("mysql.password_file", format!("{place}/none"), "file not found; check the path"),
        ("redis.password_file", place.to_string(), "cannot be read: "),
        ("redis.password_file", empty, "is empty"),
        ("nats.token_file", large, "is larger than 65536 bytes; is it the right file?"),
        ("nats.token_file", binary, "is not UTF-8 text"),
        ("mysql.dsn_file", dsn, "the port after \"db\" is not from 1 to 65535"),
    ] {
        let (section, name) = key.split_once('.').expect("a key");
        let wrong = load(&format!("{section}:\n  {name}: {path}\n"), &[]).unwrap_err().to_string();
        assert!(wrong.starts_with(&format!("f:2:{}: {key}: {path}: {what}", name.len() + 5)), "{wrong}");
        assert!(!wrong.contains("HIDDEN") && !wrong.contains('\n'), "{wrong}");
    }
    // Root may read everything.
    if std::fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) != 0) {
        let closed = written(folder.path(), "closed", "x");
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).expect("closed");
        let wrong = load("", &[("RESONANCE_ETCD_PASSWORD_FILE", &closed)]).unwrap_err().to_string();
        assert!(wrong.contains("permission denied; check the permissions of the file"), "{wrong}");
    }
}

#[test]
fn of_two_keys_for_one_secret_the_later_source_wins_and_one_source_has_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), "password", SECRET);
    let plain = "redis:\n  password: plain\n";
    let named = format!("redis:\n  password_file: {file}\n");
    let config = load(plain, &[("RESONANCE_REDIS_PASSWORD_FILE", &file)]).unwrap().config;
    assert_eq!(config.redis.password.reveal(), SECRET);
    let checked = load(&named, &[("RESONANCE_REDIS_PASSWORD", "plain")]).unwrap();
    assert_eq!(checked.config.redis.password.reveal(), "plain");
    assert!(
        checked.notes[0].line("f").contains("redis.password_file: is ignored: redis.password is set"),
        "{checked:?}"
    );
    assert!(config::show(&checked.config).contains("password: \"***\""));
    let wrong = load(&format!("{named}  password: plain\n"), &[]).unwrap_err().to_string();
    assert_eq!(wrong, "f:2:18: redis.password_file: contradicts redis.password: write one of them");
}

/// As nats.nkey_seed_file, which is older and read at each connect.
#[test]
fn a_file_of_a_password_needs_the_user_as_the_password_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), "password", SECRET);
    let wrong = load(&format!("etcd:\n  password_file: {file}\n"), &[]).unwrap_err().to_string();
    assert!(wrong.contains("etcd.password: needs etcd.username") && !wrong.contains("HIDDEN"), "{wrong}");
}
