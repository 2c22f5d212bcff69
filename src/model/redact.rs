//! Addresses as they may be shown: whoever writes one may put a user and a password into it.
//!
//! Promises that nothing that stands before an `@` is shown, wherever the `@` stands. Each text that quotes an address
//! which was not read successfully goes through here.

/// The address without what stands before its last `@`.
///
/// ```
/// assert_eq!(task_engine::model::redact::address("grpc://me:secret@gw:9000"), "grpc://***@gw:9000");
/// assert_eq!(task_engine::model::redact::address("gw:9000"), "gw:9000");
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

/// So many characters of a secret in a row are not shown.
const SHOWN_MAX: usize = 8;

/// A server's words without the secret that it may repeat: whole, or cut off after [`SHOWN_MAX`] characters or more.
///
/// ```
/// assert_eq!(task_engine::model::redact::secret("no `AUTH`, `correct hor", "correct horse battery"), "no `AUTH`, `***");
/// ```
pub fn secret(text: &str, secret: &str) -> String {
    if secret.is_empty() {
        return text.to_owned();
    }
    let text = text.replace(secret, "***");
    let Some((begin, _)) = secret.char_indices().nth(SHOWN_MAX) else { return text };
    let (mut shown, mut rest) = (String::with_capacity(text.len()), &text[..]);
    while let Some(at) = rest.find(&secret[..begin]) {
        let (before, found) = rest.split_at(at);
        let same = found.chars().zip(secret.chars()).take_while(|(one, other)| one == other);
        let len: usize = same.map(|(one, _)| one.len_utf8()).sum();
        shown.push_str(before);
        shown.push_str("***");
        rest = &found[len..];
    }
    shown + rest
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

    #[test]
    fn a_secret_is_not_shown_whole_or_cut() {
        let long = "correct horse battery staple ".repeat(8);
        let accents = "\u{e9}\u{e8}".repeat(80);
        for secret_text in [&*long, &*accents, "12345678", "123456789"] {
            for (cut, _) in secret_text.char_indices().chain([(secret_text.len(), ' ')]) {
                let text = format!("with `AUTH`, `{}`, `x`", &secret_text[..cut]);
                let shown = secret(&text, secret_text);
                let is_hidden = secret_text[..cut].chars().count() >= SHOWN_MAX;
                assert_eq!(shown == "with `AUTH`, `***`, `x`", is_hidden, "{shown}");
                assert!(is_hidden || shown == text, "{shown}");
            }
        }
        assert_eq!(secret("pass s3cret pass s3cre", "s3cret"), "pass *** pass s3cre");
        assert_eq!(secret("as it is", ""), "as it is");
        assert_eq!(secret("correct horse, correct hors", "correct horse"), "***, ***");
    }
}
