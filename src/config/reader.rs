//! Finds each setting's value by precedence (flag, variable, file, default) and gathers every mistake on the way.

use std::{ffi::OsString, path::PathBuf};

use secrecy::SecretString;
use toml::Table;

use super::{
    ConfigError,
    args::{CONFIG_VARIABLE, ServeArgs},
    file::{File, text_of},
    mistake::{Mistake, Origin},
    settings::{Secrecy, Setting, Unset, setting},
};

/// A value somebody gave, and where. Has no `Debug`: it may be a secret.
pub(super) struct Given {
    pub(super) text: String,
    pub(super) origin: Origin,
    /// The file that holds the value, where `text` only names it.
    file: Option<PathBuf>,
}

/// What is wrong with a value, and the remedy.
pub(super) struct Wrong(pub(super) String, pub(super) String);

/// Looks up one variable of the environment, such as [`std::env::var_os`].
pub(super) type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

pub(super) struct Reader<'a> {
    args: &'a ServeArgs,
    variable: Variable<'a>,
    pub(super) file: File,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(args: &'a ServeArgs, variable: Variable<'a>) -> Self {
        let mut reader = Self { args, variable, file: File::default(), mistakes: Vec::new() };
        let named = match &args.config {
            Some(path) => Some((path.clone(), Origin::Flag("--config"))),
            None => reader.variable(CONFIG_VARIABLE).map(|given| (PathBuf::from(given.text), given.origin)),
        };
        if let Some((path, named_by)) = named {
            reader.file = File::read(path, named_by, &mut reader.mistakes);
        }
        reader
    }

    /// The value, unless there was a mistake anywhere.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        match value {
            Some(value) if self.mistakes.is_empty() => Ok(value),
            _ => Err(ConfigError { mistakes: self.mistakes }),
        }
    }

    pub(super) fn mistake(&mut self, origin: Origin, Wrong(what, remedy): Wrong) {
        self.mistakes.push(Mistake { origin, what, remedy });
    }

    /// Where the setting of `key` was given or, where it was not, may be.
    pub(super) fn origin(&mut self, key: &str) -> Origin {
        let variable = || Origin::Variable(setting(key).variable.to_owned());
        self.find(key).into_iter().next().map_or_else(variable, |given| given.origin)
    }

    /// Says that the setting of `key` is needed.
    pub(super) fn missing(&mut self, key: &str, why: &str) {
        let Setting { variable, .. } = setting(key);
        let what = format!("not set, but {why}");
        self.mistake(Origin::Variable((*variable).to_owned()), Wrong(what, "set it".to_owned()));
    }

    /// Who gave the setting of `key`, if anybody did. To be asked once for each key: it records mistakes.
    pub(super) fn given(&mut self, key: &str) -> Option<Given> {
        let mut found = self.find(key).into_iter();
        let first = found.next()?;
        if let Some(second) = found.next() {
            let what = format!("{} is set too", second.origin);
            self.mistake(first.origin.clone(), Wrong(what, "set only one of the two".to_owned()));
        }
        Some(first)
    }

    /// The values of the first of flag, variable and file that gives any: two where a secret has both of its forms.
    fn find(&mut self, key: &str) -> Vec<Given> {
        let setting = setting(key);
        if let Some(text) = self.args.given.get(setting.key) {
            let flag = setting.flag_name().unwrap_or_default();
            return vec![Given { text: text.clone(), origin: Origin::Flag(flag), file: None }];
        }
        let mut found = Vec::from_iter(self.variable(setting.variable));
        if setting.secrecy != Secrecy::Open {
            let named = self.variable(&format!("{}_FILE", setting.variable));
            found.extend(named.map(|given| Given { file: Some(PathBuf::from(&given.text)), ..given }));
        }
        if found.is_empty() {
            let table = std::mem::take(&mut self.file.table);
            found.extend(self.given_in(&table, "", setting.key));
            if setting.secrecy != Secrecy::Open {
                found.extend(self.file_given_in(&table, "", setting.key));
            }
            self.file.table = table;
        }
        found
    }

    /// The value of `key` in a table of the file.
    pub(super) fn given_in(&mut self, table: &Table, prefix: &str, key: &str) -> Option<Given> {
        let value = table.get(key)?;
        let origin = Origin::File { path: self.file.path.clone(), key: format!("{prefix}{key}") };
        let text = text_of(value);
        if text.is_none() {
            let remedy = "write a text, a number, true or false".to_owned();
            self.mistake(origin.clone(), Wrong(format!("a {} means nothing here", value.type_str()), remedy));
        }
        Some(Given { text: text?, origin, file: None })
    }

    /// The secret of `key` in a table of the file, which only names the secret's own file.
    pub(super) fn file_given_in(&mut self, table: &Table, prefix: &str, key: &str) -> Option<Given> {
        let given = self.given_in(table, prefix, &format!("{key}_file"))?;
        Some(Given { file: Some(self.file.beside(&given.text)), ..given })
    }

    /// The value of the setting of `key`, else its default. None where there is neither, or a mistake, which is then recorded.
    pub(super) fn read<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        let setting = setting(key);
        let given = self.given(key).or(match setting.default {
            Unset::Value(text) => {
                let origin = Origin::Variable(setting.variable.to_owned());
                Some(Given { text: text.to_owned(), origin, file: None })
            }
            Unset::Words(_) => None,
        })?;
        self.parse(&given, parse)
    }

    /// What `given` means; None after recording a mistake.
    pub(super) fn parse<T>(
        &mut self,
        given: &Given,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.parse_part(&given.origin, &given.text, parse)
    }

    /// What `text`, a part of what was given at `origin`, means; None after recording a mistake.
    pub(super) fn parse_part<T>(
        &mut self,
        origin: &Origin,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        parse(text).map_err(|wrong| self.mistake(origin.clone(), wrong)).ok()
    }

    /// The secret that `given` is or whose file it names.
    pub(super) fn secret(&mut self, given: &Given) -> Option<SecretString> {
        let Some(path) = &given.file else { return Some(given.text.trim().into()) };
        let wrong = match std::fs::read_to_string(path) {
            Ok(text) if !text.trim().is_empty() => return Some(text.trim().into()),
            // Without the path: it is the secret itself where somebody took this for the other setting.
            Ok(_) => "the file it names is empty".to_owned(),
            Err(error) => format!("the file it names cannot be read: {error}"),
        };
        self.mistake(
            given.origin.clone(),
            Wrong(wrong, "name a readable file that holds the secret alone".to_owned()),
        );
        None
    }

    /// A variable; one that is empty counts as not set.
    pub(super) fn variable(&mut self, name: &str) -> Option<Given> {
        let text = (self.variable)(name).filter(|text| !text.is_empty())?;
        let origin = Origin::Variable(name.to_owned());
        match text.into_string() {
            Ok(text) => Some(Given { text, origin, file: None }),
            Err(_) => {
                self.mistake(
                    origin,
                    Wrong("the value is not UTF-8".to_owned(), "write it in UTF-8".to_owned()),
                );
                None
            }
        }
    }
}

impl Given {
    /// The file that holds the value, if one does.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.file.clone()
    }

    /// Whether the value itself stands on the command line or in the configuration file, where no secret belongs.
    pub(super) fn stands_in_the_open(&self) -> bool {
        self.file.is_none() && !matches!(self.origin, Origin::Variable(_))
    }
}
