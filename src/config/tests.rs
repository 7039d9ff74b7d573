//! The configuration as its users meet it: flags, variables and files in, settings or mistakes out.

mod oidc;
mod pingone;
mod secrets;

use std::{collections::BTreeMap, error::Error, fs};

use clap::{Args as _, Command, FromArgMatches as _};
use tempfile::TempDir;

use super::*;
use crate::pingone::{ClientAuth, Credential};

type Outcome = Result<(), Box<dyn Error>>;

const HOME: &str = "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/policy.toml");
const OTHER: &str = "6697f628-7712-4e71-b52b-920ba0635020";

/// What somebody gives, and a folder for files.
struct Setup {
    flags: Vec<String>,
    variables: BTreeMap<String, OsString>,
    folder: TempDir,
}

impl Setup {
    fn empty() -> Result<Self, Box<dyn Error>> {
        Ok(Self { flags: Vec::new(), variables: BTreeMap::new(), folder: TempDir::new()? })
    }

    /// As little as can be: a database and a worker application.
    fn least() -> Result<Self, Box<dyn Error>> {
        Ok(Self::empty()?
            .variable("UNBLOCK_DATABASE_URL", "postgres://u:hunter2@localhost/unblock")
            .variable("PINGONE_AUTH_ENVIRONMENT_ID", HOME)
            .variable("PINGONE_CLIENT_ID", "client")
            .variable("PINGONE_CLIENT_SECRET", "hunter2"))
    }

