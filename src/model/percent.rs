//! Percent-encoded text: of URLs, where a broken escape is a mistake, and of peers, whose text is shown in any case.

use percent_encoding::{percent_decode, percent_decode_str};

/// The text that is meant; `None` when a `%` is not followed by two hex digits or the bytes are not UTF-8.
///
/// ```
/// use task_engine::model::percent::decode;
/// assert_eq!(decode("a%40b").as_deref(), Some("a@b"));
/// assert_eq!(decode("50%"), None);
/// assert_eq!(decode("%+1"), None);
/// assert_eq!(decode("%ff"), None);
/// ```
pub fn decode(text: &str) -> Option<String> {
    let is_escape = |after: &str| after.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

/// The text as far as it can be read: a broken escape stays as it is, and bytes that are not UTF-8 become U+FFFD.
///
/// ```
/// use task_engine::model::percent::decode_lossy;
/// assert_eq!(decode_lossy(b"a%40b 50% %ff"), "a@b 50% \u{fffd}");
/// ```
pub fn decode_lossy(text: &[u8]) -> String {
    percent_decode(text).decode_utf8_lossy().into_owned()
}
