//! How we prove to a server who we are: nothing, user and password, a token, a user's key, or a file of credentials (JWT and key).
//!
//! Promises that a mistake in a file is told with the file's name and what to look at, before a server refuses it without a word.
//! Refuses to show a seed, a JWT or a signature: not in an error, not in Debug. Files are read at each connect, so that one that
//! was renewed counts; that blocks.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::{KeyPair, KeyPairType};
use serde::Deserialize;

use super::protocol::Login;
use crate::config::{NatsAuth, Secret};
use crate::model::redact;

const JWT: &str = "NATS USER JWT";
const SEED: &str = "USER NKEY SEED";
/// The longest file that is read.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// What the text of each JWT begins with.
const JWT_BEGIN: &str = "eyJ";

/// What is wrong with a seed or a file of credentials, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthError(String);

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AuthError {}

/// A user's key pair.
#[derive(Clone)]
pub struct UserKey {
    pair: KeyPair,
    public: String,
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl UserKey {
    /// Reads a seed; blanks around it do not count. `origin` is where it stands: a file's name, or a key of the configuration.
    ///
    /// # Errors
    /// When it is not a user's seed.
    pub fn from_seed(origin: &str, seed: &str) -> Result<Self, AuthError> {
        let seed = seed.trim();
        let wrong = |why: &str| AuthError(format!("{origin}: {why}"));
        if seed.is_empty() {
            return Err(wrong("there is no seed in it"));
        }
        let pair = KeyPair::from_seed(seed).map_err(|_| {
            wrong("the seed cannot be read: a user's seed is 58 capitals and digits that begin with SU; is one missing or changed?")
        })?;
        if pair.key_pair_type() != KeyPairType::User {
            return Err(wrong("the seed is not a user's: that of a user begins with SU"));
        }
        Ok(Self { public: pair.public_key(), pair })
    }

    /// What the server knows the user by.
    pub fn public(&self) -> &str {
        &self.public
    }

    fn sign(&self, nonce: &str) -> String {
        let signature = self.pair.sign(nonce.as_bytes()).expect("a pair from a seed signs");
        URL_SAFE_NO_PAD.encode(signature)
    }
}

/// What a file of credentials holds.
#[derive(Clone, Debug)]
pub struct Credentials {
    jwt: Secret,
    /// None: the JWT is good for whoever has it.
    key: Option<UserKey>,
    /// When the JWT ends, in seconds since 1970; none: never.
    pub expires: Option<u64>,
}

/// What of a user's JWT is looked at.
#[derive(Default, Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    exp: u64,
    #[serde(default)]
    nats: UserClaims,
}

#[derive(Default, Deserialize)]
struct UserClaims {
    #[serde(default)]
    bearer_token: bool,
}

impl Credentials {
    /// Reads the text of a file of credentials, as `nsc` writes them. `origin` is the file's name.
    ///
    /// # Errors
    /// When a part is missing, cannot be read, or the parts are of two users.
    pub fn parse(origin: &str, text: &str) -> Result<Self, AuthError> {
        let wrong = |why: &str| AuthError(format!("{origin}: {why}"));
        let jwt = block(text, JWT).ok_or_else(|| wrong("there is no part -----BEGIN NATS USER JWT-----"))?;
        let claims = claims(&jwt).ok_or_else(|| wrong("the JWT in it cannot be read"))?;
        let key = match block(text, SEED) {
            None if claims.nats.bearer_token => None,
            None => return Err(wrong("there is no part -----BEGIN USER NKEY SEED-----")),
            Some(seed) => Some(UserKey::from_seed(origin, &seed)?),
        };
        if key.as_ref().is_some_and(|key| key.public != claims.sub) {
            return Err(wrong("the JWT and the seed in it are of two different users"));
        }
        Ok(Self { jwt: Secret::new(&jwt), key, expires: Some(claims.exp).filter(|expires| *expires > 0) })
    }
}

/// Who we are.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Nobody.
    None,
    /// A user with a password.
    User {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Whoever knows this.
    Token(Secret),
    /// A user by its key.
    Key(UserKey),
    /// A user by a file of credentials.
    Credentials(Credentials),
}

