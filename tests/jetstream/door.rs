//! A way to a server that can be shut: connections through it are refused, or hang, or go through.

#![expect(clippy::disallowed_methods, reason = "a connection's lifetime is what the test is about")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What it does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They go through.
    Open,
    /// They are closed.
    Closed,
    /// They are accepted, and nothing is ever answered.
    Hanging,
    /// They go through, and are ended after so long.
    Brief(Duration),
}

struct Inside {
    way: Way,
    standing: Vec<TcpStream>,
    /// Connections so far.
    came: usize,
}

/// See the module.
pub struct Door {
    port: u16,
    inside: Arc<Mutex<Inside>>,
}

impl Door {
    /// A door to this port of this machine.
    pub fn to(server: u16, way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a port").port();
        let inside = Arc::new(Mutex::new(Inside { way, standing: Vec::new(), came: 0 }));
        let shared = inside.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut inside = shared.lock().expect("no panic");
                inside.came += 1;
                match inside.way {
                    Way::Closed => drop(client),
                    Way::Hanging => inside.standing.push(client),
                    way @ (Way::Open | Way::Brief(_)) => {
                        let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                        let ends = [&client, &server].map(|end| end.try_clone().expect("a clone"));
                        match way {
                            Way::Brief(life) => end_after(life, ends),
                            _ => inside.standing.extend(ends),
                        }
                        copy(client.try_clone().expect("a clone"), server.try_clone().expect("a clone"));
                        copy(server, client);
                    }
                }
            }
        });
        Self { port, inside }
    }

    /// Where it is.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections came so far.
    pub fn came(&self) -> usize {
        self.inside.lock().expect("no panic").came
    }

    /// From now on it does this; connections that stand are ended.
    pub fn set(&self, way: Way) {
        let mut inside = self.inside.lock().expect("no panic");
        inside.way = way;
        for socket in inside.standing.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn end_after(life: Duration, ends: [TcpStream; 2]) {
    thread::spawn(move || {
        thread::sleep(life);
        ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
    });
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
