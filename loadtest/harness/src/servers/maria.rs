//! A throw-away mariadbd with the database `resonance`, its tables, and a user of the same name and password.
//!
//! The data folder is made once a machine (some two seconds) and copied for each server (26 MB).

use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ::mysql::prelude::Queryable;
use ::mysql::{Conn, Opts, OptsBuilder};
use rustix::fs::{FlockOperation, flock};

use super::certificates::has_certificate;
use super::{Authority, CertificateFiles, Recipe, Server, ask, find_program, folder};
use crate::error::{Error, Result};

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
        let prepared = prepared()?;
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
        let prepared = prepared()?;
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

/// The prepared data folder, made when no process of this machine has made it yet.
fn prepared() -> Result<PathBuf> {
    let installer = find_program("mariadb-install-db", PACKAGE)?;
    let server = find_program("mariadbd", PACKAGE)?;
    let version = Command::new(server).arg("--version").stdin(Stdio::null()).output();
    let version = version.map_err(|cause| Error::of("cannot run mariadbd --version", cause))?;
    let key = task_engine::model::ids::fnv1a32(&[SCHEMA.as_bytes(), &version.stdout].concat());
    let user = rustix::process::geteuid().as_raw();
    let place = std::env::temp_dir().join(format!("task-engine-maria-prepared-{user}-{key:08x}"));
    let lock = File::create(place.with_extension("lock"))
        .and_then(|lock| Ok(flock(&lock, FlockOperation::LockExclusive).map(|()| lock)?));
    let _lock = lock.map_err(|cause| Error::of("cannot lock the prepared MariaDB folder", cause))?;
    if place.is_dir() {
        return Ok(place);
    }
    let fresh = folder("maria")?;
    install(&installer, fresh.path())?;
    let server = Server::start(recipe(), fresh)?;
    create_schema(server.port())?;
    server.terminate()?;
    // Beside its final place, then renamed: a crash in between leaves no half-made folder under the final name.
    let half = place.with_extension("half");
    let _ = fs::remove_dir_all(&half);
    copy(&server.folder().join("data"), &half)?;
    fs::rename(&half, &place).map_err(|cause| Error::of("cannot keep the prepared MariaDB folder", cause))?;
    Ok(place)
}

fn install(installer: &Path, folder: &Path) -> Result<()> {
    let mut command = Command::new(installer);
    command.arg("--no-defaults").arg(format!("--datadir={}", folder.join("data").display()));
    command.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=8M"]);
    command.args(as_root()).stdin(Stdio::null());
    let output = command.output().map_err(|cause| Error::of("cannot run mariadb-install-db", cause))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::of(&format!("mariadb-install-db ended with {}", output.status), String::from_utf8_lossy(&said)))
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

fn copy(from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("cp").arg("-a").arg("--reflink=auto").args([from, to]).stdin(Stdio::null()).output();
    let output = output.map_err(|cause| Error::of("cannot run cp", cause))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::of("cannot copy the MariaDB data folder", String::from_utf8_lossy(&output.stderr)))
}

impl Deref for Maria {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}
