//! The server that ran in the folder before: what it left behind, and its end.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, kill_process, test_kill_process},
};

use super::{PostgresError, folder::Folder, server::LADDER};

const POLL: Duration = Duration::from_millis(10);

/// What a server says of itself in its data directory.
pub(super) struct Seen {
    pub(super) pid: Pid,
    pub(super) ready: bool,
}

/// Reads `postmaster.pid`: the process id in its first line, the state in its eighth.
pub(super) fn read(data: &Path) -> Option<Seen> {
    let text = fs::read_to_string(pid_file(data)).ok()?;
    let mut lines = text.lines();
    let pid = Pid::from_raw(lines.next()?.trim().parse().ok()?)?;
    Some(Seen { pid, ready: lines.nth(6).is_some_and(|state| state.trim() == "ready") })
}

/// Waits until an earlier server of the folder is gone. The caller holds the folder's lock, so whoever started it is gone:
/// it is ending already, or, where the kernel told it nothing, is told now.
pub(super) fn end(folder: &Folder) -> Result<(), PostgresError> {
    let data = folder.data();
    let Some(Seen { pid, .. }) = read(&data) else { return Ok(()) };
    let stuck = || PostgresError::Stuck { pid: pid.as_raw_pid().cast_unsigned() };
    for (signal, patience) in LADDER {
        if !is_server(pid, &data) {
            return forget(&data);
        }
        match kill_process(pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(_) => return Err(stuck()),
        }
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if !is_server(pid, &data) {
                return forget(&data);
            }
            thread::sleep(POLL);
        }
    }
    Err(stuck())
}

/// A server that was killed leaves its file. The next one would take it for alive if another process has its id by now.
fn forget(data: &Path) -> Result<(), PostgresError> {
    match fs::remove_file(pid_file(data)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(PostgresError::io("remove", pid_file(data), error))
        }
        _ => Ok(()),
    }
}

fn pid_file(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

/// Whether the process is a server that lives in `data`. A zombie is none: where nobody reaps, it stays for ever.
fn is_server(pid: Pid, data: &Path) -> bool {
    // Not there, or not ours to signal: the folder's server runs as a user whom we may.
    if test_kill_process(pid).is_err() {
        return false;
    }
    let Some((state, program)) = describe(pid) else { return false };
    if state.starts_with(['Z', 'X']) || !program.ends_with("postgres") {
        return false;
    }
    // A server works in its data directory. Where that can not be read, the name has to do.
    match fs::read_link(format!("/proc/{}/cwd", pid.as_raw_pid())) {
        Ok(folder) => data.canonicalize().is_ok_and(|data| data == folder),
        Err(_) => true,
    }
}

/// The state and the name of a process, from `/proc` or, where there is none, `ps`.
fn describe(pid: Pid) -> Option<(String, String)> {
    let pid = pid.as_raw_pid();
    if Path::new("/proc/self/stat").exists() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // `12 (postgres) S …`; the name may hold anything, also parentheses.
        let (start, rest) = (stat.find('(')?, stat.rfind(')')?);
        return Some((stat[rest + 1..].trim().to_owned(), stat[start + 1..rest].to_owned()));
    }
    let asked = ["-o", "state=,comm=", "-p", &pid.to_string()];
    let said = std::process::Command::new("ps").args(asked).output().ok()?;
    let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    let (state, program) = text.split_once(char::is_whitespace)?;
    Some((state.to_owned(), program.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{error::Error, process::Command};

    #[test]
    fn a_servers_own_word_is_read() -> Result<(), Box<dyn Error>> {
        let data = tempfile::tempdir()?;
        assert!(read(data.path()).is_none());
        let file =
            |state: &str| format!("4242\n/data\n1700000000\n5432\n/sockets\n127.0.0.1\n 1 2\n{state}\n");
        for (state, ready) in [("starting", false), ("ready   ", true), ("stopping", false)] {
            fs::write(pid_file(data.path()), file(state))?;
            let seen = read(data.path()).ok_or("not read")?;
            assert_eq!((seen.pid.as_raw_pid(), seen.ready), (4242, ready), "{state}");
        }
        Ok(())
    }

    #[test]
    fn another_process_with_the_id_of_an_old_server_is_left_alone() -> Result<(), Box<dyn Error>> {
        let data = tempfile::tempdir()?;
        let mut other = Command::new("sleep").arg("60").spawn()?;
        let pid = Pid::from_child(&other);
        assert!(!is_server(pid, data.path()));
        other.kill()?;
        // Killed and not yet waited for: a zombie.
        assert!(!is_server(pid, data.path()));
        other.wait()?;
        Ok(())
    }
}
