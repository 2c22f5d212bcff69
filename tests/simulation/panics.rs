//! A schedule that fails panics, thousands of them where a mutant is looked for: what its panic says is given back, not printed.
//! A panic of anything else is printed as ever, also of a test that runs at the same time.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// What the last panic of a schedule of this thread said; none while the thread plays no schedule.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Plays a schedule; what it panicked with.
pub fn caught<T>(play: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(keep_what_schedules_say);
    SAID.set(Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(play));
    let said = SAID.take().unwrap_or_default();
    result.map_err(|_| said)
}

fn keep_what_schedules_say() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_of_a_schedule =
            SAID.with_borrow_mut(|said| said.as_mut().map(|said| *said = info.to_string()).is_some());
        if !is_of_a_schedule {
            print(info);
        }
    }));
}
