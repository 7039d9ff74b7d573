//! Keys that sign tokens, as an issuer has them.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaKeyPair,
    },
};
use serde_json::{Value, json};

use super::issuer::encode;

/// A key that signs.
pub(crate) struct SigningKey {
    pub(crate) id: String,
    private: Private,
}

enum Private {
    Rsa(Arc<RsaKeyPair>),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// An RSA key takes long to make; nothing here wants several.
fn rsa() -> Arc<RsaKeyPair> {
    static KEY: OnceLock<Arc<RsaKeyPair>> = OnceLock::new();
    let make = || Arc::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be made"));
    Arc::clone(KEY.get_or_init(make))
}

impl SigningKey {
    /// An RSA key: the same for all of a process.
    pub(crate) fn rs256(id: &str) -> Self {
        Self { id: id.to_owned(), private: Private::Rsa(rsa()) }
    }

    pub(crate) fn es256(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self { id: id.to_owned(), private: Private::P256(pair.expect("a key can be made")) }
    }

    pub(crate) fn es384(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING);
        Self { id: id.to_owned(), private: Private::P384(pair.expect("a key can be made")) }
    }

    pub(crate) fn ed25519(id: &str) -> Self {
        let pair = Ed25519KeyPair::generate();
        Self { id: id.to_owned(), private: Private::Ed25519(pair.expect("a key can be made")) }
    }

    /// What it signs with unless told otherwise.
    pub(crate) fn algorithm(&self) -> &'static str {
        match &self.private {
            Private::Rsa(_) => "RS256",
            Private::P256(_) => "ES256",
            Private::P384(_) => "ES384",
            Private::Ed25519(_) => "EdDSA",
        }
    }

    /// Its public half, as it is published.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.private {
            Private::Rsa(pair) => {
                let public = pair.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                json!({
                    "kty": "RSA",
                    "n": encode(n.big_endian_without_leading_zero()),
                    "e": encode(e.big_endian_without_leading_zero()),
                })
            }
            Private::P256(pair) => ec("P-256", pair.public_key().as_ref()),
            Private::P384(pair) => ec("P-384", pair.public_key().as_ref()),
            Private::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key()) })
            }
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm());
        jwk
    }

    /// A token of this header and these claims, signed as the header says.
    pub(crate) fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.sign(header["alg"].as_str().unwrap_or_default(), signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    /// The signature of `message` by `algorithm`; for HS256, with the public key for a secret; for what the key cannot do, by
    /// its own.
    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        if algorithm == "HS256" {
            let secret =
                hmac::Key::new(hmac::HMAC_SHA256, self.jwk()["n"].as_str().unwrap_or("x").as_bytes());
            return hmac::sign(&secret, message).as_ref().to_vec();
        }
        match &self.private {
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding = match algorithm {
                    "PS256" => &RSA_PSS_SHA256,
                    "RS512" => &RSA_PKCS1_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                pair.sign(padding, &random, message, &mut signature).expect("a key signs");
                signature
            }
            Private::P256(pair) | Private::P384(pair) => {
                pair.sign(&random, message).expect("a key signs").as_ref().to_vec()
            }
            Private::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// Both halves of an uncompressed point.
fn ec(curve: &str, point: &[u8]) -> Value {
    let (x, y) = point[1..].split_at(point.len() / 2);
    json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
}
