//! Transactions: our words for etcd's, and what its answer says of whether it was done.
//!
//! Promises that "refused" and "rejected" are said only of what was surely not done and never will be. What leaves it open is unknown.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, Error, TxnOp, TxnOpResponse, TxnResponse};

use super::session::{Failure, Line};
use super::state;
use crate::ownership::facts::{Commit, Is, Rejection, Txn, Write};
use crate::ownership::keys::{Key, KeyState, Revision};

/// Runs it once.
pub(super) async fn commit(line: &Line, root: &str, patience: Duration, txn: &Txn) -> Commit {
    let (keys, request) = (txn.keys(), request(root, txn));
    let sent = line.ask(patience, |client| async move { client.kv_client().txn(request).await });
    let failure = match sent.await {
        Ok(response) => return answer(root, &keys, &response).unwrap_or(Commit::Unknown),
        Err(failure) => failure,
    };
    match judge(&failure) {
        Judgement::NotDone(why) => Commit::Rejected(why),
        Judgement::Open => Commit::Unknown,
        Judgement::Ended(why) => look(line, root, patience, txn, why).await,
    }
}

fn request(root: &str, txn: &Txn) -> etcd_client::Txn {
    let path = |key: &Key| format!("{root}{key}");
    let compares = txn.compares.iter().map(|compare| match &compare.is {
        Is::Absent => Compare::create_revision(path(&compare.key), CompareOp::Equal, 0),
        Is::Value(value) => Compare::value(path(&compare.key), CompareOp::Equal, value.to_vec()),
        Is::Created(revision) => Compare::create_revision(path(&compare.key), CompareOp::Equal, *revision),
    });
    let writes = txn.writes.iter().map(|write| match write {
        Write::Put { key, value, lease } => {
            let options = lease.map(|lease| etcd_client::PutOptions::new().with_lease(lease.0));
            TxnOp::put(path(key), value.as_str(), options)
        }
        Write::Delete { key } => TxnOp::delete(path(key), None),
    });
    etcd_client::Txn::new()
        .when(compares.collect::<Vec<_>>())
        .and_then(writes.collect::<Vec<_>>())
        .or_else(reads(root, &txn.keys()))
}

fn reads(root: &str, keys: &[Key]) -> Vec<TxnOp> {
    keys.iter().map(|key| TxnOp::get(format!("{root}{key}"), None)).collect()
}

/// What a response says; nothing when a part of it is missing.
fn answer(root: &str, keys: &[Key], response: &TxnResponse) -> Option<Commit> {
    let revision = response.header()?.revision();
    match response.succeeded() {
        true => Some(Commit::Applied { revision }),
        false => Some(Commit::Refused { revision, found: found(root, keys, response)? }),
    }
}

/// The keys as they were read, each once.
fn found(root: &str, keys: &[Key], response: &TxnResponse) -> Option<Vec<KeyState>> {
    let read = response.op_responses();
    if read.len() != keys.len() {
        return None;
    }
    let each = keys.iter().zip(read).map(|(key, read)| {
        let TxnOpResponse::Get(read) = read else { return None };
        let absent = || KeyState { key: key.clone(), value: None, mod_revision: 0, create_revision: 0 };
        match read.kvs().first() {
            Some(kv) => state(root, kv.clone()),
            None => Some(absent()),
        }
    });
    each.collect()
}

/// What a failure says of whether a transaction was done.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    /// It was not, and never will be.
    NotDone(Rejection),
    /// It was or it was not, but it will not be any more: reading tells.
    Ended(String),
    /// It may still be done.
    Open,
}

