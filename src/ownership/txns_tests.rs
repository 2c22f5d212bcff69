use super::*;
use crate::ownership::facts::Is;
use crate::ownership::records::{self, Epoch};

const NOW: Boottime = Boottime(1_000_000_000);

fn part(number: u64) -> Part {
    let partition = Partition(number as u32);
    let (key, by) = (Key::Epoch(partition), Nonce(format!("a/b/{number}")));
    let found = state(number, 1, "x").value;
    let value = records::write(&Epoch { by: by.clone(), ..Epoch::default() });
    Part {
        purpose: Purpose::Fence(partition),
        number,
        by,
        mark: key.clone(),
        compares: vec![Compare { key: key.clone(), is: Is::seen(found.as_ref()) }],
        writes: vec![Write::Put { key, value, lease: None }],
    }
}

fn state(number: u64, revision: Revision, by: &str) -> KeyState {
    let value = records::write(&Epoch { by: Nonce(by.into()), ..Epoch::default() });
    let key = Key::Epoch(Partition(number as u32));
    KeyState { key, value: Some(value.as_bytes().into()), mod_revision: revision, create_revision: 1 }
}

fn flush(txns: &mut Txns, now: Boottime, next: &mut u64) -> Vec<(AskNo, Txn)> {
    txns.flush(now, 0, || {
        *next += 1;
        AskNo(*next)
    })
}

#[test]
fn one_part_that_does_not_hold_is_told_and_the_others_are_sent_again_without_it() {
    let (mut txns, mut next, mut view) = (Txns::default(), 0, View::new(9));
    (1..4).for_each(|number| txns.push(part(number)));
    let sent = flush(&mut txns, NOW, &mut next);
    assert_eq!(sent.iter().map(|(_, txn)| txn.writes.len()).collect::<Vec<_>>(), [3]);
    let found = vec![state(1, 1, "x"), state(2, 7, "another"), state(3, 3, "x")];
    let (ends, news) = txns.answered(NOW, AskNo(1), Commit::Refused { revision: 9, found }, &mut view);
    assert_eq!(ends.iter().map(|(part, end)| (part.number, end.clone())).collect::<Vec<_>>(), [(2, End::Refused)]);
    assert_eq!(news.len(), 3);
    let sent = flush(&mut txns, NOW, &mut next);
    assert_eq!(sent.iter().map(|(_, txn)| txn.writes.len()).collect::<Vec<_>>(), [2]);
    let (ends, _) = txns.answered(NOW, AskNo(2), Commit::Applied { revision: 10 }, &mut view);
    assert_eq!(ends.len(), 2);
    assert!(txns.is_idle());
}

#[test]
fn a_lost_answer_is_asked_for_again_and_the_own_nonce_tells_that_it_took_effect() {
    let (mut txns, mut next, mut view) = (Txns::default(), 0, View::new(9));
    txns.push(part(1));
    let first = flush(&mut txns, NOW, &mut next);
    let (ends, _) = txns.answered(NOW, AskNo(1), Commit::Unknown, &mut view);
    assert!(ends.is_empty() && !txns.is_idle());
    assert!(flush(&mut txns, NOW, &mut next).is_empty(), "not at once");
    let later = txns.wake_at().unwrap();
    let again = flush(&mut txns, later, &mut next);
    assert_eq!(again[0].1, first[0].1, "as it was, with the same nonce");
    let found = vec![state(1, 5, "a/b/1")];
    let (ends, _) = txns.answered(later, AskNo(2), Commit::Refused { revision: 9, found }, &mut view);
    assert_eq!(ends[0].1, End::Applied);
}

#[test]
fn an_answer_that_never_comes_counts_as_unknown_after_a_while() {
    let (mut txns, mut next) = (Txns::default(), 0);
    txns.push(part(1));
    flush(&mut txns, NOW, &mut next);
    let late = NOW.after(ANSWER_TIME + Duration::from_millis(1));
    flush(&mut txns, late, &mut next);
    let again = flush(&mut txns, late.after(RETRY.longest), &mut next);
    assert_eq!(again.len(), 1);
}

#[test]
fn a_transaction_that_etcd_does_not_take_is_halved_down_to_one() {
    let (mut txns, mut next, mut view) = (Txns::default(), 0, View::new(99));
    (1..5).for_each(|number| txns.push(part(number)));
    let mut rejected = Vec::new();
    for _ in 0..3 {
        for (ask, _) in flush(&mut txns, NOW, &mut next) {
            let why = Commit::Rejected(Rejection::NoLease);
            rejected.extend(txns.answered(NOW, ask, why, &mut view).0.into_iter().map(|(part, _)| part.number));
        }
    }
    rejected.sort_unstable();
    assert_eq!(rejected, [1, 2, 3, 4]);
}

#[test]
fn many_parts_are_several_transactions_within_the_bound_of_etcd() {
    let (mut txns, mut next) = (Txns::default(), 0);
    (1..65).for_each(|number| txns.push(part(number)));
    let sent = flush(&mut txns, NOW, &mut next);
    assert_eq!(sent.iter().map(|(_, txn)| txn.writes.len()).collect::<Vec<_>>(), [32, 32]);
}
