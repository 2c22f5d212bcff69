//! What a server's headers, trailers and errors mean, as gRPC status codes and words.
//!
//! Refuses to trust them: a message is cut at [`MESSAGE_CHARS`] and its control characters are replaced, so it can
//! stand in a log line.

use std::error::Error;

use http::{HeaderMap, StatusCode, header};

use crate::model::percent;
use crate::push::facts::{CallError, StreamEnd};

/// Characters kept of a message that a server wrote.
const MESSAGE_CHARS: usize = 300;

pub(super) const OK: i32 = 0;
pub(super) const UNIMPLEMENTED: i32 = 12;
pub(super) const INTERNAL: i32 = 13;
const UNKNOWN: i32 = 2;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNAVAILABLE: i32 = 14;

/// The gRPC status in trailers (or in the headers of an answer that has only those); `None` when there is none.
pub(super) fn of_trailers(headers: &HeaderMap) -> Option<CallError> {
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN);
    let message =
        headers.get("grpc-message").map_or(String::new(), |message| plain(&percent::decode_lossy(message.as_bytes())));
    Some(CallError { code, message })
}

/// The status of a response whose headers alone say that no gRPC answer will follow.
pub(super) fn of_head(status: StatusCode, headers: &HeaderMap) -> Option<CallError> {
    if let Some(status) = of_trailers(headers) {
        return Some(status);
    }
    if status != StatusCode::OK {
        return Some(CallError { code: code_of_http(status), message: format!("HTTP status {status}") });
    }
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if !content_type.starts_with(b"application/grpc") {
        let message = format!("content-type {:?} is not gRPC", plain(&String::from_utf8_lossy(content_type)));
        return Some(CallError { code: UNAVAILABLE, message });
    }
    None
}

/// A gRPC server answers with HTTP status 200, whatever it says. So another status is the word of something between, and what
/// was sent did not reach the gateway; only 404 is gRPC's own way of not knowing an rpc.
fn code_of_http(status: StatusCode) -> i32 {
    if status == StatusCode::NOT_FOUND { UNIMPLEMENTED } else { UNAVAILABLE }
}

/// How a stream ended whose response never began: a status stands in the headers, or the stream alone was reset.
pub(super) fn end_unheard(status: CallError, finished: bool) -> StreamEnd {
    match end_of_stream(status.clone(), finished) {
        StreamEnd::Broken(words) if [UNAVAILABLE, RESOURCE_EXHAUSTED].contains(&status.code) => {
            StreamEnd::NotOpened(words)
        }
        StreamEnd::Broken(words) => StreamEnd::Unheard(words),
        end => end,
    }
}

/// How a stream ended that has this status; `finished` says whether we had half-closed it.
pub(super) fn end_of_stream(status: CallError, finished: bool) -> StreamEnd {
    match status.code {
        OK if finished => StreamEnd::Finished,
        OK => StreamEnd::Broken("the gateway ended the stream on its own (gRPC status 0)".to_owned()),
        UNIMPLEMENTED => StreamEnd::Unimplemented,
        code => StreamEnd::Broken(format!("gRPC status {code}: {}", status.message)),
    }
}

/// The status of a call whose stream alone was reset; `None` when the connection is what failed.
pub(super) fn of_reset(error: &hyper::Error) -> Option<CallError> {
    let cause = h2_cause(error).filter(|cause| cause.is_reset())?;
    let code = match cause.reason() {
        Some(h2::Reason::REFUSED_STREAM) => UNAVAILABLE,
        Some(h2::Reason::CANCEL) => 1,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => RESOURCE_EXHAUSTED,
        _ => INTERNAL,
    };
    Some(CallError { code, message: words(error) })
}

/// Whether the request was never sent, or the server said GOAWAY without an error: a graceful stop, and the stream is none that it
/// had begun.
pub(super) fn is_goodbye(error: &hyper::Error) -> bool {
    let is_graceful = |cause: &h2::Error| cause.is_go_away() && cause.reason() == Some(h2::Reason::NO_ERROR);
    error.is_canceled() || h2_cause(error).is_some_and(is_graceful)
}

fn h2_cause(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return Some(h2);
        }
        source = cause.source();
    }
    None
}

/// An error and its causes in one line; h2's words name the GOAWAY's reason and debug data.
pub(super) fn words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = cause.source();
    }
    plain(&words)
}

fn plain(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn messages_are_percent_decoded_and_made_plain() {
        for (coded, message) in
            [("a%20b", "a b"), ("%e4%bd%a0", "你"), ("50%", "50%"), ("%zz%0A", "%zz "), ("%ff", "\u{fffd}")]
        {
            let status = of_trailers(&headers(&[("grpc-status", "5")]).tap("grpc-message", coded));
            assert_eq!(status, Some(CallError { code: 5, message: message.to_owned() }), "{coded}");
        }
        let long = "x".repeat(5000);
        assert_eq!(plain(&long).len(), MESSAGE_CHARS);
    }

    trait Tap {
        fn tap(self, name: &'static str, value: &str) -> Self;
    }

    impl Tap for HeaderMap {
        fn tap(mut self, name: &'static str, value: &str) -> Self {
            self.insert(name, value.parse().unwrap());
            self
        }
    }

    #[test]
    fn a_head_that_is_no_grpc_answer_is_told() {
        let grpc = headers(&[("content-type", "application/grpc+proto")]);
        assert_eq!(of_head(StatusCode::OK, &grpc), None);
        assert_eq!(of_head(StatusCode::NOT_FOUND, &grpc).unwrap().code, UNIMPLEMENTED);
        assert_eq!(of_head(StatusCode::BAD_GATEWAY, &grpc).unwrap().code, UNAVAILABLE);
        let html = of_head(StatusCode::OK, &headers(&[("content-type", "text/html")])).unwrap();
        assert_eq!((html.code, html.message.as_str()), (UNAVAILABLE, "content-type \"text/html\" is not gRPC"));
        for hop in [400, 401, 403, 429, 500, 502, 503, 504] {
            let status = of_head(StatusCode::from_u16(hop).unwrap(), &HeaderMap::new()).unwrap();
            assert_eq!(status.code, UNAVAILABLE, "HTTP {hop} is not the gateway's word");
        }
        let odd = of_head(StatusCode::OK, &headers(&[("grpc-status", "what")])).unwrap();
        assert_eq!(odd.code, UNKNOWN);
    }

    #[test]
    fn before_any_response_an_end_is_no_break() {
        let status = |code| CallError { code, message: "why".to_owned() };
        for code in [8, 14] {
            assert!(matches!(end_unheard(status(code), false), StreamEnd::NotOpened(_)), "{code}: not now");
        }
        for code in [0, 1, 2, 4, 7, 10, 13, 16] {
            assert!(matches!(end_unheard(status(code), false), StreamEnd::Unheard(_)), "{code}: nobody knows");
        }
        assert_eq!(end_unheard(status(0), true), StreamEnd::Finished);
        assert_eq!(end_unheard(status(12), false), StreamEnd::Unimplemented);
    }

    #[test]
    fn only_an_ok_after_our_half_close_is_a_clean_end() {
        let status = |code| CallError { code, message: "why".to_owned() };
        assert_eq!(end_of_stream(status(0), true), StreamEnd::Finished);
        assert!(matches!(end_of_stream(status(0), false), StreamEnd::Broken(_)));
        assert_eq!(end_of_stream(status(12), true), StreamEnd::Unimplemented);
        assert_eq!(end_of_stream(status(14), true), StreamEnd::Broken("gRPC status 14: why".to_owned()));
    }
}
