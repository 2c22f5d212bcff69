//! Requests to JetStream's API that are under way over a reader's connection.
//!
//! Promises that many are under way at once, that each batch has a deadline, and that an answer which nobody waits for any
//! more is left alone. Pure: bytes out, answers in, the time comes in.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::api::{ApiError, Request};
use super::lines::Lines;

/// A batch of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchNo(u64);

/// What came of each request of a batch, in their order.
pub(super) type Answers = Vec<Result<Bytes, ApiError>>;

#[derive(Debug)]
struct Batch {
    first: u64,
    answers: Vec<Option<Result<Bytes, ApiError>>>,
    left: usize,
    deadline: Instant,
    timeout: Duration,
}

/// All that are under way.
#[derive(Debug, Default)]
pub(super) struct Calls {
    next: u64,
    batches: Vec<Batch>,
}

impl Calls {
    /// Writes requests, whose answers come to `<inbox>.<number>`.
    pub(super) fn begin(
        &mut self,
        requests: &[Request],
        inbox: &str,
        (now, timeout): (Instant, Duration),
        lines: &mut Lines,
    ) -> BatchNo {
        let first = self.next;
        self.next += requests.len() as u64;
        for (number, request) in (first..).zip(requests) {
            let reply = format!("{inbox}.{number}");
            lines.put(request.subject.as_bytes(), Some(reply.as_bytes()), request.body.as_bytes());
        }
        let answers = requests.iter().map(|_| None).collect();
        self.batches.push(Batch { first, answers, left: requests.len(), deadline: now + timeout, timeout });
        BatchNo(first)
    }

    /// The answer to request `number`.
    pub(super) fn hear(&mut self, number: u64, answer: Result<Bytes, ApiError>) {
        let all = self.batches.iter_mut();
        let mut theirs = all.filter(|batch| number >= batch.first && number - batch.first < batch.answers.len() as u64);
        let Some(batch) = theirs.next() else { return };
        let place = &mut batch.answers[(number - batch.first) as usize];
        batch.left -= usize::from(place.is_none());
        *place = Some(answer);
    }

    /// The answers of a batch, once all are there or the time is over.
    pub(super) fn take(&mut self, BatchNo(first): BatchNo, now: Instant) -> Option<Result<Answers, ApiError>> {
        let at = self.batches.iter().position(|batch| batch.first == first)?;
        let batch = &self.batches[at];
        if batch.left > 0 && now < batch.deadline {
            return None;
        }
        let batch = self.batches.swap_remove(at);
        let timeout = batch.timeout;
        Some(batch.answers.into_iter().map(|answer| answer.ok_or(ApiError::TooLate(timeout))).collect())
    }

    /// Nobody waits any more: the connection is gone.
    pub(super) fn clear(&mut self) {
        self.batches.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(count: usize) -> Vec<Request> {
        (0..count).map(|at| Request { subject: format!("api.{at}"), body: "{}".to_owned() }).collect()
    }

    #[test]
    fn batches_overlap_and_each_has_its_deadline() {
        let (mut calls, mut lines, now) = (Calls::default(), Lines::default(), Instant::now());
        let second = Duration::from_secs(1);
        let one = calls.begin(&requests(2), "inbox", (now, second), &mut lines);
        let two = calls.begin(&requests(1), "inbox", (now, second * 5), &mut lines);
        let wire = lines.take_text();
        assert!(
            wire.starts_with("PUB api.0 inbox.0 2\r\n{}\r\n") && wire.contains("PUB api.0 inbox.2 2\r\n"),
            "{wire}"
        );
        calls.hear(2, Ok(Bytes::from_static(b"two")));
        calls.hear(1, Err(ApiError::NobodyAnswers));
        calls.hear(9, Ok(Bytes::new()));
        assert_eq!(calls.take(two, now), Some(Ok(vec![Ok(Bytes::from_static(b"two"))])));
        assert!(calls.take(one, now).is_none());
        calls.hear(0, Ok(Bytes::from_static(b"one")));
        let want = vec![Ok(Bytes::from_static(b"one")), Err(ApiError::NobodyAnswers)];
        assert_eq!(calls.take(one, now), Some(Ok(want)));
        let late = calls.begin(&requests(1), "inbox", (now, second), &mut lines);
        assert_eq!(calls.take(late, now + second), Some(Err(ApiError::TooLate(second))));
        assert!(calls.take(late, now).is_none() && calls.batches.is_empty());
    }
}
