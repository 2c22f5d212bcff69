//! Servers take what we prove: a user's key, and a file of credentials of an operator's account; with a wrong one they refuse.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::servers::{Nats, NatsOptions, NatsVersion};
use nkeys::KeyPair;
use serde_json::{Value, json};
use task_engine::config::{Config, NatsAuth, NatsConfig, Secret};
use task_engine::edge::nats::auth::{Credentials, Identity, UserKey};
use task_engine::edge::nats::protocol::{
    Connect, Decoder, ErrorKind, Frame, PING, ServerError, ServerInfo, Step, connect,
};
use task_engine::edge::nats::wire::Wire;
use task_engine::engine::adapters::check_nats;
use testkit::nats::server_at;

use crate::intake_support::started;

const VERSIONS: [NatsVersion; 2] = [NatsVersion::Installed, NatsVersion::Current];

fn start(version: NatsVersion, config: String) -> Nats {
    Nats::start(&NatsOptions { version, config, ..NatsOptions::default() }).expect("a server")
}

/// Logs in: what the server complains of, or nothing when it answers a PING.
fn login(server: &Nats, identity: &Identity) -> Result<(), ErrorKind> {
    let mut stream = TcpStream::connect(server.addr()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let (mut decoder, mut came, mut read) = (Decoder::default(), Vec::new(), 0);
    loop {
        let (frame, used) = match decoder.next(&came[read..]).expect("NATS") {
            Step::Frame(frame, used) => (frame, used),
            Step::More { .. } => {
                let mut piece = [0; 4096];
                let count = stream.read(&mut piece).expect("it answers");
                assert!(count > 0, "it closed the connection without a word");
                came.extend_from_slice(&piece[..count]);
                continue;
            }
        };
        read += used;
        match frame {
            // The current server says more of itself after the login.
            Frame::Info(json) if read == used => {
                let info = ServerInfo::parse(json).expect("JSON");
                assert!(!info.nonce.is_empty(), "{info:?}");
                let (proof, mut out) = (identity.prove(&info.nonce), Vec::new());
                connect(&mut out, &Connect { login: proof.login(), ..Connect::new("test") });
                out.extend_from_slice(PING);
                stream.write_all(&out).expect("it reads");
            }
            Frame::Pong => return Ok(()),
            Frame::Error(words) => return Err(ServerError::parse(words).kind),
            _ => {}
        }
    }
}

fn key(pair: &KeyPair) -> UserKey {
    UserKey::from_seed("nats.nkey_seed", &pair.seed().expect("a seed")).expect("a user's")
}

#[test]
fn a_user_by_its_key() {
    let (known, unknown) = (KeyPair::new_user(), KeyPair::new_user());
    for version in VERSIONS {
        let server = start(version, format!("authorization {{ users: [{{nkey: {}}}] }}\n", known.public_key()));
        assert_eq!(login(&server, &Identity::Key(key(&known))), Ok(()));
        for other in [Identity::Key(key(&unknown)), Identity::None] {
            assert_eq!(login(&server, &other), Err(ErrorKind::AuthorizationViolation));
        }
    }
}

/// A JWT as `nsc` makes them; servers do not look at its id.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, claims: &Value, expires: Option<u64>) -> String {
    let mut body = json!({
        "jti": "one", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": name, "nats": claims,
    });
    if let Some(expires) = expires {
        body["exp"] = expires.into();
    }
    let head = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let [head, body] = [head, body].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let text = format!("{head}.{body}");
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(text.as_bytes()).expect("signed"));
    format!("{text}.{signature}")
}

fn file(jwt: &str, user: &KeyPair) -> String {
    let seed = user.seed().expect("a seed");
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// An operator with an account, and a user of it.
struct Tenant {
    operator: KeyPair,
    account: KeyPair,
    user: KeyPair,
}

impl Tenant {
    fn new() -> Self {
        Self { operator: KeyPair::new_operator(), account: KeyPair::new_account(), user: KeyPair::new_user() }
    }

    /// A server of this operator.
    fn config(&self) -> String {
        let operator_claims = json!({"type": "operator", "version": 2});
        let all = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1});
        let account_claims =
            json!({"type": "account", "version": 2, "limits": all, "default_permissions": {"pub": {}, "sub": {}}});
        format!(
            "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}\n",
            jwt(&self.operator, &self.operator, "O", &operator_claims, None),
            self.account.public_key(),
            jwt(&self.operator, &self.account, "A", &account_claims, None),
        )
    }

    fn claims() -> Value {
        json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}})
    }

    /// The user's file, good until then.
    fn file(&self, expires: Option<u64>) -> String {
        file(&jwt(&self.account, &self.user, "U", &Self::claims(), expires), &self.user)
    }

    /// The user's file of an account that the server does not know.
    fn foreign_file(&self) -> String {
        file(&jwt(&KeyPair::new_account(), &self.user, "U", &Self::claims(), None), &self.user)
    }
}

