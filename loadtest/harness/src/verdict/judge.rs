//! Whether a push, or a notice, is what was to come, for whom, and where.

use std::sync::atomic::Ordering;

use super::book::Came;
use super::{Verdict, lock, message};
use crate::gateways::{Answer, Checked, Noticed, Seen};

/// What is wrong with a push or a notice.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Repeated { message: u32 },
    OutOfOrder { message: u32 },
    Misdelivered(&'static str),
    Corrupt(&'static str),
}

/// A member of a session, at a gateway with one of its devices.
struct Whom {
    session: usize,
    member: u32,
    gateway: u32,
    device: u32,
}

impl Verdict {
    fn whom(&self, session: &str, user: &str, gateway: &str) -> Result<Whom, Fault> {
        let world = &self.world;
        let session = world.session_of(session).ok_or(Fault::Corrupt("there is no such session"))?;
        let user = world.user_of(user).ok_or(Fault::Misdelivered("there is no such user"))?;
        let member = world.member_number(session, user).ok_or(Fault::Misdelivered("the user is not in the session"))?;
        let gateway = world.gateway_of(gateway);
        let at = gateway.and_then(|gateway| Some((gateway, world.places().device_at(user, gateway)?)));
        match at {
            _ if member == 0 => Ok(Whom { session, member, gateway: gateway.unwrap_or(0), device: 0 }),
            _ if world.place(user).is_offline => Err(Fault::Misdelivered("the user is offline")),
            Some((gateway, device)) => Ok(Whom { session, member, gateway, device }),
            None => Err(Fault::Misdelivered("the user is not connected there")),
        }
    }

    pub(super) fn judge(&self, seen: &Seen<'_>) -> Result<(), Fault> {
        let (world, counts) = (&self.world, &self.counts);
        let Whom { session, member, gateway, device } = self.whom(seen.session, seen.recipient, seen.gateway)?;
        if member == 0 {
            return Err(Fault::Misdelivered("the user is its sender"));
        }
        if world.places().is_excused(gateway) {
            counts.excused.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if seen.answer == Answer::Refused {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let read = self.read(session, seen)?;
        let mut book = lock(&self.books[session]);
        let came = book.take(read.number, self.slot(member, device), self.slots(session));
        book.note_last(read.number + 1, seen.at);
        drop(book);
        let came = came.ok_or(Fault::Corrupt("it was never sent"))?;
        if came == Came::Again {
            let message = read.number;
            counts.repeated.fetch_add(1, Ordering::Relaxed);
            return if self.may_repeat_at[gateway as usize] { Ok(()) } else { Err(Fault::Repeated { message }) };
        }
        let took = seen.at.saturating_sub(read.intended_nanos);
        lock(&self.recent[world.group_of(session)]).saturating_record(took);
        if let Some(class) = world.class_of(session, read.number) {
            lock(&self.recent_by_class[class as usize]).saturating_record(took);
        }
        counts.delivered.fetch_add(1, Ordering::Release);
        if came == Came::Late { Err(Fault::OutOfOrder { message: read.number }) } else { Ok(()) }
    }

    /// What a message says of itself, when it is as it was published.
    fn read(&self, session: usize, seen: &Seen<'_>) -> Result<message::Read, Fault> {
        if let Some((number, intended_nanos)) = seen.checked.and_then(Checked::get) {
            return Ok(message::Read { number, intended_nanos });
        }
        let read = self.messages.read(session, seen.content).map_err(Fault::Corrupt)?;
        if seen.msg_id != message::msg_id(session, read.number) {
            return Err(Fault::Corrupt("its msg_id is another one's"));
        }
        if self.world.user_of(seen.from) != Some(self.world.sender(session)) {
            return Err(Fault::Corrupt("its sender is not who sent it"));
        }
        if seen.seq_id != i64::from(read.number) + 1 {
            return Err(Fault::Corrupt("its seq_id is another one's"));
        }
        if seen.kind != message::KIND {
            return Err(Fault::Corrupt("its type is not what was published"));
        }
        if seen.timestamp != message::timestamp(read.intended_nanos) {
            return Err(Fault::Corrupt("its timestamp is not what was published"));
        }
        if let Some(checked) = seen.checked {
            checked.set(read.number, read.intended_nanos);
        }
        Ok(read)
    }

    /// The user who sent the last message is told as well, and is none of its recipients.
    pub(super) fn judge_notice(&self, told: &Noticed<'_>) -> Result<(), Fault> {
        let (world, counts) = (&self.world, &self.counts);
        if !self.takes_notices.load(Ordering::Relaxed) {
            return Err(Fault::Misdelivered("it is a notice, and no gateway announced those"));
        }
        let Whom { session, member, gateway, device } = self.whom(told.session, told.recipient, told.gateway)?;
        let number =
            message::number_of(session, told.msg_id).ok_or(Fault::Corrupt("its msg_id is none of the session"))?;
        let up_to = u32::try_from(told.max_seq_id).ok().filter(|up_to| *up_to > number);
        let up_to = up_to.ok_or(Fault::Corrupt("its sequence is below that of its message"))?;
        counts.notices_at_once.fetch_max(u64::from(told.unanswered) + 1, Ordering::Relaxed);
        if member == 0 {
            return Ok(());
        }
        if world.places().is_excused(gateway) {
            counts.excused.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if told.answer == Answer::Refused {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let mut book = lock(&self.books[session]);
        if up_to > book.sent() {
            return Err(Fault::Corrupt("its sequence is that of no message"));
        }
        let known = book.know(number, up_to, self.slot(member, device), self.slots(session));
        book.note_last(up_to, told.at);
        let known = known.ok_or(Fault::Corrupt("its message was never sent"))?;
        let oldest = known.oldest.map(|oldest| book.instant(oldest));
        let own = (known.came != Came::Again).then(|| book.instant(number));
        drop(book);
        self.count_known(session, &known, told.at, [own, oldest]);
        match known.came {
            Came::Again => {
                counts.repeated.fetch_add(1, Ordering::Relaxed);
                if self.may_repeat_at[gateway as usize] { Ok(()) } else { Err(Fault::Repeated { message: number }) }
            }
            Came::Late => Err(Fault::OutOfOrder { message: number }),
            Came::First => Ok(()),
        }
    }
}
