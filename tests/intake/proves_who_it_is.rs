//! Servers take what we prove: a user's key, and a file of credentials of an operator's account; with a wrong one they refuse.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::servers::{Nats, NatsOptions, NatsVersion};
use nkeys::KeyPair;
use serde_json::{Value, json};
use task_engine::edge::nats::auth::{Credentials, Identity, UserKey};
use task_engine::edge::nats::protocol::{
    Connect, Decoder, ErrorKind, Frame, PING, ServerError, ServerInfo, Step, connect,
};

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

#[test]
fn a_user_by_a_file_of_credentials() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let operator_claims = json!({"type": "operator", "version": 2});
    let all = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1});
    let account_claims =
        json!({"type": "account", "version": 2, "limits": all, "default_permissions": {"pub": {}, "sub": {}}});
    let user_claims =
        json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}});
    let config = format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}\n",
        jwt(&operator, &operator, "O", &operator_claims, None),
        account.public_key(),
        jwt(&operator, &account, "A", &account_claims, None),
    );
    let good = file(&jwt(&account, &user, "U", &user_claims, None), &user);
    let expired = file(&jwt(&account, &user, "U", &user_claims, Some(1_700_000_001)), &user);
    let foreign = file(&jwt(&KeyPair::new_account(), &user, "U", &user_claims, None), &user);
    let mut bearer = user_claims.clone();
    bearer["bearer_token"] = true.into();
    let bearer = jwt(&account, &user, "U", &bearer, None);
    let bearer = format!("-----BEGIN NATS USER JWT-----\n{bearer}\n------END NATS USER JWT------\n");
    let read = |text: &str| Credentials::parse("test.creds", text).expect("it is read");
    assert_eq!(read(&expired).expires, Some(1_700_000_001));
    for version in VERSIONS {
        let server = start(version, config.clone());
        for text in [&good, &bearer] {
            assert_eq!(login(&server, &Identity::Credentials(read(text))), Ok(()), "{version:?}");
        }
        for text in [&expired, &foreign] {
            let refused = login(&server, &Identity::Credentials(read(text)));
            assert_eq!(refused, Err(ErrorKind::AuthorizationViolation), "{version:?}");
        }
        assert_eq!(login(&server, &Identity::Key(key(&user))), Err(ErrorKind::AuthorizationViolation));
    }
}
