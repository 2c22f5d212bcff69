//! What a client says of itself.

use std::fmt;

use serde::Serialize;

/// The answer to the server's first INFO. Its `Debug` shows no secret.
#[derive(Clone, Default, Serialize)]
pub struct Connect<'a> {
    /// Whether the server answers each line with +OK.
    pub verbose: bool,
    /// Whether the server looks at subjects more strictly.
    pub pedantic: bool,
    /// Whether the connection is one over TLS.
    pub tls_required: bool,
    /// Who the client is, for whoever looks at the server.
    pub name: &'a str,
    /// The client's language.
    pub lang: &'static str,
    /// The client's version.
    pub version: &'static str,
    /// 1: INFOs may come at any time.
    pub protocol: u8,
    /// Whether messages may have headers.
    pub headers: bool,
    /// Whether a request that nobody listens to is answered with 503.
    pub no_responders: bool,
    /// Whether what this client publishes also comes to its own subscriptions.
    pub echo: bool,
    /// The login.
    #[serde(flatten)]
    pub login: Login<'a>,
}

/// What proves who we are.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Login<'a> {
    /// With `pass`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// With `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<&'a str>,
    /// A token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_token: Option<&'a str>,
    /// A user's JWT, with `sig`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<&'a str>,
    /// A public key, with `sig`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<&'a str>,
    /// The server's nonce, signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sig: Option<&'a str>,
}

impl<'a> Connect<'a> {
    /// Headers, answers of "nobody listens", no +OK, over a plain connection, without a login.
    pub fn new(name: &'a str) -> Self {
        Self {
            name,
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 1,
            headers: true,
            no_responders: true,
            ..Self::default()
        }
    }
}

impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").field("name", &self.name).field("login", &self.login).finish_non_exhaustive()
    }
}

impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, pass, auth_token, jwt, nkey, sig: _ } = self;
        let is_there = |secret: &Option<&str>| secret.map(|_| "***");
        f.debug_struct("Login")
            .field("user", user)
            .field("pass", &is_there(pass))
            .field("auth_token", &is_there(auth_token))
            .field("jwt", &is_there(jwt))
            .field("nkey", nkey)
            .finish_non_exhaustive()
    }
}

/// Says who we are; the first line that a client writes.
pub fn connect(out: &mut Vec<u8>, hello: &Connect<'_>) {
    let json = serde_json::to_vec(hello).expect("words and truth values are JSON");
    out.extend_from_slice(b"CONNECT ");
    out.extend_from_slice(&json);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(hello: &Connect<'_>) -> String {
        let mut out = Vec::new();
        connect(&mut out, hello);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn what_is_said_is_one_line_of_json() {
        let version = env!("CARGO_PKG_VERSION");
        let plain = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"name\":\"a \\\"b\\r\\n\",\"lang\":\"rust\",\
             \"version\":\"{version}\",\"protocol\":1,\"headers\":true,\"no_responders\":true,\"echo\":false}}\r\n"
        );
        assert_eq!(line(&Connect::new("a \"b\r\n")), plain);
        let login = Login { user: Some("u"), pass: Some("p\n"), ..Login::default() };
        let hello = Connect { echo: true, tls_required: true, login, ..Connect::new("n") };
        assert!(line(&hello).ends_with("\"echo\":true,\"user\":\"u\",\"pass\":\"p\\n\"}\r\n"), "{}", line(&hello));
        assert!(line(&hello).contains("\"tls_required\":true"));
        let login =
            Login { jwt: Some("j"), nkey: Some("U"), sig: Some("s"), auth_token: Some("t"), ..Login::default() };
        let hello = Connect { login, ..Connect::new("n") };
        assert!(line(&hello).ends_with("\"auth_token\":\"t\",\"jwt\":\"j\",\"nkey\":\"U\",\"sig\":\"s\"}\r\n"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let secrets = ["hunter2", "t0ken", "eyJ0", "sIgned"];
        let [pass, auth_token, jwt, sig] = secrets.map(Some);
        let login = Login { user: Some("me"), pass, auth_token, jwt, nkey: Some("UABC"), sig };
        let shown = format!("{:?}", Connect { login, ..Connect::new("n") });
        assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
        assert!(shown.contains("me") && shown.contains("UABC") && shown.contains("***"), "{shown}");
    }
}
