//! `check`: whether a server would work with this configuration, and if not, why.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::{error::Error, exit::Exit, screen::Screen};
use crate::{
    app,
    auth::Tokens,
    config::{Config, ServeArgs, policy_at},
    store::{Store, StoreError, Wrapped},
};

/// Reads the configuration, reaches Postgres, PingOne's token endpoint and the issuers of callers' tokens, and says plainly what is
/// wrong
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    settings: ServeArgs,
}

/// One thing that was looked at.
struct Finding {
    what: String,
    /// What is wrong with it, if anything.
    wrong: Option<String>,
}

impl Check {
    pub(super) async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        let config = Config::load(&self.settings, |name| std::env::var_os(name))?;
        let mut findings = vec![Finding { what: "configuration".to_owned(), wrong: None }];
        if let Some(file) = &config.policy_file {
            findings.push(policy(file));
        }
        let (what, wrong) = match database(&config).await {
            Ok(true) => ("Postgres, by a role that may change the audit trail", None),
            Ok(false) => ("Postgres", None),
            Err(wrong) => ("Postgres", Some(wrong)),
        };
        findings.push(Finding { what: what.to_owned(), wrong });
        findings.extend(snapshot_keys(&config).await);
        let routes = app::routes(&config.pingone).map_err(Error::failed)?;
        if let Some(route) = &routes.default {
            let refused = route.client.check_credential().await.err();
            findings.push(Finding {
                what: "PingOne credential".to_owned(),
                wrong: refused.map(|failure| failure.message.into()),
            });
        }
        for (id, environment) in &config.pingone.own {
            let Some(route) = routes.find(*id).filter(|_| environment.access.is_some()) else { continue };
            let refused = route.client.check_credential().await.err();
            findings.push(Finding {
                what: format!("PingOne credential of environment {id}"),
                wrong: refused.map(|failure| failure.message.into()),
            });
        }
        let tokens = Tokens::new(config.oidc).map_err(Error::failed)?;
        for (issuer, keys) in tokens.check().await {
            let wrong = keys.err().map(|error| error.to_string());
            findings.push(Finding { what: format!("keys of {issuer}"), wrong });
        }
        for finding in &findings {
            finding.print(screen)?;
        }
        Ok(if findings.iter().all(|finding| finding.wrong.is_none()) { Exit::Done } else { Exit::Failed })
    }
}

impl Finding {
    fn print(&self, screen: &Screen) -> Result<(), Error> {
        if screen.is_json() {
            return screen
                .print_json(&json!({ "check": self.what, "ok": self.wrong.is_none(), "error": self.wrong }));
        }
        match &self.wrong {
            None => screen.print(&format!("ok      {}", self.what)),
            Some(wrong) => screen.print(&format!("WRONG   {}: {wrong}", self.what)),
        }
    }
}

/// The configuration was not read if it has a mistake; another one may have been made since.
fn policy(file: &Path) -> Finding {
    match policy_at(file) {
        Ok(policy) => Finding { what: format!("policy {}", policy.version()), wrong: None },
        Err(error) => Finding { what: "policy".to_owned(), wrong: Some(error.to_string()) },
    }
}

/// One finding for each key that something stored is wrapped by. Nothing where nothing is, or Postgres cannot say, which is told above.
async fn snapshot_keys(config: &Config) -> Vec<Finding> {
    let Ok(store) = app::store(&config.database) else { return Vec::new() };
    let wrapped = store.find_wrapped().await.unwrap_or_default();
    store.close().await;
    let finding = |one: Wrapped| Finding {
        what: format!("snapshot key {}, which wraps {} data keys", one.name, one.data_keys),
        wrong: one.wrong,
    };
    wrapped.into_iter().map(finding).collect()
}

/// Whether the service could change its own audit trail.
async fn database(config: &Config) -> Result<bool, String> {
    let store = Store::new(&app::access(&config.database)).map_err(|error| error.to_string())?;
    store.check_reachable().await.map_err(|error| error.to_string())?;
    let checked = match store.check_schema().await {
        Err(StoreError::SchemaOlder { .. }) if config.migrate => Ok(false),
        Err(error) => Err(error),
        Ok(()) => store.may_change_audit().await,
    };
    store.close().await;
    checked.map_err(|error| error.to_string())
}
