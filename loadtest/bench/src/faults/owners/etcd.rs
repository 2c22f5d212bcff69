//! What a person may do to etcd: an unknown record, a lease revoked, an etcd that comes back empty or with older data.

use std::fs;
use std::future::Future;
use std::path::Path;

use etcd_client::Client;
use harness::error::{Error, Result};
use harness::servers::Etcd;

use super::stage::{DURABLE, STREAM};

type Called<T> = std::result::Result<T, etcd_client::Error>;

/// The key of a record of ownership.
fn key(name: &str) -> String {
    format!("/resonance/task-engine/{STREAM}/{DURABLE}/{name}")
}

fn run<T, F: Future<Output = Called<T>>>(etcd: &Etcd, work: impl FnOnce(Client) -> F) -> Result<T> {
    let failed = |cause: &dyn std::fmt::Display| Error::of("cannot ask etcd", cause);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| failed(&cause))?;
    runtime.block_on(async { work(Client::connect([etcd.addr()], None).await?).await }).map_err(|cause| failed(&cause))
}

/// A record's text; none when there is no such record.
///
/// # Errors
/// When etcd does not answer.
pub(super) fn get(etcd: &Etcd, name: &str) -> Result<Option<String>> {
    let found = run(etcd, |mut client| async move { client.get(key(name), None).await })?;
    Ok(found.kvs().first().map(|found| String::from_utf8_lossy(found.value()).into_owned()))
}

/// Writes a record over what is there.
///
/// # Errors
/// When etcd does not answer.
pub(super) fn put(etcd: &Etcd, name: &str, text: &str) -> Result<()> {
    let text = text.to_owned();
    run(etcd, |mut client| async move { client.put(key(name), text, None).await }).map(drop)
}

/// Removes a record.
///
/// # Errors
/// When etcd does not answer.
pub(super) fn delete(etcd: &Etcd, name: &str) -> Result<()> {
    run(etcd, |mut client| async move { client.delete(key(name), None).await }).map(drop)
}

/// Revokes the lease of an instance under it.
///
/// # Errors
/// When it is no member, or etcd does not answer.
pub(super) fn revoke(etcd: &Etcd, instance: &str) -> Result<()> {
    run(etcd, |mut client| async move {
        let found = client.get(key(&format!("members/{instance}")), None).await?;
        let lease = found.kvs().first().map_or(0, etcd_client::KeyValue::lease);
        client.lease_revoke(lease).await
    })
    .map(drop)
}

/// Kills it, lets `change` do something to its data folder, and starts it again.
///
/// # Errors
/// What the system says, or when it does not start.
pub(super) fn with_data(etcd: &Etcd, change: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    etcd.kill9();
    change(&etcd.folder().join("data")).map_err(|cause| Error::of("cannot change etcd's data", cause))?;
    Ok(etcd.restart()?)
}

/// Copies a folder of folders and files.
pub(super) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
