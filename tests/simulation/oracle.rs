//! What must hold, told by what the world saw: deliveries at gateways, answers that reached the core, settled tags.
//!
//! Order, and the exceptions that are allowed because no engine without a global pause could avoid them:
//!
//! 1. *One session, one recipient* ([`Oracle::check_recipient_order`]): first deliveries come in arrival order. An older
//!    message may come after a younger one only when (a) the gateway that took the younger one had refused the older one
//!    for this very recipient (for whatever reason): both were on the wire before the refusal was read, or it was never
//!    read because the stream ended; or (b) the older one ran into
//!    `delivery_timeout` at a gateway and the recipient has moved: it is offered once more to the new gateway, while
//!    the younger one was still answered by the old one.
//! 2. *One session, one gateway* ([`Oracle::check_gateway_order`]): the same, for all recipients that were never
//!    disturbed (moved, joined or left, had a broken route, or were refused). A disturbed recipient waits alone, so
//!    its messages may come to a gateway after younger ones of others. So may those of a session in which something
//!    ran into `delivery_timeout`, and, with protocol `group`, what was pushed to a list that the gateway had forgotten: the
//!    other lists of the session do not wait for it.
//!
//! Both hold for one engine: what was on its way when an engine died may have come to some and not to others, and the
//! next engine gets all of it again, in the order of the stream.
//!
//! A user with several devices is told apart by gateway: each of its gateways gets each event once and in order (1), and it is
//! delivered once, however many gateways take it.
//!
//! Duplicates: a recipient gets an event twice only when the stream of each earlier delivery is over and its answer had
//! not reached the core, or when the event was taken anew: by the next engine after a crash, or as a repeat of one that
//! is in the dead letters (a replay must not be taken for a repeat). Streams that end because of answers that do not fit give a
//! recipient a bounded number of copies, however long they go on.

mod given_back;
mod notices;
mod rounds;
mod tags;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use task_engine::model::ids::Nanos;
use task_engine::model::priority::Priority;
use task_engine::model::proto::gateway::PushMessage;
use task_engine::ports::Disposition;

use self::notices::Notices;
pub use self::tags::Tag;

/// How often a push may be written to streams that answer what does not fit: at the front of its gateway's queue it is counted out,
/// behind others it goes with them only as they are answered, and a user who moves may meet two such gateways.
const COPIES_MAX: usize = 5;

/// How a gateway answers for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    NotConnected,
    Other,
}

/// One recipient of one event, as a gateway answered for it.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub event: usize,
    pub user: usize,
    pub gateway: usize,
    pub outcome: Outcome,
}

/// An event that the core took.
#[derive(Clone, Debug)]
pub struct Event {
    pub session: usize,
    pub order: u64,
    pub arrived: Nanos,
    pub sender: Option<usize>,
    pub message: PushMessage,
    pub is_settled: bool,
    pub settled_at: Nanos,
    /// It was settled as done.
    is_done: bool,
    /// Its class, unless the size of its session decides that.
    pub class: Option<Priority>,
    /// Which engine took it last, and how often it was taken before.
    engine: u32,
    pub take: u32,
}

#[derive(Clone, Debug)]
struct Delivery {
    conns: Vec<usize>,
    /// Where it was last.
    gateway: usize,
    is_answered: bool,
    take: u32,
    /// Answered now or in an earlier take.
    was_answered: bool,
}

#[derive(Clone, Copy, Debug)]
struct First {
    order: u64,
    event: usize,
    gateway: usize,
}

/// Who a message was pushed to, and where.
#[derive(Clone, Copy, Debug)]
pub struct Push {
    pub event: usize,
    pub user: usize,
    pub gateway: usize,
    pub conn: usize,
    pub is_disturbed: bool,
    pub now: Nanos,
}

