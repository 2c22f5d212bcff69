//! TLS against a server of rustls on a thread: both versions, all sizes, ends of each kind, a peer that takes nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use glommio::timer::Timer;
use harness::servers::Authority;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use super::*;
use crate::config::{NatsConfig, TlsConfig};
use crate::edge::tls;

pub(in crate::edge) type Peer = StreamOwned<ServerConnection, std::net::TcpStream>;

const LIMIT: Duration = Duration::from_secs(30);

/// A peer that does this with one client over TLS, and who vouches for it.
pub(in crate::edge) fn peer(
    version: &'static SupportedProtocolVersion,
    then: impl FnOnce(Peer) + Send + 'static,
) -> (SocketAddr, TlsConfig, Authority, thread::JoinHandle<()>) {
    let authority = Authority::new().expect("a CA");
    let files = authority.certificate(&["127.0.0.1"]).expect("a certificate");
    let chain = vec![CertificateDer::from_pem_file(files.cert).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(files.key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).expect("a version");
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).expect("a pair"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let thread = thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a client");
        then(StreamOwned::new(ServerConnection::new(config).expect("a connection"), socket));
    });
    let settings = TlsConfig { ca: authority.ca(), ..NatsConfig::default().tls };
    (address, settings, authority, thread)
}

pub(in crate::edge) async fn secured(address: SocketAddr, settings: &TlsConfig) -> Transport {
    let tcp = socket::connect(&[address], LIMIT).await.expect("it listens");
    let client = tls::client(settings, "test.tls", &[]).expect("a CA");
    let name = tls::server_name(settings, "127.0.0.1").expect("a name");
    Transport::Plain(tcp).secured(client, name).await.expect("TLS")
}

pub(in crate::edge) fn on_a_shard<T: 'static>(test: impl Future<Output = T> + 'static) -> T {
    let in_time = async {
        let late = async {
            Timer::new(LIMIT).await;
            panic!("not done in time")
        };
        future::or(test, late).await
    };
    glommio::LocalExecutorBuilder::default().io_memory(64 << 10).make().expect("executor").run(in_time)
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at / 7 + at % 251) as u8).collect()
}

#[test]
fn all_sizes_go_both_ways_whatever_the_pieces() {
    const ALL: usize = 3 << 20;
    for version in [&TLS12, &TLS13] {
        let (address, settings, _authority, thread) = peer(version, |mut peer| {
            let mut all = vec![0; ALL];
            peer.read_exact(&mut all).expect("all");
            assert!(all == bytes(ALL), "as it was written");
            // In pieces of all sizes, so that records are of all sizes as well.
            let (mut rest, mut size) = (&all[..], 1);
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(size.min(rest.len()));
                peer.write_all(piece).expect("it reads");
                (rest, size) = (after, size * 5 / 3 + 1);
                size = if size > 200_000 { 1 } else { size };
            }
            peer.conn.send_close_notify();
            peer.flush().expect("it reads");
        });
        on_a_shard(async move {
            let mut transport = secured(address, &settings).await;
            assert!(transport.is_tls());
            let (all, mut rest, mut size) = (bytes(ALL), &bytes(ALL)[..], 3);
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(size.min(rest.len()));
                transport.write_all(piece).await.expect("it reads");
                (rest, size) = (after, size * 4 / 3 + 1);
                size = if size > 300_000 { 3 } else { size };
            }
            transport.flush().await.expect("it reads");
            assert!(!transport.holds() && transport.moved() > ALL as u64);
            let (mut came, mut room) = (Vec::new(), [0; 16 * 1024]);
            // Rooms of all sizes.
            for turn in 1.. {
                let size = turn * 977 % room.len() + 1;
                match transport.read(&mut room[..size]).await.expect("bytes") {
                    0 => break,
                    count => came.extend_from_slice(&room[..count]),
                }
            }
            assert!(came == all, "{} bytes, as they were written", came.len());
        });
        thread.join().expect("a peer that ends well");
    }
}

#[test]
fn a_farewell_is_told_from_an_end_in_the_middle() {
    for version in [&TLS12, &TLS13] {
        for farewell in [true, false] {
            let (address, settings, _authority, thread) = peer(version, move |mut peer| {
                peer.write_all(b"hello").expect("it reads");
                if farewell {
                    peer.conn.send_close_notify();
                }
                peer.flush().expect("it reads");
                let _ = peer.sock.shutdown(std::net::Shutdown::Write);
                // Our own farewell, then nothing.
                assert!(matches!(peer.read(&mut [0; 16]), Ok(0)));
            });
            on_a_shard(async move {
                let mut transport = secured(address, &settings).await;
                let mut room = [0; 64];
                assert_eq!(transport.read(&mut room).await.expect("bytes"), 5);
                let end = transport.read(&mut room).await;
                match farewell {
                    true => assert_eq!(end.expect("a farewell"), 0),
                    false => {
                        let error = end.expect_err("cut off");
                        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                        assert!(tls::words(&error, "x").contains("cut off in the middle"));
                    }
                }
                transport.close().await.expect("closed");
            });
            thread.join().expect("it heard our farewell");
        }
    }
}

