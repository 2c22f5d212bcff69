//! A TCP relay that changes what the client says: the MariaDB behind it is one of another make.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;

/// Changes bytes that go to the server; told whether they are the first of a connection, which are the login.
type Change = fn(&mut [u8], bool);

/// Starts one; its port. Its threads end with the connections.
pub fn to(port: u16, change: Change) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let own = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
            let (back_from, back_to) = (server.try_clone().expect("a clone"), client.try_clone().expect("a clone"));
            thread::spawn(move || pass(back_from, back_to, |_, _| {}));
            thread::spawn(move || pass(client, server, change));
        }
    });
    own
}

fn pass(mut from: TcpStream, mut to: TcpStream, change: Change) {
    let mut buffer = vec![0; 256 * 1024];
    let mut is_first = true;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        change(&mut buffer[..read], is_first);
        is_first = false;
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// A server that reads no comments of MariaDB's, as MySQL: it has no limit for statements that write.
pub fn without_limits(bytes: &mut [u8], _: bool) {
    for at in 0..bytes.len().saturating_sub(3) {
        if bytes[at..].starts_with(b"/*M!") {
            bytes[at + 2] = b'-';
        }
    }
}

/// A proxy that logs in with CLIENT_FOUND_ROWS: rows that are there and do not change count as 1.
pub fn counting_found_rows(bytes: &mut [u8], is_login: bool) {
    if is_login && bytes.len() > 4 {
        bytes[4] |= 2;
    }
}
