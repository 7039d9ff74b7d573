//! Instruments bound to their labels once: finding the labels again with every job would cost more than all else here.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{PoisonError, RwLock},
};

/// One bound instrument for each combination of labels that was met. `K` names a combination; there must be few.
#[derive(Debug)]
pub(super) struct Family<K, B>(RwLock<HashMap<K, B>>);

impl<K, B> Default for Family<K, B> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Eq + Hash, B: Clone> Family<K, B> {
    /// The instrument of `key`, bound now if it is the first time.
    pub(super) fn get(&self, key: K, bind: impl FnOnce() -> B) -> B {
        if let Some(bound) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return bound.clone();
        }
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert_with(bind).clone()
    }
}
