//! Frames whole, cut, damaged; and what real servers sent (fuzz/corpus/nats).

use super::*;

/// What came out: the frames as text, then why it ended (none: it waits for more).
#[derive(Debug, PartialEq)]
struct Seen {
    frames: Vec<String>,
    fault: Option<Fault>,
    used: usize,
}

fn shown(frame: &Frame<'_>) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match frame {
        Frame::Info(json) => format!("INFO {}", text(json)),
        Frame::Error(words) => format!("-ERR {}", text(words)),
        Frame::Message(Message { subject, sid, reply, headers, payload }) => format!(
            "{} {sid} {} {} {}",
            text(subject),
            reply.map_or("-".to_owned(), text),
            headers.map_or("-".to_owned(), text),
            text(payload)
        ),
        other => format!("{other:?}"),
    }
}

/// Reads all frames, the bytes arriving in pieces of these sizes, then the rest at once.
fn read(bytes: &[u8], sizes: impl IntoIterator<Item = usize>, limits: Limits) -> Seen {
    let (mut decoder, mut sizes) = (Decoder::new(limits), sizes.into_iter());
    let mut seen = Seen { frames: Vec::new(), fault: None, used: 0 };
    let mut there = 0;
    loop {
        let unread = &bytes[seen.used..there];
        match decoder.next(unread) {
            Ok(Step::Frame(frame, used)) => {
                assert!(used > 0 && used <= unread.len(), "{used} of {}", unread.len());
                within(&unread[..used], &frame);
                seen.frames.push(shown(&frame));
                seen.used += used;
            }
            Ok(Step::More { at_least }) => {
                assert!(at_least > unread.len(), "there is enough already");
                if there == bytes.len() {
                    return seen;
                }
                there += sizes.next().unwrap_or(usize::MAX).clamp(1, bytes.len() - there);
            }
            Err(error) => {
                assert!(error.excerpt.len() <= 4 * fault::EXCERPT_BYTES_MAX);
                assert!(error.to_string().bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{error}");
                seen.fault = Some(error.fault);
                return seen;
            }
        }
    }
}

/// Everything that a frame holds lies in the bytes that it took.
fn within(bytes: &[u8], frame: &Frame<'_>) {
    let range = bytes.as_ptr_range();
    let check = |part: &[u8]| {
        let part = part.as_ptr_range();
        assert!(range.start <= part.start && part.end <= range.end);
    };
    match frame {
        Frame::Info(part) | Frame::Error(part) => check(part),
        Frame::Message(message) => {
            [message.subject, message.payload].into_iter().chain(message.reply).chain(message.headers).for_each(check);
        }
        Frame::Ping | Frame::Pong | Frame::Ok => {}
    }
}

fn all(bytes: &[u8]) -> Seen {
    read(bytes, [], Limits::default())
}

/// Each frame as servers may write it, and what it is.
const FRAMES: [(&str, &str); 22] = [
    ("INFO {\"a\":1}\r\n", "INFO {\\\"a\\\":1}"),
    ("info\t {} \r\n", "INFO {}"),
    ("MSG a.b 7 5\r\nhello\r\n", "a.b 7 - - hello"),
    ("MSG a.b 7 _INBOX.x 5\r\nhello\r\n", "a.b 7 _INBOX.x - hello"),
    ("MSG a 0 0\r\n\r\n", "a 0 - - "),
    ("MSG a 18446744073709551 0\r\n\r\n", "a 18446744073709551 - - "),
    ("MSG a 1 4\r\n\r\n\r\n\r\n", "a 1 - - \\r\\n\\r\\n"),
    ("MSG a 1 9\r\nMSG a 1 1\r\n", "a 1 - - MSG a 1 1"),
    ("msg \t a\t\t1 \tr  02 \r\nhi\r\n", "a 1 r - hi"),
    ("MsG\ta 1 2\nhi\r\n", "a 1 - - hi"),
    ("MSG \u{e9} 1 2\r\nhi\r\n", "\\xc3\\xa9 1 - - hi"),
    ("HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "a 1 - NATS/1.0\\r\\n\\r\\n hi"),
    ("HMSG a 1 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "a 1 r NATS/1.0\\r\\n\\r\\n hi"),
    ("hmsg\ta 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", "a 1 - NATS/1.0 503\\r\\n\\r\\n "),
    ("HMSG a 1 0 2\r\nhi\r\n", "a 1 -  hi"),
    ("PING\r\n", "Ping"),
    ("ping \n", "Ping"),
    ("PONG\r\n", "Pong"),
    ("+OK\r\n", "Ok"),
    ("-ERR 'Stale Connection'\r\n", "-ERR \\'Stale Connection\\'"),
    ("-err\r\n", "-ERR "),
    ("HMSG a 1 20 20\r\nnot headers at all\r\n\r\n", "a 1 - not headers at all\\r\\n "),
];

#[test]
fn each_frame_is_read_whole() {
    for (bytes, want) in FRAMES {
        let want = Seen { frames: vec![want.to_owned()], fault: None, used: bytes.len() };
        assert_eq!(all(bytes.as_bytes()), want, "{bytes:?}");
    }
}

#[test]
fn frames_do_not_depend_on_where_the_bytes_are_cut() {
    let bytes = FRAMES.map(|(bytes, _)| bytes).concat();
    let whole = all(bytes.as_bytes());
    assert_eq!(whole.frames, FRAMES.map(|(_, want)| want));
    for size in 1..=40 {
        assert_eq!(read(bytes.as_bytes(), std::iter::repeat(size), Limits::default()), whole, "pieces of {size}");
    }
    for (frame, want) in FRAMES {
        for cut in 1..frame.len() {
            assert_eq!(read(frame.as_bytes(), [cut], Limits::default()).frames, [want], "{frame:?} cut at {cut}");
            let begun = all(&frame.as_bytes()[..cut]);
            assert_eq!((begun.frames.len(), begun.fault, begun.used), (0, None, 0), "{frame:?} up to {cut}");
        }
    }
}

#[test]
fn what_is_missing_is_told() {
    let frame = b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n";
    let mut decoder = Decoder::default();
    let mut steps = Vec::new();
    for end in [0, 1, 5, 15, 16, 20, frame.len() - 1] {
        let Ok(Step::More { at_least }) = decoder.next(&frame[..end]) else { panic!("not whole at {end}") };
        steps.push(at_least);
    }
    assert_eq!(steps, [1, 2, 6, 16, frame.len(), frame.len(), frame.len()]);
    assert!(matches!(decoder.next(frame), Ok(Step::Frame(Frame::Message(_), used)) if used == frame.len()));
    assert_eq!(decoder.next(b"PING\r\n"), Ok(Step::Frame(Frame::Ping, 6)), "the next frame is searched from its begin");
}

/// A megabyte that comes byte by byte is looked at once: quadratic, it would be half a million megabytes.
#[test]
fn a_line_that_comes_byte_by_byte_is_searched_once() {
    let line = format!("INFO {{\"x\":\"{}\"}}\r\n", "x".repeat(1_000_000));
    let seen = read(line.as_bytes(), std::iter::repeat(1), Limits::default());
    assert_eq!((seen.frames.len(), seen.used), (1, line.len()));
}

#[test]
fn what_is_not_the_protocol_is_refused() {
    let lies = |total| Fault::LengthLies { total };
    for (bytes, fault, words) in [
        ("HTTP/1.1 400 Bad Request\r\n", Fault::UnknownOperation, "(its line: `HTTP/1.1 400 Bad Request`)"),
        ("\r\n", Fault::UnknownOperation, "does not speak the NATS protocol"),
        ("\0", Fault::UnknownOperation, "`\\x00`"),
        ("PINGS\r\n", Fault::UnknownOperation, "`PINGS`"),
        ("MSG\u{a0}a 1 0\r\n\r\n", Fault::UnknownOperation, "`MSG\\xc2\\xa0a 1 0`"),
        ("+OKAY\r\n", Fault::UnknownOperation, "`+OKAY`"),
        ("MSG\r\n", Fault::WrongWords, "`MSG`"),
        ("MSG a 1\r\n", Fault::WrongWords, "`MSG a 1`"),
        ("MSG a 1 r 5 5\r\n", Fault::WrongWords, "too few or too many words"),
        ("HMSG a 1 5\r\n", Fault::WrongWords, "`HMSG a 1 5`"),
        ("HMSG a 1 r 5 5 5\r\n", Fault::WrongWords, "`HMSG a 1 r 5 5 5`"),
        ("MSG a x 5\r\n", Fault::BadSubscription, "subscription is not a number (its line: `MSG a x 5`)"),
        ("MSG a -1 5\r\n", Fault::BadSubscription, "`MSG a -1 5`"),
        ("MSG a 1 -5\r\n", Fault::BadLength, "`MSG a 1 -5`"),
        ("MSG a 1 +5\r\n", Fault::BadLength, "`MSG a 1 +5`"),
        ("MSG a 1 0x5\r\n", Fault::BadLength, "length is not a number"),
        ("MSG a 1 99999999999999999999\r\n", Fault::BadLength, "`MSG a 1 99999999999999999999`"),
        ("HMSG a 1 -1 5\r\n", Fault::BadLength, "`HMSG a 1 -1 5`"),
        ("HMSG a 1 6 5\r\n", Fault::HeadersTooLong { headers: 6, total: 5 }, "headers (6 bytes) are longer than"),
        (
            "MSG a 1 67108865\r\n",
            Fault::MessageTooLong { total: 67_108_865, max: 64 << 20 },
            "a message of 67108865 bytes is not read, at most 67108864 bytes are (its line: `MSG a 1 67108865`)",
        ),
        ("MSG a 1 3\r\nhello\r\n", lies(3), "does not end after the 3 bytes that its line announces"),
        ("MSG a 1 6\r\nhello\r\nP", lies(6), "(its line: `MSG a 1 6`)"),
        ("MSG a 1 5\r\nhello\n\n", lies(5), "`MSG a 1 5`"),
        ("MSG a 1 5\r\nhello\r\r", lies(5), "`MSG a 1 5`"),
    ] {
        let seen = all(bytes.as_bytes());
        assert_eq!((seen.frames.len(), seen.fault), (0, Some(fault)), "{bytes:?}");
        for cut in 1..bytes.len() {
            assert_eq!(read(bytes.as_bytes(), [cut], Limits::default()), seen, "{bytes:?} cut at {cut}");
        }
        let error = Decoder::default().next(bytes.as_bytes()).expect_err(bytes).to_string();
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("hello"), "{error}");
    }
}

#[test]
fn an_error_shows_no_payload() {
    // A length that lies such that a part of a text stands where a line is awaited.
    let seen = all(b"MSG a 1 2\r\nhi\r\nsecret text\r\n");
    assert_eq!((seen.frames.len(), seen.fault), (1, Some(Fault::UnknownOperation)));
    let mut decoder = Decoder::default();
    assert!(decoder.next(b"MSG a 1 2\r\nhi\r\n").is_ok());
    let error = decoder.next(b"secret text\r\n").expect_err("not a frame");
    assert_eq!(error.to_string(), "the peer does not speak the NATS protocol");
    let error = Decoder::default().next(format!("INFO {}", "nonce".repeat(300_000)).as_bytes()).expect_err("too long");
    assert_eq!(error.to_string(), "a line of the server is longer than 1048576 bytes (its line: `INFO`)");
}

#[test]
fn lines_and_messages_have_bounds() {
    let limits = Limits { info_bytes: 64, line_bytes: 32, message_bytes: 10 };
    for (begin, max) in [("INFO ", 64), ("MSG ", 32), ("HMSG ", 32), ("-ERR ", 32), ("PING ", 32), ("+OK ", 32)] {
        let mut line = begin.to_owned() + &"x".repeat(max - 2 - begin.len()) + "\r\n";
        let is_message = begin.contains("MSG");
        let fitting = if is_message { Some(Fault::WrongWords) } else { None };
        assert_eq!(read(line.as_bytes(), [], limits).fault, fitting, "{line:?}");
        line.insert(begin.len(), 'x');
        for size in [1, 7, max - 1, max, max + 1] {
            let fault = read(line.as_bytes(), std::iter::repeat(size), limits).fault;
            assert_eq!(fault, Some(Fault::LineTooLong { max }), "{line:?} in pieces of {size}");
        }
    }
    assert_eq!(read(b"MSG a 1 10\r\n0123456789\r\n", [], limits).frames.len(), 1);
    let fault = Fault::MessageTooLong { total: 11, max: 10 };
    assert_eq!(read(b"MSG a 1 11\r\n", [], limits).fault, Some(fault), "nothing waits for it");
    assert_eq!(read(b"HMSG a 1 1 11\r\n", [], limits).fault, Some(fault));
}

#[test]
fn large_infos_are_read() {
    let urls: Vec<_> = (0..10_000).map(|at| format!("\"host-{at}.example.com:4222\"")).collect();
    for json in [
        format!("{{\"server_id\":\"N\",\"x\":\"{}\"}}", "x".repeat(64 * 1024)),
        format!("{{\"server_id\":\"N\",\"connect_urls\":[{}]}}", urls.join(",")),
    ] {
        let line = format!("INFO {json}\r\n");
        let Ok(Step::Frame(Frame::Info(read), used)) = Decoder::default().next(line.as_bytes()) else {
            panic!("{} bytes", line.len())
        };
        assert_eq!((read, used), (json.as_bytes(), line.len()));
        assert_eq!(ServerInfo::parse(read).map(|info| info.server_id), Ok("N".to_owned()));
    }
}

#[test]
fn what_is_written_is_read_again() {
    let mut out = Vec::new();
    publish(&mut out, b"a.b", Some(b"r"), b"hello").expect("written");
    publish_with_headers(&mut out, b"a.b", None, &[("Nats-Msg-Id", "7")], b"hello").expect("written");
    // A server hands it on under a subscription's number, and else as it came.
    let text = String::from_utf8(out).expect("text").replace("HPUB a.b", "HMSG a.b 1").replace("PUB a.b", "MSG a.b 1");
    let seen = all(text.as_bytes());
    let headers = "NATS/1.0\\r\\nNats-Msg-Id: 7\\r\\n\\r\\n";
    assert_eq!(seen.frames, ["a.b 1 r - hello".to_owned(), format!("a.b 1 - {headers} hello")]);
}

#[test]
fn fuzzed_nats() {
    crate::fuzz::run("nats", 10_000, |bytes| {
        // Bounds that damaged inputs reach.
        let limits = Limits { info_bytes: 4096, line_bytes: 1024, message_bytes: 16 * 1024 };
        let whole = read(bytes, [], limits);
        let pieces = bytes.iter().map(|byte| usize::from(byte % 13) + 1);
        assert_eq!(read(bytes, pieces, limits), whole, "however it is cut");
        let (mut decoder, mut unread) = (Decoder::new(limits), bytes);
        while let Ok(Step::Frame(frame, used)) = decoder.next(unread) {
            unread = &unread[used..];
            match frame {
                Frame::Info(json) => {
                    let kept = ServerInfo::parse(json).map_or(0, |info| info.connect_urls.len());
                    assert!(kept <= CONNECT_URLS_MAX);
                }
                Frame::Error(words) => assert!(ServerError::parse(words).words.len() <= 512),
                Frame::Message(Message { headers: Some(block), .. }) => {
                    let headers = Headers::of(block);
                    assert!(headers.status.is_none_or(|status| status.code < 1000));
                    assert!(headers.iter().all(|(name, value)| name.len() + value.len() < block.len()));
                    assert!(headers.iter().all(|(name, _)| name.is_ascii() && !name.is_empty()));
                }
                _ => {}
            }
        }
        assert_eq!(bytes.len() - unread.len(), whole.used);
    });
}
