//! `GET /readyz`, and the signal to stop: what the engines of this program have beside their work.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use harness::error::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::oneshot;

/// How long a visitor may take to ask and to read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers `/readyz` with 200 when it is so, else 503, and everything else with 404, on a thread of its own.
///
/// # Errors
/// When the address is taken.
pub(crate) fn serve(address: SocketAddr, is_ready: impl Fn() -> bool + Send + 'static) -> Result<()> {
    let listener = TcpListener::bind(address);
    let listener = listener.map_err(|cause| Error::of(&format!("cannot listen on admin address {address}"), cause))?;
    let started = thread::Builder::new().name("page".to_owned()).spawn(move || {
        for visitor in listener.incoming().flatten() {
            // A visitor who leaves early is no concern of ours.
            let _ = answer(visitor, is_ready());
        }
    });
    started.map(drop).map_err(|cause| Error::of("cannot start the page's thread", cause))
}

fn answer(mut visitor: TcpStream, is_ready: bool) -> std::io::Result<()> {
    visitor.set_read_timeout(Some(PATIENCE))?;
    visitor.set_write_timeout(Some(PATIENCE))?;
    let mut asked = [0; 1024];
    let length = visitor.read(&mut asked)?;
    let (status, body) = match (asked[..length].starts_with(b"GET /readyz"), is_ready) {
        (false, _) => ("404 Not Found", "only /readyz is here\n"),
        (true, true) => ("200 OK", "ready\n"),
        (true, false) => ("503 Service Unavailable", "not subscribed yet, or no gateway is registered\n"),
    };
    write!(visitor, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// Comes when SIGTERM or SIGINT does.
///
/// # Errors
/// When the signals cannot be caught.
pub(crate) fn stop_signal() -> Result<oneshot::Receiver<()>> {
    let (tell, told) = oneshot::channel();
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|cause| Error::of("cannot catch signals", cause))?;
    let started = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        signals.forever().next();
        // Nobody waits any longer when the engine has ended by itself.
        let _ = tell.send(());
    });
    started.map_err(|cause| Error::of("cannot start the signals' thread", cause))?;
    Ok(told)
}
