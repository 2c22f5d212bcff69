//! A TCP relay in front of etcd that can be cut, and that can swallow what etcd answers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

#[derive(Default)]
struct State {
    /// What etcd answers goes nowhere.
    is_swallowing: AtomicBool,
    /// Nobody is let through.
    is_shut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// The relay; its threads end with the connections.
pub struct Way {
    address: SocketAddr,
    state: Arc<State>,
}

impl Way {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let way = Self { address: listener.local_addr().expect("an address"), state: Arc::default() };
        let state = way.state.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if !state.is_shut.load(Ordering::Acquire) {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                    relay(&state, &client, &server);
                }
            }
        });
        way
    }

    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// Ends all connections; new ones are let through.
    pub fn cut(&self) {
        for socket in self.state.open.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Ends all connections, and new ones at once, until it is opened.
    pub fn shut(&self, is_shut: bool) {
        self.state.is_shut.store(is_shut, Ordering::Release);
        self.cut();
    }

    /// From now on what etcd answers is swallowed, or let through.
    pub fn swallow(&self, is_swallowing: bool) {
        self.state.is_swallowing.store(is_swallowing, Ordering::Release);
    }
}

fn relay(state: &Arc<State>, client: &TcpStream, server: &TcpStream) {
    let clone = |socket: &TcpStream| socket.try_clone().expect("a clone");
    state.open.lock().unwrap().extend([clone(client), clone(server)]);
    for (from, to, is_answer) in [(client, server, false), (server, client, true)] {
        let (mut from, mut to, state) = (clone(from), clone(to), state.clone());
        thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                let is_lost = is_answer && state.is_swallowing.load(Ordering::Acquire);
                if !is_lost && to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
