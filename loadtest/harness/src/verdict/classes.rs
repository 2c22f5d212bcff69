//! Whether an engine gave each message the class that it says.
//!
//! Promises that an engine which ignores what messages say, or mistakes one class for another, is found out by its own counts.

use task_engine::model::priority::Priority;

use super::{Verdict, lock};

impl Verdict {
    /// How many messages of each class were published and taken by the broker, as [`Priority::ALL`] has them; none where messages say
    /// no class.
    pub fn published_by_class(&self) -> Option<[u64; Priority::COUNT]> {
        if !self.world.workload().has_classes() {
            return None;
        }
        let mut published = [0; Priority::COUNT];
        for (session, book) in self.books.iter().enumerate() {
            let book = lock(book);
            let class_of = |message| self.world.class_of(session, message).unwrap_or_default();
            let taken = (0..book.sent()).filter(|message| !book.is_struck_out(*message));
            taken.for_each(|message| published[class_of(message) as usize] += 1);
        }
        Some(published)
    }

    /// What the engine counts as ended, by class, once nothing is under way; none when it does not say.
    pub fn classes_by_engine(&self, ended: Option<[u64; Priority::COUNT]>) {
        *lock(&self.ended_by_class) = ended;
    }

    /// How the engine's counts differ from what was published, in words.
    pub(super) fn classes_fault(&self) -> Option<String> {
        let ended = (*lock(&self.ended_by_class))?;
        let published = self.published_by_class().filter(|published| *published != ended)?;
        let words = |counts: [u64; Priority::COUNT]| {
            let of_class = |(class, count): (&Priority, u64)| format!("{count} {}", class.label());
            Priority::ALL.iter().zip(counts).map(of_class).collect::<Vec<_>>().join(", ")
        };
        let (published, ended) = (words(published), words(ended));
        Some(format!("classes: published were {published}; the engine ended {ended}"))
    }
}
