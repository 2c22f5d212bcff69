//! Host names to addresses, off the shards: the system's resolver blocks, so it runs on a few threads of its own.
//!
//! Promises that a shard never waits longer than [`RESOLVE_DEADLINE`] and that an IP address is answered at once,
//! without a thread. Refuses to remember anything: names are resolved again on each reconnect, that is how a moved
//! server is found.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use atomic_waker::AtomicWaker;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use futures_lite::FutureExt;
use glommio::timer::Timer;

/// How long a name may take.
pub const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// Several, so that one name whose server is silent does not hold up the others.
const THREADS: usize = 4;
/// Names that wait for a thread.
const QUEUE: usize = 1024;

/// The way to the resolver threads; a clone is the same threads. They end when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Resolver {
    questions: Sender<Question>,
}

#[derive(Debug)]
struct Question {
    host: String,
    port: u16,
    slot: Arc<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    answer: Mutex<Option<io::Result<Vec<SocketAddr>>>>,
    asker: AtomicWaker,
}

impl Resolver {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start() -> io::Result<Self> {
        Self::with(|host, port| (host, port).to_socket_addrs().map(Vec::from_iter))
    }

    /// The same with another way from names to addresses than the system's; it may block.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn with(names: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> io::Result<Self> {
        let (questions, receiver) = crossbeam_channel::bounded(QUEUE);
        let names = Arc::new(names);
        for number in 0..THREADS {
            let (questions, names) = (receiver.clone(), Arc::clone(&names));
            std::thread::Builder::new()
                .name(format!("resolve-{number}"))
                .spawn(move || answer_all(&questions, &*names))?;
        }
        Ok(Self { questions })
    }

    /// The addresses of a host, with this port, at least one. Runs on a glommio executor only. May be dropped at any
    /// time.
    ///
    /// # Errors
    /// `NotFound` when the name has no address, `TimedOut` after [`RESOLVE_DEADLINE`], `WouldBlock` when too many names
    /// wait already, else the system's own.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let slot = Arc::new(Slot::default());
        let question = Question { host: host.to_owned(), port, slot: Arc::clone(&slot) };
        self.questions.try_send(question).map_err(|refused| match refused {
            TrySendError::Full(_) => {
                io::Error::new(io::ErrorKind::WouldBlock, "too many host names are being resolved")
            }
            TrySendError::Disconnected(_) => io::Error::other("the resolver threads are gone"),
        })?;
        let answered = std::future::poll_fn(|cx| {
            slot.asker.register(cx.waker());
            slot.answer.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Poll::Pending, Poll::Ready)
        });
        let late = async {
            Timer::new(RESOLVE_DEADLINE).await;
            let seconds = RESOLVE_DEADLINE.as_secs();
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("host name {host:?} not resolved within {seconds} s")))
        };
        pin!(answered).or(pin!(late)).await
    }
}

fn answer_all(questions: &Receiver<Question>, names: &impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>>) {
    for Question { host, port, slot } in questions {
        // Whoever asked has given up: its half of the slot is gone.
        if Arc::strong_count(&slot) == 1 {
            continue;
        }
        let answer = names(&host, port).and_then(|addresses| {
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("host name {host:?} has no address")));
            }
            Ok(addresses)
        });
        *slot.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        slot.asker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(resolver: &Resolver, host: &str) -> io::Result<Vec<SocketAddr>> {
        let executor = glommio::LocalExecutorBuilder::default().io_memory(64 << 10).make().expect("executor");
        executor.run(resolver.resolve(host, 4222))
    }

    #[test]
    fn literals_need_no_thread() {
        let (questions, receiver) = crossbeam_channel::bounded(1);
        drop(receiver);
        let gone = Resolver { questions };
        for (host, address) in [("10.1.2.3", "10.1.2.3:4222"), ("::1", "[::1]:4222"), ("[fe80::7]", "[fe80::7]:4222")] {
            assert_eq!(resolve(&gone, host).expect(host), [address.parse().expect("address")], "{host}");
        }
        assert!(resolve(&gone, "localhost").is_err());
    }

    #[test]
    fn names_are_resolved_and_unknown_ones_are_errors() {
        let resolver = Resolver::start().expect("threads");
        let found = resolve(&resolver.clone(), "localhost").expect("localhost");
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback() && address.port() == 4222));
        let error = resolve(&resolver, "no such host.invalid").expect_err("no such name");
        assert_ne!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }

    #[test]
    fn a_full_queue_is_an_error_at_once() {
        let (questions, _receiver) = crossbeam_channel::bounded(1);
        let slot = Arc::new(Slot::default());
        questions.send(Question { host: "localhost".to_owned(), port: 1, slot }).expect("room for one");
        let error = resolve(&Resolver { questions }, "localhost").expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
