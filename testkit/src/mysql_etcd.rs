//! Throw-away MariaDB and etcd for the tests of members and registry: own folder, own free port, ended by their own id.

use std::future::Future;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use harness::servers::{Authority, CertificateFiles, want_login};
use mysql::prelude::Queryable;
use task_engine::config::{EtcdConfig, HostPort};
use tempfile::TempDir;

pub use crate::wait::eventually;

/// How these etcd servers are reached.
pub fn etcd_settings(endpoints: &[&str]) -> EtcdConfig {
    EtcdConfig {
        endpoints: endpoints.iter().map(|endpoint| HostPort::parse(endpoint, 2379).expect("host:port")).collect(),
        dial_timeout: Duration::from_secs(2),
        timeout: Duration::from_secs(3),
        keep_alive_time: Duration::from_secs(6),
        keep_alive_timeout: Duration::from_secs(2),
        ..EtcdConfig::default()
    }
}

/// A port that nobody listens on, and that only the caller gets.
pub fn free_port() -> u16 {
    harness::servers::free_port().expect("a free port")
}

fn spawn(command: &mut Command, folder: &Path) -> Child {
    let log = std::fs::File::create(folder.join("log")).expect("a log file");
    let errors = log.try_clone().expect("a log file");
    command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().unwrap_or_else(|why| panic!("{command:?}: {why}"))
}

/// A server process, killed when dropped.
struct Process(Option<Child>);

