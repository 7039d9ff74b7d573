//! Tokens that were verified lately: the same one comes with every call of its caller.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use super::{Claims, jwk::KeySet};

/// How long a token is not verified again. It ends earlier with the token, and with its issuer's keys.
const LONGEST: Duration = Duration::seconds(60);
/// As many callers as come in a minute; some 3 MB.
const MOST: usize = 4096;

/// Tokens that were verified lately, by their hashes.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<[u8; 32], Verified>>);

#[derive(Debug)]
struct Verified {
    claims: Arc<Claims>,
    /// The place of its issuer.
    issuer: usize,
    keys: Weak<KeySet>,
    until: OffsetDateTime,
}

/// What a token is known by: nothing that would be good as one.
pub(super) fn fingerprint(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl Seen {
    /// What the token says, if it was verified with the keys that `current` gives for its issuer.
    pub(super) fn get(
        &self,
        token: &[u8; 32],
        now: OffsetDateTime,
        current: impl FnOnce(usize) -> Option<Arc<KeySet>>,
    ) -> Option<Arc<Claims>> {
        let (claims, issuer, keys) = {
            let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let verified = seen.get(token).filter(|verified| now < verified.until)?;
            (Arc::clone(&verified.claims), verified.issuer, verified.keys.upgrade()?)
        };
        current(issuer).filter(|current| Arc::ptr_eq(current, &keys)).map(|_| claims)
    }

    /// Keeps what a token says that `keys` verified.
    pub(super) fn put(
        &self,
        token: [u8; 32],
        claims: &Arc<Claims>,
        issuer: usize,
        keys: &Arc<KeySet>,
        now: OffsetDateTime,
    ) {
        let until = claims.expires_at.min(now + LONGEST);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST {
            seen.retain(|_, verified| now < verified.until);
        }
        if seen.len() < MOST {
            let claims = Arc::clone(claims);
            seen.insert(token, Verified { claims, issuer, keys: Arc::downgrade(keys), until });
        }
    }
}
