//! Whether PingOne takes the credential of one environment: refused, one attempt at a time finds out whether it still is. Pure.

use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

use crate::device::UserId;

const WAIT_FIRST: Duration = Duration::from_secs(5);
const WAIT_LONGEST: Duration = Duration::from_secs(300);
/// So many different users in a row whose devices we may not touch: it is the credential, not the users.
const FORBIDDEN_IN_A_ROW: usize = 20;

/// Taken, or refused with a probe now and then.
#[derive(Debug, Default)]
pub(super) struct Credential {
    refusal: Option<Refusal>,
    forbidden: HashSet<UserId>,
}

#[derive(Debug, Clone, Copy)]
struct Refusal {
    retry_at: Instant,
    wait: Duration,
    probing: bool,
}

impl Credential {
    /// When an attempt may start: nothing while a probe is out.
    pub(super) fn opens(&self, now: Instant) -> Option<Instant> {
        match self.refusal {
            None => Some(now),
            Some(Refusal { probing: true, .. }) => None,
            Some(Refusal { retry_at, .. }) => Some(now.max(retry_at)),
        }
    }

    /// Whether it is refused.
    pub(super) const fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// An attempt starts.
    pub(super) fn started(&mut self) {
        if let Some(refusal) = &mut self.refusal {
            refusal.probing = true;
        }
    }

    /// An attempt ended that says nothing of the credential.
    pub(super) fn inconclusive(&mut self) {
        if let Some(refusal) = &mut self.refusal {
            refusal.probing = false;
        }
    }

    /// It was refused: says how long until it is tried again.
    pub(super) fn refused(&mut self, now: Instant) -> Duration {
        let wait = match self.refusal {
            // Several attempts were out when the first was refused: they say nothing new.
            Some(Refusal { retry_at, probing: false, .. }) if retry_at > now => return retry_at - now,
            Some(Refusal { wait, .. }) => (wait * 2).min(WAIT_LONGEST),
            None => WAIT_FIRST,
        };
        self.refusal = Some(Refusal { retry_at: now + wait, wait, probing: false });
        wait
    }

    /// PingOne forbade a request about `user`'s device. True when so many were forbidden that it must be the credential.
    pub(super) fn forbidden(&mut self, user: UserId) -> bool {
        if self.forbidden.len() < FORBIDDEN_IN_A_ROW {
            self.forbidden.insert(user);
        }
        self.forbidden.len() >= FORBIDDEN_IN_A_ROW
    }

    /// PingOne took it for a read, which says nothing of what it may change: says whether it had been refused before and no longer
    /// is.
    pub(super) fn taken_for_a_read(&mut self) -> bool {
        if self.forbidden.len() >= FORBIDDEN_IN_A_ROW {
            self.inconclusive();
            return false;
        }
        self.refusal.take().is_some()
    }

    /// PingOne took it: says whether it had been refused before.
    pub(super) fn taken(&mut self) -> bool {
        self.forbidden.clear();
        self.refusal.take().is_some()
    }

    /// It changed: a refusal of the former one says nothing, so it is tried now, and waited for anew if it is refused too.
    pub(super) fn try_now(&mut self, now: Instant) {
        if let Some(refusal) = &mut self.refusal {
            *refusal = Refusal { retry_at: now, wait: WAIT_FIRST / 2, ..*refusal };
        }
    }

    /// Takes over a refusal that another replica met.
    pub(super) fn adopt(&mut self, retry_at: Instant) {
        if self.refusal.is_none() {
            self.refusal = Some(Refusal { retry_at, wait: WAIT_FIRST, probing: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_credential_is_tried_at_once_by_one_attempt() {
        let now = Instant::now();
        let mut credential = Credential::default();
        credential.try_now(now);
        assert!(!credential.is_refused(), "it was not refused");
        for wait in [5, 10, 20] {
            let later = now + Duration::from_secs(1000 * wait);
            assert_eq!(credential.refused(later), Duration::from_secs(wait));
        }
        let then = now + Duration::from_secs(20_001);
        assert!(credential.opens(then).is_some_and(|at| at > then));
        credential.try_now(then);
        assert_eq!(credential.opens(then), Some(then));
        credential.started();
        assert_eq!(credential.opens(then), None, "one finds out");
        assert_eq!(credential.refused(then), WAIT_FIRST, "as for the first time");
    }

    #[test]
    fn a_refused_credential_is_probed_by_one_attempt_at_a_time() {
        let s = Duration::from_secs;
        let mut now = Instant::now();
        let mut credential = Credential::default();
        assert_eq!(credential.refused(now), s(5));
        assert_eq!(credential.refused(now + s(1)), s(4), "it was under way");
        now += s(5);
        assert_eq!(credential.opens(now), Some(now));
        credential.started();
        assert_eq!(credential.opens(now), None, "one probe is out");
        assert_eq!(credential.refused(now), s(10));
        now += s(10);
        credential.started();
        assert!(credential.taken());
        assert!(!credential.taken());
        assert_eq!(credential.opens(now), Some(now));
    }

    #[test]
    fn twenty_users_in_a_row_make_it_the_credential() {
        let mut credential = Credential::default();
        let users: Vec<UserId> = (0..20).map(|i| uuid::Uuid::from_u128(i).into()).collect();
        for _ in 0..50 {
            assert!(!credential.forbidden(users[0]), "one user often is that user's matter");
        }
        assert!(!users[1..19].iter().any(|user| credential.forbidden(*user)));
        assert!(credential.forbidden(users[19]));
        credential.taken();
        assert!(!credential.forbidden(users[0]));
    }

    #[test]
    fn a_read_takes_back_no_refusal_of_changes() {
        let now = Instant::now();
        let mut credential = Credential::default();
        credential.refused(now);
        assert!(credential.taken_for_a_read(), "it was the token");
        for i in 0..20 {
            credential.taken_for_a_read();
            assert_eq!(credential.forbidden(uuid::Uuid::from_u128(i).into()), i == 19);
        }
        credential.refused(now);
        credential.started();
        assert!(!credential.taken_for_a_read() && credential.is_refused());
        assert!(credential.opens(now).is_some(), "the unblock after the read may be sent");
    }
}