/// All that is remembered.
#[derive(Debug)]
pub struct Oracle {
    pub events: Vec<Event>,
    pub tags: Vec<Tag>,
    pub by_key: HashMap<(usize, i64), usize>,
    /// Whether the stream is over, by its number in the world.
    pub conn_is_over: Vec<bool>,
    /// Whether it was cut for an answer that did not fit.
    pub conn_did_not_fit: Vec<bool>,
    /// Recipients that gateways answered for without an error, as far as the core heard of it.
    pub answered_ok: u64,
    /// The next answers that the core reads are for recipients that it had ended as late: they may have been told elsewhere.
    pub late_answers: u64,
    /// Of those, in pieces of which some were late and some not.
    pub doubtful: u64,
    /// Tags that this engine gave back.
    pub given_back: u64,
    /// The sender is pushed its own message.
    pub echoes: bool,
    /// By user: whether it has several devices.
    pub has_several: Vec<bool>,
    /// By event, user and place.
    deliveries: HashMap<(usize, usize, usize), Delivery>,
    /// Recipients that were answered for without an error, each take of an event anew.
    reached: HashSet<(usize, usize, u32)>,
    refused_at: HashMap<(usize, usize), Vec<usize>>,
    /// What gateways did not deliver since they did not know the list.
    not_known_at: HashSet<(usize, usize, usize)>,
    /// By session, user and place.
    firsts: HashMap<(usize, usize, usize), Vec<First>>,
    newest_at: HashMap<(usize, usize), u64>,
    slow_sessions: Vec<bool>,
    /// The first order of what was given back and comes again in the order of the stream.
    kept_orders: HashMap<(usize, i64), u64>,
    /// What was dropped as it came.
    dropped: HashSet<(usize, i64)>,
    notices: Notices,
    /// When the last retreat began.
    retreated_at: Nanos,
    timeout: Duration,
    engine: u32,
}

impl Oracle {
    pub fn new(sessions: usize, timeout: Duration, echoes: bool) -> Self {
        Self {
            events: Vec::new(),
            tags: Vec::new(),
            by_key: HashMap::new(),
            conn_is_over: Vec::new(),
            conn_did_not_fit: Vec::new(),
            answered_ok: 0,
            late_answers: 0,
            doubtful: 0,
            given_back: 0,
            echoes,
            has_several: Vec::new(),
            deliveries: HashMap::new(),
            reached: HashSet::new(),
            refused_at: HashMap::new(),
            not_known_at: HashSet::new(),
            firsts: HashMap::new(),
            newest_at: HashMap::new(),
            slow_sessions: vec![false; sessions],
            kept_orders: HashMap::new(),
            dropped: HashSet::new(),
            notices: Notices::default(),
            retreated_at: Nanos(0),
            timeout,
            engine: 0,
        }
    }

    /// A shard takes an event that is none in flight.
    pub fn take_event(
        &mut self,
        key: (usize, i64),
        message: PushMessage,
        sender: Option<usize>,
        order: u64,
        now: Nanos,
    ) -> usize {
        let kept = self.kept_orders.remove(&key);
        let was_taken = self.by_key.get(&key).is_some_and(|event| self.is_of_this_engine(*event));
        if kept.is_none() && (was_taken || self.dropped.contains(&key)) {
            // A copy of one that was dropped, or is in the dead letters, is a new event, where the copy stands.
            self.kept_orders.retain(|(session, _), _| *session != key.0);
        }
        let order = kept.unwrap_or(order);
        let event = *self.by_key.entry(key).or_insert(self.events.len());
        let take = self.events.get(event).map_or(0, |known| known.take + 1);
        let taken = Event {
            session: key.0,
            order,
            arrived: now,
            sender,
            message,
            is_settled: false,
            settled_at: now,
            is_done: false,
            class: None,
            engine: self.engine,
            take,
        };
        match self.events.get_mut(event) {
            Some(known) => *known = taken,
            None => self.events.push(taken),
        }
        event
    }

    /// There is one session more.
    pub fn add_session(&mut self) {
        self.slow_sessions.push(false);
    }

    /// The engine is gone; the next one begins anew.
    pub fn restart(&mut self) {
        self.engine += 1;
        (self.answered_ok, self.doubtful) = (0, 0);
        self.given_back = 0;
        self.firsts.clear();
        self.newest_at.clear();
        self.refused_at.clear();
        self.not_known_at.clear();
        self.kept_orders.clear();
        self.dropped.clear();
        self.notices.restart();
        self.tags.iter_mut().for_each(|tag| tag.is_dead = true);
    }

    /// Whether the engine that runs has taken it.
    pub fn is_of_this_engine(&self, event: usize) -> bool {
        self.events[event].engine == self.engine
    }

    /// Whether a repeat of it must be known as one: it was pushed, and it is done.
    pub fn must_be_known(&self, event: usize) -> bool {
        self.events[event].is_done && self.is_pushed(event)
    }

