//! Every setting of `serve`, once: the flags, the variables, the keys of the file, `--help` and the README's table are made
//! from this.

use std::fmt::Write as _;

/// One setting: how it is called in each place, what it means and what it is without being set.
#[derive(Debug)]
pub struct Setting {
    /// Its key in the configuration file; secrets are named there by `{key}_file`.
    pub key: &'static str,
    /// Its environment variable; secrets may instead be named by `{variable}_FILE`.
    pub variable: &'static str,
    /// How the command line sets it.
    pub flag: Flag,
    /// What it is where nobody sets it.
    pub default: Unset,
    /// Whether it is kept out of flags, files, logs and messages.
    pub secrecy: Secrecy,
    /// What it means: a phrase.
    pub help: &'static str,
}

/// How the command line sets a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// `--flag VALUE`.
    Value(&'static str, &'static str),
    /// `--flag` alone, which means this value.
    Switch(&'static str, &'static str),
    /// Not at all: a command line can be read by every user of the machine.
    None,
}

/// What a setting is where nobody sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// This value.
    Value(&'static str),
    /// No value; the words say what happens then.
    Words(&'static str),
}

/// Whether a setting is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// No.
    Open,
    /// Only where its value holds a password, as a URL may.
    WithPassword,
    /// Always.
    Secret,
}

impl Setting {
    /// `--flag`, if it has one.
    #[must_use]
    pub const fn flag_name(&self) -> Option<&'static str> {
        match self.flag {
            Flag::Value(flag, _) | Flag::Switch(flag, _) => Some(flag),
            Flag::None => None,
        }
    }

    /// Whether its value may stand in a file of its own.
    #[must_use]
    pub fn may_be_a_file(&self) -> bool {
        self.secrecy != Secrecy::Open
    }

    const fn new(
        key: &'static str,
        variable: &'static str,
        flag: Flag,
        default: Unset,
        help: &'static str,
    ) -> Self {
        Self { key, variable, flag, default, secrecy: Secrecy::Open, help }
    }

    const fn kept(self, secrecy: Secrecy) -> Self {
        Self { secrecy, ..self }
    }
}

use Flag::{Switch, Value};
use Unset::{Value as Is, Words};