impl Process {
    fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn signal(&self, signal: i32) {
        let child = self.0.as_ref().expect("it runs");
        if signal == libc::SIGSTOP {
            return harness::servers::freeze(child.id()).expect("it stands still");
        }
        crate::signals::send(child, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A MariaDB server with the database `resonance` and the user `engine` (password `sesame`).
pub struct Maria {
    folder: TempDir,
    pub port: u16,
    more: Vec<String>,
    process: Process,
}

impl Maria {
    pub fn start() -> Self {
        Self::start_with(Vec::new())
    }

    /// One that speaks TLS, with this certificate, to whoever asks for it, and takes the user `engine` only with a certificate of the
    /// same CA.
    pub fn over_tls(authority: &Authority, files: &CertificateFiles) -> Self {
        let file = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
        let ca = file("ssl-ca", &authority.ca());
        let server = Self::start_with(vec![ca, file("ssl-cert", &files.cert), file("ssl-key", &files.key)]);
        server.root("").query_drop("ALTER USER engine@'%' REQUIRE X509").expect("a rule");
        server
    }

    fn start_with(more: Vec<String>) -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let installed = Command::new("mariadb-install-db")
            // Two at once would take each other's tables for their own.
            .env("TMPDIR", folder.path())
            .arg("--no-defaults")
            .args(["--user=root", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", folder.path().join("data").display()))
            .output()
            .expect("mariadb-install-db is installed");
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        let mut server = Self { folder, port: free_port(), more, process: Process(None) };
        server.start_again();
        let mut root = server.root("");
        for statement in [
            "CREATE DATABASE resonance CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
            "CREATE TABLE resonance.t_session_member (session_id VARCHAR(64) NOT NULL, username VARCHAR(80) NOT NULL, \
             role INT NOT NULL DEFAULT 0, last_read_seq BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (session_id, username))",
            "CREATE USER engine@'%' IDENTIFIED BY 'sesame'",
            "GRANT SELECT ON resonance.* TO engine@'%'",
        ] {
            root.query_drop(statement).expect(statement);
        }
        server
    }

    /// Starts it (again) on the same port and data, and waits until it answers.
    pub fn start_again(&mut self) {
        let folder = self.folder.path();
        let mut command = Command::new("/usr/sbin/mariadbd");
        command
            .args(["--no-defaults", "--user=root", "--skip-name-resolve", "--bind-address=127.0.0.1"])
            .args(["--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=32M", "--skip-log-bin"])
            .arg(format!("--datadir={}", folder.join("data").display()))
            .arg(format!("--socket={}", folder.join("s").display()))
            .arg(format!("--pid-file={}", folder.join("pid").display()))
            .arg(format!("--port={}", self.port))
            .args(&self.more);
        self.process = Process(Some(spawn(&mut command, folder)));
        eventually("MariaDB answers", || mysql::Conn::new(self.root_options("")).is_ok());
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGSTOP or SIGCONT.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    fn root_options(&self, database: &str) -> mysql::OptsBuilder {
        mysql::OptsBuilder::new()
            .socket(Some(self.folder.path().join("s").display().to_string()))
            .user(Some("root"))
            .db_name(Some(database).filter(|name| !name.is_empty()))
    }

    pub fn root(&self, database: &str) -> mysql::Conn {
        mysql::Conn::new(self.root_options(database)).expect("root may connect")
    }

    /// Adds members to sessions.
    pub fn add(&self, members: &[(&str, &str)]) {
        let mut root = self.root("resonance");
        let statement = "INSERT INTO t_session_member (session_id, username) VALUES (?, ?)";
        root.exec_batch(statement, members.iter().copied()).expect("rows are inserted");
    }
}

/// An etcd server.
pub struct Etcd {
    folder: TempDir,
    pub port: u16,
    peer_port: u16,
    tls_port: Option<u16>,
    more: Vec<String>,
    process: Process,
}

impl Etcd {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments.
    pub fn start_with(more: &[&str]) -> Self {
        Self::start_at(more.iter().map(|one| (*one).to_owned()).collect(), None)
    }

    /// One that speaks TLS at [`tls_endpoint`](Self::tls_endpoint), with this certificate, and takes clients with one of the same CA
    /// only. Its other port is for the test.
    pub fn over_tls(authority: &Authority, files: &CertificateFiles) -> Self {
        let file = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
        let more = [
            file("cert-file", &files.cert),
            file("key-file", &files.key),
            file("trusted-ca-file", &authority.ca()),
            "--client-cert-auth".to_owned(),
        ];
        Self::start_at(more.into(), Some(free_port()))
    }

    fn start_at(more: Vec<String>, tls_port: Option<u16>) -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let (port, peer_port) = (free_port(), free_port());
        let mut server = Self { folder, port, peer_port, tls_port, more, process: Process(None) };
        server.start_again();
        server
    }

    /// Where it speaks TLS.
    pub fn tls_endpoint(&self) -> String {
        format!("localhost:{}", self.tls_port.expect("one that speaks TLS"))
    }

    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Takes the data of an etcd that does not run away.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.folder.path().join("data")).expect("there was data");
    }

    /// Starts it (again) on the same port and data, and waits until it answers.
    pub fn start_again(&mut self) {
        let (client, peer) =
            (format!("http://127.0.0.1:{}", self.port), format!("http://127.0.0.1:{}", self.peer_port));
        let listen = self.tls_port.map_or(client.clone(), |port| format!("{client},https://127.0.0.1:{port}"));
        let mut command = Command::new("/usr/bin/etcd");
        command
            .env("ETCD_UNSUPPORTED_ARCH", "arm64")
            .args(["--name", "default", "--data-dir"])
            .arg(self.folder.path().join("data"))
            .args(["--listen-client-urls", &listen, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(&self.more);
        self.process = Process(Some(spawn(&mut command, self.folder.path())));
        eventually("etcd answers", || {
            self.try_run(ConnectOptions::new(), |mut client| async move { client.get("ready", None).await.map(drop) })
                .is_ok()
        });
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGSTOP or SIGCONT.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    pub fn put(&self, key: &str, value: &str) {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.run(|mut client| async move { client.put(key, value, None).await.map(drop) });
    }

    pub fn delete(&self, key: &str) {
        let key = key.to_owned();
        self.run(|mut client| async move { client.delete(key, None).await.map(drop) });
    }

    /// From now on it wants a login: that of root, with this password.
    pub fn want_login(&self, password: &str) {
        self.run(|client| want_login(client, password));
    }

    /// Runs one request with a client of its own.
    pub fn run<T, F>(&self, work: impl FnOnce(Client) -> F) -> T
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.try_run(ConnectOptions::new(), work).expect("etcd does it")
    }

    /// The same as a user.
    pub fn run_as<T, F>(&self, user: &str, password: &str, work: impl FnOnce(Client) -> F) -> T
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.try_run(ConnectOptions::new().with_user(user, password), work).expect("etcd does it")
    }

    fn try_run<T, F>(&self, options: ConnectOptions, work: impl FnOnce(Client) -> F) -> Result<T, etcd_client::Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let options = options.with_timeout(Duration::from_secs(5));
            work(Client::connect([self.endpoint()], Some(options)).await?).await
        })
    }
}
