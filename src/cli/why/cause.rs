//! Each end in an operator's words: a table without a hole, since a new end does not compile without its row.

use crate::model::ends::End;
use crate::model::outcome::{EventOutcome as Event, RecipientOutcome as Recipient};

/// What an end means for the user, to follow "USER ..." in a sentence; `{gateway}` is where it was to be pushed.
pub const fn of(end: End) -> &'static str {
    match end {
        End::Recipient(end) => of_recipient(end),
        End::Event(end) => of_event(end),
    }
}

const fn of_recipient(end: Recipient) -> &'static str {
    match end {
        Recipient::Delivered => "got it: {gateway} took it",
        Recipient::Noticed => {
            "was told of it by a notice: {gateway} took that, and the content is in t_message_content"
        }
        Recipient::Conflated => {
            "was to be told by a newer message's notice to {gateway}; the content is in t_message_content"
        }
        Recipient::SkippedSender => "sent it, and is not pushed what it sent (consumer.echo_sender)",
        Recipient::Offline => "was not connected anywhere: Redis had no route",
        Recipient::NotConnected => {
            "was not at {gateway}, which said so twice, though the route in Redis named it: the route is stale"
        }
        Recipient::Refused => "was refused by {gateway} with an error: look into its log",
        Recipient::TimedOut => {
            "was not reached: {gateway} stayed unknown, unreachable or silent for longer than gateway.delivery_timeout"
        }
        Recipient::BrokeStream => "was not reached: the stream to {gateway} broke several times at this message",
        Recipient::OutboxFull => "was not reached: the queue before {gateway} was full and did not move",
        Recipient::Yielded => "was not reached: the message is of class bulk, and bulk had its half of the room",
        Recipient::Shed => {
            "was not pushed it: the message is of class fleeting, and there was no room for it or it was late"
        }
        Recipient::BadRoute => "has a route in Redis that is none (no JSON, or no gateway_id), which counts as offline",
        Recipient::GatewayTableFull => "is at a gateway for which the engine had no place, as it knows too many",
        Recipient::TooLarge => "was not pushed it: the message is over what a gateway takes",
        Recipient::Stored => "could not be reached, and has a row in the inbox",
        Recipient::Readable => "could not be reached, and finds the message by its kept content",
        Recipient::InboxConflict => {
            "could not be reached, and another message holds its place in the inbox: see the dead letters"
        }
        Recipient::InboxRejected => "could not be reached, and the inbox refused its row: see the dead letters",
        Recipient::DeadLetterLost => {
            "could not be reached, and neither the inbox nor the dead letters took it: it is lost, see the engine's log"
        }
        Recipient::GivenBack => "has not got it yet: a store was away, and the broker delivers the event again",
        Recipient::CutByStop => {
            "has not got it yet: the engine stopped before, and with JetStream the event comes again"
        }
    }
}

const fn of_event(end: Event) -> &'static str {
    match end {
        Event::Settled => "has an end of its own, as every recipient of the event",
        Event::Shed => "was not pushed it: the event is of class fleeting, and there was no room for it or it was late",
        Event::Repeat => "is pushed a message once: this one had come before, and ended with the first",
        Event::NoMembers => {
            "was not pushed it: the session had no members for members.empty_wait; see the dead letters"
        }
        Event::Undecodable => "was not pushed it: what was published is no PushEvent; see the dead letters",
        Event::NoSessionId => "was not pushed it: the event names no session; see the dead letters",
        Event::LongSessionId => "was not pushed it: the session's id is over 64 characters; see the dead letters",
        Event::TooLarge => "was not pushed it: the event is over the size of a message; see the dead letters",
        Event::LookupFailed => {
            "was not pushed it: the database refused the session's members each time; see the dead letters"
        }
        Event::DeadLetterLost => {
            "was not pushed it: the event could never succeed, and the dead letters refused it: it is lost"
        }
        Event::GivenBack => {
            "has not got it yet: a store was away, and the broker delivers the event again (to another instance)"
        }
        Event::CutByStop => {
            "has not got it yet: the engine stopped before its turn, and with JetStream the event comes again"
        }
    }
}

/// The end of this label.
pub(super) fn end_of(label: &str, is_recipients: bool) -> Option<End> {
    let recipient = Recipient::ALL.iter().copied().find(|end| end.label() == label).map(End::Recipient);
    let event = Event::ALL.iter().copied().find(|end| end.label() == label).map(End::Event);
    if is_recipients { recipient } else { event }
}

/// The end that a dead letter of this reason tells of.
pub(super) fn end_of_letter(reason: &str, has_recipient: bool) -> Option<End> {
    end_of(reason, has_recipient)
}
