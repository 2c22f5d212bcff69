//! A throw-away PostgreSQL with the database `resonance`, the tables as Resonance's own service makes them, and a user of the same
//! name and password.
//!
//! It refuses to run as root: started by root, it runs as the user that its package made. The data folder is made once a machine
//! and copied for each server. Its sessions are processes: what is done to the server is done to them as well.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Instant;

use postgres::{Client, Config, NoTls};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::certificates::has_certificate;
use super::prepared::{copy, prepared, run, version};
use super::{Authority, CertificateFiles, READY_DEADLINE, READY_EVERY, Recipe, Server, find_program, folder, freeze};
use crate::error::{Error, Result};

const SCHEMA: &str = include_str!("postgres.sql");
const PACKAGE: &str = "postgresql";
/// Who may do everything.
const ROOT: &str = "postgres";

/// A running PostgreSQL.
pub struct Postgres(Server);

impl Postgres {
    /// The database.
    pub const DATABASE: &'static str = "resonance";
    /// A user who owns what is in that database.
    pub const USER: &'static str = "resonance";
    /// That user's password.
    pub const PASSWORD: &'static str = "resonance";

    /// Starts one and returns when it answers.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(|_| Ok(()))
    }

    /// The same; it speaks TLS, with this certificate, and lets in nobody but root without it and a certificate of the same CA.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub fn over_tls(authority: &Authority, files: &CertificateFiles) -> Result<Self> {
        Self::start_with(|folder| {
            authority.copy_into(folder, files)?;
            // It takes no key that others may read.
            let private = fs::set_permissions(folder.join("key"), fs::Permissions::from_mode(0o600));
            private.map_err(|cause| Error::of("cannot make a key private", cause))
        })
    }

    fn start_with(prepare: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let prepared = prepared_data()?;
        let folder = folder("postgres")?;
        copy(&prepared, &folder.path().join("data"))?;
        prepare(folder.path())?;
        let_in(folder.path())?;
        Server::start(recipe()?, folder).map(Self)
    }

    /// Another one that follows it by streaming replication: it reads, and takes no writes until it is promoted.
    ///
    /// # Errors
    /// When a program is not installed, or the copy or the other one fails.
    pub fn standby(&self) -> Result<Self> {
        let folder = folder("postgres")?;
        let (program, words) = started("pg_basebackup")?;
        let mut command = Command::new(program);
        let to = folder.path().join("data");
        let_in(folder.path())?;
        command.args(words).args(["-h", "127.0.0.1", "-U", ROOT, "-p"]).arg(self.port().to_string());
        command.args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf", "-D"]).arg(to).current_dir("/");
        run(command, "pg_basebackup")?;
        Server::start(recipe()?, folder).map(Self)
    }

    /// Of a standby: it takes writes from now on.
    ///
    /// # Errors
    /// When it does not answer, or is none.
    pub fn promote(&self) -> Result<()> {
        let promoted = self.root()?.batch_execute("SELECT pg_promote()");
        promoted.map_err(|cause| Error::of("cannot promote PostgreSQL", cause))
    }

    /// A connection of somebody who may do everything.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn root(&self) -> Result<Client> {
        root(self.port(), Self::DATABASE).map_err(|cause| Error::of("cannot connect to PostgreSQL", cause))
    }

    /// Kills it with all of its sessions, and waits until they are gone; its data stays.
    pub fn kill(&self) {
        let sessions = self.sessions();
        self.0.kill9();
        for session in &sessions {
            let _ = kill_process(*session, Signal::KILL);
        }
        let deadline = Instant::now() + READY_DEADLINE;
        while sessions.iter().any(|session| test_kill_process(*session).is_ok()) && Instant::now() < deadline {
            thread::sleep(READY_EVERY);
        }
    }

    /// Starts it again on the same port and data, after [`kill`](Self::kill).
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&self) -> Result<()> {
        self.kill();
        Ok(self.0.restart()?)
    }

    /// Freezes it and its sessions: their connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&self) -> Result<()> {
        self.0.stop()?;
        // One that ends meanwhile is as still.
        self.sessions().into_iter().for_each(|session| drop(freeze(session.as_raw_nonzero().get() as u32)));
        Ok(())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn cont(&self) -> Result<()> {
        for session in self.sessions() {
            let _ = kill_process(session, Signal::CONT);
        }
        self.0.cont()
    }

    /// The processes of its sessions, and its helpers.
    fn sessions(&self) -> Vec<Pid> {
        let Some(pid) = self.pid() else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)).collect()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Deref for Postgres {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}

