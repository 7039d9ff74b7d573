//! Where secrets may stand, and that they are told nowhere.

use std::error::Error;

use secrecy::ExposeSecret as _;

use super::{OTHER, Outcome, Setup};
use crate::pingone::Credential;

#[test]
fn a_secret_may_stand_in_a_file_of_its_own() -> Outcome {
    let setup = Setup::least()?.without("PINGONE_CLIENT_SECRET").written("secret", "s3cret\n")?;
    let path = setup.folder.path().join("secret");
    let setup = setup.variable("PINGONE_CLIENT_SECRET_FILE", &path);
    let secret = |setup: &Setup| -> Result<String, Box<dyn Error>> {
        match setup.config()?.pingone.access.map(|access| access.credential) {
            Some(Credential::ClientSecret { client_secret, .. }) => {
                Ok(client_secret.expose_secret().to_owned())
            }
            _ => Err("no worker application".into()),
        }
    };
    assert_eq!(secret(&setup)?, "s3cret");
    let both = setup.variable("PINGONE_CLIENT_SECRET", "hunter2");
    assert_eq!(
        both.mistakes()?,
        ["PINGONE_CLIENT_SECRET: PINGONE_CLIENT_SECRET_FILE is set too; set only one of the two"]
    );
    let by_file = both.without("PINGONE_CLIENT_SECRET").without("PINGONE_CLIENT_SECRET_FILE");
    let by_file = by_file.file("pingone_client_secret_file = 'secret'")?;
    assert_eq!(secret(&by_file)?, "s3cret", "named beside the file");
    let told = by_file.written("secret", "\n")?.mistakes()?;
    assert!(told.len() == 1 && told[0].contains("the file it names is empty"), "{told:?}");
    Ok(())
}

#[test]
fn secrets_belong_neither_in_flags_nor_in_the_file() -> Outcome {
    let url = "postgres://u:hunter2@h/d";
    for setup in [
        Setup::least()?.flag(&["--database-url", url]),
        Setup::least()?.without("UNBLOCK_DATABASE_URL").file(&format!("database_url = {url:?}"))?,
        Setup::empty()?.variable("UNBLOCK_DATABASE_URL", url).file("pingone_access_token = 'hunter2'")?,
        Setup::least()?.file("pingone_client_secret = 'hunter2'")?,
        Setup::least()?.file(&format!("[[environment]]\nid = '{OTHER}'\n[environment.credential]\nclient_id = 'c'\nauth_environment_id = '{OTHER}'\nclient_secret_file = 'unblock.toml'\nclient_secret = 'hunter2'"))?,
    ] {
        let told = setup.mistakes()?;
        assert!(told.len() == 1 && told[0].contains("does not belong here"), "{told:?}");
        assert!(!told[0].contains("hunter2"), "{told:?}");
    }
    let setup = Setup::least()?.written("url", url)?;
    let setup = setup.without("UNBLOCK_DATABASE_URL").file("database_url_file = 'url'")?;
    assert_eq!(setup.config()?.database.url.expose_secret(), url);
    Ok(())
}

#[test]
fn the_files_of_secrets_are_known_so_that_they_are_read_anew() -> Outcome {
    let setup = Setup::least()?.written("secret", "s3cret")?.written("url", "postgres://u:p@h/d")?;
    let setup = setup.without("PINGONE_CLIENT_SECRET").without("UNBLOCK_DATABASE_URL").file(&format!(
        "database_url_file = 'url'\npingone_client_secret_file = 'secret'\n[[environment]]\nid = '{OTHER}'\n\
         [environment.credential]\naccess_token_file = 'secret'\n"
    ))?;
    let config = setup.config()?;
    let named = |file: &Option<std::path::PathBuf>, name: &str| {
        file.as_ref().is_some_and(|file| file.ends_with(name) && file.exists())
    };
    assert!(config.database.url_files.iter().all(|file| named(file, "url")), "{:?}", config.database);
    let own = config.pingone.own.values().next().and_then(|own| own.access.as_ref()).ok_or("no access")?;
    let common = config.pingone.access.as_ref().ok_or("no common access")?;
    assert!([own, common].iter().all(|access| named(&access.secret_file, "secret")));
    Ok(())
}

#[test]
fn keys_that_are_none_are_told_by_their_line_alone() -> Outcome {
    let setup = Setup::least()?.variable("UNBLOCK_SNAPSHOT_KEYS", "a:aHVudGVyMg==");
    let told = setup.mistakes()?;
    assert!(
        told.len() == 1 && told[0].contains("line 1 is no key") && !told[0].contains("aHVudGVyMg"),
        "{told:?}"
    );
    Ok(())
}

#[test]
fn a_secret_in_place_of_its_files_name_is_not_told() -> Outcome {
    let setup = Setup::least()?.without("PINGONE_CLIENT_SECRET");
    let told = setup.variable("PINGONE_CLIENT_SECRET_FILE", "hunter2").mistakes()?;
    assert!(
        told.len() == 1 && told[0].contains("cannot be read") && !told[0].contains("hunter2"),
        "{told:?}"
    );
    Ok(())
}

#[test]
fn nothing_that_is_printed_holds_a_secret() -> Outcome {
    assert!(!format!("{:?}", Setup::least()?.config()?).contains("hunter2"));
    Ok(())
}
