//! TCP from a shard: connecting over several addresses within a deadline, the options every connection of ours has, and
//! one-call sending of several pieces.
//!
//! Refuses to wait without an end: [`connect`] is over at its deadline, whatever the network does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use futures_lite::future;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use socket2::{SockRef, TcpKeepalive};

use super::race::{self, Next};

/// A quiet connection is probed after this long.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(20);
/// Time between probes; three unanswered ones and the connection is dead.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// An attempt at an address gets at least this much: none is a limit that the kernel refuses.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);

/// Connects to the first of the addresses that answers, within `limit` for all of them together: the next one is tried
/// beside those before it when none has answered for a moment, or at once when one fails, and the one that worked last time
/// is the first (`edge::race`). The connection has [`prepare`]d options.
///
/// # Errors
/// What the last one to fail said; `TimedOut` when the deadline passed; `InvalidInput` without addresses.
pub async fn connect(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + limit;
    let last = RefCell::new(io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to"));
    let mut left = addresses.iter().copied().collect::<VecDeque<_>>();
    if let Some(address) = race::that_worked(left.iter().copied()).and_then(|place| left.remove(place)) {
        left.push_front(address);
    }
    let patience = race::patience(addresses.len(), limit);
    let attempt = |address: SocketAddr| {
        let last = &last;
        async move {
            let limit = deadline.saturating_duration_since(Instant::now()).max(ATTEMPT_MIN);
            let connected = TcpStream::connect_timeout(address, limit).await.map_err(io::Error::from);
            match connected.and_then(|stream| prepare(&stream).map(|()| stream)) {
                Ok(stream) => Some((stream, address)),
                Err(error) => {
                    last.replace(error);
                    None
                }
            }
        }
    };
    let raced = race::first(|_| left.pop_front().map_or(Next::End, |address| Next::Try(attempt(address), patience)));
    let late = async {
        Timer::new(limit).await;
        last.replace(io::Error::new(io::ErrorKind::TimedOut, "no address answered"));
        None
    };
    match future::or(raced, late).await {
        Some((stream, address)) => {
            if addresses.len() > 1 {
                race::worked(address);
            }
            Ok(stream)
        }
        None => Err(last.into_inner()),
    }
}

/// Sets what every connection of ours has: no delay for small writes, and keepalive probes, so that a peer that
/// vanished is noticed within some 35 seconds also on a quiet connection.
///
/// # Errors
/// What the kernel says.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    let fd = borrow(stream);
    let socket = SockRef::from(&fd);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY).with_retries(KEEPALIVE_PROBES),
    )
}

/// Hands several pieces to the kernel in one call, without waiting and without a copy of ours. After `WouldBlock`,
/// write with `poll_write`, which knows how to wait.
///
/// # Errors
/// `WouldBlock` when the socket's buffer is full; else what broke the connection.
pub fn send_pieces(stream: &TcpStream, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let fd = borrow(stream);
    SockRef::from(&fd).send_vectored_with_flags(pieces, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

/// An I/O error in an operator's words, without the number.
pub fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::TimedOut => "no answer to the connection attempt".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
    }
}

