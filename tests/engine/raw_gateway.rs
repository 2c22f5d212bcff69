//! A server that writes HTTP/2 by hand at the address of a gateway, as no library lets one, and does its worst.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// What it does to whoever connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// A response whose headers never end.
    EndlessHeaders,
    /// A frame of 16 MiB.
    HugeFrame,
    /// Answers that nobody asked for, for ever.
    UnaskedAnswers,
    /// SETTINGS for ever.
    Settings,
    /// PING for ever; it reads what comes back.
    Pings,
    /// The same, and it reads nothing.
    PingsUnread,
    /// A window of 0, for ever.
    NoWindow,
    /// It takes all windows and reads nothing.
    ReadsNothing,
    /// Headers, and then nothing.
    NoTrailers,
    /// RST_STREAM for each stream, again and again.
    Resets,
    /// An answer that says it has 4 GiB, and its bytes.
    FourGib,
    /// An answer that says it has just what is allowed, whose last byte never comes.
    LargestNeverWhole,
    /// GOAWAY for ever.
    Goaways,
    /// Its first frame comes a byte per second.
    SlowGreeting,
    /// An answer comes a byte per second.
    SlowAnswer,
    /// One answer with a million failed usernames (protocol `unary`).
    MillionFailed,
    /// HTTP/1, for ever.
    Http1,
    /// Frames of a type that is not known, for ever.
    UnknownFrames,
    /// WINDOW_UPDATE for ever.
    WindowUpdates,
    /// PRIORITY for ever.
    Priorities,
    /// DATA without a byte in it, for ever.
    EmptyData,
    /// A status whose message has line ends in it.
    LinesInStatus,
}

impl Bad {
    pub const ALL: [Self; 22] = [
        Self::EndlessHeaders,
        Self::HugeFrame,
        Self::UnaskedAnswers,
        Self::Settings,
        Self::Pings,
        Self::PingsUnread,
        Self::NoWindow,
        Self::ReadsNothing,
        Self::NoTrailers,
        Self::Resets,
        Self::FourGib,
        Self::LargestNeverWhole,
        Self::Goaways,
        Self::SlowGreeting,
        Self::SlowAnswer,
        Self::MillionFailed,
        Self::Http1,
        Self::UnknownFrames,
        Self::WindowUpdates,
        Self::Priorities,
        Self::EmptyData,
        Self::LinesInStatus,
    ];

    /// What it says it speaks.
    pub fn protocol(self) -> &'static str {
        if self == Self::MillionFailed { "unary" } else { "stream" }
    }
}

/// What a line would begin with if it could be forged.
pub const FORGED: &str = "FORGED line of a log";

/// See the module. Its threads end with it.
pub struct RawGateway {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl RawGateway {
    pub fn start(bad: Bad) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (connections, is_over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, over) = (connections.clone(), is_over.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Acquire) {
                    return;
                }
                count.fetch_add(1, Ordering::AcqRel);
                let over = over.clone();
                thread::spawn(move || drop(Connection::of(client, over).and_then(|mut client| client.be(bad))));
            }
        });
        Self { address, connections, is_over }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

impl Drop for RawGateway {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Its listener looks when somebody comes.
        drop(TcpStream::connect(self.address));
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const PREFACE_BYTES: usize = 24;
/// What a gRPC message may have.
const LARGEST: u32 = 4 << 20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// `:status: 200`, `content-type: application/grpc`.
fn head() -> Vec<u8> {
    [&[0x88, 0x0f, 0x10, 0x10][..], b"application/grpc"].concat()
}

/// A header that is not to be kept.
fn header(name: &str, value: &str) -> Vec<u8> {
    assert!(name.len() < 127 && value.len() < 16_000);
    let mut bytes = vec![0, name.len() as u8];
    bytes.extend(name.as_bytes());
    match value.len() {
        len @ 0..127 => bytes.push(len as u8),
        len => bytes.extend([127, ((len - 127) & 127) as u8 | 128, ((len - 127) >> 7) as u8]),
    }
    bytes.extend(value.as_bytes());
    bytes
}

fn grpc(len: u32, message: &[u8]) -> Vec<u8> {
    [&[0][..], &len.to_be_bytes(), message].concat()
}

struct Connection {
    client: TcpStream,
    is_over: Arc<AtomicBool>,
}

impl Connection {
    fn of(client: TcpStream, is_over: Arc<AtomicBool>) -> std::io::Result<Self> {
        client.set_write_timeout(Some(Duration::from_millis(200)))?;
        client.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(Self { client, is_over })
    }

