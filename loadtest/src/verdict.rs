//! The verdict by identity: each (session, message, recipient) is expected exactly once, in order.
//!
//! Promises exact counts of what was lost, repeated, out of order or misdelivered, and the first ten cases in words.
//! Content carries the message's number in its session and the instant it was meant to be sent at, so that nothing has
//! to be looked up: `<number>:<nanoseconds>:` and padding.

use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::clock;
use crate::gateways::{Answer, Recorder, Seen};

const CASES_SHOWN: usize = 10;

/// One session: `members` users named by [`member_name`], of whom the first sends.
#[derive(Debug, Default)]
struct SessionBook {
    members: u32,
    sent: u32,
    /// A bit for each (message, member).
    seen: Vec<u64>,
    /// The highest message number seen, plus one, for each member.
    latest: Vec<u32>,
}

/// What is wrong, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Pushes that were to come.
    pub expected: u64,
    /// Pushes that came, each once.
    pub delivered: u64,
    /// Those that never came.
    pub lost: u64,
    /// Those that came again.
    pub repeated: u64,
    /// Those that came after a later one of the same session to the same user.
    pub out_of_order: u64,
    /// Those to a user they were not for, or at a gateway that the user is not connected to.
    pub misdelivered: u64,
    /// The first cases, in words.
    pub cases: Vec<String>,
}

impl Findings {
    /// Whether everything came once, in order, where it should.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.repeated == 0 && self.out_of_order == 0 && self.misdelivered == 0
    }
}

/// Keeps the books; gateways tell it every push.
#[derive(Debug)]
pub struct Verdict {
    books: Vec<Mutex<SessionBook>>,
    gateways: u32,
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    findings: Findings,
    latency: Histogram<u64>,
    recent: Histogram<u64>,
}

/// The name of a session.
pub fn session_name(session: usize) -> String {
    format!("group:{session}")
}

/// The name of a session's member.
pub fn member_name(session: usize, member: u32) -> String {
    format!("user-{session}-{member}")
}

/// The gateway a member is connected to, of `gateways`.
pub fn gateway_of(session: usize, member: u32, gateways: u32) -> u32 {
    (session as u32).wrapping_mul(31).wrapping_add(member) % gateways
}

/// A message's content: its number, when it was meant to be sent, and padding to `bytes`.
pub fn content(number: u32, intended: u64, bytes: usize) -> String {
    let mut text = format!("{number}:{intended}:");
    text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
    text
}

impl Verdict {
    /// Books for sessions of these sizes, and as many messages each at the most.
    pub fn new(members: &[u32], messages: &[u32], gateways: u32) -> Self {
        let book = |(members, messages): (&u32, &u32)| {
            let bits = *members as usize * *messages as usize;
            Mutex::new(SessionBook {
                members: *members,
                sent: 0,
                seen: vec![0; bits.div_ceil(64)],
                latest: vec![0; *members as usize],
            })
        };
        let histogram =
            || Histogram::new_with_bounds(1_000, 120_000_000_000, 3).expect("constants that the crate takes");
        let shared = Shared { findings: Findings::default(), latency: histogram(), recent: histogram() };
        Self { books: members.iter().zip(messages).map(book).collect(), gateways, shared: Mutex::new(shared) }
    }

    /// A message of a session is about to be published; gives its number.
    pub fn sending(&self, session: usize) -> u32 {
        let mut book = self.books[session].lock().unwrap_or_else(PoisonError::into_inner);
        book.sent += 1;
        let recipients = u64::from(book.members) - 1;
        drop(book);
        self.shared().findings.expected += recipients;
        self.books[session].lock().unwrap_or_else(PoisonError::into_inner).sent - 1
    }

    /// Expected and delivered so far.
    pub fn progress(&self) -> (u64, u64) {
        let shared = self.shared();
        (shared.findings.expected, shared.findings.delivered)
    }

    /// The latency of what came since the last call, in nanoseconds.
    pub fn take_recent(&self) -> Histogram<u64> {
        let mut shared = self.shared();
        let recent = shared.recent.clone();
        shared.recent.reset();
        recent
    }

    /// All latencies, in nanoseconds.
    pub fn latency(&self) -> Histogram<u64> {
        self.shared().latency.clone()
    }

