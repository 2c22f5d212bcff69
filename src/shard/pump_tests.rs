//! How many events a turn takes.

use super::*;

#[test]
fn nothing_is_taken_without_a_permit_and_a_retreat_takes_whatever_the_room() {
    assert_eq!([wanted(false, false, 7), wanted(false, true, 7)], [0, 0]);
    assert_eq!([wanted(true, false, 7), wanted(true, true, 0)], [7, TURN_EVENTS_MAX]);
}
