//! Where PostgreSQL's programs are, and which of several to take.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::{PostgresError, account::Account};

/// The oldest major version whose SQL and options are used.
const OLDEST: u32 = 14;

/// Folders that hold one folder per major version: parent, what precedes the number in the version's name, and where in
/// that the programs are.
const VERSIONED: [(&str, &str, &str); 8] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/lib", "postgresql", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// `initdb` and `postgres` of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
    pub(super) major: u32,
}

impl Programs {
    /// The first installation that runs as `account` and is of the major version needed, any from 14 on where none is.
    pub(super) fn find(
        named: Option<&Path>,
        account: &Account,
        needed: Option<u32>,
    ) -> Result<Self, PostgresError> {
        let looked = match named.map(PathBuf::from).or_else(|| env::var_os("PG_BIN_DIR").map(PathBuf::from)) {
            Some(folder) => vec![folder],
            None => usual_folders(env::var_os("PATH").as_deref()),
        };
        let (mut found, mut broken) = (Vec::new(), None);
        for folder in looked.iter().filter_map(|folder| folder.canonicalize().ok()) {
            let (initdb, postgres) = (folder.join("initdb"), folder.join("postgres"));
            if !initdb.is_file() || !postgres.is_file() {
                continue;
            }
            match major_of(&postgres, account) {
                Ok(major) if needed.map_or(major >= OLDEST, |needed| major == needed) => {
                    return Ok(Self { initdb, postgres, major });
                }
                Ok(major) => found.push((major, folder)),
                Err(error) => broken = broken.or(Some(error)),
            }
        }
        match broken {
            _ if !found.is_empty() => Err(PostgresError::Version { needed, found }),
            Some(error) => Err(error),
            None => Err(PostgresError::NotFound { looked }),
        }
    }
}

fn usual_folders(path: Option<&OsStr>) -> Vec<PathBuf> {
    let on_path = path.iter().flat_map(env::split_paths).filter(|folder| folder.is_absolute());
    let mut versioned: Vec<(u32, PathBuf)> = VERSIONED
        .iter()
        .flat_map(|(parent, prefix, rest)| versions_in(Path::new(parent), prefix, rest))
        .collect();
    // A stable sort: among equals the table's order holds.
    versioned.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    on_path.chain(versioned.into_iter().map(|(_, folder)| folder)).collect()
}

fn versions_in(parent: &Path, prefix: &str, rest: &str) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let version = |name: &OsStr| name.to_str()?.strip_prefix(prefix)?.parse().ok();
    entries.filter_map(|entry| Some((version(&entry.file_name())?, entry.path().join(rest)))).collect()
}

/// Asks the program itself, as the account it will run as: so one that this account can not reach is not taken.
fn major_of(postgres: &Path, account: &Account) -> Result<u32, PostgresError> {
    let fails = |source| PostgresError::Program {
        program: postgres.to_owned(),
        user: account.name().to_owned(),
        source,
    };
    let answer = account.command(postgres).arg("--version").current_dir("/").output().map_err(fails)?;
    let text = String::from_utf8_lossy(&answer.stdout);
    parse_major(&text).ok_or_else(|| {
        let said = [answer.stdout.as_slice(), answer.stderr.as_slice()].concat();
        fails(std::io::Error::other(String::from_utf8_lossy(&said).trim().to_owned()))
    })
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is 15, `… 19beta1` is 19.
fn parse_major(text: &str) -> Option<u32> {
    let version = text.split_once("(PostgreSQL) ")?.1;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{error::Error, os::unix::fs::PermissionsExt as _};

    fn install(folder: &Path, version: &str) -> Result<(), Box<dyn Error>> {
        fs::create_dir_all(folder)?;
        for program in ["initdb", "postgres"] {
            let file = folder.join(program);
            fs::write(&file, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n"))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    #[test]
    fn the_major_version_is_read_from_every_kind_of_build() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(parse_major("postgres (PostgreSQL) 17\n"), Some(17));
        assert_eq!(parse_major("command not found"), None);
    }

    #[test]
    fn versioned_folders_are_read_by_number_not_by_name() -> Result<(), Box<dyn Error>> {
        let parent = tempfile::tempdir()?;
        for name in ["postgresql@9", "postgresql@17", "postgresql", "postgresql@next"] {
            fs::create_dir(parent.path().join(name))?;
        }
        let mut found = versions_in(parent.path(), "postgresql@", "bin");
        found.sort();
        let at = |name: &str| parent.path().join(name).join("bin");
        assert_eq!(found, [(9, at("postgresql@9")), (17, at("postgresql@17"))]);
        Ok(())
    }

    #[test]
    fn an_installation_of_another_version_or_too_old_is_refused_by_name() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        install(folder.path(), "13.4")?;
        let old = Programs::find(Some(folder.path()), &Account::Own, None);
        assert!(matches!(old, Err(PostgresError::Version { needed: None, .. })), "{old:?}");
        install(folder.path(), "17.1")?;
        assert_eq!(Programs::find(Some(folder.path()), &Account::Own, None)?.major, 17);
        let other = Programs::find(Some(folder.path()), &Account::Own, Some(15));
        assert!(matches!(other, Err(PostgresError::Version { needed: Some(15), .. })), "{other:?}");
        Ok(())
    }

    #[test]
    fn a_folder_without_the_programs_is_not_found() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let missing = Programs::find(Some(folder.path()), &Account::Own, None);
        assert!(matches!(missing, Err(PostgresError::NotFound { .. })), "{missing:?}");
        Ok(())
    }
}