    /// What is one for the order and for repeats: a user, or of a user with several devices each gateway.
    fn place(&self, user: usize, gateway: usize) -> usize {
        if self.has_several[user] { gateway } else { 0 }
    }

    /// Whether the core has read a gateway's word that the user got the event.
    pub fn is_answered(&self, event: usize, user: usize) -> bool {
        let mut places = (0..8).filter_map(|place| self.deliveries.get(&(event, user, place)));
        places.any(|delivery| delivery.was_answered)
    }

    /// Whether anything of the event was pushed to anyone.
    pub fn is_pushed(&self, event: usize) -> bool {
        let take = self.events[event].take;
        self.deliveries.iter().any(|((of, ..), delivery)| *of == event && delivery.take == take)
    }

    /// Whether the user was given the event at a gateway; one with one device, wherever that was at last.
    pub fn is_told_at(&self, event: usize, user: usize, gateway: usize) -> bool {
        let delivery = self.deliveries.get(&(event, user, self.place(user, gateway)));
        delivery.is_some_and(|delivery| delivery.gateway == gateway)
    }

    /// A tag was settled.
    pub fn settled(&mut self, number: u64, how: Disposition, now: Nanos) {
        let tag = &mut self.tags[number as usize];
        assert!(tag.is_taken, "tag {number} was settled before it was taken");
        tag.settlements += 1;
        assert!(tag.settlements <= tag.hand_ins, "tag {number} was settled more often than it was handed in");
        assert!(!tag.is_dead, "tag {number} was settled by an engine that is gone");
        tag.is_settled = true;
        self.given_back += u64::from(how == Disposition::Nak);
        if std::mem::take(&mut tag.is_turned_away) {
            return assert_eq!(how, Disposition::Nak, "tag {number} was not taken");
        }
        if let Some((event, take)) = tag.event {
            if self.events[event].take != take {
                // It was taken anew before the end of the first was heard: not after it was pushed and done.
                let is_pushed = self.deliveries.iter().any(|((of, ..), known)| *of == event && known.take == take);
                return assert!(how != Disposition::Ack || !is_pushed, "event {event} was done, and taken anew");
            }
            let is_unpushed = how == Disposition::Nak && !self.is_pushed(event);
            // Whom it owed a row only may get it after what others of its session were pushed meanwhile.
            let session = self.events[event].session;
            let pushed = self.firsts.iter().filter(|((of, ..), _)| *of == session).flat_map(|(_, firsts)| firsts);
            let newest = pushed.map(|first| first.order).max().unwrap_or(0);
            let event = &mut self.events[event];
            if is_unpushed {
                let key = (event.session, super::events::number_of(&event.message));
                self.kept_orders.insert(key, event.order.max(newest));
            }
            event.is_settled = true;
            event.settled_at = now;
            event.is_done = how == Disposition::Ack;
            self.slow_sessions[event.session] |= now.since(event.arrived) >= self.timeout;
        }
    }

    /// A gateway is about to tell a user. Checks duplicates and order.
    pub fn deliver(&mut self, push: Push) {
        let Push { event, user, conn, gateway, .. } = push;
        let is_sender = self.events[event].sender == Some(user);
        assert!(!is_sender || self.echoes, "event {event} was pushed to its sender, user {user}");
        let (take, place) = (self.events[event].take, self.place(user, gateway));
        let earlier = self.deliveries.get_mut(&(event, user, place));
        let was_answered = earlier.as_ref().is_some_and(|earlier| earlier.was_answered);
        if let Some(earlier) = earlier.filter(|earlier| earlier.take == take) {
            assert!(!earlier.is_answered, "event {event} came to user {user} again after its answer was read");
            let Event { session, arrived, .. } = self.events[event];
            let firsts = self.firsts.get(&(session, user, place));
            let was_elsewhere =
                firsts.into_iter().flatten().any(|first| first.event == event && first.gateway != gateway);
            // What the deadline ended goes where the user is now; a stream that still answers other pushes is not cut for it.
            let may_be_ended = was_elsewhere && push.now.since(arrived) >= self.timeout;
            for over in &earlier.conns {
                assert!(
                    self.conn_is_over[*over] || may_be_ended,
                    "event {event} came to user {user} twice, and stream {over} was not cut"
                );
            }
            let misfits = earlier.conns.iter().filter(|over| self.conn_did_not_fit[**over]).count();
            assert!(
                misfits <= COPIES_MAX,
                "event {event} came to user {user} again after {misfits} answers that did not fit"
            );
            earlier.conns.push(conn);
            earlier.gateway = gateway;
            return;
        }
        let delivery = Delivery { conns: vec![conn], gateway, is_answered: false, take, was_answered };
        self.deliveries.insert((event, user, place), delivery);
        self.check_recipient_order(push);
        self.check_gateway_order(push);
    }

