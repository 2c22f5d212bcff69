//! Addresses that answer nothing to whoever connects.

use std::net::SocketAddr;

/// A listener whose queue is full: further attempts to connect get no answer.
pub struct Silent {
    _listener: socket2::Socket,
    _queue: Vec<socket2::Socket>,
    pub address: SocketAddr,
}

impl Silent {
    pub fn new() -> Self {
        use socket2::{Domain, SockAddr, Socket, Type};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).expect("bound");
        listener.listen(0).expect("listening");
        let address = listener.local_addr().expect("an address");
        let connect = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("non-blocking");
            // In progress, or refused because the queue is full: both are meant.
            let _ = socket.connect(&address);
            socket
        };
        let queue = (0..8).map(connect).collect();
        Self { _listener: listener, _queue: queue, address: address.as_socket().expect("IPv4") }
    }
}
