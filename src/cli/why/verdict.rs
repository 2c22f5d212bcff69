//! The sentence: what is seen, weighed. Pure.
//!
//! An engine that remembers knows best, then the dead letters, then the stores; what is only so now is said as such.

use super::cause;
use super::facts::{EndSeen, Facts, RouteSeen, clock};
use crate::model::ends::End;
use crate::model::outcome::{EventOutcome, RecipientOutcome};

/// Did the user get it, and if not, why.
pub fn verdict(facts: &Facts) -> String {
    let user = &facts.user;
    let what = match facts.msg {
        Some(msg) => format!("message {msg} of session {}", facts.session),
        None => format!("session {}", facts.session),
    };
    let because = remembered(facts).or_else(|| by_letter(facts)).or_else(|| by_stores(facts));
    let because = because.unwrap_or_else(|| as_it_is_now(facts));
    format!("{what}: {user} {because}.")
}

/// By what an engine remembers. A recipient's own end says more than the event's, and a final one more than one that comes again.
fn remembered(facts: &Facts) -> Option<String> {
    let is_final = |end: &EndSeen| {
        !matches!(
            end.end,
            End::Recipient(RecipientOutcome::GivenBack | RecipientOutcome::CutByStop)
                | End::Event(EventOutcome::GivenBack | EventOutcome::CutByStop)
        )
    };
    // Without a message the latest counts.
    let latest = facts.ends().map(|end| end.msg).next()?;
    let msg = facts.msg.unwrap_or(latest);
    let of_message = || facts.ends().filter(move |end| end.msg == msg);
    let end = of_message().find(|end| is_final(end)).or_else(|| of_message().next())?;
    let gateway = end.gateway.as_ref().map_or("the gateway".to_owned(), |gateway| format!("gateway {gateway}"));
    let cause = cause::of(end.end).replace("{gateway}", &gateway);
    let which = if facts.msg.is_none() { format!(" (message {msg})") } else { String::new() };
    Some(format!("{cause}{which}, at {}{}", clock(end.ended_unix_millis), kept(facts, end)))
}

/// Where the message is now, for one who could not be reached.
fn kept(facts: &Facts, end: &EndSeen) -> String {
    let End::Recipient(outcome) = end.end else { return letter_words(facts) };
    if !outcome.is_unreached() {
        return String::new();
    }
    let row = facts.rows.as_ref().ok().and_then(|rows| rows.iter().find(|row| row.msg == end.msg));
    match (row, &facts.content) {
        (Some(row), _) => {
            format!("; the message is in the inbox, {}", if row.is_read { "and was read" } else { "not read yet" })
        }
        (None, Ok(Some(_))) if facts.reads_content => "; the message's content is kept, and is found by it".to_owned(),
        (None, _) => match (letter_words(facts), &facts.rows) {
            (letters, _) if !letters.is_empty() => letters,
            (_, Ok(_)) if facts.has_inbox => "; the inbox has no row of it".to_owned(),
            (_, Ok(_)) => "; inbox.store is off, so it is kept nowhere".to_owned(),
            (_, Err(_)) => String::new(),
        },
    }
}

fn letter_words(facts: &Facts) -> String {
    let letter = facts.letters.as_ref().ok().and_then(|letters| letters.first());
    letter.map_or(String::new(), |letter| {
        format!("; it is dead letter {} (task-engine dlq replay {})", letter.id, letter.id)
    })
}

/// By a dead letter about the user, or about the event.
fn by_letter(facts: &Facts) -> Option<String> {
    let letter = facts.letters.as_ref().ok()?.first()?;
    let end = cause::end_of_letter(&letter.reason, letter.is_of_recipient)?;
    Some(format!("{}{}", cause::of(end).replace("{gateway}", "the gateway"), letter_words(facts)))
}

/// By the stores: a row is there only for whoever was not reached (or for all), and the sender is pushed nothing.
fn by_stores(facts: &Facts) -> Option<String> {
    if let Ok(Some(sender)) = &facts.content
        && *sender == facts.user
    {
        return Some(cause::of(End::Recipient(RecipientOutcome::SkippedSender)).to_owned());
    }
    if facts.is_member == Ok(false) {
        return Some("is no member of the session, and is pushed nothing of it".to_owned());
    }
    let row = facts.rows.as_ref().ok()?.first()?;
    let which = if facts.msg.is_none() { format!(" (message {})", row.msg) } else { String::new() };
    let read = if row.is_read { "and was read" } else { "not read yet" };
    Some(match facts.stores_all {
        true => format!(
            "has a row in the inbox{which}, {read}, as everybody (inbox.store: all); no engine remembers that the push failed"
        ),
        false => format!("could not be reached when it came, and has a row in the inbox{which}, {read}"),
    })
}

/// Nothing tells of the message: how it would go now.
fn as_it_is_now(facts: &Facts) -> String {
    let unknown = unknown(facts);
    let now = match &facts.route {
        Ok(RouteSeen::None) => "is not connected anywhere now",
        Ok(RouteSeen::Bad) => "has a route in Redis that is none now, which counts as offline",
        Ok(RouteSeen::At { .. }) if !facts.unlisted().is_empty() => {
            "has a route to a gateway that is not registered now"
        }
        Ok(RouteSeen::At { .. }) => "is connected to a registered gateway now",
        Err(_) => "may or may not be connected now: Redis does not say",
    };
    let trace = match (facts.remembers(), &facts.is_member) {
        (true, _) => {
            "no engine remembers that a push of it failed, so it was delivered, has not come yet, or is too long ago"
        }
        (false, Ok(_)) => "nothing tells of the message: no engine was asked that remembers ends (engine.recorder: on)",
        (false, Err(_)) => &format!("nothing tells of the message, and {} could not be asked", facts.database),
    };
    format!("{now}; {trace}{unknown}")
}

fn unknown(facts: &Facts) -> String {
    let away = |name: &'static str, is_away: bool| is_away.then_some(name);
    let all = [
        away(facts.database, facts.rows.is_err()),
        away("the dead letters", facts.letters.is_err()),
        away("etcd", facts.listed.is_err()),
    ];
    let all: Vec<_> = all.into_iter().flatten().collect();
    if all.is_empty() { String::new() } else { format!(" (not asked, since away: {})", all.join(", ")) }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
