//! A client of small HTTP pages, such as the engine's admin pages, and a reader of the numbers on them.
//!
//! One connection a request, by hand, so that a caller may block. Whoever does not answer in time gives no page.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long [`get`] waits for a connection, and for each piece of the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// The status line and the headers, as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

/// The page of a server on this machine; none when it gives no whole answer.
pub fn get(port: u16, path: &str) -> Option<Page> {
    request((Ipv4Addr::LOCALHOST, port).into(), "GET", path, "", PATIENCE)
}

/// The same with another method, more lines of the head, each with its `\r\n`, and another patience.
pub fn request(server: SocketAddr, method: &str, path: &str, more: &str, patience: Duration) -> Option<Page> {
    let mut socket = TcpStream::connect_timeout(&server, patience).ok()?;
    socket.set_read_timeout(Some(patience)).ok()?;
    let asked = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n");
    socket.write_all(asked.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Page { status, head: head.to_owned(), body: body.to_owned() })
}

impl Page {
    /// The body, when the status is 200.
    pub fn ok(self) -> Option<String> {
        (self.status == 200).then_some(self.body)
    }
}

/// The series of one name on a page of metrics: labels as they stand there (`{shard="0"}` or nothing), and value.
pub fn series<'a>(page: &'a str, name: &str) -> impl Iterator<Item = (&'a str, f64)> {
    page.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let is_it = labels.is_empty() || labels.starts_with('{');
        is_it.then(|| Some((labels, value.parse().ok()?)))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn series_are_read_with_their_labels_and_no_other_name_is_taken_for_theirs() {
        let page = "# TYPE mgets counter\nmgets_total{shard=\"0\"} 5\nmgets_total{shard=\"1\"} 7\n\
                    mgets_total_of_others 9\nturns_total 3\nlatency_sum 0.25\nmgets_total{shard=\"2\"} many\n";
        let read = |name| series(page, name).collect::<Vec<_>>();
        assert_eq!(read("mgets_total"), [("{shard=\"0\"}", 5.0), ("{shard=\"1\"}", 7.0)]);
        assert_eq!((read("turns_total"), read("latency_sum")), (vec![("", 3.0)], vec![("", 0.25)]));
        assert_eq!(read("mget_keys_total"), []);
    }

    #[test]
    fn a_page_is_its_status_head_and_body_and_nothing_where_nobody_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("an address");
        let serving = std::thread::spawn(move || {
            for answer in
                ["HTTP/1.1 503 Away\r\nA: b\r\n\r\nnot yet\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200"]
            {
                let (mut socket, _) = listener.accept().expect("a visitor");
                let mut asked = [0; 1024];
                let length = socket.read(&mut asked).expect("a request");
                assert!(asked[..length].starts_with(b"GET /it HTTP/1.1\r\nHost: "), "{:?}", &asked[..length]);
                socket.write_all(answer.as_bytes()).expect("answered");
            }
        });
        let page = get(server.port(), "/it").expect("a page");
        assert_eq!((page.status, &*page.head, &*page.body), (503, "HTTP/1.1 503 Away\r\nA: b", "not yet\r\n\r\n"));
        assert_eq!(page.ok(), None);
        assert_eq!(request(server, "GET", "/it", "", PATIENCE).and_then(Page::ok).as_deref(), Some(""));
        assert_eq!(get(server.port(), "/it"), None, "half a head is not an answer");
        serving.join().expect("it served");
        assert_eq!(get(server.port(), "/it"), None, "nobody listens");
    }
}
