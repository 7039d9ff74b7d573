//! The keys an issuer publishes (RFC 7517), as far as they can be used.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    Algorithm, TokenError,
    keys_error::KeysError,
    parse::{Header, Present, Unverified},
};

/// More keys than any issuer has.
const MOST_KEYS: usize = 100;

/// The usable keys of an issuer.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Tells one set from another.
    pub(super) digest: [u8; 32],
    /// How many keys there were that cannot be used.
    pub(super) unusable: usize,
    /// Whether a private key is among those: whoever reads it can sign as the issuer.
    pub(super) private: bool,
}

struct Key {
    id: Option<String>,
    /// Those it may be used with: its own, or those of its kind where it does not say.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
    /// The private part of every kind of key that has one.
    d: Present,
    /// A shared secret.
    k: Present,
}

impl KeySet {
    /// The keys in `document`, for tokens signed with one of `allowed`.
    pub(super) fn read(document: &[u8], allowed: &[Algorithm]) -> Result<Self, KeysError> {
        let Document { keys: written } = serde_json::from_slice(document).map_err(|_| KeysError::NotKeys)?;
        if written.len() > MOST_KEYS {
            return Err(KeysError::TooLarge);
        }
        let count = written.len();
        let jwks: Vec<_> = written.into_iter().filter_map(|key| Jwk::deserialize(key).ok()).collect();
        let private = jwks.iter().any(|jwk| jwk.d.0 || jwk.k.0);
        let keys: Vec<_> = jwks.into_iter().filter_map(|jwk| jwk.usable(allowed)).collect();
        if keys.is_empty() {
            return Err(KeysError::NoKey);
        }
        let unusable = count - keys.len();
        Ok(Self { keys, digest: Sha256::digest(document).into(), unusable, private })
    }

    /// How many keys can be used.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether one of the keys that `token` may be signed with did sign it.
    pub(super) fn verify(&self, token: &Unverified<'_>) -> Result<(), TokenError> {
        let algorithm = token.header.algorithm.into();
        let signed = self.meant(&token.header)?.into_iter().any(|key| {
            jsonwebtoken::crypto::verify(token.signature, token.signed, &key.key, algorithm).unwrap_or(false)
        });
        if signed { Ok(()) } else { Err(TokenError::SignatureWrong) }
    }

    /// The keys that `header` may mean: usually one. An issuer may give several the same id, and a token need not name its key
    /// where only one can be meant.
    fn meant(&self, header: &Header) -> Result<Vec<&Key>, TokenError> {
        let fits = |key: &&Key| key.algorithms.contains(&header.algorithm);
        let Some(id) = &header.key_id else {
            let fitting: Vec<_> = self.keys.iter().filter(fits).collect();
            return if fitting.len() == 1 { Ok(fitting) } else { Err(TokenError::KeyUnknown) };
        };
        let mut named: Vec<_> = self.keys.iter().filter(|key| key.id.as_ref() == Some(id)).collect();
        if named.is_empty() {
            return Err(TokenError::KeyUnknown);
        }
        named.retain(fits);
        if named.is_empty() { Err(TokenError::AlgorithmNotAllowed) } else { Ok(named) }
    }
}

impl Jwk {
    fn usable(self, allowed: &[Algorithm]) -> Option<Key> {
        let signs = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let verifies = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs || !verifies || self.d.0 || self.k.0 {
            return None;
        }
        let (kinds, key): (&[Algorithm], _) = match (self.kty.as_str(), self.crv.as_str()) {
            ("RSA", _) if is_strong_rsa(&self.n, &self.e) => {
                (&[Algorithm::Rs256, Algorithm::Ps256], DecodingKey::from_rsa_components(&self.n, &self.e))
            }
            ("EC", "P-256") if [&self.x, &self.y].iter().all(|part| has_bytes(part, 32)) => {
                (&[Algorithm::Es256], DecodingKey::from_ec_components(&self.x, &self.y))
            }
            ("EC", "P-384") if [&self.x, &self.y].iter().all(|part| has_bytes(part, 48)) => {
                (&[Algorithm::Es384], DecodingKey::from_ec_components(&self.x, &self.y))
            }
            ("OKP", "Ed25519") if has_bytes(&self.x, 32) => {
                (&[Algorithm::EdDsa], DecodingKey::from_ed_components(&self.x))
            }
            _ => return None,
        };
        let own = |algorithm: &Algorithm| match &self.alg {
            None => true,
            Some(name) => Algorithm::named(name) == Some(*algorithm),
        };
        let algorithms: Vec<_> =
            kinds.iter().copied().filter(own).filter(|algorithm| allowed.contains(algorithm)).collect();
        let key = key.ok().filter(|_| !algorithms.is_empty())?;
        Some(Key { id: self.kid, algorithms, key })
    }
}

/// 2048 bits or more, and an exponent with which a signature proves anything.
fn is_strong_rsa(modulus: &str, exponent: &str) -> bool {
    let Some((n, e)) = decode(modulus).zip(decode(exponent)) else { return false };
    let n: Vec<_> = n.into_iter().skip_while(|byte| *byte == 0).collect();
    let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
    let odd = e.last().is_some_and(|last| last % 2 == 1);
    let one = e.iter().rev().skip(1).all(|byte| *byte == 0) && e.last() == Some(&1);
    (2048..=8192).contains(&bits) && odd && !one
}

fn has_bytes(part: &str, count: usize) -> bool {
    decode(part).is_some_and(|bytes| bytes.len() == count)
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rsa_key_that_proves_nothing_is_none() {
        let modulus = |bytes: usize, first: u8| {
            let mut n = vec![0xff; bytes];
            n[0] = first;
            URL_SAFE_NO_PAD.encode(n)
        };
        for (n, e, strong) in [
            (modulus(256, 0x80), "AQAB", true),
            (modulus(257, 0), "AQAB", true),
            (modulus(256, 0x7f), "AQAB", false),
            (modulus(128, 0x80), "AQAB", false),
            (modulus(1025, 0x80), "AQAB", false),
            (modulus(256, 0x80), "AQ", false),
            (modulus(256, 0x80), "AAAB", false),
            (modulus(256, 0x80), "AQAA", false),
            (modulus(256, 0x80), "", false),
            (String::new(), "AQAB", false),
            ("not base64!".to_owned(), "AQAB", false),
        ] {
            assert_eq!(is_strong_rsa(&n, e), strong, "{} {e}", n.len());
        }
    }
}
