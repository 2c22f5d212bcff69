//! A throw-away mariadbd with the database `resonance`, its tables, and a user of the same name and password.
//!
//! The data folder is made once a machine (some two seconds) and copied for each server (26 MB).

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::certificates::has_certificate;
use super::prepared::{copy, prepared, run, version};
use super::{Authority, CertificateFiles, Recipe, Server, ask, find_program, folder};
use crate::error::{Error, Result};
use ::mysql::prelude::Queryable;
use ::mysql::{Conn, Opts, OptsBuilder};

const SCHEMA: &str = include_str!("schema.sql");
const PACKAGE: &str = "mariadb-server";

/// A running mariadbd.
pub struct Maria(Server);

impl Maria {
    /// The database.
    pub const DATABASE: &'static str = "resonance";
    /// A user who may do everything in that database.
    pub const USER: &'static str = "resonance";
    /// That user's password.
    pub const PASSWORD: &'static str = "resonance";

    /// Starts one and returns when it greets.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start() -> Result<Self> {
        let prepared = prepared_data()?;
        let folder = folder("maria")?;
        copy(&prepared, &folder.path().join("data"))?;
        Server::start(recipe(), folder).map(Self)
    }

    /// The same; it speaks TLS to whoever asks for it, with this certificate, and takes certificates of the same CA. Users who must have one
    /// are the caller's.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub fn over_tls(authority: &Authority, files: &CertificateFiles) -> Result<Self> {
        let prepared = prepared_data()?;
        let folder = folder("maria")?;
        copy(&prepared, &folder.path().join("data"))?;
        authority.copy_into(folder.path(), files)?;
        Server::start(recipe(), folder).map(Self)
    }

    /// How the mysql crate connects as [`USER`](Self::USER).
    pub fn opts(&self) -> Opts {
        let opts = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(self.port());
        opts.user(Some(Self::USER)).pass(Some(Self::PASSWORD)).db_name(Some(Self::DATABASE)).prefer_socket(false).into()
    }

    /// A connection as [`USER`](Self::USER).
    ///
    /// # Errors
    /// When it does not answer.
    pub fn connect(&self) -> Result<Conn> {
        Conn::new(self.opts()).map_err(|cause| Error::of("cannot connect to mariadbd", cause))
    }
}

fn recipe() -> Recipe {
    Recipe { binary: "mariadbd", package: PACKAGE, ports: 1, args, ready }
}

fn args(folder: &Path, ports: &[u16]) -> Vec<String> {
    let text = |name: &str| folder.join(name).display().to_string();
    let mut args = vec![
        "--no-defaults".into(),
        format!("--datadir={}", text("data")),
        format!("--socket={}", text("sock")),
        format!("--pid-file={}", text("pid")),
        format!("--port={}", ports[0]),
        "--bind-address=127.0.0.1".into(),
        "--skip-name-resolve".into(),
        "--innodb-log-file-size=8M".into(),
        "--innodb-flush-log-at-trx-commit=2".into(),
        "--max-connections=500".into(),
    ];
    if has_certificate(folder) {
        let file = |flag: &str, name: &str| format!("--{flag}={}", text(name));
        args.extend([file("ssl-ca", "ca"), file("ssl-cert", "cert"), file("ssl-key", "key")]);
    }
    args.extend(as_root().map(String::from));
    args
}

/// mariadbd refuses to run as root unless told to.
fn as_root() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

/// The first packet of the protocol is the greeting: its payload starts with version 10 (0xff would be an error).
fn ready(port: u16) -> std::result::Result<(), String> {
    let greeting = ask(port, b"")?;
    if greeting.get(4) == Some(&10) { Ok(()) } else { Err("it does not greet as MySQL".into()) }
}

/// The prepared data folder.
fn prepared_data() -> Result<PathBuf> {
    let installer = find_program("mariadb-install-db", PACKAGE)?;
    let version = version(&find_program("mariadbd", PACKAGE)?)?;
    prepared("maria", &[SCHEMA.as_bytes(), &version].concat(), || {
        let fresh = folder("maria")?;
        let mut command = Command::new(installer);
        command.arg("--no-defaults").arg(format!("--datadir={}", fresh.path().join("data").display()));
        command.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=8M"]);
        command.args(as_root());
        run(command, "mariadb-install-db")?;
        let server = Server::start(recipe(), fresh)?;
        create_schema(server.port())?;
        Ok(server)
    })
}

fn create_schema(port: u16) -> Result<()> {
    let root = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(port).user(Some("root"));
    let made = Conn::new(root.prefer_socket(false)).and_then(|mut conn| {
        SCHEMA
            .split(";\n")
            .map(str::trim)
            .filter(|statement| !statement.is_empty())
            .try_for_each(|sql| conn.query_drop(sql))
    });
    made.map_err(|cause| Error::of("cannot create the database resonance", cause))
}

impl Deref for Maria {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}
