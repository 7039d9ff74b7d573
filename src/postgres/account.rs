//! Whom PostgreSQL's programs run as. They refuse to run as root.

use std::{
    fs, io,
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use super::PostgresError;

const STAND_INS: [&str; 2] = ["postgres", "nobody"];

/// Whom to run the programs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// Whoever runs this process.
    Own,
    /// Another user, in whose stead root started this process.
    Other { name: String, uid: u32, gid: u32 },
}

impl Account {
    /// The account for a cluster in `data`: its owner's where it is there already.
    pub(super) fn of(data: &Path) -> Result<Self, PostgresError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let users = fs::read_to_string("/etc/passwd")
            .map_err(|source| PostgresError::io("read", "/etc/passwd", source))?;
        if let Ok(owner) = fs::metadata(data)
            && owner.uid() != 0
        {
            let known = find(&users, |user| user.uid == owner.uid());
            return Ok(known.unwrap_or_else(|| Self::Other {
                name: format!("user {}", owner.uid()),
                uid: owner.uid(),
                gid: owner.gid(),
            }));
        }
        STAND_INS
            .iter()
            .find_map(|name| find(&users, |user| user.name == *name))
            .ok_or(PostgresError::NoAccount)
    }

    /// Its name, for messages.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Own => "this user",
            Self::Other { name, .. } => name,
        }
    }

    /// A command that will run as this account, with messages in the one language we can read.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C");
        if let Self::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
        command
    }

    /// Makes this account the owner of `path`.
    pub(super) fn own(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid, .. } => chown(path, Some(*uid), Some(*gid)),
        }
    }
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

fn find(users: &str, wanted: impl Fn(&User<'_>) -> bool) -> Option<Account> {
    let user = users.lines().filter_map(parse).find(wanted)?;
    Some(Account::Other { name: user.name.to_owned(), uid: user.uid, gid: user.gid })
}

fn parse(line: &str) -> Option<User<'_>> {
    let mut fields = line.split(':');
    let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some(User { name, uid: number(uid)?, gid: number(gid)? })
}

/// macOS writes `nobody` as -2.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| text.parse::<i32>().ok().map(i32::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "# a comment\nroot:*:0:0:System:/var/root:/bin/sh\nnobody:*:-2:-2::/:/usr/bin/false\n\
                         postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";

    #[test]
    fn users_are_found_by_name_also_with_negative_ids() {
        let by_name = |name: &str| find(USERS, |user| user.name == name);
        let account = |name: &str, uid, gid| Some(Account::Other { name: name.to_owned(), uid, gid });
        assert_eq!(by_name("postgres"), account("postgres", 101, 104));
        assert_eq!(by_name("nobody"), account("nobody", u32::MAX - 1, u32::MAX - 1));
        assert_eq!(by_name("somebody"), None);
    }
}
