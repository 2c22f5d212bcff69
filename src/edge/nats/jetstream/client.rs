//! JetStream's API over a connection of the `nats` crate, for commands that may wait: many requests at once, each with a
//! deadline.
#![allow(deprecated)]

use std::time::{Duration, Instant};

use nats::Connection;
use serde::Deserialize;

use super::api::{AT_ONCE, ApiError, Request, read};
use super::plan::ReaderPlan;
use super::rights;
use crate::config::NatsAuth;

/// How often a wait looks whether the server refused us meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// A way to the API over one connection.
pub(super) struct Api<'a> {
    pub connection: &'a Connection,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The server's refusal to let us publish or subscribe, once there is one.
    pub forbidden: &'a dyn Fn() -> Option<String>,
}

impl Api<'_> {
    /// See [`rights::probe`].
    pub(super) fn probe_rights(&self, plan: &ReaderPlan) -> std::io::Result<()> {
        for (subject, word) in rights::probe(plan, true) {
            self.connection.publish(&subject, word)?;
        }
        self.connection.flush_timeout(self.timeout)
    }

    /// One request and its answer.
    pub(super) fn call<T: for<'de> Deserialize<'de>>(&self, subject: String, body: String) -> Result<T, ApiError> {
        let mut answers = self.call_all(&[Request { subject, body }])?;
        answers.pop().unwrap_or_else(|| Err(ApiError::Broken("none came".to_owned())))
    }

    /// Many requests and their answers, in the order of the requests. The outer error holds for all.
    pub(super) fn call_all<T: for<'de> Deserialize<'de>>(
        &self,
        requests: &[Request],
    ) -> Result<Vec<Result<T, ApiError>>, ApiError> {
        let mut answers = Vec::with_capacity(requests.len());
        for some in requests.chunks(AT_ONCE) {
            answers.extend(self.call_some(some)?.into_iter().map(|answer| answer.and_then(|bytes| read(&bytes))));
        }
        Ok(answers)
    }

    fn call_some(&self, requests: &[Request]) -> Result<Vec<Result<Vec<u8>, ApiError>>, ApiError> {
        let broken = |error: std::io::Error| ApiError::Broken(error.to_string());
        let inbox = self.connection.new_inbox();
        let subscription = self.connection.subscribe(&format!("{inbox}.*")).map_err(broken)?;
        for (at, request) in requests.iter().enumerate() {
            let reply = format!("{inbox}.{at}");
            let sent = self.connection.publish_request(&request.subject, &reply, &request.body);
            sent.map_err(broken)?;
        }
        let mut answers: Vec<Option<Result<Vec<u8>, ApiError>>> = requests.iter().map(|_| None).collect();
        let deadline = Instant::now() + self.timeout;
        while answers.iter().any(Option::is_none) {
            let message = match subscription.next_timeout(LOOK) {
                Ok(message) => message,
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                    if let Some(text) = (self.forbidden)() {
                        return Err(ApiError::Forbidden(text));
                    }
                    if Instant::now() >= deadline {
                        return Err(ApiError::TooLate(self.timeout));
                    }
                    continue;
                }
                Err(error) => return Err(broken(error)),
            };
            if message.is_no_responders() {
                return Err(ApiError::NobodyAnswers);
            }
            let at = message.subject.rsplit('.').next().and_then(|at| at.parse::<usize>().ok());
            if let Some(answer) = at.and_then(|at| answers.get_mut(at)) {
                *answer = Some(Ok(message.data));
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }
}

/// Options of the client that only say who we are.
pub(super) fn options(auth: &NatsAuth) -> nats::Options {
    match auth {
        NatsAuth::User { username, password } => nats::Options::with_user_pass(username, password.reveal()),
        NatsAuth::Token(token) => nats::Options::with_token(token.reveal()),
        NatsAuth::None => nats::Options::new(),
    }
}
