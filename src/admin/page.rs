//! The page for people at `/`: one HTML text that reads `/metrics` and `/readyz` of its own origin, and nothing else.
//!
//! It is put together when this is compiled, and needs no other host, no build step and no file beside the program. Whoever
//! asks without a browser gets a list of paths in plain text.

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::{INDEX, accept, accepted};

const PAGE: &str = concat!(
    include_str!("page/page.html"),
    include_str!("page/page.css"),
    include_str!("page/body.html"),
    include_str!("page/words.js"),
    include_str!("page/page.js"),
    include_str!("page/end.html"),
);

/// What the page may do: run what is in it, and ask this port.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers a browser with the page, everybody else with the paths.
pub(super) async fn page(headers: HeaderMap) -> Response {
    let vary = [(header::VARY, "accept")];
    if !accept::wants_html(accepted(&headers)) {
        return (vary, INDEX).into_response();
    }
    let head = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (vary, head, PAGE).into_response()
}
