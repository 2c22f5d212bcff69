//! JetStream's API over a blocking connection, for commands that may wait: many requests at once, each with a deadline.

use std::time::Duration;

use serde::Deserialize;

use super::api::{AT_ONCE, ApiError, ConsumerNames, Request, read};
use super::plan::ReaderPlan;
use super::rights;
use super::usable::has_owners;
use crate::edge::nats::protocol::ErrorKind;
use crate::edge::nats::wire::{self, Answer, Wire, WireError};

/// A way to the API over one connection.
pub(super) struct Api {
    pub wire: Wire,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Api {
    /// See [`rights::probe`].
    pub(super) fn probe_rights(&mut self, plan: &ReaderPlan) -> Result<(), ApiError> {
        let told = self.wire.tell(rights::probe(plan, true));
        told.map_err(|error| self.error(&error))
    }

    /// One request and its answer.
    pub(super) fn call<T: for<'de> Deserialize<'de>>(&mut self, subject: String, body: String) -> Result<T, ApiError> {
        let mut answers = self.call_all(&[Request { subject, body }])?;
        answers.pop().unwrap_or_else(|| Err(ApiError::Broken("none came".to_owned())))
    }

    /// Many requests and their answers, in the order of the requests. The outer error holds for all.
    pub(super) fn call_all<T: for<'de> Deserialize<'de>>(
        &mut self,
        requests: &[Request],
    ) -> Result<Vec<Result<T, ApiError>>, ApiError> {
        let mut all = Vec::with_capacity(requests.len());
        for some in requests.chunks(AT_ONCE) {
            let asks: Vec<_> = some.iter().map(asked).collect();
            let answers = self.wire.call_all(&asks).map_err(|error| self.error(&error))?;
            for answer in answers {
                match answer {
                    Some(Answer::Message(bytes)) => all.push(read(&bytes)),
                    Some(Answer::NobodyListens) => return Err(ApiError::NobodyAnswers),
                    None => return Err(ApiError::TooLate(self.timeout)),
                }
            }
        }
        Ok(all)
    }

    /// See [`has_owners`]: by the names of all consumers of the stream.
    pub(super) fn owners_of(&mut self, plan: &ReaderPlan) -> Result<Option<String>, ApiError> {
        let mut all = ConsumerNames::default();
        while let Some(ask) = all.ask(&plan.stream) {
            all.take(self.call(ask.subject, ask.body)?);
        }
        Ok(has_owners(plan, &all.names))
    }

    fn error(&self, error: &WireError) -> ApiError {
        match &self.wire.refusal {
            Some(refusal)
                if matches!(refusal.kind, ErrorKind::MayNotPublish { .. } | ErrorKind::MayNotSubscribe { .. }) =>
            {
                ApiError::Forbidden(refusal.words.clone())
            }
            _ => ApiError::Broken(error.to_string()),
        }
    }
}

/// A request as the blocking connection takes it.
pub(super) fn asked(request: &Request) -> wire::Request<'_> {
    wire::Request { subject: request.subject.clone(), headers: Vec::new(), payload: request.body.as_bytes() }
}