    /// Streams that the client opens, as a thread reads what comes.
    fn streams(&self) -> std::io::Result<Receiver<u32>> {
        let (mut client, is_over) = (self.client.try_clone()?, self.is_over.clone());
        let (tell, told) = channel();
        thread::spawn(move || {
            let (mut read, mut piece, mut skip) = (Vec::new(), [0; 16 * 1024], PREFACE_BYTES);
            while !is_over.load(Ordering::Acquire) {
                match client.read(&mut piece) {
                    Ok(0) => return,
                    Ok(count) => read.extend_from_slice(&piece[..count]),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                    Err(_) => return,
                }
                while read.len() >= skip + 9 {
                    read.drain(..std::mem::take(&mut skip));
                    let len = u32::from_be_bytes([0, read[0], read[1], read[2]]) as usize;
                    let (kind, stream) = (read[3], u32::from_be_bytes([read[5], read[6], read[7], read[8]]));
                    if kind == HEADERS && tell.send(stream).is_err() {
                        return;
                    }
                    skip = 9 + len;
                }
            }
        });
        Ok(told)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.client.write_all(bytes)
    }

    /// The same bytes until the client is gone, or the test is over; one that does not read is waited for.
    fn flood(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let many = bytes.repeat((64 * 1024 / bytes.len()).max(1));
        let mut at = 0;
        while !self.is_over.load(Ordering::Acquire) {
            match self.client.write(&many[at..]) {
                Ok(count) => at = (at + count) % many.len(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A byte per second, until the client is gone.
    fn drip(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        for byte in bytes {
            self.write(&[*byte])?;
            for _ in 0..10 {
                if self.is_over.load(Ordering::Acquire) {
                    return Ok(());
                }
                thread::park_timeout(Duration::from_millis(100));
            }
        }
        self.hold()
    }

    /// Does nothing more.
    fn hold(&mut self) -> std::io::Result<()> {
        while !self.is_over.load(Ordering::Acquire) {
            thread::park_timeout(Duration::from_millis(100));
        }
        Ok(())
    }

    fn be(&mut self, bad: Bad) -> std::io::Result<()> {
        let settings = match bad {
            Bad::NoWindow => setting(4, 0),
            Bad::ReadsNothing => [setting(4, (1 << 31) - 1), setting(5, (1 << 24) - 1)].concat(),
            _ => Vec::new(),
        };
        match bad {
            Bad::Http1 => return self.flood(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n"),
            Bad::SlowGreeting => return self.drip(&frame(SETTINGS, 0, 0, &[])),
            Bad::ReadsNothing | Bad::PingsUnread => {}
            _ => return self.answer(bad, &settings),
        }
        // Nothing is read: what streams there are is known, as the first one of a client is 1.
        self.write(&frame(SETTINGS, 0, 0, &settings))?;
        self.write(&frame(SETTINGS, ACK, 0, &[]))?;
        if bad == Bad::PingsUnread {
            return self.flood(&frame(PING, 0, 0, &[7; 8]));
        }
        self.write(&frame(WINDOW_UPDATE, 0, 0, &((1_u32 << 31) - 1 - 65_535).to_be_bytes()))?;
        self.hold()
    }

    /// What begins with a stream of the client.
    fn answer(&mut self, bad: Bad, settings: &[u8]) -> std::io::Result<()> {
        let streams = self.streams()?;
        self.write(&frame(SETTINGS, 0, 0, settings))?;
        self.write(&frame(SETTINGS, ACK, 0, &[]))?;
        match bad {
            Bad::Settings => return self.flood(&frame(SETTINGS, 0, 0, &setting(3, 100))),
            Bad::Pings => return self.flood(&frame(PING, 0, 0, &[7; 8])),
            Bad::Goaways => return self.flood(&frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0])),
            Bad::UnknownFrames => return self.flood(&frame(0xfa, 0, 0, &[1; 16 * 1024])),
            Bad::WindowUpdates => return self.flood(&frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes())),
            Bad::NoWindow => return self.hold(),
            _ => {}
        }
        let Ok(stream) = streams.recv_timeout(Duration::from_secs(20)) else { return Ok(()) };
        let opens = frame(HEADERS, END_HEADERS, stream, &head());
        match bad {
            Bad::EndlessHeaders => {
                self.write(&frame(HEADERS, 0, stream, &head()))?;
                self.flood(&frame(CONTINUATION, 0, stream, &header("x-more", &"x".repeat(4_000))))
            }
            Bad::Resets => {
                self.write(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()))?;
                self.flood(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()))
            }
            Bad::Priorities => self.flood(&frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 9])),
            Bad::LinesInStatus => {
                let said = format!("no%0a{FORGED}%0d%0a%1b[2J{}", "x".repeat(4_000));
                let status = [head(), header("grpc-status", "13"), header("grpc-message", &said)].concat();
                self.write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &status))?;
                self.hold()
            }
            Bad::MillionFailed => {
                let message = b"\x1a\x01u".repeat(1_000_000);
                self.write(&opens)?;
                let body = grpc(message.len() as u32, &message);
                for piece in body.chunks(16 * 1024) {
                    self.write(&frame(DATA, 0, stream, piece))?;
                }
                self.write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &header("grpc-status", "0")))?;
                self.hold()
            }
            _ => {
                self.write(&opens)?;
                self.misuse(bad, stream)
            }
        }
    }

    /// What is done with an open answer.
    fn misuse(&mut self, bad: Bad, stream: u32) -> std::io::Result<()> {
        // msg_id 2^40: field 1.
        let unasked = grpc(7, &[8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20]);
        match bad {
            Bad::UnaskedAnswers => self.flood(&frame(DATA, 0, stream, &unasked.repeat(1_000))),
            Bad::EmptyData => self.flood(&frame(DATA, 0, stream, &[])),
            Bad::SlowAnswer => {
                for byte in unasked.iter().cycle().take(60) {
                    self.drip_frame(stream, *byte)?;
                }
                Ok(())
            }
            Bad::HugeFrame => {
                self.write(&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, stream as u8])?;
                self.flood(&[0; 1024])
            }
            Bad::FourGib => {
                self.write(&frame(DATA, 0, stream, &grpc(u32::MAX, &[])))?;
                self.flood(&frame(DATA, 0, stream, &[0; 16 * 1024]))
            }
            Bad::LargestNeverWhole => {
                self.write(&frame(DATA, 0, stream, &grpc(LARGEST, &[])))?;
                for _ in 1..LARGEST / 16_384 {
                    self.write(&frame(DATA, 0, stream, &[0; 16 * 1024]))?;
                }
                self.hold()
            }
            _ => self.hold(),
        }
    }

    fn drip_frame(&mut self, stream: u32, byte: u8) -> std::io::Result<()> {
        self.write(&frame(DATA, 0, stream, &[byte]))?;
        for _ in 0..10 {
            if self.is_over.load(Ordering::Acquire) {
                return Err(std::io::ErrorKind::Other.into());
            }
            thread::park_timeout(Duration::from_millis(100));
        }
        Ok(())
    }
}