/// Every setting, in the order in which it is shown.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    Setting::new("role", "UNBLOCK_ROLE", Value("--role", "ROLE"), Is("all"),
        "`api` answers calls, `worker` sends to PingOne, `all` does both"),
    Setting::new("database_url", "UNBLOCK_DATABASE_URL", Value("--database-url", "URL"), Words("required"),
        "Postgres 14 or newer (`DATABASE_URL` is accepted where it is unset)").kept(Secrecy::WithPassword),
    Setting::new("direct_database_url", "UNBLOCK_DIRECT_DATABASE_URL", Value("--direct-database-url", "URL"), Words("the database URL"),
        "unpooled connection for LISTEN and migrations").kept(Secrecy::WithPassword),
    Setting::new("database_pooled", "UNBLOCK_DATABASE_POOLED", Switch("--database-pooled", "true"), Is("false"),
        "`true` behind a transaction pooler: no statement cache, explicit transactions"),
    Setting::new("database_connections", "UNBLOCK_DATABASE_CONNECTIONS", Value("--database-connections", "COUNT"), Is("16"),
        "connections to the database at most; a quarter of them is for what callers read"),
    Setting::new("migrate", "UNBLOCK_MIGRATE", Switch("--no-migrate", "false"), Is("true"),
        "whether to bring the database up to date at the start"),
    Setting::new("listen", "UNBLOCK_LISTEN", Value("--listen", "ADDRESS"), Is("127.0.0.1:50051"),
        "gRPC address"),
    Setting::new("admin_listen", "UNBLOCK_ADMIN_LISTEN", Value("--admin-listen", "ADDRESS"), Is("127.0.0.1:9464"),
        "plain HTTP: `/livez`, `/readyz`, `/metrics`, `/log`"),
    Setting::new("insecure_no_auth", "UNBLOCK_INSECURE_NO_AUTH", Switch("--insecure-no-auth", "true"), Is("false"),
        "`true` lets gRPC listen beyond this machine although callers are not authenticated"),
    Setting::new("policy_file", "UNBLOCK_POLICY_FILE", Value("--policy-file", "FILE"), Words("none: everybody may do everything"),
        "who may do what, in TOML (docs/policy.md); read anew when it changes"),
    Setting::new("oidc_issuer", "UNBLOCK_OIDC_ISSUER", Value("--oidc-issuer", "URL"), Words("none"),
        "issuer of callers' tokens, their `iss`; PingOne's is `https://auth.pingone.eu/{environment}/as`"),
    Setting::new("oidc_audience", "UNBLOCK_OIDC_AUDIENCE", Value("--oidc-audience", "NAMES"), Words("none"),
        "what their `aud` calls this service, separated by commas; one is enough"),
    Setting::new("oidc_jwks_url", "UNBLOCK_OIDC_JWKS_URL", Value("--oidc-jwks-url", "URL"), Words("found by discovery"),
        "where the issuer's keys are, if `{issuer}/.well-known/openid-configuration` does not say; https unless on this machine"),
    Setting::new("oidc_subject_claim", "UNBLOCK_OIDC_SUBJECT_CLAIM", Value("--oidc-subject-claim", "CLAIM"), Words("`sub`"),
        "`sub` or `client_id`: the claim that names the caller"),
    Setting::new("oidc_keys_max_age", "UNBLOCK_OIDC_KEYS_MAX_AGE", Value("--oidc-keys-max-age", "DURATION"), Is("24h"),
        "how long the keys of an issuer that cannot be reached are used, from 10m to 7d"),
    Setting::new("reflection", "UNBLOCK_REFLECTION", Switch("--no-reflection", "false"), Is("true"),
        "gRPC server reflection"),
    Setting::new("max_concurrent_calls", "UNBLOCK_MAX_CONCURRENT_CALLS", Value("--max-concurrent-calls", "COUNT"), Is("1024"),
        "calls answered at the same time at most"),
    Setting::new("shutdown_grace", "UNBLOCK_SHUTDOWN_GRACE", Value("--shutdown-grace", "DURATION"), Is("25s"),
        "how long a stop may take to finish what runs"),
    Setting::new("hold", "UNBLOCK_HOLD", Switch("--hold", "true"), Is("false"),
        "`true` pauses all sending at the start, until `env resume --all`: for a restored backup"),
    Setting::new("retention", "UNBLOCK_RETENTION", Value("--retention", "DURATION"), Is("90d"),
        "how long jobs are kept after their end, from 1h on; with a job goes its request_id"),
    Setting::new("audit_retention", "UNBLOCK_AUDIT_RETENTION", Value("--audit-retention", "DURATION"), Is("730d"),
        "how long sealed entries of the audit trail are kept, from 30d on"),
    Setting::new("retry_first", "UNBLOCK_RETRY_FIRST", Value("--retry-first", "DURATION"), Is("500ms"),
        "wait after a job's first failed attempt; doubles with each"),
    Setting::new("retry_longest", "UNBLOCK_RETRY_LONGEST", Value("--retry-longest", "DURATION"), Is("60s"),
        "longest wait between attempts"),
    Setting::new("max_attempts", "UNBLOCK_MAX_ATTEMPTS", Value("--max-attempts", "COUNT"), Is("10"),
        "attempts a job has"),
    Setting::new("queue_limit_interactive", "UNBLOCK_QUEUE_LIMIT_INTERACTIVE", Value("--queue-limit-interactive", "COUNT"), Is("20000"),
        "interactive jobs that may wait in one environment; more are refused (`QUEUE_FULL`)"),
    Setting::new("queue_limit_bulk", "UNBLOCK_QUEUE_LIMIT_BULK", Value("--queue-limit-bulk", "COUNT"), Is("2000000"),
        "bulk jobs that may wait in one environment"),
    Setting::new("stale_after", "UNBLOCK_STALE_AFTER", Value("--stale-after", "DURATION"), Is("15m"),
        "from this age on, a job's device is read before the unblock is sent: it may have been blocked anew"),
    Setting::new("snapshot_keys", "UNBLOCK_SNAPSHOT_KEYS", Flag::None, Words("not encrypted"),
        "what PingOne's answers are encrypted with in the database: lines of `NAME:BASE64`, 32 random bytes each; the first encrypts, all decrypt").kept(Secrecy::Secret),
    Setting::new("pingone_region", "PINGONE_REGION", Value("--pingone-region", "REGION"), Words("`com`"),
        "com, eu, ca, asia, com.au or sg; instead of the API path"),
    Setting::new("pingone_api_path", "PINGONE_API_PATH", Value("--pingone-api-path", "URL"), Words("`https://api.pingone.com/v1`"),
        "PingOne's `{{apiPath}}`; https unless on this machine"),
    Setting::new("pingone_auth_path", "PINGONE_AUTH_PATH", Value("--pingone-auth-path", "URL"), Words("follows the region"),
        "base of the token endpoint `{base}/{environment}/as/token`"),
    Setting::new("pingone_auth_environment_id", "PINGONE_AUTH_ENVIRONMENT_ID", Value("--pingone-auth-environment-id", "UUID"), Words("none"),
        "worker application: the environment it belongs to"),
    Setting::new("pingone_client_id", "PINGONE_CLIENT_ID", Value("--pingone-client-id", "ID"), Words("none"),
        "worker application: its client id"),
    Setting::new("pingone_client_secret", "PINGONE_CLIENT_SECRET", Flag::None, Words("none"),
        "worker application: its client secret").kept(Secrecy::Secret),
    Setting::new("pingone_client_auth", "PINGONE_CLIENT_AUTH", Value("--pingone-client-auth", "METHOD"), Is("basic"),
        "worker application: `basic` or `post`, its token endpoint authentication method"),
    Setting::new("pingone_access_token", "PINGONE_ACCESS_TOKEN", Flag::None, Words("none"),
        "a fixed `{{accessToken}}` instead of a worker application, for a first try").kept(Secrecy::Secret),
    Setting::new("pingone_environment_ids", "PINGONE_ENVIRONMENT_IDS", Value("--pingone-environment-ids", "UUIDS"), Words("any"),
        "environments served with this credential, separated by commas"),
    Setting::new("pingone_rate_limit", "PINGONE_RATE_LIMIT", Value("--pingone-rate-limit", "RATE"), Is("20"),
        "requests per second and environment at most; `unlimited` for none"),
    Setting::new("pingone_max_in_flight", "PINGONE_MAX_IN_FLIGHT", Value("--pingone-max-in-flight", "COUNT"), Is("32"),
        "requests at once and environment at most, up to 10000"),
    Setting::new("pingone_attempt_deadline", "PINGONE_ATTEMPT_DEADLINE", Value("--pingone-attempt-deadline", "DURATION"), Is("10s"),
        "how long one attempt may take in all, from 1s to 10s"),
    Setting::new("pingone_connect_timeout", "PINGONE_CONNECT_TIMEOUT", Value("--pingone-connect-timeout", "DURATION"), Is("3s"),
        "how long connecting may take of it"),
    Setting::new("log", "UNBLOCK_LOG", Value("--log", "FILTER"), Is("info"),
        "what is logged, such as `info` or `warn,pingone_unblock=debug`"),
    Setting::new("log_format", "UNBLOCK_LOG_FORMAT", Value("--log-format", "FORMAT"), Words("`text` on a terminal, else `json`"),
        "`text` or `json`"),
];