impl Identity {
    /// As the configuration says; a file is read now.
    ///
    /// # Errors
    /// What is wrong with a seed or a file.
    pub fn read(auth: &NatsAuth) -> Result<Self, AuthError> {
        let origin = |(key, path): (&str, &Path)| format!("{key} {}", path.display());
        Ok(match auth {
            NatsAuth::None => Self::None,
            NatsAuth::Token(token) => Self::Token(token.clone()),
            NatsAuth::User { username, password } => {
                Self::User { username: username.clone(), password: password.clone() }
            }
            NatsAuth::NkeySeed(seed) => Self::Key(UserKey::from_seed("nats.nkey_seed", seed.reveal())?),
            NatsAuth::NkeySeedFile(path) => {
                let origin = origin(("nats.nkey_seed_file", path));
                Self::Key(UserKey::from_seed(&origin, seed_in(&text_of(&origin, path)?))?)
            }
            NatsAuth::CredsFile(path) => {
                let origin = origin(("nats.creds_file", path));
                Self::Credentials(Credentials::parse(&origin, &text_of(&origin, path)?)?)
            }
        })
    }

    /// When it ended, if it has.
    pub fn ended(&self) -> Option<SystemTime> {
        let Self::Credentials(Credentials { expires: Some(expires), .. }) = self else { return None };
        let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(*expires))?;
        Some(end).filter(|end| *end <= SystemTime::now())
    }

    /// A server's words without the secret that it may repeat.
    pub fn mask(&self, text: &str) -> String {
        match self {
            Self::None | Self::Key(_) => mask_jwts(text),
            Self::User { password: secret, .. }
            | Self::Token(secret)
            | Self::Credentials(Credentials { jwt: secret, .. }) => mask_jwts(&redact::secret(text, secret.reveal())),
        }
    }

    /// The proof for one connection, whose server sent this nonce (empty: none).
    pub fn prove(&self, nonce: &str) -> Proof<'_> {
        let signature = match self {
            Self::Key(key) | Self::Credentials(Credentials { key: Some(key), .. }) => Some(key.sign(nonce)),
            _ => None,
        };
        Proof { identity: self, signature }
    }
}

/// A proof for one connection.
pub struct Proof<'a> {
    identity: &'a Identity,
    signature: Option<String>,
}

impl Proof<'_> {
    /// The fields of CONNECT.
    pub fn login(&self) -> Login<'_> {
        let sig = self.signature.as_deref();
        match self.identity {
            Identity::None => Login::default(),
            Identity::Token(token) => Login { auth_token: Some(token.reveal()), ..Login::default() },
            Identity::User { username, password } => {
                Login { user: Some(username), pass: Some(password.reveal()), ..Login::default() }
            }
            Identity::Key(key) => Login { nkey: Some(&key.public), sig, ..Login::default() },
            Identity::Credentials(credentials) => {
                Login { jwt: Some(credentials.jwt.reveal()), sig, ..Login::default() }
            }
        }
    }
}

/// A text without the JWTs in it, whosever they are.
pub(super) fn mask_jwts(text: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(JWT_BEGIN) {
        shown.push_str(&rest[..at]);
        shown.push_str("***");
        let is_of_jwt = |char: char| char.is_ascii_alphanumeric() || "-_.=".contains(char);
        rest = rest[at..].trim_start_matches(is_of_jwt);
    }
    shown + rest
}

fn text_of(origin: &str, path: &Path) -> Result<String, AuthError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| AuthError(format!("{origin}: cannot be read ({})", crate::edge::socket::words(&error))))?;
    String::from_utf8(bytes).map_err(|_| AuthError(format!("{origin}: it is no text")))
}

/// The seed in a file: alone, in a line of its own, or between lines of dashes.
fn seed_in(text: &str) -> &str {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.find(|line| line.starts_with("SU")).unwrap_or(text)
}

/// What stands between a part's BEGIN and the next line of dashes; none when nothing does.
fn block(text: &str, name: &str) -> Option<String> {
    let is_rule = |line: &str| line.trim().starts_with("---");
    let mut lines = text.lines().skip_while(|line| !(is_rule(line) && line.contains("BEGIN") && line.contains(name)));
    lines.next()?;
    let inner: String = lines.take_while(|line| !is_rule(line)).map(str::trim).collect();
    (!inner.is_empty()).then_some(inner)
}

