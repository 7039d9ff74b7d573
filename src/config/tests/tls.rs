//! TLS on the gRPC port, and what it takes to let callers in from beyond this machine.

use std::error::Error;

use super::{FILE, Outcome, Setup};
use crate::auth::ClientAuth;

#[test]
fn half_of_tls_is_a_mistake_and_says_what_is_missing() -> Outcome {
    let (cert, key) = ("UNBLOCK_TLS_CERT", "UNBLOCK_TLS_KEY");
    let (authorities, who) = ("UNBLOCK_TLS_CLIENT_CA", "UNBLOCK_TLS_CLIENT_AUTH");
    for (given, told) in [
        (&[(cert, FILE)][..], "UNBLOCK_TLS_KEY: not set, but the certificate is (UNBLOCK_TLS_CERT); set it"),
        (&[(key, FILE)], "UNBLOCK_TLS_CERT: not set, but its key is (UNBLOCK_TLS_KEY); set it"),
        (&[(authorities, FILE)], "UNBLOCK_TLS_CLIENT_CA: callers show certificates only over TLS; "),
        (&[(cert, FILE), (key, "/nowhere/key")], "UNBLOCK_TLS_KEY: the file cannot be read: "),
        (&[(cert, FILE), (key, FILE), (who, "required")], "UNBLOCK_TLS_CLIENT_AUTH: there is no authority "),
        (
            &[(cert, FILE), (key, FILE), (authorities, FILE), (who, "none")],
            "UNBLOCK_TLS_CLIENT_AUTH: authorities ",
        ),
        (
            &[(cert, FILE), (key, FILE), (who, "maybe")],
            "UNBLOCK_TLS_CLIENT_AUTH: \"maybe\" means nothing here; ",
        ),
    ] {
        let setup =
            given.iter().fold(Setup::with_policy()?, |setup, (name, value)| setup.variable(name, *value));
        let mistakes = setup.mistakes()?;
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(told), "{told}: {mistakes:?}");
    }
    Ok(())
}

#[test]
fn who_names_authorities_lets_nobody_in_without_a_certificate_unless_he_says_so() -> Outcome {
    let auth = |setup: Setup| {
        Ok::<_, Box<dyn Error>>(setup.config()?.tls.and_then(|tls| tls.clients).map(|(_, auth)| auth))
    };
    assert_eq!(auth(Setup::with_tls()?)?, Some(ClientAuth::Required));
    let optional = Setup::with_tls()?.variable("UNBLOCK_TLS_CLIENT_AUTH", "optional");
    assert_eq!(auth(optional)?, Some(ClientAuth::Optional));
    assert_eq!(auth(Setup::with_tls()?.without("UNBLOCK_TLS_CLIENT_CA"))?, None);
    let beside = Setup::least()?.file("tls_cert = 'a.pem'\ntls_key = 'b.pem'")?;
    let beside = beside.written("a.pem", "a")?.written("b.pem", "b")?;
    let folder = beside.folder.path().to_owned();
    let tls = beside.config()?.tls.ok_or("no TLS")?;
    assert_eq!((tls.cert, tls.key), (folder.join("a.pem"), folder.join("b.pem")));
    Ok(())
}

#[test]
fn callers_that_are_known_need_a_policy_and_it_is_said_by_what_they_are() -> Outcome {
    for (setup, how) in [(Setup::with_tls()?, "certificates"), (Setup::with_issuer()?, "tokens")] {
        let told = setup.without("UNBLOCK_POLICY_FILE").mistakes()?;
        let start = format!("UNBLOCK_POLICY_FILE: not set, but callers are known by their {how}, and ");
        assert!(told.len() == 1 && told[0].starts_with(&start), "{told:?}");
        assert!(told[0].ends_with("; name a policy, as docs/policy.md shows"), "{told:?}");
    }
    let nobody = Setup::with_tls()?.without("UNBLOCK_TLS_CLIENT_CA").without("UNBLOCK_POLICY_FILE");
    assert!(nobody.mistakes()?.is_empty(), "TLS alone says nothing of who calls");
    Ok(())
}

#[test]
fn only_who_is_known_comes_from_beyond_this_machine() -> Outcome {
    let open = |setup: Setup| setup.variable("UNBLOCK_LISTEN", "0.0.0.0:50051");
    for known in [Setup::with_tls()?, Setup::with_issuer()?] {
        assert!(open(known).config()?.knows_callers());
    }
    for unknown in [Setup::least()?, Setup::with_tls()?.without("UNBLOCK_TLS_CLIENT_CA")] {
        let told = open(unknown).mistakes()?;
        assert!(
            told.len() == 1 && told[0].starts_with("UNBLOCK_LISTEN: callers are not authenticated"),
            "{told:?}"
        );
        assert!(
            told[0].contains("UNBLOCK_OIDC_ISSUER") && told[0].contains("UNBLOCK_TLS_CLIENT_CA"),
            "{told:?}"
        );
    }
    let accepted = open(Setup::least()?).variable("UNBLOCK_INSECURE_NO_AUTH", "true");
    assert!(!accepted.config()?.knows_callers());
    Ok(())
}
