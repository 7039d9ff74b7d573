use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

#[test]
fn a_caller_may_do_what_is_said_of_it_and_nothing_else() -> Outcome {
    let policy = policy(&format!(
        "[[caller]]\nname = '{DESK}'\nallow = [\n  {{ scopes = ['unblock', 'read'], environments = ['{HERE}'] }},\n  {{ scopes = ['operate'], environments = 'all' }},\n]"
    ))?;
    let (here, there) = (id(HERE)?, id(THERE)?);
    let grants = policy.grants(&named(DESK)?, &[]);
    assert_eq!(scopes_in(&grants, here), ["unblock", "read", "operate"]);
    assert_eq!(scopes_in(&grants, there), ["operate"]);
    assert!(grants.anywhere(Scope::Read) && !grants.everywhere(Scope::Read));
    assert!(grants.everywhere(Scope::Operate) && !grants.anywhere(Scope::Audit));
    assert_eq!(grants.environments(Scope::Read), Environments::Only(&[here].into()));
    for other in ["https://auth.example.com/as|desk2", "https://auth.example.com/as", "dns:desk"] {
        let grants = policy.grants(&named(other)?, &held(&["unblock", "read"]));
        assert!(scopes_in(&grants, here).is_empty(), "{other}");
    }
    assert!(scopes_in(&policy.grants(&Caller::anonymous(), &[]), here).is_empty());
    Ok(())
}

#[test]
fn without_authentication_only_anonymous_may_do_everything() -> Outcome {
    let open = Policy::open();
    assert_eq!(&**open.version(), "none");
    let grants = open.grants(&Caller::anonymous(), &[]);
    assert!(Scope::ALL.into_iter().all(|scope| grants.everywhere(scope)));
    assert_eq!(grants.bounds(), &Bounds::default());
    assert!(
        Scope::ALL
            .into_iter()
            .all(|scope| !open.grants(&named(DESK).unwrap_or(Caller::anonymous()), &[]).anywhere(scope))
    );
    assert_eq!(open.device_bound(), Some(DeviceBound { count: 3, within: Duration::from_secs(86_400) }));
    assert!(open.demands(id(HERE)?).check("", "", "").is_empty());
    Ok(())
}

#[test]
fn whoever_holds_the_scope_of_that_issuer_is_allowed() -> Outcome {
    let policy = policy(&format!(
        "[[caller]]\nissuer = '{ISSUER}'\ntoken_scope = 'unblock-desk'\nallow = [{{ scopes = ['unblock'], environments = ['{HERE}'] }}]\n\
         [caller.bounds]\nunblocks_per_hour = 200\n\
         [[caller]]\nname = '{DESK}'\nallow = [{{ scopes = ['bulk'], environments = ['{THERE}'] }}]\n\
         [caller.bounds]\nunblocks_per_hour = 50\nbatch_rows = 10"
    ))?;
    let somebody = named("https://auth.example.com/as|somebody")?;
    let (here, there) = (id(HERE)?, id(THERE)?);
    assert_eq!(scopes_in(&policy.grants(&somebody, &held(&["openid", "unblock-desk"])), here), ["unblock"]);
    assert!(scopes_in(&policy.grants(&somebody, &held(&["unblock", "unblock-desk2"])), here).is_empty());
    for stranger in
        ["https://auth.example.com|somebody", "https://evil.example.com/as|https://auth.example.com/as|x"]
    {
        assert!(scopes_in(&policy.grants(&named(stranger)?, &held(&["unblock-desk"])), here).is_empty());
    }
    let both = policy.grants(&named(DESK)?, &held(&["unblock-desk"]));
    assert_eq!((scopes_in(&both, here), scopes_in(&both, there)), (vec!["unblock"], vec!["bulk"]));
    assert_eq!((both.bounds().unblocks_per_hour, both.bounds().batch_rows), (Some(50), Some(10)));
    Ok(())
}

#[test]
fn a_token_narrows_and_never_widens() -> Outcome {
    let policy = policy(&format!(
        "[[caller]]\nname = '{DESK}'\nnarrowed_by_token = true\nallow = [{{ scopes = ['unblock', 'read'], environments = 'all' }}]"
    ))?;
    let with = |scopes: &[&str]| -> Result<Vec<&'static str>, Box<dyn Error>> {
        Ok(scopes_in(&policy.grants(&named(DESK)?, &held(scopes)), id(HERE)?))
    };
    assert!(with(&[])?.is_empty());
    assert_eq!(with(&["read", "operate", "audit"])?, ["read"]);
    assert_eq!(with(&["read", "unblock"])?, ["unblock", "read"]);
    let why = policy.why_not(&named(DESK)?, &[], Scope::Read, Some(id(HERE)?));
    assert_eq!(why.as_deref(), Some("its token does not hold the scope read, and narrows what is allowed"));
    Ok(())
}

