//! Credentials, addresses and environments of PingOne.

use std::error::Error;

use secrecy::ExposeSecret as _;

use super::{HOME, OTHER, Outcome, Setup};
use crate::{config::Limits, device::EnvironmentId, pingone::Credential};

#[test]
fn addresses_follow_the_region_or_the_api_path() -> Outcome {
    let addresses = |setup: Setup| -> Result<(String, String), Box<dyn Error>> {
        let access = setup.config()?.pingone.access.ok_or("no access")?;
        match access.credential {
            Credential::ClientSecret { auth, .. } => Ok((access.api.to_string(), auth.to_string())),
            Credential::AccessToken(_) => Err("not a worker application".into()),
        }
    };
    let of = |domain: &str| {
        (format!("https://api.pingone.{domain}/v1"), format!("https://auth.pingone.{domain}/"))
    };
    assert_eq!(addresses(Setup::least()?.variable("PINGONE_REGION", "com.au"))?, of("com.au"));
    assert_eq!(addresses(Setup::least()?.variable("PINGONE_API_PATH", "https://api.pingone.eu"))?, of("eu"));
    let local = Setup::least()?.variable("PINGONE_API_PATH", "http://127.0.0.1:9/v1/");
    let told = local.mistakes()?;
    assert!(
        told.len() == 1 && told[0].starts_with("PINGONE_AUTH_PATH: not set, but the API path is none"),
        "{told:?}"
    );
    let local = local.variable("PINGONE_AUTH_PATH", "http://127.0.0.1:9");
    assert_eq!(addresses(local)?, ("http://127.0.0.1:9/v1".to_owned(), "http://127.0.0.1:9/".to_owned()));
    let both = Setup::least()?
        .variable("PINGONE_REGION", "eu")
        .variable("PINGONE_API_PATH", "https://api.pingone.eu");
    assert_eq!(both.mistakes()?, ["PINGONE_REGION: PINGONE_API_PATH is set too; set only one of the two"]);
    Ok(())
}

#[test]
fn a_credential_is_whole_and_only_one() -> Outcome {
    let none = Setup::empty()?.variable("UNBLOCK_DATABASE_URL", "postgres:///d");
    let told = none.mistakes()?;
    assert!(
        told.len() == 1 && told[0].starts_with("PINGONE_CLIENT_ID: not set, but PingOne needs"),
        "{told:?}"
    );
    let api = none.variable("UNBLOCK_ROLE", "api");
    assert!(api.config()?.pingone.access.is_none(), "answering calls needs no credential");
    let token = api.variable("UNBLOCK_ROLE", "worker").variable("PINGONE_ACCESS_TOKEN", "token");
    let access = token.config()?.pingone.access.ok_or("no access")?;
    assert!(matches!(access.credential, Credential::AccessToken(token) if token.expose_secret() == "token"));
    let told = token.variable("PINGONE_ACCESS_TOKEN", "two tokens").mistakes()?;
    assert!(told.len() == 1 && told[0].contains("characters that no token has"), "{told:?}");
    let both = Setup::least()?.variable("PINGONE_ACCESS_TOKEN", "token").mistakes()?;
    assert!(
        both.len() == 1
            && both[0].starts_with("PINGONE_ACCESS_TOKEN: PINGONE_AUTH_ENVIRONMENT_ID is set too"),
        "{both:?}"
    );
    Ok(())
}

#[test]
fn environments_have_credentials_and_limits_of_their_own() -> Outcome {
    let tables = format!(
        "[[environment]]\nid = '{HOME}'\nmax_in_flight = 2\n\
         [[environment]]\nid = '{OTHER}'\nrate_limit = 5\n[environment.credential]\nregion = 'eu'\naccess_token_file = 'token'\n"
    );
    let setup = Setup::least()?.written("token", "its-token")?.file(&tables)?;
    let pingone = setup.config()?.pingone;
    let (home, other) = (EnvironmentId::parse(HOME)?, EnvironmentId::parse(OTHER)?);
    assert_eq!(pingone.own[&home].limits, Limits { rate: 20.0, max_in_flight: 2 });
    assert!(pingone.own[&home].access.is_none());
    assert_eq!(pingone.own[&other].limits, Limits { rate: 5.0, max_in_flight: 32 });
    let access = pingone.own[&other].access.as_ref().ok_or("no access of its own")?;
    assert_eq!(access.api.to_string(), "https://api.pingone.eu/v1");
    assert_eq!(pingone.served, None, "any other is served with the common credential");
    Ok(())
}

#[test]
fn an_environment_is_listed_once() -> Outcome {
    let twice = |text: &str| {
        format!("environment {OTHER} is listed twice; list it once, here or there")
            .replace("environment", text)
    };
    let list = Setup::least()?.variable("PINGONE_ENVIRONMENT_IDS", format!("{OTHER}, {OTHER}"));
    assert_eq!(list.mistakes()?, [twice("PINGONE_ENVIRONMENT_IDS: environment")]);
    let table = format!("[[environment]]\nid = '{OTHER}'\n");
    let tables = Setup::least()?.file(&format!("{table}{table}"))?;
    assert_eq!(tables.mistakes()?, [twice("unblock.toml: [[environment]] no. 2: id: environment")]);
    let both = Setup::least()?.file(&format!("pingone_environment_ids = ['{OTHER}']\n{table}"))?;
    assert_eq!(both.mistakes()?, [twice("unblock.toml: [[environment]] no. 1: id: environment")]);
    Ok(())
}

#[test]
fn without_a_common_credential_every_environment_needs_its_own() -> Outcome {
    let own = |id| format!("[[environment]]\nid = '{id}'\ncredential = {{ access_token_file = 'token' }}\n");
    let setup = Setup::empty()?.variable("UNBLOCK_DATABASE_URL", "postgres:///d").written("token", "t")?;
    let setup = setup.file(&own(HOME))?;
    assert!(setup.config()?.pingone.access.is_none());
    let told = setup.file(&format!("{}[[environment]]\nid = '{OTHER}'\n", own(HOME)))?.mistakes()?;
    assert!(told.len() == 1 && told[0].starts_with("PINGONE_CLIENT_ID: not set"), "{told:?}");
    let empty =
        Setup::least()?.file(&format!("[[environment]]\nid = '{OTHER}'\ncredential = {{}}\n"))?.mistakes()?;
    assert!(empty.len() == 1 && empty[0].contains("no. 1: credential.client_id: not set"), "{empty:?}");
    Ok(())
}
