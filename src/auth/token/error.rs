//! Why a token is not accepted, as its caller is told: fixed sentences, nothing of the token in them.

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// There is no token.
    #[error("there is no token; send one as `authorization: Bearer TOKEN`")]
    Missing,
    /// More than a token can be.
    #[error("the token is larger than 8 KiB; ask its issuer for one with fewer claims")]
    TooLarge,
    /// No signed JWT: not three parts, no base64url, no JSON, a member that is given twice.
    #[error("the token is not a signed JWT; send the access token as its issuer gave it, unchanged")]
    Malformed,
    /// An algorithm that is not accepted, or not that of the key.
    #[error(
        "the token is signed with an algorithm that is not accepted; have its issuer sign it with its published key"
    )]
    AlgorithmNotAllowed,
    /// A header with extensions that must be understood.
    #[error("the token's header asks for extensions (`crit`) that are not supported; get one without")]
    ExtensionUnknown,
    /// Another kind of token, such as an ID token.
    #[error("the token is no access token; send an access token, no ID or refresh token")]
    TypeWrong,
    /// An issuer that is not configured.
    #[error("the token is from an issuer that is not trusted here; get one from a configured issuer")]
    IssuerUnknown,
    /// A key its issuer does not publish.
    #[error("the token is signed with a key that its issuer does not publish; get a new token")]
    KeyUnknown,
    /// The keys of its issuer cannot be had.
    #[error(
        "the keys of the token's issuer cannot be fetched now; try again in a few seconds with the same token"
    )]
    KeysUnavailable,
    /// A signature that is not that of the key.
    #[error("the token's signature is wrong; send the access token as its issuer gave it, unchanged")]
    SignatureWrong,
    /// A claim that must be there.
    #[error("the token lacks the claim `{0}`; have its issuer put it in")]
    ClaimMissing(&'static str),
    /// A claim that is of another kind than it must be.
    #[error("the token's claim `{0}` cannot be used; have its issuer correct it")]
    ClaimWrong(&'static str),
    /// A token for somebody else.
    #[error("the token is meant for another audience; ask its issuer for one for this service")]
    AudienceWrong,
    /// Its time is over.
    #[error("the token has expired; get a new one")]
    Expired,
    /// Its time has not come, or it was issued in the future.
    #[error("the token is not valid yet; wait, and see to it that the clocks agree")]
    NotYetValid,
}

/// What a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Send a token.
    Missing,
    /// Send another token.
    Invalid,
    /// Send a fresh one.
    Expired,
    /// Try again later, with the same one.
    KeysUnavailable,
}

impl TokenError {
    /// One of each; of those that name a claim, one.
    pub const ALL: [Self; 15] = [
        Self::Missing,
        Self::TooLarge,
        Self::Malformed,
        Self::AlgorithmNotAllowed,
        Self::ExtensionUnknown,
        Self::TypeWrong,
        Self::IssuerUnknown,
        Self::KeyUnknown,
        Self::KeysUnavailable,
        Self::SignatureWrong,
        Self::ClaimMissing("sub"),
        Self::ClaimWrong("sub"),
        Self::AudienceWrong,
        Self::Expired,
        Self::NotYetValid,
    ];

    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Missing => Kind::Missing,
            Self::Expired => Kind::Expired,
            Self::KeysUnavailable => Kind::KeysUnavailable,
            Self::TooLarge
            | Self::Malformed
            | Self::AlgorithmNotAllowed
            | Self::ExtensionUnknown
            | Self::TypeWrong
            | Self::IssuerUnknown
            | Self::KeyUnknown
            | Self::SignatureWrong
            | Self::ClaimMissing(_)
            | Self::ClaimWrong(_)
            | Self::AudienceWrong
            | Self::NotYetValid => Kind::Invalid,
        }
    }

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::AlgorithmNotAllowed => "algorithm",
            Self::ExtensionUnknown => "extension",
            Self::TypeWrong => "type",
            Self::IssuerUnknown => "issuer",
            Self::KeyUnknown => "key_unknown",
            Self::KeysUnavailable => "keys_unavailable",
            Self::SignatureWrong => "signature",
            Self::ClaimMissing(_) => "claim_missing",
            Self::ClaimWrong(_) => "claim_wrong",
            Self::AudienceWrong => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::telemetry::metrics;

    #[test]
    fn every_outcome_is_counted_from_0_on() {
        let names: BTreeSet<_> = TokenError::ALL.iter().map(|error| error.name()).chain(["ok"]).collect();
        assert_eq!(names, metrics::TOKENS.into());
    }

    #[test]
    fn every_sentence_names_its_remedy_and_every_name_is_another() {
        let names: BTreeSet<_> = TokenError::ALL.iter().map(|error| error.name()).collect();
        assert_eq!(names.len(), TokenError::ALL.len());
        for error in TokenError::ALL {
            let sentence = error.to_string();
            assert!(sentence.contains("; "), "{sentence}");
            assert!(sentence.len() < 140, "{sentence}");
        }
    }
}