fn claims(jwt: &str) -> Option<Claims> {
    let mut parts = jwt.split('.');
    let (_, body, _) = (parts.next()?, parts.next()?, parts.next()?);
    let body = URL_SAFE_NO_PAD.decode(body.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&body).ok().filter(|_| parts.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        format!("{}.{}.{}", part(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#), part(claims), part("signature"))
    }

    fn file(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\r\n{jwt}\r\n------END NATS USER JWT------\r\n\r\n\
             ************************* IMPORTANT *************************\n\
             NKEY Seed printed below can be used to sign and prove identity.\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
             *************************************************************\n"
        )
    }

    #[test]
    fn a_key_signs_the_nonce() {
        let pair = KeyPair::new_user();
        let seed = pair.seed().expect("a seed");
        let identity = Identity::Key(UserKey::from_seed("nats.nkey_seed", &format!("\n {seed} \r\n")).expect("a seed"));
        let proof = identity.prove("n0nce");
        let login = proof.login();
        assert_eq!((login.nkey, login.jwt, login.user), (Some(&pair.public_key()[..]), None, None));
        let signature = URL_SAFE_NO_PAD.decode(login.sig.expect("signed")).expect("base64");
        pair.verify(b"n0nce", &signature).expect("good");
        assert!(pair.verify(b"other", &signature).is_err());
        assert!(!format!("{identity:?} {login:?}").contains(&seed[4..20]), "no secret is shown");
    }

    #[test]
    fn a_file_is_a_jwt_and_a_key() {
        let pair = KeyPair::new_user();
        let (public, seed) = (pair.public_key(), pair.seed().expect("a seed"));
        let jwt = jwt(&format!(r#"{{"sub":"{public}","exp":7,"nats":{{"type":"user"}}}}"#));
        let credentials = Credentials::parse("x.creds", &file(&jwt, &seed)).expect("good");
        assert_eq!(credentials.expires, Some(7));
        let identity = Identity::Credentials(credentials);
        let proof = identity.prove("n");
        let login = proof.login();
        assert_eq!((login.jwt, login.nkey), (Some(&jwt[..]), None));
        assert_eq!(identity.mask(&format!("bad {jwt}!")), "bad ***!");
        let signature = URL_SAFE_NO_PAD.decode(login.sig.expect("signed")).expect("base64");
        pair.verify(b"n", &signature).expect("good");
        let shown = format!("{identity:?}");
        assert!(!shown.contains(&jwt[..20]) && !shown.contains(&seed[..8]) && shown.contains(&public), "{shown}");
    }

    #[test]
    fn a_bearer_needs_no_key() {
        let jwt = jwt(r#"{"sub":"UABC","nats":{"bearer_token":true}}"#);
        let text = format!("-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n");
        let identity = Identity::Credentials(Credentials::parse("x.creds", &text).expect("good"));
        let proof = identity.prove("n");
        assert_eq!((proof.login().jwt, proof.login().sig), (Some(&jwt[..]), None));
    }

    #[test]
    fn what_the_configuration_says_is_proved() {
        let prove = |auth: NatsAuth| {
            let identity = Identity::read(&auth).expect("no file");
            let proof = identity.prove("nonce");
            let Login { user, pass, auth_token, jwt, nkey, sig } = proof.login();
            assert_eq!((jwt, nkey, sig), (None, None, None));
            [user, pass, auth_token].map(|text| text.unwrap_or("-").to_owned())
        };
        assert_eq!(prove(NatsAuth::None), ["-", "-", "-"]);
        assert_eq!(prove(NatsAuth::Token(Secret::new("t"))), ["-", "-", "t"]);
        let user = NatsAuth::User { username: "u".to_owned(), password: Secret::new("p") };
        assert_eq!(prove(user.clone()), ["u", "p", "-"]);
        assert_eq!(Identity::read(&user).expect("no file").mask("no p here"), "no *** here");
    }

    #[test]
    fn files_are_read_anew_and_a_mistake_names_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("user.nk");
        let auth = NatsAuth::NkeySeedFile(path.clone());
        let error = Identity::read(&auth).expect_err("it is not there").to_string();
        let origin = format!("nats.nkey_seed_file {}: ", path.display());
        assert!(error.starts_with(&origin) && error.contains("no such file"), "{error}");
        for dressed in [false, true] {
            let pair = KeyPair::new_user();
            let seed = pair.seed().expect("a seed");
            let text = match dressed {
                true => format!("-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"),
                false => format!("\n{seed}\n"),
            };
            std::fs::write(&path, text).expect("written");
            let Ok(Identity::Key(key)) = Identity::read(&auth) else { panic!("no key") };
            assert_eq!(key.public(), pair.public_key());
        }
        std::fs::write(&path, "nothing").expect("written");
        let error = Identity::read(&auth).expect_err("no seed").to_string();
        assert!(error.starts_with(&origin) && error.contains("the seed cannot be read"), "{error}");
        std::fs::write(&path, b"\xff").expect("written");
        assert!(Identity::read(&NatsAuth::CredsFile(path)).expect_err("no text").to_string().contains("it is no text"));
    }

    #[test]
    fn what_ended_is_known_and_a_jwt_is_not_shown() {
        let of = |expires| {
            let claims = format!(r#"{{"sub":"U","exp":{expires},"nats":{{"bearer_token":true}}}}"#);
            let text = format!("-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n", jwt(&claims));
            Identity::Credentials(Credentials::parse("x", &text).expect("good"))
        };
        assert_eq!(of(7).ended(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(7)));
        assert_eq!((of(0).ended(), of(u64::MAX).ended(), Identity::None.ended()), (None, None, None));
        let other = jwt("{}");
        let said = format!("Unknown Protocol 'CONNECT {{\"jwt\":\"{other}\",\"x\":\"{}'", &other[..20]);
        assert_eq!(mask_jwts(&said), "Unknown Protocol 'CONNECT {\"jwt\":\"***\",\"x\":\"***'");
    }

    #[test]
    fn a_mistake_is_told_without_a_secret() {
        let [user, other] = [KeyPair::new_user(), KeyPair::new_user()];
        let [seed, others] = [&user, &other].map(|pair| pair.seed().expect("a seed"));
        let account = KeyPair::new_account().seed().expect("a seed");
        let good = jwt(&format!(r#"{{"sub":"{}"}}"#, user.public_key()));
        let mut damaged = seed.clone().into_bytes();
        damaged[30] = if damaged[30] == b'A' { b'B' } else { b'A' };
        let damaged = String::from_utf8(damaged).expect("text");
        let no_seed = format!("-----BEGIN NATS USER JWT-----\n{good}\n------END NATS USER JWT------\n");
        for (text, words) in [
            (String::new(), "there is no part -----BEGIN NATS USER JWT-----"),
            (seed.clone(), "there is no part -----BEGIN NATS USER JWT-----"),
            (file("", &seed), "there is no part -----BEGIN NATS USER JWT-----"),
            (no_seed, "there is no part -----BEGIN USER NKEY SEED-----"),
            (file(&good, ""), "there is no part -----BEGIN USER NKEY SEED-----"),
            (file("a.b.c", &seed), "the JWT in it cannot be read"),
            (file(&good.replace('.', ""), &seed), "the JWT in it cannot be read"),
            (file(&good, &damaged), "the seed cannot be read"),
            (file(&good, &seed[..57]), "the seed cannot be read"),
            (file(&good, "\u{e9}\u{e9}"), "the seed cannot be read"),
            (file(&good, &account), "the seed is not a user's"),
            (file(&good, &others), "are of two different users"),
        ] {
            let error = Credentials::parse("/etc/nats/x.creds", &text).expect_err(words).to_string();
            assert!(error.starts_with("/etc/nats/x.creds: ") && error.contains(words), "{error}");
            for secret in [&seed, &others, &account, &damaged, &good] {
                assert!(!error.contains(&secret[..12]), "{error}");
            }
        }
        let error = UserKey::from_seed("nats.nkey_seed", " \n").expect_err("none").to_string();
        assert_eq!(error, "nats.nkey_seed: there is no seed in it");
    }
}
