//! Messages that one of a recipient's gateways took, and another one did not.

use super::{Verdict, lock};

impl Verdict {
    /// Pushes that never came to a gateway of a recipient, while another one of its gateways took the message. They are part of what is
    /// lost: an engine may miss one only where a gateway did not take it, and must have counted that. Looks at each push.
    pub fn copies_missing(&self) -> u64 {
        if self.world.devices_max() == 1 {
            return 0;
        }
        (0..self.books.len()).map(|session| self.copies_missing_in(session)).sum()
    }

    fn copies_missing_in(&self, session: usize) -> u64 {
        let book = lock(&self.books[session]);
        let members = (1..self.world.members_count(session)).map(|member| (member, self.world.member(session, member)));
        let members: Vec<_> = members.filter(|(_, user)| self.is_owed(*user)).collect();
        let missing = |message: u32, (member, user): &(u32, u32)| {
            let devices = self.world.devices(*user);
            let has = |device: &u32| book.has(message, self.slot(*member, *device), self.slots(session));
            let missing = devices - (0..devices).filter(has).count() as u32;
            u64::from(if missing < devices { missing } else { 0 })
        };
        let messages = (0..book.sent()).filter(|message| !book.is_struck_out(*message));
        messages.map(|message| members.iter().map(|member| missing(message, member)).sum::<u64>()).sum()
    }
}