    fn flag(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    fn written(self, name: &str, text: &str) -> Result<Self, Box<dyn Error>> {
        fs::write(self.folder.path().join(name), text)?;
        Ok(self)
    }

    fn file(self, text: &str) -> Result<Self, Box<dyn Error>> {
        let path = self.folder.path().join("unblock.toml");
        Ok(self.written("unblock.toml", text)?.variable(CONFIG_VARIABLE, path))
    }

    fn args(&self) -> Result<ServeArgs, clap::Error> {
        let command = ServeArgs::augment_args(Command::new("serve").no_binary_name(true));
        ServeArgs::from_arg_matches(&command.try_get_matches_from(&self.flags)?)
    }

    fn load(&self) -> Result<Result<Config, ConfigError>, clap::Error> {
        Ok(Config::load(&self.args()?, |name| self.variables.get(name).cloned()))
    }

    fn config(&self) -> Result<Config, Box<dyn Error>> {
        Ok(self.load()??)
    }

    /// The mistakes as people read them, without the folder's name.
    fn mistakes(&self) -> Result<Vec<String>, Box<dyn Error>> {
        let folder = format!("{}{}", self.folder.path().display(), std::path::MAIN_SEPARATOR);
        let mistakes = self.load()?.err().map(|error| error.mistakes).unwrap_or_default();
        Ok(mistakes.iter().map(|mistake| mistake.to_string().replace(&folder, "")).collect())
    }
}

/// For every setting that is no secret, a value that is not its default.
const SAMPLES: &[(&str, &str)] = &[
    ("role", "api"),
    ("database_url", "postgres://elsewhere/d"),
    ("direct_database_url", "postgres://direct/d"),
    ("database_pooled", "true"),
    ("database_connections", "5"),
    ("migrate", "false"),
    ("listen", "127.0.0.1:1"),
    ("admin_listen", "127.0.0.1:2"),
    ("insecure_no_auth", "true"),
    ("policy_file", POLICY),
    ("oidc_issuer", "https://auth.pingone.eu/other/as"),
    ("oidc_audience", "another"),
    ("oidc_jwks_url", "https://auth.pingone.eu/other/as/jwks"),
    ("oidc_subject_claim", "client_id"),
    ("oidc_keys_max_age", "12h"),
    ("reflection", "false"),
    ("max_concurrent_calls", "7"),
    ("shutdown_grace", "3s"),
    ("hold", "true"),
    ("retention", "30d"),
    ("audit_retention", "700d"),
    ("retry_first", "1s"),
    ("retry_longest", "2m"),
    ("max_attempts", "3"),
    ("queue_limit_interactive", "100"),
    ("queue_limit_bulk", "200"),
    ("stale_after", "7m"),
    ("pingone_region", "eu"),
    ("pingone_api_path", "https://api.pingone.ca/v1"),
    ("pingone_auth_path", "https://login.example.com"),
    ("pingone_auth_environment_id", OTHER),
    ("pingone_client_id", "another"),
    ("pingone_client_auth", "post"),
    ("pingone_environment_ids", OTHER),
    ("pingone_rate_limit", "2.5"),
    ("pingone_max_in_flight", "4"),
    ("pingone_attempt_deadline", "9s"),
    ("pingone_connect_timeout", "2s"),
    ("log", "debug"),
    ("log_format", "json"),
];

/// The parts of `config` that are printed; URLs are secrets, so they are added.
fn printed(config: &Config) -> String {
    let Database { url, direct_url, .. } = &config.database;
    format!("{config:?} {} {}", url.expose_secret(), direct_url.expose_secret())
}

#[test]
fn every_setting_is_a_flag_a_variable_and_a_key() -> Outcome {
    // An issuer needs its audience, whichever of the two is looked at.
    let whole = || -> Result<Setup, Box<dyn Error>> {
        Ok(Setup::least()?
            .variable("UNBLOCK_OIDC_ISSUER", "https://auth.pingone.eu/one/as")
            .variable("UNBLOCK_OIDC_AUDIENCE", "one"))
    };
    let open = SETTINGS.iter().filter(|setting| setting.secrecy != Secrecy::Secret);
    assert_eq!(
        open.clone().map(|setting| setting.key).collect::<Vec<_>>(),
        SAMPLES.iter().map(|s| s.0).collect::<Vec<_>>()
    );
    let least = printed(&whole()?.config()?);
    for (setting, (key, value)) in open.zip(SAMPLES) {
        let flags = match setting.flag {
            Flag::Value(flag, _) => vec![flag, *value],
            Flag::Switch(flag, _) => vec![flag],
            Flag::None => Vec::new(),
        };
        let by_flag = printed(&whole()?.flag(&flags).config()?);
        let by_variable = printed(&whole()?.variable(setting.variable, *value).config()?);
        let file = format!("{key} = {value:?}");
        let by_file = printed(&whole()?.without(setting.variable).file(&file)?.config()?);
        assert_ne!(by_flag, least, "{key}");
        assert_eq!(by_flag, by_variable, "{key}");
        assert_eq!(by_flag, by_file, "{key}");
    }
    Ok(())
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() -> Outcome {
    let setup = Setup::least()?.file("max_attempts = 3")?;
    assert_eq!(setup.config()?.retry.max_attempts(), 3);
    let setup = setup.variable("UNBLOCK_MAX_ATTEMPTS", "4");
    assert_eq!(setup.config()?.retry.max_attempts(), 4);
    assert_eq!(setup.flag(&["--max-attempts", "5"]).config()?.retry.max_attempts(), 5);
    let setup = Setup::least()?.variable("UNBLOCK_MAX_ATTEMPTS", "");
    assert_eq!(setup.config()?.retry.max_attempts(), 10, "an empty variable is not set");
    let setup = Setup::least()?.variable(CONFIG_VARIABLE, "/nowhere").file("max_attempts = 3")?;
    let path = setup.folder.path().join("unblock.toml").display().to_string();
    let setup = setup.variable(CONFIG_VARIABLE, "/nowhere").flag(&["--config", &path]);
    assert_eq!(setup.config()?.retry.max_attempts(), 3, "so for the file's own name");
    Ok(())
}

#[test]
fn the_defaults_are_the_documented_ones() -> Outcome {
    let config = Setup::least()?.config()?;
    assert_eq!((config.role, config.migrate, config.reflection), (Role::All, true, true));
    assert_eq!((config.hold, config.retention), (false, Duration::from_secs(90 * 24 * 3600)));
    assert_eq!(config.retry, RetryPolicy::default());
    assert_eq!(config.pingone.limits, Limits { rate: 20.0, max_in_flight: 32 });
    assert_eq!(config.pingone.attempt_deadline, Duration::from_secs(10));
    assert_eq!(config.pingone.served, None);
    assert_eq!(config.database.direct_url.expose_secret(), config.database.url.expose_secret());
    let access = config.pingone.access.ok_or("no access")?;
    assert_eq!(access.api.to_string(), "https://api.pingone.com/v1");
    let Credential::ClientSecret { auth, client_secret, method, .. } = access.credential else {
        return Err("not a worker application".into());
    };
    assert_eq!((auth.to_string().as_str(), method), ("https://auth.pingone.com/", ClientAuth::Basic));
    assert_eq!(client_secret.expose_secret(), "hunter2");
    Ok(())
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() -> Outcome {
    let setup = Setup::empty()?
        .flag(&["--listen", "localhost"])
        .variable("UNBLOCK_ROLE", "boss")
        .variable("PINGONE_RATE_LIMIT", "0")
        .variable("PINGONE_CLIENT_ID", "client")
        .file("max_attempts = 0\nshutdown_grace = 25\n[[environment]]\nrate_limit = 10001")?;
    let told = setup.mistakes()?;
    let expected = [
        "UNBLOCK_ROLE: \"boss\" means nothing here; write one of all, api, worker",
        "UNBLOCK_DATABASE_URL: not set, but jobs are kept in Postgres; set it",
        "--listen: \"localhost\" is not an IP address and port; write both, such as 127.0.0.1:50051 or [::1]:50051",
        "unblock.toml: shutdown_grace: \"25\" is not a duration with its unit; write a duration from 1s to 10m, such as 10m",
        "unblock.toml: max_attempts: \"0\" is out of range; write a whole number from 1 to 100",
        "PINGONE_RATE_LIMIT: \"0\" is out of range; write requests per second from 0.01 to 10000, or unlimited",
        "PINGONE_AUTH_ENVIRONMENT_ID: not set, but a worker application needs it; set it",
        "PINGONE_CLIENT_SECRET: not set, but a worker application needs it; set it",
        "unblock.toml: [[environment]] no. 1: rate_limit: \"10001\" is out of range; write requests per second from 0.01 to 10000, or unlimited",
        "unblock.toml: [[environment]] no. 1: id: missing; give the environment's UUID",
    ];
    assert_eq!(told, expected);
    let error = setup.load()?.err().ok_or("no mistake")?.to_string();
    assert!(error.starts_with("the configuration has 10 mistakes:\n  UNBLOCK_ROLE: "), "{error}");
    Ok(())
}

#[test]
fn a_value_that_cannot_be_is_a_mistake_where_it_stands() -> Outcome {
    for (variable, value, what) in [
        ("UNBLOCK_DATABASE_URL", "mysql://u:hunter2@h", "not a Postgres URL"),
        ("UNBLOCK_DIRECT_DATABASE_URL", "h:5432", "not a Postgres URL"),
        ("UNBLOCK_DATABASE_POOLED", "yes", "means nothing here"),
        ("UNBLOCK_DATABASE_CONNECTIONS", "1", "out of range"),
        ("UNBLOCK_LISTEN", "0.0.0.0:50051", "callers are not authenticated"),
        ("UNBLOCK_LISTEN", "[::]:50051", "callers are not authenticated"),
        ("UNBLOCK_ADMIN_LISTEN", "127.0.0.1:50051", "the same address"),
        ("UNBLOCK_POLICY_FILE", "/nowhere.toml", "cannot be read"),
        ("UNBLOCK_MAX_CONCURRENT_CALLS", "-1", "out of range"),
        ("UNBLOCK_SHUTDOWN_GRACE", "0s", "out of range"),
        ("UNBLOCK_RETENTION", "59m", "out of range"),
        ("UNBLOCK_RETRY_FIRST", "61s", "the first wait must be"),
        ("UNBLOCK_RETRY_LONGEST", "2h", "out of range"),
        ("PINGONE_REGION", "uk", "no region"),
        ("PINGONE_API_PATH", "http://api.pingone.com", "tokens travel only over https"),
        ("PINGONE_AUTH_PATH", "https://auth.pingone.com/as/token", "only the base"),
        ("PINGONE_AUTH_ENVIRONMENT_ID", "mine", "not a UUID"),
        ("PINGONE_CLIENT_ID", " ", "empty"),
        ("PINGONE_CLIENT_AUTH", "jwt", "means nothing here"),
        ("PINGONE_ENVIRONMENT_IDS", ",", "no environment is named"),
        ("PINGONE_ENVIRONMENT_IDS", "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6,x", "not a UUID"),
        ("PINGONE_RATE_LIMIT", "NaN", "out of range"),
        ("PINGONE_RATE_LIMIT", "10000.1", "out of range"),
        ("PINGONE_MAX_IN_FLIGHT", "10001", "out of range"),
        ("PINGONE_ATTEMPT_DEADLINE", "11s", "out of range"),
        ("PINGONE_ATTEMPT_DEADLINE", "999ms", "out of range"),
        ("PINGONE_ATTEMPT_DEADLINE", "2s", "longer than an attempt"),
        ("UNBLOCK_LOG", "a=b=c", "not a filter"),
        ("UNBLOCK_LOG_FORMAT", "xml", "means nothing here"),
        (CONFIG_VARIABLE, "/nowhere.toml", "cannot be read"),
    ] {
        let told = Setup::least()?.variable(variable, value).mistakes()?;
        assert_eq!(told.len(), 1, "{variable}={value}: {told:?}");
        assert!(told[0].contains(what), "{variable}={value}: {told:?}");
        assert!(!told[0].contains("hunter2"), "{told:?}");
    }
    Ok(())
}

#[test]
fn listening_beyond_this_machine_needs_a_word() -> Outcome {
    let open = Setup::least()?.variable("UNBLOCK_LISTEN", "0.0.0.0:50051");
    assert_eq!(open.mistakes()?.len(), 1);
    assert!(open.flag(&["--insecure-no-auth"]).config()?.insecure_no_auth);
    for address in ["127.8.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        Setup::least()?.variable("UNBLOCK_LISTEN", address).config()?;
    }
    Ok(())
}

#[test]
fn an_unknown_key_is_a_mistake_with_a_suggestion() -> Outcome {
    let setup = Setup::least()?.file(&format!(
        "lissten = 'x'\nzzz = 1\n[[environment]]\nid = '{OTHER}'\nratelimit = 1\n[environment.credential]\nclientid = 'c'\naccess_token_file = 't'"
    ))?;
    let told = setup.written("t", "token")?.mistakes()?;
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(
        told[0].starts_with("unblock.toml: lissten: no such key; did you mean listen? the keys are role, "),
        "{told:?}"
    );
    assert!(told[1].starts_with("unblock.toml: zzz: no such key; the keys are role, "), "{told:?}");
    assert_eq!(
        told[2],
        "unblock.toml: [[environment]] no. 1: ratelimit: no such key; did you mean rate_limit? \
         the keys are id, credential, rate_limit, max_in_flight, limit_group"
    );
    assert!(told[3].contains("credential.clientid: no such key; did you mean client_id?"), "{told:?}");
    Ok(())
}

#[test]
fn a_broken_file_is_told_by_its_line_and_not_quoted() -> Outcome {
    let told = Setup::least()?.file("role = 'all'\n\npingone_client_secret = hunter2\n")?.mistakes()?;
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("unblock.toml: line 3: this is not TOML: "), "{told:?}");
    assert!(!told[0].contains("hunter2"), "{told:?}");
    Ok(())
}

#[test]
fn the_mistakes_of_a_policy_stand_among_the_others() -> Outcome {
    let setup = Setup::least()?
        .variable("UNBLOCK_ROLE", "boss")
        .file("policy_file = 'policy.toml'")?
        .written("policy.toml", "[[caller]]\nname = 'dns:desk'\n\nallow = []\ncallers = 1\n")?;
    let told = setup.mistakes()?;
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("UNBLOCK_ROLE: "), "{told:?}");
    assert!(told[1].starts_with("policy.toml: line 1: this caller is allowed nothing; "), "{told:?}");
    assert!(told[2].starts_with("policy.toml: line 5: there is no key \"callers\"; "), "{told:?}");
    Ok(())
}

#[test]
fn database_url_is_the_last_resort() -> Outcome {
    let setup = Setup::least()?.without("UNBLOCK_DATABASE_URL").variable("DATABASE_URL", "postgres://last/d");
    assert_eq!(setup.config()?.database.url.expose_secret(), "postgres://last/d");
    let setup = setup.file("database_url = 'postgres://file/d'")?;
    assert_eq!(setup.config()?.database.url.expose_secret(), "postgres://file/d");
    let alone = Setup::empty()?.variable("DATABASE_URL", "postgres://last/d");
    let database = Database::load(&alone.args()?, |name| alone.variables.get(name).cloned())?;
    assert_eq!(database.connections, 16, "and the database's settings can be read alone");
    Ok(())
}
