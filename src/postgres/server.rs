//! The server's process: started as a child, watched, ended.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::{PostgresError, earlier, folder::Folder, programs::Programs, tie};

/// Signals that end a server, each with the time it is given before the next: a clean end, an end without one, and by force.
pub(super) const LADDER: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(15)),
    (Signal::QUIT, Duration::from_secs(5)),
    (Signal::KILL, Duration::from_secs(5)),
];
const READY_POLL: Duration = Duration::from_millis(5);
/// How much of the log's end goes into an error.
const LAST_WORDS: usize = 2000;

/// What the server is told on its command line, where it outranks every file in the cluster.
pub(super) struct Settings {
    pub(super) durable: bool,
    pub(super) max_connections: u16,
    pub(super) port: u16,
}

/// How a start went.
pub(super) enum Outcome {
    Ready,
    Ended { log: String },
    TooSlow { log: String },
}

/// A child that is the server. Dropping this ends it.
#[derive(Debug)]
pub(super) struct Server {
    pid: Pid,
    life: Arc<Life>,
}

#[derive(Debug, Default)]
struct Life {
    over: Mutex<bool>,
    ended: Condvar,
}

impl Life {
    fn over(&self) -> MutexGuard<'_, bool> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Starts the server of the folder. It may take a while to answer.
    pub(super) fn spawn(
        folder: &Folder,
        programs: &Programs,
        settings: &Settings,
    ) -> Result<Self, PostgresError> {
        let fails = |source| PostgresError::io("run", &programs.postgres, source);
        let mut command = folder.account().command(&programs.postgres);
        command.arg("-D").arg(folder.data()).current_dir(folder.data());
        configure(&mut command, settings, folder.sockets()?.as_deref());
        let log = File::create(folder.log()).map_err(|e| PostgresError::io("write", folder.log(), e))?;
        // A group of its own, so that Ctrl-C reaches only us and the order of the end is ours.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        tie::to_this_thread(&mut command, Signal::INT);

        let life = Arc::new(Life::default());
        let (started, answer) = mpsc::sync_channel(1);
        let keeper = Arc::clone(&life);
        // The kernel takes the end of the thread that started a child for its parent's death: this one lives as long as
        // the child.
        thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(move || match command.spawn() {
                Ok(child) => {
                    let _ = started.send(Ok(child.id()));
                    outlive(child, &keeper);
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            })
            .map_err(fails)?;
        let pid = answer.recv().expect("the thread answers before it ends").map_err(fails)?;
        Ok(Self { pid: Pid::from_raw(pid.cast_signed()).expect("a child's id is positive"), life })
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid.as_raw_pid().cast_unsigned()
    }

    /// Waits until the server says in its folder that it is ready; a file left over by another server says nothing.
    pub(super) fn wait_until_ready(&self, folder: &Folder, limit: Duration) -> Outcome {
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if earlier::read(&folder.data()).is_some_and(|seen| seen.ready && seen.pid == self.pid) {
                return Outcome::Ready;
            }
            if self.is_over_within(READY_POLL) {
                return Outcome::Ended { log: last_words(&folder.log()) };
            }
        }
        Outcome::TooSlow { log: last_words(&folder.log()) }
    }

    /// Ends the server and waits for that. False if nothing helped.
    pub(super) fn end(&self) -> bool {
        LADDER.iter().any(|(signal, patience)| {
            self.send(*signal);
            self.is_over_within(*patience)
        })
    }

    /// While the lock is held and the child not reaped, its id is its own.
    fn send(&self, signal: Signal) {
        let over = self.life.over();
        if !*over {
            // It can only have ended by itself: then there is nothing to do.
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }

    fn is_over_within(&self, patience: Duration) -> bool {
        let waited = self.life.ended.wait_timeout_while(self.life.over(), patience, |over| !*over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.end() {
            tracing::error!(pid = self.pid(), "PostgreSQL does not end");
        }
    }
}

/// Waits for the child without reaping it, then reaps it under the lock that [`Server::send`] takes.
fn outlive(mut child: Child, life: &Life) {
    let pid = Pid::from_child(&child);
    let ended = || rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    while matches!(ended(), Err(rustix::io::Errno::INTR)) {}
    let mut over = life.over();
    let _ = child.wait();
    *over = true;
    life.ended.notify_all();
}

fn configure(command: &mut Command, settings: &Settings, sockets: Option<&Path>) {
    let mut set = |name: &str, value: &str| {
        command.arg("-c").arg(format!("{name}={value}"));
    };
    set("listen_addresses", "127.0.0.1");
    set("port", &settings.port.to_string());
    set("unix_socket_directories", sockets.and_then(Path::to_str).unwrap_or_default());
    set("max_connections", &settings.max_connections.to_string());
    set("timezone", "UTC");
    set("log_timezone", "UTC");
    set("log_checkpoints", "off");
    let durable = if settings.durable { "on" } else { "off" };
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        set(name, durable);
    }
    if !settings.durable {
        set("wal_level", "minimal");
        set("max_wal_senders", "0");
        // A test's database is dropped while its service may still be connecting, and DROP DATABASE waits for sessions that
        // are still authenticating.
        set("authentication_timeout", "2");
    }
}

/// Whether a server ended for a reason that passes by itself.
pub(super) fn passes(log: &str) -> bool {
    ["could not create any TCP/IP sockets", "pre-existing shared memory block"]
        .iter()
        .any(|reason| log.contains(reason))
}

fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(LAST_WORDS)..]);
    text.trim().to_owned()
}
