//! A TCP relay in front of a real server: new connections go where it points now, old ones stay where they are.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Decides on a new connection: takes it over and answers true, or leaves it to be relayed.
pub type Script = Arc<dyn Fn(&mut TcpStream) -> Handled + Send + Sync>;

/// What a script did with a new connection.
pub enum Handled {
    /// It is over.
    Closed,
    /// It is to be relayed; these bytes of it were read.
    Relay(Vec<u8>),
}

/// The relay; its threads end with the connections.
pub struct Proxy {
    address: SocketAddr,
    upstream: Arc<Mutex<SocketAddr>>,
    script: Arc<Mutex<Option<Script>>>,
    accepted: Arc<AtomicUsize>,
    /// What was relayed, either way.
    recorded: Recorded,
}

type Recorded = Option<Arc<Mutex<Vec<u8>>>>;

impl Proxy {
    pub fn to(upstream: SocketAddr) -> Self {
        Self::with(upstream, None)
    }

    /// One that keeps all that it relays, and leads to this port.
    pub fn recording(port: u16) -> Self {
        Self::with(SocketAddr::from(([127, 0, 0, 1], port)), Some(Arc::default()))
    }

    /// What a recording one has relayed so far.
    pub fn recorded(&self) -> Vec<u8> {
        self.recorded.as_ref().expect("one that records").lock().unwrap().clone()
    }

    fn with(upstream: SocketAddr, recorded: Recorded) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let proxy = Self {
            address: listener.local_addr().expect("an address"),
            upstream: Arc::new(Mutex::new(upstream)),
            script: Arc::default(),
            accepted: Arc::default(),
            recorded,
        };
        let recorded = proxy.recorded.clone();
        let (upstream, script, accepted) =
            (Arc::clone(&proxy.upstream), Arc::clone(&proxy.script), Arc::clone(&proxy.accepted));
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(mut client) = client else { return };
                accepted.fetch_add(1, Ordering::AcqRel);
                let (upstream, script) = (Arc::clone(&upstream), script.lock().unwrap().clone());
                let recorded = recorded.clone();
                thread::spawn(move || {
                    let read = match script.map(|script| script(&mut client)) {
                        None => Vec::new(),
                        Some(Handled::Relay(read)) => read,
                        Some(Handled::Closed) => return drop(client.shutdown(Shutdown::Both)),
                    };
                    let address = *upstream.lock().unwrap();
                    let Ok(mut server) = TcpStream::connect(address) else { return };
                    if server.write_all(&read).is_err() {
                        return;
                    }
                    let (back_from, back_to) =
                        (server.try_clone().expect("a clone"), client.try_clone().expect("a clone"));
                    let also = recorded.clone();
                    thread::spawn(move || relay(back_from, back_to, &also));
                    relay(client, server, &recorded);
                });
            }
        });
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }

    /// New connections go there.
    pub fn point_to(&self, upstream: SocketAddr) {
        *self.upstream.lock().unwrap() = upstream;
    }

    /// New connections meet this first.
    pub fn script(&self, script: Option<Script>) {
        *self.script.lock().unwrap() = script;
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, recorded: &Recorded) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if let Some(recorded) = recorded {
            recorded.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
