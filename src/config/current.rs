//! A part of the configuration that may be exchanged while the engine runs.
//!
//! Promises that whoever holds a value keeps it until it asks for the next one, so that what belongs together (a user and its
//! password) is never of two configurations; and that to look whether there is a next one is one load. The lock is held
//! for a copy of a pointer, where a connection is opened: nobody on the push path takes it.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The value that holds now. Clones are the same.
pub struct Current<T>(Arc<Slot<T>>);

struct Slot<T> {
    /// How often it was exchanged; written with the lock held, after the value.
    version: AtomicU64,
    value: Mutex<Arc<T>>,
}

/// A value, as it was when its holder looked last.
pub struct Held<T> {
    of: Current<T>,
    version: u64,
    value: Arc<T>,
}

impl<T> Current<T> {
    /// The first value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Slot { version: AtomicU64::new(0), value: Mutex::new(Arc::new(value)) }))
    }

    fn lock(&self) -> MutexGuard<'_, Arc<T>> {
        self.0.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value that holds now.
    pub fn now(&self) -> Arc<T> {
        self.lock().clone()
    }

    /// The same, to be looked at again.
    pub fn hold(&self) -> Held<T> {
        let value = self.lock();
        Held { of: self.clone(), version: self.0.version.load(Ordering::Acquire), value: value.clone() }
    }

    /// From now on this one holds, if it is another. Whether it is.
    pub fn exchange(&self, value: &T) -> bool
    where
        T: Clone + PartialEq,
    {
        let mut held = self.lock();
        if **held == *value {
            return false;
        }
        *held = Arc::new(value.clone());
        self.0.version.fetch_add(1, Ordering::Release);
        true
    }
}

impl<T> Held<T> {
    /// Whether another value holds meanwhile.
    #[inline]
    pub fn is_old(&self) -> bool {
        self.of.0.version.load(Ordering::Acquire) != self.version
    }

    /// Takes the value that holds now. Whether it is another.
    #[inline]
    pub fn renew(&mut self) -> bool {
        let is_old = self.is_old();
        if is_old {
            *self = self.renewed();
        }
        is_old
    }

    /// The value that holds now, for another holder.
    pub fn renewed(&self) -> Self {
        self.of.hold()
    }

    /// The value.
    pub fn value(&self) -> &Arc<T> {
        &self.value
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> From<T> for Current<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Clone for Held<T> {
    fn clone(&self) -> Self {
        Self { of: self.of.clone(), version: self.version, value: self.value.clone() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_keeps_its_value_until_it_renews_it_and_the_same_value_is_none_that_is_new() {
        let current = Current::new(1);
        let mut held = current.hold();
        assert!(!current.exchange(&1) && !held.is_old() && !held.renew());
        assert!(current.exchange(&2) && held.is_old());
        assert_eq!((*held, *current.now()), (1, 2));
        assert!(held.renew() && !held.renew());
        assert_eq!(*held, 2);
    }
}
