//! Addresses as they may be shown: whoever writes one may put a user and a password into it.
//!
//! Promises that nothing that stands before an `@` is shown, wherever the `@` stands. Each text that quotes an address
//! which was not read successfully goes through here.

/// The address without what stands before its last `@`.
///
/// ```
/// assert_eq!(task_engine::redact::address("grpc://me:secret@gw:9000"), "grpc://***@gw:9000");
/// assert_eq!(task_engine::redact::address("gw:9000"), "gw:9000");
/// ```
pub fn address(text: &str) -> String {
    let Some((before, after)) = text.rsplit_once('@') else { return text.to_owned() };
    let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
    let is_scheme =
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if is_scheme { format!("{scheme}://***@{after}") } else { format!("***@{after}") }
}

/// A value as a message about it may quote it: in quotes, without what stands before an `@`, and without what follows its
/// first blank: that is another line of the file, when it was indented too far.
pub fn value(text: &str) -> String {
    let shown = address(text);
    match shown.split_once(char::is_whitespace) {
        Some((first, _)) => format!("{:?}", format!("{first} ...")),
        None => format!("{shown:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_before_the_last_at_is_shown() {
        for (text, shown) in [
            ("", ""),
            ("host:1", "host:1"),
            ("grpc://host:1", "grpc://host:1"),
            ("grpc://user:hunter2@host:1", "grpc://***@host:1"),
            ("user:hunter2@host", "***@host"),
            ("hunter2@", "***@"),
            ("http://u:hunter2@x@host:1/p", "http://***@host:1/p"),
            ("http://u:hunter2/@?#@host", "http://***@host"),
            ("u:hunter2://x@host", "***@host"),
            ("grpc://h:1?x=hunter2@y", "grpc://***@y"),
        ] {
            assert_eq!(address(text), shown, "{text}");
        }
    }

    #[test]
    fn a_value_is_quoted_up_to_its_first_blank() {
        for (text, shown) in [
            ("loud", "\"loud\""),
            ("3306 password hunter2", "\"3306 ...\""),
            ("3306\u{a0}hunter2", "\"3306 ...\""),
            ("redis://:hunter2@h:1", "\"redis://***@h:1\""),
            ("\u{1b}x", "\"\\u{1b}x\""),
        ] {
            assert_eq!(value(text), shown, "{text}");
        }
    }
}
