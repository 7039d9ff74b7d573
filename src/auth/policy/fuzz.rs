//! Fuzzing: a policy is understood, or every mistake in it is told.

use super::{Policy, Who};
use crate::{auth::Scope, job::Caller};

/// What is understood gives nothing to whom it does not name, and says why not; what is not has its mistakes told, in lines there are.
pub(crate) fn policy_file(data: &[u8]) {
    let policy = match Policy::parse(data) {
        Ok(policy) => policy,
        Err(mistakes) => {
            assert!(!mistakes.0.is_empty(), "refused, and nobody is told why");
            let lines = data.iter().filter(|byte| **byte == b'\n').count() + 1;
            for mistake in &mistakes.0 {
                assert!(!mistake.what.is_empty() && !mistake.remedy.is_empty(), "{mistake:?}");
                assert!(mistake.line.is_none_or(|line| (1..=lines).contains(&line)), "{mistake:?}");
            }
            return;
        }
    };
    let nobody = Caller::named("https://nobody.invalid|nobody").expect("a name");
    let known = |name: &str| {
        policy.entries().iter().any(|entry| matches!(&entry.who, Who::Named(of) if of.as_str() == name))
    };
    for scope in Scope::ALL {
        for caller in [&nobody, &Caller::anonymous()] {
            assert!(
                known(caller.as_str()) || !policy.grants(caller, &[]).anywhere(scope),
                "{caller:?} {scope}"
            );
        }
        for entry in policy.entries() {
            let Who::Named(name) = &entry.who else { continue };
            let caller = Caller::named(name.as_str()).expect("it was taken as a name");
            let may = policy.grants(&caller, &[]).anywhere(scope);
            assert_eq!(may, policy.why_not(&caller, &[], scope, None).is_none(), "{name:?} {scope}");
        }
    }
    let bound = policy.device_bound();
    assert!(bound.is_none_or(|bound| bound.count > 0 && bound.within.as_secs() <= 7 * 24 * 3600));
}