#[test]
fn bounds_that_a_caller_does_not_have_are_those_of_all() -> Outcome {
    let policy = policy(&format!(
        "[bounds]\ncalls_per_second = 50\nopen_streams = 20\nunblocks_per_device = {{ count = 5, within = '1h' }}\n\
         [[caller]]\nname = '{DESK}'\nallow = [{{ scopes = ['bulk'], environments = 'all' }}]\n\
         [caller.bounds]\nopen_streams = 'none'\nbatch_rows = 1_000"
    ))?;
    let bounds = *policy.grants(&named(DESK)?, &[]).bounds();
    let expected = Bounds { calls_per_second: Some(50), batch_rows: Some(1000), ..Bounds::default() };
    assert_eq!(bounds, expected);
    let unknown = *policy.grants(&named("dns:x")?, &[]).bounds();
    assert_eq!((unknown.calls_per_second, unknown.open_streams), (Some(50), Some(20)));
    assert_eq!(policy.device_bound(), Some(DeviceBound { count: 5, within: Duration::from_secs(3600) }));
    Ok(())
}

#[test]
fn what_is_demanded_is_told_field_by_field() -> Outcome {
    let policy = policy(&format!(
        "[[caller]]\nname = '{DESK}'\nallow = [{{ scopes = ['unblock'], environments = 'all' }}]\n\
         [demands]\nrequire_reason = true\nticket_pattern = 'INC|INC[0-9]+'\n\
         [[environment]]\nid = '{HERE}'\nrequire_ticket = true\nrequire_on_behalf_of = true\n\
         [[environment]]\nid = '{THERE}'\nrequire_reason = false"
    ))?;
    let fields = |demands: &Demands, reason, ticket, behalf| -> Vec<&'static str> {
        demands.check(reason, ticket, behalf).into_iter().map(|(field, _)| field).collect()
    };
    let here = policy.demands(id(HERE)?);
    assert_eq!(fields(here, " ", "", "\t"), ["reason", "ticket", "on_behalf_of"]);
    assert!(fields(here, "lost", "INC12", "jane").is_empty(), "the whole ticket, not the first way to match");
    for ticket in ["inc12", "xINC12", "INC12x", "INC12\n", " ", "INC12\nINC13"] {
        assert_eq!(fields(here, "lost", ticket, "jane"), ["ticket"], "{ticket:?}");
    }
    let told = here.check("lost", "12", "jane");
    assert_eq!(told, [("ticket", "name a ticket that is wholly matched by INC|INC[0-9]+".to_owned())]);
    let there = policy.demands(id(THERE)?);
    assert!(fields(there, "", "", "").is_empty());
    assert_eq!(fields(there, "", "12", ""), ["ticket"], "one that is given has to look like one");
    assert_eq!(fields(policy.demands_elsewhere(), "", "", ""), ["reason"]);
    Ok(())
}

#[test]
fn the_version_is_that_of_the_bytes() -> Outcome {
    let text =
        format!("[[caller]]\nname = '{DESK}'\nallow = [{{ scopes = ['read'], environments = 'all' }}]\n");
    let (one, other) = (policy(&text)?, policy(&format!("{text}# read by legal"))?);
    assert_eq!(one.version().len(), 12);
    assert_ne!(one.version(), other.version());
    assert_eq!(one.version(), policy(&text)?.version());
    Ok(())
}

#[test]
fn what_is_refused_is_explained() -> Outcome {
    let policy = policy(&format!(
        "[[caller]]\nname = '{DESK}'\nallow = [{{ scopes = ['read'], environments = ['{HERE}'] }}]\n\
         [[caller]]\nissuer = '{ISSUER}'\ntoken_scope = 'night'\nallow = [{{ scopes = ['read'], environments = 'all' }}]"
    ))?;
    let why = |name, scope, environment| -> Result<Option<String>, Box<dyn Error>> {
        Ok(policy.why_not(&named(name)?, &[], scope, environment))
    };
    assert_eq!(why(DESK, Scope::Read, Some(id(HERE)?))?, None);
    assert_eq!(why(DESK, Scope::Read, None)?, None);
    assert_eq!(why(DESK, Scope::Read, Some(id(THERE)?))?, Some(format!("it is allowed only in {HERE}")));
    assert_eq!(why(DESK, Scope::Audit, None)?.as_deref(), Some("no [[caller]] that is about it allows it"));
    let other = why("https://auth.example.com/as|x", Scope::Read, None)?;
    assert_eq!(other.as_deref(), Some("no [[caller]] is about it, unless its token holds night"));
    assert_eq!(why("dns:x", Scope::Read, None)?.as_deref(), Some("no [[caller]] is about it"));
    Ok(())
}

