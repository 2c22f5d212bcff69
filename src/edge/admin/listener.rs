//! A listener that takes a bounded number of connections and closes those on which nothing moves.
//!
//! Promises that a client which connects and says nothing holds its place for [`ASKING_MAX`] only, so that many of them do
//! not keep `/livez` from answering; and one that had an answer and says or reads nothing more, for [`QUIET_MAX`].

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections open at once; the next ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take between two pieces of a request, the first included.
const ASKING_MAX: Duration = Duration::from_secs(5);
/// How long a connection may be quiet after an answer: longer than a scraper's usual interval of 15 to 60 seconds.
const QUIET_MAX: Duration = Duration::from_secs(90);

/// See the module.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    asking_max: Duration,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self::with(listener, CONNECTIONS_MAX, ASKING_MAX)
    }

    fn with(listener: TcpListener, connections_max: usize, asking_max: Duration) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(connections_max)), asking_max }
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        // axum's own accept waits out errors such as too many open files.
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        let asking_max = self.asking_max;
        (Connection { stream, quiet: Box::pin(sleep(asking_max)), asking_max, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// One client.
pub(super) struct Connection {
    stream: TcpStream,
    quiet: Pin<Box<Sleep>>,
    asking_max: Duration,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Lets a finished operation through and starts the clock anew; a pending one fails once the clock has run out.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
        then: Duration,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.quiet.as_mut().reset(Instant::now() + then);
            return result;
        }
        self.quiet.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(context, to);
        let asking_max = self.asking_max;
        self.watch(context, result, asking_max)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, from);
        self.watch(context, result, QUIET_MAX)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::serve::Listener as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn bounded(connections_max: usize, asking_max: Duration) -> (Bounded, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Bounded::with(listener, connections_max, asking_max), address)
    }

    #[tokio::test]
    async fn one_connection_too_many_waits_until_another_is_closed() {
        let (mut listener, address) = bounded(2, QUIET_MAX).await;
        let clients = [(); 3].map(|()| std::net::TcpStream::connect(address).unwrap());
        let (first, second) = (listener.accept().await, listener.accept().await);
        assert_eq!([first.1, second.1], [0, 1].map(|at: usize| clients[at].local_addr().unwrap()));
        assert!(futures_lite::future::poll_once(listener.accept()).await.is_none());
        assert_eq!(listener.places.available_permits(), 0);
        drop(first);
        let third = tokio::time::timeout(Duration::from_secs(20), listener.accept()).await.expect("a free place");
        assert_eq!(third.1, clients[2].local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_closed() {
        let (mut listener, address) = bounded(1, Duration::from_millis(20)).await;
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (mut connection, _) = listener.accept().await;
        let read =
            tokio::time::timeout(Duration::from_secs(20), connection.read_u8()).await.expect("it ends by itself");
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_had_its_answer_may_be_quiet_for_longer() {
        let (mut listener, address) = bounded(1, ASKING_MAX).await;
        let mut client = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut client, b"?").unwrap();
        let (mut connection, _) = listener.accept().await;
        let left = |connection: &Connection| connection.quiet.deadline() - Instant::now();
        connection.read_u8().await.unwrap();
        assert!(left(&connection) <= ASKING_MAX, "half a request is none");
        connection.write_all(b"!").await.unwrap();
        assert!(left(&connection) > ASKING_MAX);
    }
}
