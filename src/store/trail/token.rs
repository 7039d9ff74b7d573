//! Where a page of the trail begins.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::TrailFilter;

/// Where a page begins: after an event, in a list with certain filters that ends at a certain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrailToken {
    after: Uuid,
    until: u64,
    filters: [u8; 8],
}

/// An id, a millisecond of 48 bits and the digest, in hexadecimal digits.
const LENGTHS: (usize, usize) = (32, 12);

impl TrailToken {
    pub(super) fn new(after: Uuid, until: u64, filter: &TrailFilter) -> Self {
        let digest = Sha256::digest(format!("{after} {until} {filter:?}").as_bytes());
        let mut filters = [0; 8];
        filters.copy_from_slice(&digest[..8]);
        Self { after, until, filters }
    }

    /// Reads a token that this service gave out for the same filters; nothing for any other text.
    #[must_use]
    pub fn parse(text: &str, filter: &TrailFilter) -> Option<Self> {
        let (after, rest) = text.split_at_checked(LENGTHS.0)?;
        let until = rest.get(..LENGTHS.1)?;
        let token = Self::new(Uuid::try_parse(after).ok()?, u64::from_str_radix(until, 16).ok()?, filter);
        (token.to_string() == text).then_some(token)
    }

    pub(super) const fn after(&self) -> Uuid {
        self.after
    }

    pub(super) const fn until(&self) -> u64 {
        self.until
    }
}

impl std::fmt::Display for TrailToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:012x}{:016x}", self.after.simple(), self.until, u64::from_be_bytes(self.filters))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{audit::Action, device::EnvironmentId};

    fn filter() -> impl Strategy<Value = TrailFilter> {
        let environments = proptest::option::of(proptest::collection::vec(any::<u128>(), 0..3));
        (environments, proptest::option::of("[a-c]{1,4}"), 0_usize..4).prop_map(
            |(environments, caller, actions)| {
                let environment = |id| EnvironmentId::from(Uuid::from_u128(id));
                TrailFilter {
                    environments: environments.map(|ids| ids.into_iter().map(environment).collect()),
                    caller,
                    actions: Action::ALL[..actions].to_vec(),
                    ..TrailFilter::default()
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_token_is_read_for_its_own_filters_alone(
            after in any::<u128>(),
            until in 0_u64..1 << 48,
            own in filter(),
            other in filter(),
        ) {
            let token = TrailToken::new(Uuid::from_u128(after), until, &own);
            prop_assert_eq!(TrailToken::parse(&token.to_string(), &own), Some(token));
            let same = format!("{own:?}") == format!("{other:?}");
            prop_assert_eq!(TrailToken::parse(&token.to_string(), &other).is_some(), same);
        }

        #[test]
        fn a_token_with_one_character_changed_is_none(
            after in any::<u128>(),
            until in 0_u64..1 << 48,
            at in 0_usize..60,
            new in "[0-9a-fA-Fxyz-]",
        ) {
            let filter = TrailFilter::default();
            let text = TrailToken::new(Uuid::from_u128(after), until, &filter).to_string();
            let changed = format!("{}{new}{}", &text[..at], &text[at + 1..]);
            prop_assume!(changed != text);
            prop_assert_eq!(TrailToken::parse(&changed, &filter), None);
        }

        #[test]
        fn no_text_is_a_token_by_accident(text in "\\PC{0,80}") {
            prop_assert_eq!(TrailToken::parse(&text, &TrailFilter::default()), None);
        }
    }
}
