//! The settings as command line arguments. Only collects what was given; clap neither reads variables nor applies defaults here.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, error::Error, value_parser};

use super::settings::{Flag, SETTINGS, Secrecy, Setting, Unset};

/// The variable that names the configuration file where `--config` does not.
pub const CONFIG_VARIABLE: &str = "UNBLOCK_CONFIG";

/// The arguments of every command that reads the configuration of `serve`.
#[derive(Clone, Default)]
pub struct ServeArgs {
    pub(super) config: Option<PathBuf>,
    pub(super) given: BTreeMap<&'static str, String>,
}

/// Shows which flags were given, not their values: a URL may carry a password.
impl fmt::Debug for ServeArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given: Vec<_> = self.given.keys().collect();
        f.debug_struct("ServeArgs").field("config", &self.config).field("given", &given).finish()
    }
}

impl clap::Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(format!("Configuration file in TOML [env: {CONFIG_VARIABLE}]"));
        command.arg(config).args(SETTINGS.iter().filter_map(argument)).after_help(after_help())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        if let Some(config) = matches.get_one::<PathBuf>("config") {
            self.config = Some(config.clone());
        }
        for Setting { key, flag, .. } in SETTINGS {
            let value = match flag {
                Flag::Value(..) => matches.get_one::<String>(key).cloned(),
                Flag::Switch(_, value) => matches.get_flag(key).then(|| (*value).to_owned()),
                Flag::None => None,
            };
            self.given.extend(value.map(|value| (*key, value)));
        }
        Ok(())
    }
}

fn argument(setting: &Setting) -> Option<Arg> {
    let arg = Arg::new(setting.key).long(setting.flag_name()?.trim_start_matches('-')).help(help(setting));
    Some(match setting.flag {
        Flag::Value(_, name) => arg.value_name(name),
        Flag::Switch(..) | Flag::None => arg.action(ArgAction::SetTrue),
    })
}

/// `gRPC address [env: UNBLOCK_LISTEN] [default: 127.0.0.1:50051]`, as clap would write it.
fn help(setting: &Setting) -> String {
    let Setting { variable, help, default, .. } = setting;
    let file = if setting.may_be_a_file() { format!(", {variable}_FILE") } else { String::new() };
    let default = match default {
        Unset::Value(text) | Unset::Words(text) => text.replace('`', ""),
    };
    format!("{} [env: {variable}{file}] [default: {default}]", help.replace('`', ""))
}

fn after_help() -> String {
    let secrets = SETTINGS.iter().filter(|setting| setting.secrecy == Secrecy::Secret);
    let lines: String =
        secrets.map(|setting| format!("  {}\n          {}\n", setting.key, help(setting))).collect();
    format!(
        "Secrets, never given as flags:\n{lines}\n\
         A flag wins over a variable, a variable over the file. The key in the file is the variable in lower case \
         without UNBLOCK_; a secret stands in a file of its own, named by KEY_file.\n\
         Traces are sent where OTEL_EXPORTER_OTLP_ENDPOINT says; the other OTEL_* variables apply too."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    fn command() -> Command {
        ServeArgs::augment_args(Command::new("serve"))
    }

    #[test]
    fn help_lists_every_setting_with_its_flag_variable_and_default() {
        let help = command().term_width(400).render_help().to_string();
        for setting in SETTINGS {
            let flag = setting.flag_name().unwrap_or(setting.key);
            assert!(help.contains(&format!(" {flag}")), "{flag}\n{help}");
            assert!(help.contains(&format!("[env: {}", setting.variable)), "{}\n{help}", setting.variable);
            if let Unset::Value(value) = setting.default {
                assert!(
                    help.contains(&format!("{}] [default: {value}]", setting.variable)),
                    "{value}\n{help}"
                );
            }
        }
    }

    #[test]
    fn only_what_was_given_is_collected() -> Result<(), Error> {
        let matches = command().try_get_matches_from([
            "serve",
            "--listen",
            "[::1]:1",
            "--no-migrate",
            "--config",
            "a.toml",
        ])?;
        let args = ServeArgs::from_arg_matches(&matches)?;
        assert_eq!(args.config, Some(PathBuf::from("a.toml")));
        assert_eq!(
            args.given,
            BTreeMap::from([("listen", "[::1]:1".to_owned()), ("migrate", "false".to_owned())])
        );
        Ok(())
    }

    #[test]
    fn secrets_are_no_flags() {
        for flag in ["--pingone-client-secret", "--pingone-access-token"] {
            let refused = command()
                .try_get_matches_from(["serve", flag, "hunter2"])
                .err()
                .map(|error| error.to_string());
            assert!(refused.is_some_and(|message| !message.contains("hunter2")), "{flag}");
        }
    }

    #[test]
    fn debug_shows_no_value() -> Result<(), Error> {
        let matches =
            command().try_get_matches_from(["serve", "--database-url", "postgres://u:hunter2@h/d"])?;
        assert!(!format!("{:?}", ServeArgs::from_arg_matches(&matches)?).contains("hunter2"));
        Ok(())
    }
}