#[test]
fn a_user_by_a_file_of_credentials() {
    let tenant = Tenant::new();
    let (good, expired, foreign) = (tenant.file(None), tenant.file(Some(1_700_000_001)), tenant.foreign_file());
    let mut bearer = Tenant::claims();
    bearer["bearer_token"] = true.into();
    let bearer = jwt(&tenant.account, &tenant.user, "U", &bearer, None);
    let bearer = format!("-----BEGIN NATS USER JWT-----\n{bearer}\n------END NATS USER JWT------\n");
    let read = |text: &str| Credentials::parse("test.creds", text).expect("it is read");
    assert_eq!(read(&expired).expires, Some(1_700_000_001));
    for version in VERSIONS {
        let server = start(version, tenant.config());
        for text in [&good, &bearer] {
            assert_eq!(login(&server, &Identity::Credentials(read(text))), Ok(()), "{version:?}");
        }
        for text in [&expired, &foreign] {
            let refused = login(&server, &Identity::Credentials(read(text)));
            assert_eq!(refused, Err(ErrorKind::AuthorizationViolation), "{version:?}");
        }
        assert_eq!(login(&server, &Identity::Key(key(&tenant.user))), Err(ErrorKind::AuthorizationViolation));
    }
}

fn settings(server: &Nats, auth: NatsAuth) -> Config {
    let nats = NatsConfig {
        servers: server_at(&server.addr()),
        timeout: Duration::from_secs(5),
        reconnect_delay: Duration::from_millis(50),
        auth,
        ..NatsConfig::default()
    };
    Config { nats, ..Config::default() }
}

#[test]
fn a_file_of_credentials_is_read_anew_at_each_connect() {
    let (tenant, folder) = (Tenant::new(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("engine.creds");
    let write = |text: &str| std::fs::write(&path, text).expect("written");
    let shown = path.display().to_string();
    for version in VERSIONS {
        let server = start(version, tenant.config());
        let settings = settings(&server, NatsAuth::CredsFile(path.clone()));
        write(&tenant.file(Some(1_700_000_001)));
        let taking = started(&settings, 1);
        let ended = format!("the JWT in nats.creds_file {shown} ended at 2023-11-14T22:13:21Z: renew the file");
        let words = [&server.addr()[..], "the login was refused", &ended];
        taking.until_waiting(&words);
        let said = Wire::connect(&settings.nats, "test").err().expect("refused").to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        write(&tenant.foreign_file());
        taking.until_waiting(&["the login was refused", &format!("check nats.creds_file {shown}: ")]);
        write("nothing");
        taking.until_waiting(&[&format!("nats.creds_file {shown}: there is no part")]);
        let why = check_nats(&settings).expect_err("there is nothing in it");
        assert!(why.contains(&shown), "{why}");
        // One that ends while it is in use, and is renewed then.
        let soon = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs() + 3;
        write(&tenant.file(Some(soon)));
        taking.until_ready();
        taking.until_waiting(&[&shown, "renew"]);
        write(&tenant.file(None));
        taking.until_ready();
        Wire::connect(&settings.nats, "test").unwrap_or_else(|why| panic!("{why}")).ping().expect("it answers");
        taking.stop();
    }
}

#[test]
fn a_seed_in_a_file_or_in_the_configuration_is_used() {
    let (known, unknown) = (KeyPair::new_user(), KeyPair::new_user());
    let [good, wrong] = [&known, &unknown].map(|pair| pair.seed().expect("a seed"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("user.nk");
    for version in VERSIONS {
        let server = start(version, format!("authorization {{ users: [{{nkey: {}}}] }}\n", known.public_key()));
        std::fs::write(&path, &wrong).expect("written");
        let by_file = settings(&server, NatsAuth::NkeySeedFile(path.clone()));
        let taking = started(&by_file, 1);
        let said =
            taking.until_waiting(&["the login was refused", &format!("check nats.nkey_seed_file {}", path.display())]);
        assert!(!said.contains(&wrong[..12]), "{said}");
        std::fs::write(&path, format!("{good}\n")).expect("written");
        taking.until_ready();
        taking.stop();
        let by_key = settings(&server, NatsAuth::NkeySeed(Secret::new(&good)));
        let taking = started(&by_key, 1);
        taking.until_ready();
        taking.stop();
        Wire::connect(&by_key.nats, "test").unwrap_or_else(|why| panic!("{why}"));
        let why = check_nats(&settings(&server, NatsAuth::NkeySeed(Secret::new(&good[..50])))).expect_err("cut off");
        assert!(why.starts_with("nats.nkey_seed: the seed cannot be read") && !why.contains(&good[..12]), "{why}");
    }
}
