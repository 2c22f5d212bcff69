//! A connection to MySQL over TLS, for a client that speaks none of ours: it talks to a socket of this process, and this file is what
//! stands between that socket and the server.
//!
//! The client's own TLS would trust the public CAs besides ours, check no name but the host's, and give up at the first address. So its
//! bytes go over a Unix socket in a folder that only this user may enter, removed as soon as the client is in; one thread carries the
//! bytes of all connections. The client need not know: a Unix socket is as safe to it as TLS, so it logs in in the same ways.
//!
//! Promises that nothing of the client's but its flags leaves before the server has proved itself, that what is wrong is told with
//! its key, that a tunnel ends with either of its ends, and that none outlives a server that takes or says nothing.

mod packets;

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::packets::{is_end_of_login, over_tls, read, tls_request, write};
use crate::config::MysqlConfig;
use crate::edge::random::random;
use crate::edge::sql::fault::Fault;
use crate::edge::sql::live::prepare;
use crate::edge::tls;

/// Where the keys of TLS to MySQL stand in the configuration.
const TLS_SECTION: &str = "mysql.tls";
/// How long the server may take for our farewell.
const GOODBYE: Duration = Duration::from_secs(1);
/// Where the socket may be, besides the folder for such files: that one may be read-only.
const FOLDERS: [&str; 2] = ["/dev/shm", "/run"];
/// Its name there.
const SOCKET: &str = "s";

/// One connection's way over TLS.
pub(super) struct Tunnel {
    /// Where its client has to connect.
    pub socket: PathBuf,
    folder: PathBuf,
    said: Arc<OnceLock<String>>,
}

impl Tunnel {
    /// Connects to the address within `limit`, and begins to listen for the client. The login may take as long as the server may take
    /// to answer, and `limit` besides.
    pub(super) fn open(address: SocketAddr, settings: &MysqlConfig, limit: Duration) -> Result<Self, Fault> {
        let insecure = |error: tls::TlsError| Fault::Insecure(error.to_string());
        let client = tls::client(&settings.tls, TLS_SECTION, &[]).map_err(insecure)?;
        let name = tls::server_name(&settings.tls, &settings.at.host).map_err(insecure)?;
        let server =
            TcpStream::connect_timeout(&address, limit).map_err(|error| Fault::not_connected(address, &error))?;
        let prepared = prepare(&server, settings.timeout);
        prepared.map_err(|error| Fault::not_connected(address, &error))?;
        let no_way = |error: io::Error| Fault::NotOpened(format!("no way to it on this machine: {error}"));
        let usual = std::env::temp_dir();
        let places = [usual.as_path()].into_iter().chain(FOLDERS.map(Path::new));
        let (folder, listener) = listening(places).map_err(no_way)?;
        let tunnel = Self { socket: folder.join(SOCKET), folder, said: Arc::default() };
        listener.set_nonblocking(true).map_err(no_way)?;
        let ends = Ends { listener, server, client, name, limit: limit + settings.timeout, said: tunnel.said.clone() };
        carriers().map_err(no_way)?.spawn(ends.carry());
        Ok(tunnel)
    }

    /// What is wrong with TLS, when a login over it failed.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.said.get().cloned().map(Fault::Insecure)
    }
}

impl Drop for Tunnel {
    /// The client is in, or will never be.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket).and_then(|()| fs::remove_dir(&self.folder));
    }
}

/// A socket in a folder of its own, which nobody else may enter, in the first place that takes one: a folder may be read-only, or have a
/// name that is too long for a socket in it.
fn listening<'a>(places: impl Iterator<Item = &'a Path>) -> io::Result<(PathBuf, UnixListener)> {
    let name = format!("task-engine-{}-{:016x}", std::process::id(), random());
    let mut last = io::Error::other("no folder");
    for place in places {
        let folder = place.join(&name);
        let made = DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .and_then(|()| UnixListener::bind(folder.join(SOCKET)).inspect_err(|_| drop(fs::remove_dir(&folder))));
        match made {
            Ok(listener) => return Ok((folder, listener)),
            Err(error) => last = io::Error::new(error.kind(), format!("{}: {error}", folder.display())),
        }
    }
    Err(last)
}

