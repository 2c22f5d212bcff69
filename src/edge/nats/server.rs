//! Words about who we are to a server. Promises that no secret shows.

use super::auth::{Identity, mask_jwts};
use super::protocol::{ErrorKind, ServerError};
use crate::config::{NatsAuth, Secret};
use crate::model::redact;

/// A server's words without the secret that it may repeat.
pub(super) fn mask(auth: &NatsAuth, text: &str) -> String {
    let without = |secret: &Secret| redact::secret(text, secret.reveal());
    mask_jwts(&match auth {
        NatsAuth::User { password: secret, .. } | NatsAuth::Token(secret) | NatsAuth::NkeySeed(secret) => {
            without(secret)
        }
        NatsAuth::None | NatsAuth::NkeySeedFile(_) | NatsAuth::CredsFile(_) => text.to_owned(),
    })
}

/// Whom the server knows us as, without a secret.
pub(super) fn who(auth: &NatsAuth) -> String {
    match auth {
        NatsAuth::User { username, .. } => format!("user {username}"),
        NatsAuth::Token(_) => "the user of this token".to_owned(),
        NatsAuth::None => "a user without a login".to_owned(),
        NatsAuth::NkeySeed(_) => "the user of this NKey seed".to_owned(),
        NatsAuth::NkeySeedFile(path) | NatsAuth::CredsFile(path) => format!("the user of {}", path.display()),
    }
}

/// A refused subscription, and what to check.
pub(super) fn may_not_subscribe(who: &str, subject: &str, text: &str) -> String {
    format!("{who} may not subscribe to {subject}; check the user's permissions ({text})")
}

/// Which keys an operator has to look at when the login is refused.
pub(super) fn keys(auth: &NatsAuth) -> String {
    match auth {
        NatsAuth::None => {
            "the server wants a login: set nats.username and nats.password, nats.token, or nats.creds_file".to_owned()
        }
        NatsAuth::User { .. } => "check nats.username and nats.password (or those in nats.url)".to_owned(),
        NatsAuth::Token(_) => "check nats.token (or the one in nats.url)".to_owned(),
        NatsAuth::NkeySeed(_) => "check nats.nkey_seed: does the server know its public key?".to_owned(),
        NatsAuth::NkeySeedFile(path) => {
            format!("check nats.nkey_seed_file {}: does the server know its public key?", path.display())
        }
        NatsAuth::CredsFile(path) => {
            format!("check nats.creds_file {}: is it of an account that the server knows, and valid?", path.display())
        }
    }
}

/// What a server's last word means for an operator, when it is about who we are.
pub(super) fn explain(auth: &NatsAuth, identity: Option<&Identity>, refusal: Option<&ServerError>) -> Option<String> {
    let refusal = refusal?;
    let what = match refusal.kind {
        ErrorKind::AuthorizationViolation => "the login was refused",
        ErrorKind::AuthenticationExpired => "the login has ended, as its time is over",
        ErrorKind::Revoked => "the login was revoked",
        ErrorKind::AccountExpired => "the account has ended, as its time is over",
        ErrorKind::AccountFailed => "the account cannot be used",
        _ => return None,
    };
    let said = match refusal.kind {
        ErrorKind::AuthorizationViolation => String::new(),
        _ => format!(" ({})", mask(auth, &refusal.words)),
    };
    let ended = identity.and_then(Identity::ended).map(humantime::format_rfc3339_seconds);
    let check = match (ended, auth) {
        (Some(ended), NatsAuth::CredsFile(path)) => {
            format!("the JWT in nats.creds_file {} ended at {ended}: renew the file", path.display())
        }
        (_, NatsAuth::CredsFile(path)) if refusal.kind == ErrorKind::AuthenticationExpired => {
            format!("renew nats.creds_file {}; it is read anew at each connect", path.display())
        }
        _ => keys(auth),
    };
    Some(format!("{what}{said}; {check}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_server_says_what_to_check() {
        let said = |auth: &NatsAuth, words: &str| explain(auth, None, Some(&ServerError::parse(words.as_bytes())));
        let creds = NatsAuth::CredsFile("/etc/x.creds".into());
        for (auth, words, want) in [
            (&creds, "'Authorization Violation'", &["the login was refused; check nats.creds_file /etc/x.creds"][..]),
            (
                &creds,
                "'User Authentication Expired'",
                &["time is over (User Authentication", "renew nats.creds_file /etc/x.creds"],
            ),
            (&creds, "'User Authentication Revoked'", &["was revoked", "check nats.creds_file /etc/x.creds"]),
            (&NatsAuth::NkeySeed(Secret::new("SUAX")), "'Authorization Violation'", &["check nats.nkey_seed:"]),
            (&NatsAuth::NkeySeedFile("/k".into()), "'Authorization Violation'", &["check nats.nkey_seed_file /k:"]),
            (&NatsAuth::None, "'Authorization Violation'", &["wants a login", "nats.creds_file"]),
        ] {
            let said = said(auth, words).expect(words);
            assert!(want.iter().all(|part| said.contains(part)) && !said.contains("SUAX"), "{words}: {said}");
        }
        assert_eq!(said(&creds, "'Slow Consumer'"), None);
        assert_eq!(explain(&creds, None, None), None);
    }
}
