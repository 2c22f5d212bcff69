//! `/debug/tap`: what events of one session, or to one user, do while `task-engine tap` looks on. It is begun, read again and again, and
//! ended, each by a request of its own: a client that is gone holds nothing.
//!
//! Promises answers of a bounded size. Refuses contents unless `admin.tap_content` is `true`.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{AdminState, json_page};
use crate::model::limits::NAME_BYTES_MAX;
use crate::model::tap::{TapRules, TappedEvent};
use crate::ports::tap::{LASTS_MAX, TapRefused};

/// What is to be looked at.
#[derive(Deserialize)]
pub(super) struct Begin {
    session: Option<String>,
    user: Option<String>,
    seconds: u64,
    #[serde(default)]
    content: bool,
}

/// Which one.
#[derive(Deserialize)]
pub(super) struct Which {
    tap: String,
}

/// Begins; gives its number.
pub(super) async fn start(State(state): State<AdminState>, Query(begin): Query<Begin>) -> Response {
    let named = |name: Option<String>| name.filter(|name| !name.is_empty()).map(String::into_boxed_str);
    let (session, user) = (named(begin.session), named(begin.user));
    let is_long = |name: &Option<Box<str>>| name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX);
    if session.is_none() && user.is_none() || is_long(&session) || is_long(&user) {
        return (StatusCode::BAD_REQUEST, "say a session or a user\n").into_response();
    }
    let lasts = Duration::from_secs(begin.seconds).min(LASTS_MAX);
    let rules = TapRules { number: 0, session, user, lasts, wants_content: begin.content };
    match state.tap.start(rules) {
        Ok(number) => {
            tracing::info!(
                seconds = lasts.as_secs(),
                content = begin.content,
                "somebody looks on at events (task-engine tap)"
            );
            json_page(json!({ "tap": format!("{number:016x}") }).to_string())
        }
        Err(TapRefused::Contents) => {
            (StatusCode::FORBIDDEN, "contents are private: admin.tap_content is false\n").into_response()
        }
        Err(TapRefused::Taken(left)) => {
            let text = format!("somebody else looks on, for {} s at the most; ask again\n", left.as_secs() + 1);
            (StatusCode::CONFLICT, text).into_response()
        }
    }
}

/// What was told since it was last read.
pub(super) async fn read(State(state): State<AdminState>, Query(which): Query<Which>) -> Response {
    let Some(read) = which.number().and_then(|number| state.tap.read(number)) else {
        return (StatusCode::NOT_FOUND, "there is no such tap any more\n").into_response();
    };
    let events: Vec<_> = read.events.iter().map(as_json).collect();
    json_page(json!({ "events": events, "left_out": read.left_out, "is_over": read.is_over }).to_string())
}

/// Ends it.
pub(super) async fn stop(State(state): State<AdminState>, Query(which): Query<Which>) -> Response {
    which.number().into_iter().for_each(|number| state.tap.stop(number));
    json_page(json!({}).to_string())
}

impl Which {
    fn number(&self) -> Option<u64> {
        u64::from_str_radix(&self.tap, 16).ok()
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

fn as_json(event: &TappedEvent) -> Value {
    let pushes: Vec<_> = event
        .pushes
        .iter()
        .map(|push| {
            json!({
                "gateway": &*push.gateway, "recipients": push.recipients, "missed": push.missed,
                "written_micros": push.written_after.map(micros), "ended_micros": micros(push.ended_after),
            })
        })
        .collect();
    let misses: Vec<_> = event
        .misses
        .iter()
        .map(|miss| json!({ "why": miss.why.label(), "gateway": miss.gateway.as_deref(), "recipients": miss.recipients }))
        .collect();
    let content = event.content.as_ref().map(|content| String::from_utf8_lossy(content).into_owned());
    json!({
        "arrived_unix_millis": event.arrived_unix_nanos / 1_000_000, "session": &*event.session, "msg": event.msg_id,
        "from": &*event.from, "class": event.class.label(), "end": event.end.label(), "took_micros": micros(event.took),
        "pushes": pushes, "unreached": misses, "content": content,
    })
}