/// The stream's descriptor, for the options that glommio does not set.
#[allow(unsafe_code, reason = "glommio's stream gives its descriptor as a number only; this is the one borrow of it")]
pub(super) fn borrow(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as the stream that owns it is borrowed.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// Has every TCP connection of this process reset when it is closed, as it is when the process ends: what the kernel holds for the
/// other side does not leave any more. For a process that must say nothing more.
pub fn reset_all_when_closed() {
    let Ok(all) = std::fs::read_dir("/proc/self/fd") else { return };
    let names = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for fd in names.collect::<Vec<RawFd>>() {
        linger_none(fd);
    }
}

#[allow(unsafe_code, reason = "all descriptors of the process are known by their numbers only")]
fn linger_none(fd: RawFd) {
    // SAFETY: it is borrowed for one call, which changes an option of a socket and nothing else; a number that was closed
    // meanwhile is refused by the kernel.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    // Refused for what is no socket.
    let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    fn on_a_shard<T: 'static>(test: impl Future<Output = T>) -> T {
        glommio::LocalExecutorBuilder::default().io_memory(64 << 10).make().expect("executor").run(test)
    }

    /// An address where nothing listens.
    fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address")
    }

    /// A listener whose queue is full: further attempts to connect get no answer.
    fn silent() -> (socket2::Socket, Vec<socket2::Socket>, SocketAddr) {
        use socket2::{Domain, SockAddr, Socket, Type};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        listener.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).expect("bind");
        listener.listen(0).expect("listen");
        let address = listener.local_addr().expect("address");
        let queue = (0..8)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
                socket.set_nonblocking(true).expect("non-blocking");
                let _ = socket.connect(&address);
                socket
            })
            .collect();
        (listener, queue, address.as_socket().expect("IPv4"))
    }

    #[test]
    fn the_next_address_is_tried_and_pieces_arrive_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let (_listener, _queue, silent) = silent();
        let addresses = [nobody(), silent, listener.local_addr().expect("address")];
        on_a_shard(async move {
            let stream = connect(&addresses, Duration::from_secs(2)).await.expect("the third answers");
            let socket = borrow(&stream);
            let socket = SockRef::from(&socket);
            assert!(socket.tcp_nodelay().expect("option") && socket.keepalive().expect("option"));
            let pieces = [IoSlice::new(b"one "), IoSlice::new(b"two "), IoSlice::new(b"three")];
            assert_eq!(send_pieces(&stream, &pieces).expect("sent"), 13);
        });
        let mut text = String::new();
        listener.accept().expect("accept").0.read_to_string(&mut text).expect("read");
        assert_eq!(text, "one two three");
    }

    #[test]
    fn ten_dead_addresses_cost_a_moment_each_and_the_good_one_is_the_first_next_time() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let good = listener.local_addr().expect("address");
        let dead = (0..10).map(|_| silent()).collect::<Vec<_>>();
        let addresses = dead.iter().map(|(.., address)| *address).chain([good]).collect::<Vec<_>>();
        on_a_shard(async move {
            let started = Instant::now();
            let stream = connect(&addresses, Duration::from_secs(5)).await.expect("the last one answers");
            assert_eq!(stream.peer_addr().expect("connected"), good);
            assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
            let started = Instant::now();
            connect(&addresses, Duration::from_secs(5)).await.expect("it still answers");
            assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
        });
    }

    #[test]
    fn more_dead_addresses_than_are_tried_at_once_leave_time_for_the_good_one() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let dead = (0..24).map(|_| silent()).collect::<Vec<_>>();
        let good = listener.local_addr().expect("address");
        let addresses = dead.iter().map(|(.., address)| *address).chain([good]).collect::<Vec<_>>();
        on_a_shard(async move {
            let stream = connect(&addresses, Duration::from_secs(15)).await.expect("the last one answers");
            assert_eq!(stream.peer_addr().expect("connected"), good);
        });
    }

    #[test]
    fn a_full_socket_says_so_instead_of_waiting() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        on_a_shard(async move {
            let stream = connect(&[address], Duration::from_secs(2)).await.expect("connected");
            let piece = vec![7; 1 << 20];
            let error = (0..64).find_map(|_| send_pieces(&stream, &[IoSlice::new(&piece)]).err());
            assert_eq!(error.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
        });
    }

    #[test]
    fn a_silent_address_costs_no_more_than_the_deadline() {
        let (_listener, _queue, silent) = silent();
        on_a_shard(async move {
            let started = Instant::now();
            let error = connect(&[silent], Duration::from_millis(300)).await.expect_err("nobody accepts");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
            assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
            let error = connect(&[nobody()], Duration::from_secs(1)).await.expect_err("nobody listens");
            assert_eq!(words(&error), "connection refused");
            assert!(connect(&[], Duration::from_secs(1)).await.is_err());
        });
    }
}