    /// The verdict, once nothing is under way.
    pub fn findings(&self) -> Findings {
        let mut findings = self.shared().findings.clone();
        for (session, book) in self.books.iter().enumerate() {
            let book = book.lock().unwrap_or_else(PoisonError::into_inner);
            for message in 0..book.sent {
                for member in 1..book.members {
                    let bit = message as usize * book.members as usize + member as usize;
                    if book.seen[bit / 64] & (1 << (bit % 64)) == 0 {
                        findings.lost += 1;
                        note(&mut findings, || {
                            format!("lost: {} message {message} to member {member}", session_name(session))
                        });
                    }
                }
            }
        }
        findings
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, seen: &Seen<'_>) -> Option<(usize, u32, u32, u64)> {
        let session: usize = seen.session.strip_prefix("group:")?.parse().ok()?;
        let (of_session, member) = seen.recipient.strip_prefix("user-")?.split_once('-')?;
        let member: u32 = member.parse().ok()?;
        let mut parts = seen.content.splitn(3, ':');
        let (number, intended) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let gateway: u32 = seen.gateway.strip_prefix("gateway-")?.parse().ok()?;
        let book = self.books.get(session)?.lock().unwrap_or_else(PoisonError::into_inner);
        let is_right = of_session.parse() == Ok(session)
            && (1..book.members).contains(&member)
            && number < book.sent
            && gateway == gateway_of(session, member, self.gateways);
        is_right.then_some((session, member, number, intended))
    }
}

impl Recorder for Verdict {
    fn push(&self, seen: &Seen<'_>) {
        if seen.answer == Answer::Refused {
            return;
        }
        let Some((session, member, number, intended)) = self.place(seen) else {
            let mut shared = self.shared();
            shared.findings.misdelivered += 1;
            let words = format!("misdelivered: {} {} at {}", seen.session, seen.recipient, seen.gateway);
            return note(&mut shared.findings, || words);
        };
        let mut book = self.books[session].lock().unwrap_or_else(PoisonError::into_inner);
        let bit = number as usize * book.members as usize + member as usize;
        let is_repeat = book.seen[bit / 64] & (1 << (bit % 64)) != 0;
        book.seen[bit / 64] |= 1 << (bit % 64);
        let is_late = !is_repeat && book.latest[member as usize] > number;
        book.latest[member as usize] = book.latest[member as usize].max(number + 1);
        drop(book);
        let took = clock::now().saturating_sub(intended);
        let mut shared = self.shared();
        if is_repeat {
            shared.findings.repeated += 1;
            note(&mut shared.findings, || format!("repeated: {} message {number} to {}", seen.session, seen.recipient));
            return;
        }
        shared.findings.delivered += 1;
        shared.latency.saturating_record(took);
        shared.recent.saturating_record(took);
        if is_late {
            shared.findings.out_of_order += 1;
            note(&mut shared.findings, || {
                format!("out of order: {} message {number} to {}", seen.session, seen.recipient)
            });
        }
    }
}

fn note(findings: &mut Findings, words: impl FnOnce() -> String) {
    if findings.cases.len() < CASES_SHOWN {
        findings.cases.push(words());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn push(verdict: &Verdict, member: u32, number: u32, gateway: u32) {
        let (recipient, content) = (member_name(0, member), content(number, 0, 32));
        verdict.push(&Seen {
            gateway: &Arc::from(format!("gateway-{gateway}")),
            stream: 1,
            order: 0,
            at: 0,
            answer: Answer::Delivered,
            recipient: &recipient,
            session: "group:0",
            msg_id: 1,
            from: "",
            content: &content,
            message: None,
        });
    }

    #[test]
    fn each_fault_is_counted_once_and_said_in_words() {
        let verdict = Verdict::new(&[3], &[4], 1);
        for _ in 0..4 {
            verdict.sending(0);
        }
        for (member, number) in [(1, 0), (1, 1), (1, 3), (1, 2), (2, 0), (2, 1), (2, 1), (2, 2)] {
            push(&verdict, member, number, 0);
        }
        push(&verdict, 7, 0, 0);
        push(&verdict, 1, 0, 5);
        let findings = verdict.findings();
        assert_eq!((findings.expected, findings.delivered, findings.lost), (8, 7, 1));
        assert_eq!((findings.repeated, findings.out_of_order, findings.misdelivered), (1, 1, 2));
        assert!(!findings.is_clean());
        assert!(
            findings.cases.iter().any(|case| case == "lost: group:0 message 3 to member 2"),
            "{:?}",
            findings.cases
        );
    }
}