#[test]
fn a_peer_that_takes_nothing_makes_us_wait_and_holds_no_more_than_some_records() {
    let (go, wait) = mpsc::channel::<()>();
    const ALL: usize = 8 << 20;
    let (address, settings, _authority, thread) = peer(&TLS13, move |mut peer| {
        peer.write_all(b"!").and_then(|()| peer.flush()).expect("it reads");
        wait.recv().expect("a word");
        let mut all = vec![0; ALL];
        peer.read_exact(&mut all).expect("all");
        assert!(all == bytes(ALL), "as it was written");
    });
    on_a_shard(async move {
        let mut transport = secured(address, &settings).await;
        assert_eq!(transport.read(&mut [0; 8]).await.expect("a byte"), 1);
        let (all, mut written) = (bytes(ALL), 0);
        // Until nothing is taken for a moment.
        let mut since = Instant::now();
        while since.elapsed() < Duration::from_millis(200) {
            let some = poll_fn(|cx| Poll::Ready(Pin::new(&mut transport).poll_write(cx, &all[written..]))).await;
            if let Poll::Ready(bytes) = some {
                written += bytes.expect("it is there");
                since = Instant::now();
            }
            future::yield_now().await;
        }
        assert!(written < ALL && transport.holds(), "{written}");
        let Transport::Tls(stream) = &transport else { panic!("TLS") };
        assert!(stream.session.to_send().len() <= 2 * (64 << 10) + 1024, "{}", stream.session.to_send().len());
        let moved = transport.moved();
        go.send(()).expect("it waits");
        transport.write_all(&all[written..]).await.expect("it reads");
        transport.flush().await.expect("it reads");
        assert!(transport.moved() > moved && !transport.holds());
    });
    thread.join().expect("a peer that ends well");
}

#[test]
fn what_came_with_the_handshake_or_in_one_read_is_not_left_waiting() {
    // Many small records at once: after one read of the socket all of them can be read, without another wake.
    let (address, settings, _authority, thread) = peer(&TLS13, |mut peer| {
        let mut together = Vec::new();
        peer.conn.complete_io(&mut peer.sock).expect("a handshake");
        for number in 0..200_u8 {
            peer.conn.writer().write_all(&[number; 11]).expect("room");
            peer.conn.write_tls(&mut together).expect("a record");
        }
        peer.sock.write_all(&together).expect("it reads");
        assert!(matches!(peer.read(&mut [0; 16]), Ok(1)));
    });
    on_a_shard(async move {
        let mut transport = secured(address, &settings).await;
        let mut came = 0;
        while came < 200 * 11 {
            came += transport.read(&mut [0; 7]).await.expect("bytes");
        }
        transport.write_all(b"!").await.expect("it reads");
    });
    thread.join().expect("a peer that ends well");
}

#[test]
fn what_came_before_a_broken_record_is_read_first() {
    let (address, settings, _authority, thread) = peer(&TLS13, |mut peer| {
        let mut together = Vec::new();
        peer.conn.complete_io(&mut peer.sock).expect("a handshake");
        peer.conn.writer().write_all(b"the last word").expect("room");
        while peer.conn.wants_write() {
            peer.conn.write_tls(&mut together).expect("a record");
        }
        together.extend_from_slice(&[23, 3, 3, 0, 32]);
        together.extend_from_slice(&[7; 32]);
        peer.sock.write_all(&together).expect("it reads");
        let why = peer.read(&mut [0; 16]).expect_err("an alert");
        assert!(why.to_string().contains("BadRecordMac"), "{why}");
    });
    on_a_shard(async move {
        let mut transport = secured(address, &settings).await;
        let (mut room, mut came) = ([0; 64], Vec::new());
        let why = loop {
            match transport.read(&mut room).await {
                Ok(count) => came.extend_from_slice(&room[..count]),
                Err(why) => break why,
            }
        };
        assert_eq!(came, b"the last word");
        assert!(tls::words(&why, "x").contains("TLS failed"), "{why}");
    });
    thread.join().expect("it heard why");
}

#[test]
fn keys_that_the_peer_renews_are_followed() {
    let (address, settings, _authority, thread) = peer(&TLS13, |mut peer| {
        for _ in 0..5 {
            let mut piece = [0; 4];
            peer.read_exact(&mut piece).expect("bytes");
            peer.conn.refresh_traffic_keys().expect("a handshake that is done");
            peer.write_all(&piece).and_then(|()| peer.flush()).expect("it reads");
        }
    });
    on_a_shard(async move {
        let mut transport = secured(address, &settings).await;
        for _ in 0..5 {
            transport.write_all(b"ping").await.expect("it reads");
            transport.flush().await.expect("it reads");
            let mut piece = [0; 4];
            transport.read_exact(&mut piece).await.expect("bytes");
            assert_eq!(&piece, b"ping");
        }
    });
    thread.join().expect("a peer that ends well");
}

#[test]
fn files_that_did_not_change_are_read_once_and_others_again() {
    let authority = Authority::new().expect("a CA");
    let settings = TlsConfig { ca: authority.ca(), ..NatsConfig::default().tls };
    let client = || tls::client(&settings, "test.tls", &[]);
    let first = client().expect("a CA");
    assert!(Arc::ptr_eq(&first, &client().expect("a CA")));
    let with_alpn = tls::client(&settings, "test.tls", &[b"h2"]).expect("a CA");
    assert!(with_alpn.alpn_protocols == [b"h2"] && first.alpn_protocols.is_empty());
    assert!(Arc::ptr_eq(&first, &client().expect("a CA")), "each has its own");
    let other = Authority::new().expect("a CA");
    std::fs::copy(other.ca(), authority.ca()).expect("copied");
    assert!(!Arc::ptr_eq(&first, &client().expect("a CA")));
    std::fs::write(authority.ca(), "nothing").expect("written");
    assert!(client().expect_err("no CA").to_string().contains("there is no certificate in it"));
}
