//! A session against a server of rustls, without a socket: what comes is cut at will, damaged and broken off.

use std::io::{Read, Write};

use harness::servers::Authority;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use super::*;
use crate::config::{NatsConfig, TlsConfig};
use crate::edge::tls;

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

struct Pair {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Pair {
    fn new() -> Self {
        let authority = Authority::new().expect("a CA");
        let files = authority.certificate(&["here"]).expect("a certificate");
        let chain = vec![CertificateDer::from_pem_file(files.cert).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(files.key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let server = server.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("a pair");
        let settings = TlsConfig { ca: authority.ca(), ..NatsConfig::default().tls };
        Self { client: tls::client(&settings, "test.tls", &[]).expect("a CA"), server: Arc::new(server) }
    }

    /// Has the server say `text`; what comes from it is cut, and changed by `damage` at its place in all that comes. What the client
    /// read, and how that ended.
    fn talk(
        &self,
        text: &[u8],
        dice: &mut Dice,
        mut damage: impl FnMut(usize, &mut u8),
    ) -> (Vec<u8>, Result<(), rustls::Error>) {
        let name = ServerName::try_from("here").expect("a name");
        let mut client = Session::new(self.client.clone(), name).expect("a name");
        let mut server = ServerConnection::new(self.server.clone()).expect("a server");
        let (mut is_shaken, mut has_said, mut all, mut came, mut pipe) = (false, false, 0, Vec::new(), Vec::new());
        for _ in 0..100_000 {
            let done = match is_shaken {
                false => client.shake().map(|is_done| {
                    is_shaken = is_done;
                    0
                }),
                true => {
                    let mut room = vec![0; 1 + dice.below(20_000)];
                    client.read(&mut room).inspect(|bytes| came.extend_from_slice(&room[..*bytes]))
                }
            };
            assert!(client.to_send().len() <= 2 * OUT_BYTES && client.rest.len() <= 2 * IN_BYTES, "it is bounded");
            if done.is_err() || client.has_ended() && client.rest.is_empty() {
                return (came, done.map(drop));
            }
            if done.is_ok_and(|bytes| bytes > 0) {
                continue;
            }
            let mut to_server = client.to_send();
            let bytes = server.read_tls(&mut to_server).expect("memory");
            client.sent(bytes);
            // The client may have been told something that the server did not say.
            let is_good = server.process_new_packets().is_ok();
            if is_good && !server.is_handshaking() && !has_said {
                has_said = true;
                server.set_buffer_limit(None);
                server.writer().write_all(text).expect("room");
                server.send_close_notify();
            }
            while server.wants_write() {
                let begin = pipe.len();
                server.write_tls(&mut pipe).expect("memory");
                pipe[begin..].iter_mut().enumerate().for_each(|(at, byte)| damage(all + at, byte));
                all += pipe.len() - begin;
            }
            let room = match client.room() {
                Ok(room) => room,
                Err(error) => return (came, Err(error)),
            };
            let bytes = (&pipe[..pipe.len().min(1 + dice.below(30_000))]).read(room).expect("memory");
            pipe.drain(..bytes);
            client.came(bytes);
            if bytes == 0 && pipe.is_empty() && !server.wants_write() && client.to_send().is_empty() {
                return (came, Err(rustls::Error::General("nothing more comes".to_owned())));
            }
        }
        panic!("it has no end");
    }
}

#[test]
fn all_is_read_however_it_is_cut() {
    let (pair, mut dice) = (Pair::new(), Dice(7));
    for _ in 0..100 {
        let text: Vec<u8> = (0..dice.below(200_000)).map(|at| (at % 251) as u8).collect();
        let (came, end) = pair.talk(&text, &mut dice, |_, _| {});
        assert!(came == text && end.is_ok(), "{} of {}: {end:?}", came.len(), text.len());
    }
}

#[test]
fn what_is_damaged_is_an_error_and_what_was_read_before_is_right() {
    let (pair, mut dice) = (Pair::new(), Dice(8));
    let text: Vec<u8> = (0..60_000).map(|at| (at % 251) as u8).collect();
    let mut errors = 0;
    for _ in 0..500 {
        let (place, other) = (dice.below(62_000), dice.below(255) as u8 + 1);
        let (came, end) = pair.talk(&text, &mut dice, |at, byte| *byte ^= if at == place { other } else { 0 });
        assert!(text.starts_with(&came), "{} bytes, and not as they were written", came.len());
        errors += usize::from(end.is_err());
        assert!(end.is_err() || came == text, "only what is not looked at may differ");
    }
    assert!(errors > 480, "{errors}");
}
