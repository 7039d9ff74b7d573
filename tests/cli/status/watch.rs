//! `status --watch`: on a terminal, elsewhere, and over the absence of its server.

use std::{fs::File, io::Read as _, process::Stdio, time::Duration};

use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};
use tonic_health::ServingStatus;

use super::{environment, fake::Fake, page};
use crate::harness::{ENVIRONMENT, Tested, binary};
use pingone_unblock::proto::v1::environment::State;

const PATIENCE: Duration = Duration::from_secs(30);

/// A process that watches, and what it prints.
struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(url: &str, more: &[&str]) -> Result<Self, Box<dyn std::error::Error>> {
        let arguments = [&["status", "--watch=500ms", "--server", url], more].concat();
        let mut child = binary(&arguments).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        Ok(Self { child, lines })
    }

    /// Reads on to a line that is so.
    async fn until(&mut self, is_so: impl Fn(&str) -> bool) -> Result<String, Box<dyn std::error::Error>> {
        let reading = async {
            while let Some(line) = self.lines.next_line().await? {
                if is_so(&line) {
                    return Ok(line);
                }
            }
            Err("it ended".into())
        };
        timeout(PATIENCE, reading).await?
    }

    async fn service(&mut self, state: &str) -> Result<Value, Box<dyn std::error::Error>> {
        let line = self.until(|line| line.contains(&format!("\"state\":\"{state}\""))).await?;
        Ok(serde_json::from_str::<Value>(&line)?["service"].take())
    }

    async fn interrupt(mut self) -> Result<Option<i32>, Box<dyn std::error::Error>> {
        interrupt(&self.child)?;
        Ok(timeout(PATIENCE, self.child.wait()).await??.code())
    }
}

fn interrupt(child: &Child) -> Tested {
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).ok_or("no pid")?;
    Ok(kill_process(pid, Signal::INT)?)
}

#[tokio::test]
async fn a_server_that_goes_away_is_waited_for_and_its_absence_told() -> Tested {
    let server = Fake::start().await?;
    let address = server.address;
    let mut watching = Watching::start(&server.url, &["--output", "json"])?;
    assert_eq!(watching.service("SERVING").await?["awaySince"], Value::Null);
    server.stop().await?;
    let away = watching.service("UNREACHABLE").await?;
    assert!(away["awaySince"].is_string() && away["awayUntil"].is_null(), "{away}");
    let server = Fake::at(address, ServingStatus::Serving).await?;
    let back = watching.service("SERVING").await?;
    assert_eq!(back["awaySince"], away["awaySince"]);
    assert!(back["awayUntil"].is_string(), "{back}");
    assert_eq!(watching.interrupt().await?, Some(130));
    server.stop().await
}

#[tokio::test]
async fn elsewhere_than_on_a_terminal_it_prints_blocks_until_nobody_reads() -> Tested {
    let server = Fake::start().await?;
    server.standing().pages = vec![page(vec![environment(ENVIRONMENT, State::Sending, "")])];
    let mut watching = Watching::start(&server.url, &[])?;
    watching.until(|line| line == "VERDICT   all is well").await?;
    watching.until(|line| line.starts_with("as of")).await?;
    watching.until(str::is_empty).await?;
    watching.until(|line| line == "VERDICT   all is well").await?;
    let Watching { child, lines } = watching;
    drop(lines);
    let ended = timeout(PATIENCE, child.wait_with_output()).await??;
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
    server.stop().await
}

#[tokio::test]
async fn on_a_terminal_it_draws_in_place_and_leaves_the_last_screen_standing() -> Tested {
    let server = Fake::start().await?;
    server.standing().pages = vec![page(vec![environment(ENVIRONMENT, State::Sending, "")])];
    for (variable, coloured) in [("IGNORED", true), ("NO_COLOR", false)] {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&person)?;
        unlockpt(&person)?;
        let terminal = open(ptsname(&person, Vec::new())?, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
        let mut command = binary(&["status", "--watch=500ms", "--server", &server.url]);
        let mut child = command.env(variable, "1").stdout(terminal).stderr(Stdio::null()).spawn()?;
        drop(command);
        let reading = tokio::task::spawn_blocking(move || until_drawn_twice(File::from(person)));
        let (mut person, mut told) = timeout(PATIENCE, reading).await??;
        interrupt(&child)?;
        assert_eq!(timeout(PATIENCE, child.wait()).await??.code(), Some(130));
        let mut rest = Vec::new();
        // Linux ends it with an error where other systems say that nothing more comes.
        let _ = person.read_to_end(&mut rest);
        told.push_str(&String::from_utf8_lossy(&rest));
        assert!(told.contains("F\u{1b}[J") && told.ends_with("\r\u{1b}[K"), "{told:?}");
        assert_eq!(told.contains("\u{1b}[32mall is well\u{1b}[0m"), coloured, "{told:?}");
    }
    server.stop().await
}

fn until_drawn_twice(mut person: File) -> (File, String) {
    let (mut told, mut bytes) = (String::new(), [0; 4096]);
    while told.matches("as of").count() < 2
        && let Ok(read @ 1..) = person.read(&mut bytes)
    {
        told.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    (person, told)
}
