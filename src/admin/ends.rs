//! `/debug/ends`: what the shards remember of how messages ended, for `task-engine why`.
//!
//! Promises an answer within seconds, of a bounded size. Refuses to show names: it answers for those that are asked for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{AdminState, json_page};
use crate::model::ends::{EndsAsked, RememberedEnd};
use crate::model::ids::Nanos;

/// What is asked.
#[derive(Deserialize)]
pub(super) struct Asked {
    session: String,
    user: String,
    msg: Option<i64>,
}

/// Answers.
pub(super) async fn ends(State(state): State<AdminState>, Query(asked): Query<Asked>) -> Response {
    let asked = EndsAsked { session: asked.session.into(), user: asked.user.into(), msg_id: asked.msg };
    let Some(told) = state.ends.ask(&asked).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many ask at once; ask again\n").into_response();
    };
    let all = told.of_shards.iter().flat_map(|(ends, now)| ends.iter().map(|end| as_json(end, *now)));
    let mut all: Vec<Value> = all.collect();
    all.sort_by_key(|end| std::cmp::Reverse(end["ended_unix_millis"].as_u64()));
    let answer = json!({ "is_on": state.ends.is_on(), "shards_silent": told.silent, "ends": all });
    json_page(answer.to_string())
}

fn as_json(end: &RememberedEnd, now: Nanos) -> Value {
    let at = |then: Nanos| SystemTime::now() - now.since(then);
    json!({
        "msg": end.msg_id, "end": end.end.label(), "of": if end.end.is_recipients() { "recipient" } else { "event" },
        "gateway": end.gateway.as_deref(), "ended_unix_millis": unix_millis(at(end.ended)),
        "took_millis": end.ended.since(end.arrived).as_millis() as u64,
    })
}

fn unix_millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}
