//! The packets of a login to MySQL, as far as somebody between client and server has to know them.
//!
//! Promises to take no packet longer than any of a login, and to read nothing beyond one.

use std::io;

use super::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// More than any packet of a login has: the longest holds a token or a public key.
const PACKET_BYTES_MAX: usize = 64 * 1024;
/// Length and number.
const HEAD: usize = 4;
/// What a request for TLS has: the client's flags, its largest packet, its character set, and what is reserved.
const REQUEST_BYTES: usize = 32;
/// "I speak TLS", of both sides: bit 11 of the flags.
const TLS_FLAG: u8 = 0x08;
/// The byte of the flags in which it is.
const TLS_BYTE: usize = 1;

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    number: u8,
    payload: Vec<u8>,
}

impl Packet {
    /// The same under another number.
    pub fn numbered(mut self, more: i8) -> Self {
        self.number = self.number.wrapping_add_signed(more);
        self
    }

    /// Whether it is the server's word against us.
    pub fn is_error(&self) -> bool {
        self.payload.first() == Some(&0xff)
    }

    /// Whether a server greets so that speaks TLS: behind its version, a number, eight bytes and a zero stand its flags.
    pub fn offers_tls(&self) -> bool {
        let version = self.payload.iter().skip(1).position(|byte| *byte == 0);
        let flags = version.map(|length| 1 + length + 1 + 4 + 8 + 1 + TLS_BYTE);
        flags.and_then(|at| self.payload.get(at)).is_some_and(|flags| flags & TLS_FLAG != 0)
    }
}

/// The beginning of a client's login, which asks for TLS.
pub(super) fn tls_request(login: &Packet) -> Option<Packet> {
    let mut request = Packet { number: login.number, payload: login.payload.get(..REQUEST_BYTES)?.to_vec() };
    over_tls(&mut request);
    Some(request)
}

/// Says in a login that it goes over TLS.
pub(super) fn over_tls(login: &mut Packet) {
    if let Some(flags) = login.payload.get_mut(TLS_BYTE) {
        *flags |= TLS_FLAG;
    }
}

/// Whether a server says with it that the client is in, or that it is not.
pub(super) fn is_end_of_login(answer: &Packet) -> bool {
    answer.is_error() || answer.payload.first() == Some(&0)
}

/// The next packet.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Packet> {
    let mut head = [0; HEAD];
    from.read_exact(&mut head).await?;
    let [low, middle, high, number] = head;
    let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
    if length > PACKET_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the server does not speak MySQL"));
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await?;
    Ok(Packet { number, payload })
}

/// Writes one in one go.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), packet: &Packet) -> io::Result<()> {
    let length = (packet.payload.len() as u32).to_le_bytes();
    let head = [length[0], length[1], length[2], packet.number];
    to.write_all(&[&head[..], &packet.payload].concat()).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut bytes: &[u8]) -> Vec<Packet> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut packets = Vec::new();
        while let Ok(packet) = runtime.block_on(read(&mut bytes)) {
            packets.push(packet);
        }
        packets
    }

    #[test]
    fn a_greeting_says_whether_tls_is_spoken() {
        let with = include_bytes!("../../../../fuzz/corpus/mysql_greeting/mariadb-tls");
        let without = include_bytes!("../../../../fuzz/corpus/mysql_greeting/mariadb");
        let offers = [&with[..], without].map(|bytes| read_all(bytes)[0].offers_tls());
        assert_eq!(offers, [true, false]);
    }

    #[test]
    fn a_request_is_the_beginning_of_the_login_with_the_flag() {
        let login = Packet { number: 1, payload: (0..80).collect() };
        let request = tls_request(&login).expect("long enough");
        assert_eq!((request.payload.len(), request.payload[TLS_BYTE], request.number), (32, 1 | TLS_FLAG, 1));
        assert_eq!(login.clone().numbered(1).number, 2);
        assert_eq!(Packet { number: 0, ..login }.numbered(-1).number, 255);
        assert_eq!(tls_request(&Packet { number: 1, payload: vec![0; 31] }), None);
    }

    /// Whatever a server sends: what is read is within its bound and its bytes, and can be judged.
    #[test]
    fn fuzzed_mysql_greeting() {
        crate::fuzz::run("mysql_greeting", 5_000, |bytes| {
            let packets = read_all(bytes);
            let all: usize = packets.iter().map(|packet| HEAD + packet.payload.len()).sum();
            assert!(all <= bytes.len() && packets.iter().all(|packet| packet.payload.len() <= PACKET_BYTES_MAX));
            for packet in packets {
                let _ = (packet.offers_tls(), is_end_of_login(&packet), tls_request(&packet));
            }
        });
    }
}