/// The setting of that key.
///
/// # Panics
/// For a key that is not in [`SETTINGS`]: every key the code asks for is, and a test asks for all.
pub(super) fn setting(key: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.key == key).expect("every key that is asked for is in the table")
}

/// The README's table of settings, in Markdown, with a newline at its end.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from("| variable | flag | meaning | default |\n|---|---|---|---|\n");
    for Setting { variable, flag, default, secrecy, help, .. } in SETTINGS {
        let flag = match (flag, secrecy) {
            (Flag::Value(flag, _) | Flag::Switch(flag, _), Secrecy::Open) => format!("`{flag}`"),
            (Flag::Value(flag, _) | Flag::Switch(flag, _), _) => format!("`{flag}` (without a password)"),
            (Flag::None, _) => "–".to_owned(),
        };
        let file = match secrecy {
            Secrecy::Open => String::new(),
            _ => format!(", `{variable}_FILE`"),
        };
        let default = match default {
            Unset::Value(value) => format!("`{value}`"),
            Unset::Words(words) => (*words).to_owned(),
        };
        writeln!(table, "| `{variable}`{file} | {flag} | {help} | {default} |")
            .expect("a String takes every write");
    }
    table.push_str("| `OTEL_*` | – | as OpenTelemetry defines them | off without an endpoint |\n");
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_one_rule() {
        for setting in SETTINGS {
            let shouted = setting.key.to_uppercase();
            let prefix = if setting.key.starts_with("pingone_") { "" } else { "UNBLOCK_" };
            assert_eq!(setting.variable, format!("{prefix}{shouted}"));
            let dashed = setting.key.replace('_', "-");
            match setting.flag {
                Flag::Value(flag, _) | Flag::Switch(flag, "true") => assert_eq!(flag, format!("--{dashed}")),
                Flag::Switch(flag, _) => assert_eq!(flag, format!("--no-{dashed}")),
                Flag::None => assert_eq!(setting.secrecy, Secrecy::Secret),
            }
        }
    }

    #[test]
    fn the_table_for_people_names_every_setting() {
        let table = markdown_table();
        for setting in SETTINGS {
            assert!(table.contains(&format!("| `{}`", setting.variable)), "{}", setting.variable);
            assert!(
                setting.flag_name().is_none_or(|flag| table.contains(&format!("`{flag}`"))),
                "{}",
                setting.key
            );
        }
        assert!(table.lines().all(|line| line.matches('|').count() == 5), "{table}");
    }
}
