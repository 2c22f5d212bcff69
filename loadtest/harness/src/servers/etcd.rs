//! A throw-away etcd of one member.

use std::ops::Deref;
use std::path::Path;

use etcd_client::{Client, ConnectOptions};

use super::{Recipe, Server, ask, folder};
use crate::error::{Error, Result};

/// What an etcd is started with.
#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// When not empty, only `root` with this password may read and write.
    pub root_password: String,
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
    pub fn start(options: &EtcdOptions) -> Result<Self> {
        let recipe = Recipe { binary: "etcd", package: "etcd-server", ports: 2, args, ready };
        let server = Server::start(recipe, folder("etcd")?)?;
        if !options.root_password.is_empty() {
            let enabled = runtime()?.block_on(enable_auth(&server.addr(), &options.root_password));
            enabled.map_err(|cause| Error::of("cannot turn etcd's authentication on", cause))?;
        }
        Ok(Self { server, root_password: options.root_password.clone() })
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
    let mut client = Client::connect([addr], None).await?;
    client.role_add("root").await?;
    client.user_add("root", password, None).await?;
    client.user_grant_role("root", "root").await?;
    client.auth_enable().await?;
    Ok(())
}

fn args(folder: &Path, ports: &[u16]) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", ports[0]);
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
    pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect()
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
