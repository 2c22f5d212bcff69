//! A listener that takes a bounded number of connections, of which none can keep the others from an answer.
//!
//! Promises that a request is whole within [`ASKING_MAX`], counted from its first byte (of the first one: from the connect),
//! and its answer is taken within [`ANSWERING_MAX`], however many bytes move meanwhile; that a connection which had an answer
//! and says nothing more is closed after [`QUIET_MAX`]; that each has one answer before anybody has two; and that a new client always gets a place: when all
//! [`CONNECTIONS_MAX`] are taken, the one of least use gives its own ([`Places::make_room`]). Refuses a request of more than
//! [`REQUEST_BYTES_MAX`].

mod places;
mod stream;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep, sleep};

use self::places::{Doing, Place, Places};
use self::stream::Stream;
use super::TlsSource;

/// Connections open at once.
const CONNECTIONS_MAX: usize = 256;
/// How long a request may take to be whole.
const ASKING_MAX: Duration = Duration::from_secs(5);
/// How long a client may take to read its answer.
const ANSWERING_MAX: Duration = Duration::from_secs(20);
/// How long a connection may be quiet after an answer: longer than a scraper's usual interval of 15 to 60 seconds.
const QUIET_MAX: Duration = Duration::from_secs(90);
/// Bytes of one request, of which nobody needs more than some hundred: so all clients together hold some megabytes at most.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// See the module.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Places,
    asking_max: Duration,
    tls: Option<TlsSource>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, tls: Option<TlsSource>) -> Self {
        Self { tls, ..Self::with(listener, CONNECTIONS_MAX, ASKING_MAX) }
    }

    fn with(listener: TcpListener, connections_max: usize, asking_max: Duration) -> Self {
        Self { listener, places: Places::new(connections_max), asking_max, tls: None }
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // axum's own accept waits out errors such as too many open files.
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        if self.places.make_room(Instant::now()) {
            // Whoever was told to go goes when its task runs next.
            tokio::task::yield_now().await;
        }
        let place = self.places.take(Instant::now());
        let asking_max = self.asking_max;
        let stream = Stream::of(stream, self.tls.as_ref());
        (
            Connection { stream, clock: Box::pin(sleep(asking_max)), asking_max, read: 0, has_given_way: false, place },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// One client.
pub(super) struct Connection {
    stream: Stream,
    /// When it ends, unless it gets on to something else.
    clock: Pin<Box<Sleep>>,
    asking_max: Duration,
    /// Bytes of the request that is being read.
    read: usize,
    /// It let the others go first before the answer that comes next.
    has_given_way: bool,
    place: Arc<Place>,
}

impl Connection {
    /// It begins something: the clock starts anew, and nothing but the next begin does that.
    fn begin(&mut self, doing: Doing) {
        let now = Instant::now();
        let limit = match doing {
            Doing::Asking => self.asking_max,
            Doing::Answering => ANSWERING_MAX,
            Doing::Nothing => QUIET_MAX,
        };
        self.place.begin(doing, now);
        self.clock.as_mut().reset(now + limit);
        self.read = 0;
    }

    /// Ready with an error once its time is over, or its place was given away.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.place.poll_given_away(context) {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        self.clock.as_mut().poll(context).map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Also before a read that would succeed: a byte per second is no reason to stay.
        if let Poll::Ready(error) = self.poll_over(context) {
            return Poll::Ready(Err(error));
        }
        let before = to.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, to);
        let read = to.filled().len() - before;
        if read > 0 {
            if self.place.doing() == Doing::Nothing {
                self.begin(Doing::Asking);
            }
            self.read += read;
            if self.read > REQUEST_BYTES_MAX {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        result
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let doing = self.place.doing();
        // A request that came together with the one before it: its answer is made, and hundreds may stand behind it.
        if doing == Doing::Nothing && !std::mem::replace(&mut self.has_given_way, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if doing != Doing::Answering {
            self.has_given_way = false;
            self.begin(Doing::Answering);
        }
        if let Poll::Ready(error) = self.poll_over(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    /// Called once all of an answer is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(result, Poll::Ready(Ok(()))) && self.place.doing() == Doing::Answering {
            self.begin(Doing::Nothing);
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.place.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::serve::Listener as _;
    use std::io::Write;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn bounded(connections_max: usize, asking_max: Duration) -> (Bounded, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Bounded::with(listener, connections_max, asking_max), address)
    }

    async fn ended(connection: &mut Connection) -> io::ErrorKind {
        let read = async {
            loop {
                if let Err(error) = connection.read_u8().await {
                    return error.kind();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("it ends by itself")
    }

    #[tokio::test]
    async fn a_new_client_gets_the_place_of_the_oldest_that_has_not_asked() {
        let (mut listener, address) = bounded(2, ASKING_MAX).await;
        let _clients = [(); 3].map(|()| std::net::TcpStream::connect(address).unwrap());
        let (mut first, mut second) = (listener.accept().await.0, listener.accept().await.0);
        let leaves = tokio::spawn(async move { ended(&mut first).await });
        let accepted = tokio::time::timeout(Duration::from_secs(20), listener.accept());
        accepted.await.expect("the third has a place");
        assert_eq!(leaves.await.unwrap(), io::ErrorKind::ConnectionAborted);
        assert!(futures_lite::future::poll_once(second.read_u8()).await.is_none(), "the second stays");
    }

    #[tokio::test]
    async fn a_request_that_is_never_whole_ends_however_its_bytes_come() {
        let (mut listener, address) = bounded(1, Duration::from_millis(200)).await;
        let mut client = std::net::TcpStream::connect(address).unwrap();
        let (mut connection, _) = listener.accept().await;
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let drip = std::thread::spawn(move || {
            let mut drops = 0;
            while is_done.recv_timeout(Duration::from_millis(20)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                drops += i32::from(client.write_all(b"x").is_ok());
            }
            drops
        });
        assert_eq!(ended(&mut connection).await, io::ErrorKind::TimedOut);
        drop(done);
        assert!(drip.join().unwrap() > 2, "bytes came all the time");
    }

    #[tokio::test]
    async fn a_request_without_end_is_cut() {
        let (mut listener, address) = bounded(1, ASKING_MAX).await;
        let mut client = std::net::TcpStream::connect(address).unwrap();
        let (mut connection, _) = listener.accept().await;
        let writing = std::thread::spawn(move || while client.write_all(&[b'x'; 4096]).is_ok() {});
        assert_eq!(ended(&mut connection).await, io::ErrorKind::InvalidData);
        drop(connection);
        writing.join().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_had_its_answer_may_be_quiet_for_longer() {
        let (mut listener, address) = bounded(1, ASKING_MAX).await;
        let mut client = std::net::TcpStream::connect(address).unwrap();
        client.write_all(b"?").unwrap();
        let (mut connection, _) = listener.accept().await;
        let left = |connection: &Connection| connection.clock.deadline() - Instant::now();
        connection.read_u8().await.unwrap();
        assert!(left(&connection) <= ASKING_MAX, "half a request is none");
        connection.write_all(b"!").await.unwrap();
        assert!(left(&connection) <= ANSWERING_MAX && left(&connection) > ASKING_MAX);
        connection.flush().await.unwrap();
        assert!(left(&connection) > ANSWERING_MAX);
        client.write_all(b"?").unwrap();
        connection.read_u8().await.unwrap();
        assert!(left(&connection) <= ASKING_MAX, "the next request has its own limit");
    }
}