/// The thread that carries the bytes of all tunnels. One that the machine refuses is asked for again.
fn carriers() -> io::Result<Handle> {
    static CARRIERS: Mutex<Option<Handle>> = Mutex::new(None);
    let mut carriers = CARRIERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*carriers {
        return Ok(handle.clone());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    thread::Builder::new().name("mysql-tls".to_owned()).spawn(run)?;
    Ok(carriers.insert(handle).clone())
}

/// What a tunnel connects.
struct Ends {
    listener: UnixListener,
    server: TcpStream,
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
    limit: Duration,
    said: Arc<OnceLock<String>>,
}

impl Ends {
    async fn carry(self) {
        let Self { listener, server, client, name, limit, said } = self;
        let listening = tokio::net::UnixListener::from_std(listener);
        let (Ok(listener), Ok(server)) = (listening, tokio::net::TcpStream::from_std(server)) else { return };
        let Ok(Ok((mut near, _))) = timeout(limit, listener.accept()).await else { return };
        drop(listener);
        let logged_in = timeout(limit, log_in(&mut near, server, TlsConnector::from(client), name)).await;
        let late = || Err(format!("it does not finish the handshake and the login within {limit:.1?}; check its load"));
        match logged_in.unwrap_or_else(|_| late()) {
            Ok(Some(far)) => carry_all(near, far).await,
            Ok(None) => {}
            // Before the client learns that it is over.
            Err(why) => drop(said.set(why)),
        }
    }
}

/// Carries the login: the server's greeting, TLS, and then each packet under the number that its reader expects, since the server has
/// read one more than the client has written. Nothing when the client is gone (which knows why), also since the server greets with an
/// error.
async fn log_in(
    near: &mut UnixStream,
    mut server: tokio::net::TcpStream,
    connector: TlsConnector,
    name: ServerName<'static>,
) -> Result<Option<TlsStream<tokio::net::TcpStream>>, String> {
    let broken = |error: io::Error| tls::words(&error, TLS_SECTION);
    let greeting = read(&mut server).await.map_err(broken)?;
    if !greeting.is_error() && !greeting.offers_tls() {
        return Err("the server offers none; turn it on there (ssl_cert, ssl_key), or leave out mysql.tls".to_owned());
    }
    let is_heard = write(near, &greeting).await.is_ok();
    if greeting.is_error() || !is_heard {
        return Ok(None);
    }
    let Ok(mut login) = read(near).await else { return Ok(None) };
    let request = tls_request(&login).ok_or("the client's login is too short")?;
    write(&mut server, &request).await.map_err(broken)?;
    let mut far = connector.connect(name, server).await.map_err(broken)?;
    over_tls(&mut login);
    if let Err(error) = write(&mut far, &login.numbered(1)).await {
        // A server that does not take our certificate says so before it is gone.
        let said = read(&mut far).await.err().filter(|said| tls::of(said).is_some());
        return Err(broken(said.unwrap_or(error)));
    }
    let is_in = carry_login(near, &mut far).await.map_err(broken)?;
    Ok(is_in.then_some(far))
}

/// Carries what follows a login's first packet; whether the server has said its last word to a client that is there. An error is one
/// with the server.
async fn carry_login(near: &mut UnixStream, far: &mut TlsStream<tokio::net::TcpStream>) -> io::Result<bool> {
    let (mut far_read, mut far_write) = split(far);
    let (mut near_read, mut near_write) = near.split();
    let answers = async {
        loop {
            let answer = read(&mut far_read).await?;
            let is_end = is_end_of_login(&answer);
            let is_heard = write(&mut near_write, &answer.numbered(-1)).await.is_ok();
            if is_end || !is_heard {
                return io::Result::Ok(is_heard);
            }
        }
    };
    let replies = async {
        while let Ok(reply) = read(&mut near_read).await {
            write(&mut far_write, &reply.numbered(1)).await?;
        }
        Ok(false)
    };
    // The answers first: once the last one is written the client goes on with what is no part of the login.
    tokio::select! {
        biased;
        is_in = answers => is_in,
        is_in = replies => is_in,
    }
}

/// Carries bytes both ways until either end is gone.
async fn carry_all(near: UnixStream, far: TlsStream<tokio::net::TcpStream>) {
    let (mut near_read, mut near_write) = split(near);
    let (mut far_read, mut far_write) = split(far);
    tokio::select! {
        _ = copy(&mut far_read, &mut near_write) => {}
        _ = copy(&mut near_read, &mut far_write) => {}
    }
    let _ = timeout(GOODBYE, far_write.shutdown()).await;
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_socket_is_where_there_is_room_for_it_and_in_a_folder_that_nobody_else_may_enter() {
        let root = tempfile::tempdir().expect("a folder");
        let (good, long) = (root.path().join("good"), root.path().join("x".repeat(120)));
        [&good, &long].into_iter().for_each(|place| fs::create_dir(place).expect("a folder"));
        let places = [Path::new("/no/such/folder"), &long, &good];
        let (folder, listener) = listening(places.into_iter()).expect("the third");
        assert_eq!(fs::metadata(&folder).expect("a folder").permissions().mode() & 0o777, 0o700);
        assert!(folder.starts_with(&good) && fs::read_dir(&long).expect("a folder").count() == 0);
        drop((Tunnel { socket: folder.join(SOCKET), folder, said: Arc::default() }, listener));
        assert_eq!(fs::read_dir(&good).expect("a folder").count(), 0);
        let why = listening([Path::new("/no/such/folder")].into_iter()).expect_err("no folder").to_string();
        assert!(why.starts_with("/no/such/folder/task-engine-"), "{why}");
    }
}