    fn check_recipient_order(&mut self, push: Push) {
        let Event { session, order, arrived, .. } = self.events[push.event];
        let place = self.place(push.user, push.gateway);
        let firsts = self.firsts.entry((session, push.user, place)).or_default();
        let refused_at = self.refused_at.get(&(push.event, push.user));
        let is_aged = push.is_disturbed && push.now.since(arrived) >= self.timeout;
        for younger in firsts.iter().filter(|first| first.order > order) {
            let is_overtaken = refused_at.is_some_and(|gateways| gateways.contains(&younger.gateway));
            assert!(
                is_overtaken || is_aged,
                "order: user {} of session {session} got event {} (order {order}) at gateway {} after event {} (order \
                 {}) at gateway {}",
                push.user,
                push.event,
                push.gateway,
                younger.event,
                younger.order,
                younger.gateway,
            );
        }
        firsts.push(First { order, event: push.event, gateway: push.gateway });
    }

    fn check_gateway_order(&mut self, push: Push) {
        let Event { session, order, .. } = self.events[push.event];
        let newest = self.newest_at.entry((session, push.gateway)).or_default();
        let was_known = !self.not_known_at.contains(&(push.event, push.user, push.gateway));
        if order < *newest && !push.is_disturbed && was_known {
            let timeout = self.timeout;
            let is_slow = |event: &Event| {
                event.session == session && !event.is_settled && push.now.since(event.arrived) >= timeout
            };
            let may_be_late = self.slow_sessions[session] || self.events.iter().any(is_slow);
            assert!(
                may_be_late,
                "order: gateway {} got event {} of session {session} (order {order}) for user {}, whom nothing had \
                 disturbed, after order {newest}",
                push.gateway, push.event, push.user
            );
        }
        *newest = (*newest).max(order);
    }

    /// A gateway will say that it does not have the user.
    pub fn refuse(&mut self, event: usize, user: usize, gateway: usize) {
        self.refused_at.entry((event, user)).or_default().push(gateway);
    }

    /// A gateway will say that it does not know the list in which the user is.
    pub fn not_known(&mut self, event: usize, user: usize, gateway: usize) {
        self.not_known_at.insert((event, user, gateway));
    }

    /// The core has read that the gateway failed, though it had told the user: it may be told again.
    pub fn denied(&mut self, answer: Answer) {
        if answer.outcome == Outcome::Delivered {
            self.delivery_of(answer).conns.pop();
        }
    }

    /// The core has read answers in one piece. How many of them are late is told, and not which: those that came first are taken for it. One that
    /// is urgent may stand before what is older, and one of several gateways of a user may have told already: then either may be counted.
    pub fn all_answered(&mut self, answers: Vec<Answer>) {
        let late = self.late_answers;
        if (1..answers.len() as u64).contains(&late) {
            self.doubtful += late;
        }
        answers.into_iter().for_each(|answer| self.answered(answer));
    }

    /// The core has read a gateway's answer.
    pub fn answered(&mut self, answer: Answer) {
        if answer.outcome != Outcome::Delivered {
            return;
        }
        let is_late = self.late_answers > 0;
        self.late_answers -= u64::from(is_late);
        let delivery = self.delivery_of(answer);
        delivery.was_answered = true;
        if is_late {
            return;
        }
        let was_answered = std::mem::replace(&mut delivery.is_answered, true);
        let take = delivery.take;
        assert!(!was_answered, "event {} for user {} was answered twice", answer.event, answer.user);
        self.answered_ok += u64::from(self.reached.insert((answer.event, answer.user, take)));
    }

    fn delivery_of(&mut self, Answer { event, user, gateway, .. }: Answer) -> &mut Delivery {
        let place = self.place(user, gateway);
        self.deliveries.get_mut(&(event, user, place)).expect("it was delivered")
    }
}
