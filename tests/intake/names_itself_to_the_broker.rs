//! The broker's monitoring shows the connection under `nats.name`.

use std::io::{Read, Write};
use std::net::TcpStream;

use harness::servers::free_port;

use crate::intake_support::{Server, started, until};

#[test]
fn monitoring_shows_the_configured_name() {
    let port = free_port().expect("a free port");
    let server = Server::start(&["-m", &port.to_string()]);
    let mut settings = server.settings();
    settings.nats.name = "engine-of-paris".to_owned();
    let taking = started(&settings, 1);
    taking.until_ready();
    let mut page = String::new();
    until("the connection is listed under its name", || {
        page.clear();
        let mut monitoring = TcpStream::connect(("127.0.0.1", port)).expect("monitoring listens");
        monitoring.write_all(b"GET /connz HTTP/1.0\r\n\r\n").expect("asked");
        monitoring.read_to_string(&mut page).expect("a page");
        page.contains("engine-of-paris reader 0")
    });
    taking.source.stop();
}
