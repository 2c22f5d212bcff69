//! A throw-away etcd of one member.

use std::ops::Deref;
use std::path::Path;

use etcd_client::{Client, ConnectOptions};

use super::certificates::has_certificate;
use super::{Authority, CertificateFiles, Recipe, Server, ask, folder, listens};
use crate::error::{Error, Result};

/// What an etcd is started with.
#[derive(Clone, Default)]
pub struct EtcdOptions<'a> {
    /// When not empty, only `root` with this password may read and write.
    pub root_password: String,
    /// A CA and a certificate of it: the port speaks TLS only, and takes clients with a certificate of the same CA only. What it holds is
    /// reached over [`plain_addr`](Etcd::plain_addr).
    pub tls: Option<(&'a Authority, &'a CertificateFiles)>,
}

/// A running etcd.
pub struct Etcd {
    server: Server,
    root_password: String,
}

impl Etcd {
    /// Starts one and returns when it is healthy.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(options: &EtcdOptions<'_>) -> Result<Self> {
        let folder = folder("etcd")?;
        let ready = if options.tls.is_some() { listens } else { ready };
        if let Some((authority, files)) = options.tls {
            authority.copy_into(folder.path(), files)?;
        }
        let recipe = Recipe { binary: "etcd", package: "etcd-server", ports: 3, args, ready };
        let server = Server::start(recipe, folder)?;
        if !options.root_password.is_empty() {
            let enabled = runtime()?.block_on(enable_auth(&plain_addr(&server), &options.root_password));
            enabled.map_err(|cause| Error::of("cannot turn etcd's authentication on", cause))?;
        }
        Ok(Self { server, root_password: options.root_password.clone() })
    }

    /// Where it is plain: another port when it speaks TLS.
    pub fn plain_addr(&self) -> String {
        plain_addr(&self.server)
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// How a client signs in: root and its password, when there is one.
    pub fn connect_options(&self) -> Option<ConnectOptions> {
        (!self.root_password.is_empty()).then(|| ConnectOptions::new().with_user("root", &self.root_password))
    }
}

/// A Tokio runtime for the few calls that need one.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|cause| Error::of("cannot start a Tokio runtime", cause))
}

async fn enable_auth(addr: &str, password: &str) -> std::result::Result<(), etcd_client::Error> {
    want_login(Client::connect([addr], None).await?, password).await
}

/// From now on etcd wants a login: that of root, with this password.
///
/// # Errors
/// What etcd says.
pub async fn want_login(mut client: Client, password: &str) -> std::result::Result<(), etcd_client::Error> {
    client.role_add("root").await?;
    client.user_add("root", password, None).await?;
    client.user_grant_role("root", "root").await?;
    client.auth_enable().await.map(drop)
}

fn plain_addr(server: &Server) -> String {
    let port = if has_certificate(server.folder()) { server.ports[2] } else { server.ports[0] };
    format!("127.0.0.1:{port}")
}

fn args(folder: &Path, ports: &[u16]) -> Vec<String> {
    let client = match has_certificate(folder) {
        true => format!("https://127.0.0.1:{},http://127.0.0.1:{}", ports[0], ports[2]),
        false => format!("http://127.0.0.1:{}", ports[0]),
    };
    let peer = format!("http://127.0.0.1:{}", ports[1]);
    let data = folder.join("data").display().to_string();
    let cluster = format!("default={peer}");
    let pairs = [
        ("--data-dir", data.as_str()),
        ("--listen-client-urls", &client),
        ("--advertise-client-urls", &client),
        ("--listen-peer-urls", &peer),
        ("--initial-advertise-peer-urls", &peer),
        ("--initial-cluster", &cluster),
    ];
    let mut args: Vec<_> = pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect();
    if has_certificate(folder) {
        let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
        args.extend([file("cert-file", "cert"), file("key-file", "key"), file("trusted-ca-file", "ca")]);
        args.push("--client-cert-auth".to_owned());
    }
    args
}

fn ready(port: u16) -> std::result::Result<(), String> {
    let answer = ask(port, b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let answer = String::from_utf8_lossy(&answer);
    if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    Err(answer.lines().next().unwrap_or("it says nothing").to_owned())
}

impl Deref for Etcd {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}
