//! What a verified token says.

use time::OffsetDateTime;

use crate::job::Caller;

/// What a verified token says of its caller.
///
/// A delegated token (RFC 8693, `act`) names two: `sub`, for whom something is done, and the current actor `act.sub`, who does it. The
/// actor calls, so it is the subject here, and the person is [`Claims::acting_for`]. Earlier actors (`act` within `act`) are history and
/// decide nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who issued it.
    pub issuer: String,
    /// Who calls: `sub` (or `client_id`, where the issuer is set up so); with `act`, the actor's `sub`.
    pub subject: String,
    /// For whom it does so: `sub`, where there is an `act`.
    pub acting_for: Option<String>,
    /// What it was granted: the words of `scope` and `scp`.
    pub scopes: Vec<String>,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

impl Claims {
    /// The caller, `issuer|subject`. None where the two are longer than a caller's name can be.
    #[must_use]
    pub fn caller(&self) -> Option<Caller> {
        Caller::named(&format!("{}|{}", self.issuer, self.subject))
    }
}

/// Without who it is.
impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