fn judge(failure: &Failure) -> Judgement {
    let Failure::Said(Error::GRpcStatus(status)) = failure else { return Judgement::Open };
    let text = status.message();
    let other = || Judgement::NotDone(Rejection::Other(text.to_owned()));
    // The word of etcd's gRPC server, which did not read it to its end.
    if i32::from(status.code()) == 8 && text.contains("received message larger than max") {
        return other();
    }
    // Anything else comes from the way to etcd, which may have carried the transaction there.
    if !text.starts_with("etcdserver:") {
        return Judgement::Open;
    }
    match i32::from(status.code()) {
        // Not found.
        5 if text.contains("requested lease not found") => Judgement::NotDone(Rejection::NoLease),
        // Invalid argument, permission denied, unauthenticated: checked before anything is written.
        3 | 7 | 16 => other(),
        // Resource exhausted. The one that takes the last space is done, and answered with "no space" all the same.
        8 => Judgement::Ended(text.to_owned()),
        _ => Judgement::Open,
    }
}

/// Whether a transaction that was answered with "no space" was done: then one of its values is there.
async fn look(line: &Line, root: &str, patience: Duration, txn: &Txn, why: String) -> Commit {
    let keys = txn.keys();
    let request = etcd_client::Txn::new().and_then(reads(root, &keys));
    let read = line.ask(patience, |client| async move { client.kv_client().txn(request).await }).await;
    let Ok(response) = read else { return Commit::Unknown };
    let Some((revision, found)) = seen(root, &keys, &response) else { return Commit::Unknown };
    if was_done(txn, &found) { Commit::Refused { revision, found } } else { Commit::Rejected(Rejection::Other(why)) }
}

fn seen(root: &str, keys: &[Key], response: &TxnResponse) -> Option<(Revision, Vec<KeyState>)> {
    Some((response.header()?.revision(), found(root, keys, response)?))
}

/// Each value names the write that made it, so none is like another.
fn was_done(txn: &Txn, found: &[KeyState]) -> bool {
    txn.writes.iter().any(|write| {
        let Write::Put { key, value, .. } = write else { return false };
        found.iter().any(|state| state.key == *key && state.value.as_deref() == Some(value.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Partition;

    fn said(code: i32, text: &str) -> Failure {
        Failure::Said(Error::GRpcStatus(tonic::Status::new(tonic::Code::from(code), text)))
    }

    #[test]
    fn only_what_was_surely_not_done_is_rejected() {
        let no_lease = said(5, "etcdserver: requested lease not found");
        assert_eq!(judge(&no_lease), Judgement::NotDone(Rejection::NoLease));
        for (code, text) in [
            (7, "etcdserver: permission denied"),
            (3, "etcdserver: too many operations in txn request"),
            (3, "etcdserver: request is too large"),
            (16, "etcdserver: invalid auth token"),
            (8, "grpc: received message larger than max (2097185 vs. 2097152)"),
        ] {
            assert_eq!(judge(&said(code, text)), Judgement::NotDone(Rejection::Other(text.to_owned())));
        }
        let full = "etcdserver: mvcc: database space exceeded";
        assert_eq!(judge(&said(8, full)), Judgement::Ended(full.to_owned()));
        for (code, text) in [
            (14, "etcdserver: request timed out"),
            (14, "etcdserver: leader changed"),
            (14, "transport is closing"),
            (4, "context deadline exceeded"),
            (1, "operation was canceled"),
            (2, "h2 protocol error"),
            (7, "a proxy on the way says no"),
            (13, "etcdserver: corrupt cluster"),
        ] {
            assert_eq!(judge(&said(code, text)), Judgement::Open, "{text}");
        }
        assert_eq!(judge(&Failure::Late(Duration::from_secs(5))), Judgement::Open);
        assert_eq!(judge(&Failure::NotSent), Judgement::Open);
    }

    #[test]
    fn one_that_took_the_last_space_is_known_by_its_values() {
        let key = Key::Owner(Partition(3));
        let put = Write::Put { key: key.clone(), value: "mine".to_owned(), lease: None };
        let txn = Txn { compares: Vec::new(), writes: vec![put, Write::Delete { key: Key::Plan }] };
        let state = |value: &str| {
            let value = Some(value.as_bytes().into());
            vec![KeyState { key: key.clone(), value, mod_revision: 9, create_revision: 9 }]
        };
        assert!(was_done(&txn, &state("mine")));
        assert!(!was_done(&txn, &state("another's")) && !was_done(&txn, &[]));
    }
}
