//! `policy explain`: what a policy means for one caller.

use std::path::PathBuf;

use clap::Args;

use super::{bounds, device_bound, json, read};
use crate::{
    auth::{Environments, Policy, Scope},
    cli::{
        error::Error,
        exit::Exit,
        screen::{Hue, Screen},
        table::Rows,
    },
    device::EnvironmentId,
    job::Caller,
};

/// Says what a policy file allows one caller, and why not the rest
#[derive(Debug, Args)]
pub(in crate::cli) struct Explain {
    /// The policy
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// issuer|subject of a token, or a name of a certificate: spiffe://…, dns:…, email:…
    #[arg(value_name = "CALLER", value_parser = caller)]
    caller: Caller,
    /// PingOne environment; without it, all that the caller may do anywhere
    #[arg(value_name = "ENV", value_parser = EnvironmentId::parse)]
    environment: Option<EnvironmentId>,
    /// A scope that its token holds; can be given more than once
    #[arg(long, value_name = "SCOPE")]
    token_scope: Vec<String>,
}

/// What there is to say of one caller.
pub(super) struct Explained<'a> {
    pub(super) policy: &'a Policy,
    pub(super) caller: &'a Caller,
    pub(super) environment: Option<EnvironmentId>,
    pub(super) token_scopes: &'a [String],
}

fn caller(text: &str) -> Result<Caller, String> {
    let wrong = "a caller has a name of 1 to 512 printable characters; no policy is asked about anonymous";
    Caller::named(text).ok_or_else(|| wrong.to_owned())
}

impl Explain {
    pub(super) fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let policy = read(&self.file)?;
        let explained = Explained {
            policy: &policy,
            caller: &self.caller,
            environment: self.environment,
            token_scopes: &self.token_scope,
        };
        if screen.is_json() {
            screen.print_json(&json::explained(&explained))?;
        } else {
            screen.print(&explained.draw(screen))?;
        }
        Ok(Exit::Done)
    }
}

impl Explained<'_> {
    /// Why it may not, where it may not.
    pub(super) fn why_not(&self, scope: Scope) -> Option<String> {
        self.policy.why_not(self.caller, self.token_scopes, scope, self.environment)
    }

    fn draw(&self, screen: &Screen) -> String {
        let grants = self.policy.grants(self.caller, self.token_scopes);
        let mut rows = Rows::new(screen);
        rows.text("caller", self.caller.as_str());
        for entry in self.policy.entries_of(self.caller, self.token_scopes) {
            rows.text("who", &entry.description);
        }
        rows.text("environment", &self.environment.map(|id| id.to_string()).unwrap_or_default());
        for scope in Scope::ALL {
            match self.why_not(scope) {
                Some(why) => rows.coloured(scope.name(), &format!("refused: {why}"), Some(Hue::Bad)),
                None if self.environment.is_some() => rows.coloured(scope.name(), "allowed", Some(Hue::Good)),
                None => {
                    let place = place(grants.environments(scope));
                    rows.coloured(scope.name(), &format!("allowed in {place}"), Some(Hue::Good));
                }
            }
        }
        if let Some(id) = self.environment {
            rows.text("demands", &self.policy.demands(id).by_key().join(", "));
        }
        rows.text("bounds", &bounds(grants.bounds()));
        rows.text("each device", &device_bound(self.policy));
        rows.text("policy", self.policy.version());
        rows.draw()
    }
}

fn place(environments: Environments<'_>) -> String {
    match environments {
        Environments::All => "all environments".to_owned(),
        Environments::Only(some) => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
