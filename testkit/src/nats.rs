//! Parts of the configuration of a NATS connection.

use task_engine::config::{HostPort, NatsAuth, NatsServer, Secret};

/// The server at `host:port`.
pub fn server_at(address: &str) -> Vec<NatsServer> {
    vec![NatsServer::plain(HostPort::parse(address, 4222).expect("host:port"))]
}

pub fn user(name: &str, password: &str) -> NatsAuth {
    NatsAuth::User { username: name.to_owned(), password: Secret::new(password) }
}

pub fn token(token: &str) -> NatsAuth {
    NatsAuth::Token(Secret::new(token))
}
