//! A throw-away redis-server. It writes each change to its append-only file, so a killed one comes back with its data.

use std::fs;
use std::ops::Deref;
use std::path::Path;

use super::{Recipe, Server, ask, folder};
use crate::error::{Error, Result};

/// What a redis-server is started with.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// The password clients must know; none when empty.
    pub password: String,
    /// More lines of its configuration file, as they are.
    pub config: String,
}

/// A running redis-server.
pub struct Redis {
    server: Server,
    password: String,
}

impl Redis {
    /// Starts one and returns when it answers.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(options: &RedisOptions) -> Result<Self> {
        let folder = folder("redis")?;
        let mut config = String::from("bind 127.0.0.1\nsave \"\"\nappendonly yes\n");
        if !options.password.is_empty() {
            config += &format!("requirepass {:?}\n", options.password);
        }
        config += &options.config;
        config += "\n";
        let written = fs::write(folder.path().join("redis.conf"), config);
        written.map_err(|cause| Error::of("cannot write redis.conf", cause))?;
        let recipe = Recipe { binary: "redis-server", package: "redis-server", ports: 1, args, ready };
        Ok(Self { server: Server::start(recipe, folder)?, password: options.password.clone() })
    }

    /// `redis://[:password@]127.0.0.1:port/`, for the redis crate.
    pub fn url(&self) -> String {
        let password = if self.password.is_empty() { String::new() } else { format!(":{}@", self.password) };
        format!("redis://{password}{}/", self.addr())
    }
}

fn args(folder: &Path, ports: &[u16]) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    vec![text(&folder.join("redis.conf")), "--port".into(), ports[0].to_string(), "--dir".into(), text(folder)]
}

/// `-LOADING` means that it still reads its file; `-NOAUTH` is an answer as good as any.
fn ready(port: u16) -> std::result::Result<(), String> {
    let answer = ask(port, b"PING\r\n")?;
    if answer.starts_with(b"+PONG") || answer.starts_with(b"-NOAUTH") {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&answer).trim().to_owned())
}

impl Deref for Redis {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}