/// One `[[caller]]` as the oracle knows it: each scope said once, everywhere or in some environments.
#[derive(Debug, Clone)]
struct Said {
    /// The subject, or the scope of a token.
    who: (bool, usize),
    narrowed: bool,
    allow: Vec<(Scope, Option<BTreeSet<usize>>)>,
}

const SUBJECTS: [&str; 3] = ["ann", "bob", "cy"];
const TOKEN_SCOPES: [&str; 5] = ["desk", "night", "unblock", "read", "audit"];

fn environment(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

fn said() -> impl Strategy<Value = Said> {
    let place = prop_oneof![
        1 => Just(None),
        3 => proptest::collection::btree_set(0_usize..4, 1..4).prop_map(Some),
    ];
    let allow = vec((select(Scope::ALL.to_vec()), place), 1..5);
    (any::<bool>(), 0_usize..2, any::<bool>(), allow).prop_map(|(named, which, narrowed, mut allow)| {
        allow.sort_by_key(|(scope, _)| *scope);
        allow.dedup_by_key(|(scope, _)| *scope);
        Said { who: (named, which), narrowed: narrowed && named, allow }
    })
}

fn written(callers: &[Said]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for Said { who: (named, which), narrowed, allow } in callers {
        match named {
            true => writeln!(text, "[[caller]]\nname = '{ISSUER}|{}'", SUBJECTS[*which])?,
            false => {
                writeln!(text, "[[caller]]\nissuer = '{ISSUER}'\ntoken_scope = '{}'", TOKEN_SCOPES[*which])?
            }
        }
        writeln!(text, "narrowed_by_token = {narrowed}\nallow = [")?;
        for (scope, place) in allow {
            let place = place.as_ref().map_or_else(
                || "'all'".to_owned(),
                |some| {
                    let ids: Vec<_> =
                        some.iter().map(|number| format!("'{}'", environment(*number))).collect();
                    format!("[{}]", ids.join(", "))
                },
            );
            writeln!(text, "  {{ scopes = ['{scope}'], environments = {place} }},")?;
        }
        text.push_str("]\n");
    }
    Ok(text)
}

proptest! {
    #[test]
    fn nothing_is_granted_that_is_not_written(
        callers in vec(said(), 1..4),
        subject in 0_usize..3,
        tokens in proptest::collection::btree_set(0_usize..5, 0..4),
        number in 0_usize..5,
    ) {
        let mut distinct: Vec<Said> = Vec::new();
        for caller in callers {
            if distinct.iter().all(|other| other.who != caller.who) {
                distinct.push(caller);
            }
        }
        let tokens: Vec<String> = tokens.into_iter().map(|at| TOKEN_SCOPES[at].to_owned()).collect();
        let text = written(&distinct).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let policy = policy(&text).map_err(|error| TestCaseError::fail(format!("{text}\n{error}")))?;
        let fail = |_| TestCaseError::fail("no name");
        let caller = named(&format!("{ISSUER}|{}", SUBJECTS[subject])).map_err(fail)?;
        let grants = policy.grants(&caller, &tokens);
        let here = EnvironmentId::parse(&environment(number)).map_err(|_| TestCaseError::fail("no id"))?;

        for scope in Scope::ALL {
            let written = |place: &dyn Fn(&Option<BTreeSet<usize>>) -> bool| distinct.iter().any(|said| {
                let (named, which) = said.who;
                let about = if named { which == subject } else { tokens.iter().any(|held| held == TOKEN_SCOPES[which]) };
                let borne_out = !said.narrowed || tokens.iter().any(|held| held == scope.name());
                about && borne_out && said.allow.iter().any(|(allowed, at)| *allowed == scope && place(at))
            });
            let in_here = written(&|place| place.as_ref().is_none_or(|some| some.contains(&number)));
            prop_assert_eq!(grants.in_environment(scope, here), in_here, "{} {}", scope, text);
            prop_assert_eq!(grants.everywhere(scope), written(&|place| place.is_none()));
            prop_assert_eq!(grants.anywhere(scope), written(&|_| true));
            let why = policy.why_not(&caller, &tokens, scope, Some(here));
            prop_assert_eq!(why.is_none(), in_here, "{:?}", why);
        }
    }
}