fn root(port: u16, database: &str) -> std::result::Result<Client, postgres::Error> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(ROOT).dbname(database).connect_timeout(READY_DEADLINE);
    config.connect(NoTls)
}

/// Who runs it, when root starts it.
fn other_user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("postgres")
}

/// The same, as it is started.
fn started(name: &str) -> Result<(PathBuf, Vec<String>)> {
    let path = find_program(name, PACKAGE)?;
    match other_user() {
        None => Ok((path, Vec::new())),
        Some(user) => {
            let words = [
                format!("--reuid={user}"),
                format!("--regid={user}"),
                "--clear-groups".to_owned(),
                "--pdeathsig=KILL".to_owned(),
                path.display().to_string(),
            ];
            Ok((find_program("setpriv", "util-linux")?, words.into()))
        }
    }
}

/// What a recipe can name: found once.
static SERVER: OnceLock<(String, Vec<String>)> = OnceLock::new();

fn recipe() -> Result<Recipe> {
    let (program, words) = started("postgres")?;
    let (binary, _) = SERVER.get_or_init(|| (program.display().to_string(), words));
    Ok(Recipe { binary, package: PACKAGE, ports: 1, args, ready })
}

fn args(folder: &Path, ports: &[u16]) -> Vec<String> {
    let text = |name: &str| folder.join(name).display().to_string();
    let mut args = SERVER.get().map(|(_, words)| words.clone()).unwrap_or_default();
    args.extend(["-D".into(), text("data"), "-p".into(), ports[0].to_string()]);
    let mut set = |setting: String| args.extend(["-c".to_owned(), setting]);
    set("listen_addresses=127.0.0.1".into());
    set(format!("unix_socket_directories={}", folder.display()));
    set(format!("hba_file={}", text("hba")));
    set("max_connections=200".into());
    set("shared_buffers=32MB".into());
    set("max_prepared_transactions=2".into());
    // As MariaDB's throw-away servers: what a crash of the machine would lose, a test does not ask for.
    set("fsync=off".into());
    if has_certificate(folder) {
        set("ssl=on".into());
        for (setting, name) in [("ssl_ca_file", "ca"), ("ssl_cert_file", "cert"), ("ssl_key_file", "key")] {
            set(format!("{setting}={}", text(name)));
        }
    }
    args
}

/// Lets whoever runs it into the folder, and says who may log in how.
fn let_in(folder: &Path) -> Result<()> {
    let with_password = match has_certificate(folder) {
        true => "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
        false => "host all all 127.0.0.1/32 scram-sha-256",
    };
    let rules = format!("host all,replication {ROOT} 127.0.0.1/32 trust\n{with_password}\n");
    fs::write(folder.join("hba"), rules).map_err(|cause| Error::of("cannot write who may log in", cause))?;
    let Some(user) = other_user() else { return Ok(()) };
    let mut command = Command::new("chown");
    command.arg("-R").arg(format!("{user}:")).arg(folder);
    run(command, "chown")
}

fn ready(port: u16) -> std::result::Result<(), String> {
    root(port, ROOT).map(drop).map_err(|cause| cause.to_string())
}

/// The prepared data folder.
fn prepared_data() -> Result<PathBuf> {
    let version = version(&find_program("postgres", PACKAGE)?)?;
    prepared("postgres", &[SCHEMA.as_bytes(), &version].concat(), || {
        let fresh = folder("postgres")?;
        let_in(fresh.path())?;
        let (initdb, words) = started("initdb")?;
        let mut command = Command::new(initdb);
        command.args(words).arg("-D").arg(fresh.path().join("data")).args(["-U", ROOT, "-A", "trust", "-E", "UTF8"]);
        command.args(["--locale=C.UTF-8", "--no-sync"]).current_dir("/");
        run(command, "initdb")?;
        let server = Server::start(recipe()?, fresh)?;
        let (user, password, database) = (Postgres::USER, Postgres::PASSWORD, Postgres::DATABASE);
        let made = root(server.port(), ROOT).and_then(|mut root| {
            root.batch_execute(&format!("CREATE USER {user} PASSWORD '{password}'"))?;
            root.batch_execute(&format!("CREATE DATABASE {database} OWNER {user}"))
        });
        let made = made.and_then(|()| self::root(server.port(), database)?.batch_execute(SCHEMA));
        made.map_err(|cause| Error::of("cannot create the database resonance", cause))?;
        Ok(server)
    })
}
