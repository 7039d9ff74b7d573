//! From the upload to the results.

use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::{heard, input::Input, plan::Planned, results, upload::Upload};
use crate::{
    cli::{
        batch::{
            self,
            follow::{follow, is_final},
            progress::{Progress, not_unblocked},
            table,
        },
        client::Client,
        error::Error,
        exit::Exit,
        json as as_json,
        screen::{Hue, Screen},
        server::ServerOptions,
    },
    proto::v1::{Batch, WatchBatchRequest},
};

/// Uploads at the same time: where one environment's queue is full, another's rows need not wait.
const UPLOADS: usize = 4;

/// Watches at the same time: a server allows a connection only so many streams.
const WATCHES: usize = 32;

pub(super) struct Run<'a> {
    pub(super) client: &'a Client,
    pub(super) screen: &'a Screen,
    pub(super) server: &'a ServerOptions,
    pub(super) input: &'a Input,
    pub(super) planned: &'a [Planned],
}

/// How it ended.
pub(super) enum End {
    Exit(Exit),
    /// Somebody has to look and resume.
    Paused,
}

impl Run<'_> {
    /// Uploads and, unless it is to `detach`, follows and writes the results to `out`.
    ///
    /// # Errors
    /// What the server refuses, a server that stays away, files that can not be read or written.
    pub(super) async fn to_the_end(
        &self,
        detach: bool,
        out: &Path,
        failures_only: bool,
    ) -> Result<End, Error> {
        let alone = self.planned.len() == 1;
        let progress = Progress::start(self.screen, self.planned.iter().map(|one| one.name(alone)));
        let batches = tokio::select! {
            batches = self.batches(&progress, detach) => batches?,
            never = progress.show() => match never {},
        };
        drop(progress);
        if !self.screen.is_json() && !batch::sink::is_stdout(out) {
            heard(self.screen.print(&table::batches(self.screen, &batches)))?;
        }
        if detach {
            for one in &batches {
                self.screen.detail_command("follow", &self.command("watch", one));
                self.screen.detail_command("results", &self.command("results", one));
            }
            return Ok(End::Exit(Exit::Done));
        }
        let mut paused = batches.iter().filter(|one| !is_final(one)).peekable();
        if paused.peek().is_some() {
            paused.for_each(|one| self.tell_paused(one));
            return Ok(End::Paused);
        }
        let rows =
            results::write(self.client, self.screen, self.input, self.planned, out, failures_only).await?;
        self.tell(&batches, out, rows)
    }

    /// Every batch, uploaded and, unless it is to `detach`, at its end or paused.
    async fn batches(&self, progress: &Progress<'_>, detach: bool) -> Result<Vec<Batch>, Error> {
        let uploads = self.planned.iter().enumerate().map(|(line, one)| self.upload(progress, line, one));
        let uploaded: Vec<Batch> = stream::iter(uploads).buffered(UPLOADS).try_collect().await?;
        if detach {
            uploaded.iter().try_for_each(|batch| self.print(batch))?;
            return Ok(uploaded);
        }
        let follows = self.planned.iter().enumerate().map(|(line, one)| {
            let environment_id = one.header.environment_id.clone();
            let request = WatchBatchRequest { environment_id, batch_id: one.header.batch_id.clone() };
            follow(self.client, progress, line, request, |batch| self.print(batch))
        });
        stream::iter(follows).buffered(WATCHES).try_collect().await
    }

    async fn upload(&self, progress: &Progress<'_>, line: usize, one: &Planned) -> Result<Batch, Error> {
        let reached = |rows| {
            progress.uploaded(line, rows, one.part.rows);
            if !self.screen.is_json() {
                return Ok(());
            }
            let upload = as_json::upload(&one.header, rows, one.part.rows);
            heard(self.screen.print_json(&json!({ "upload": upload })))
        };
        let batch = Upload::new(self.client, self.input, one).run(progress, line, reached).await?;
        progress.batch(line, &batch);
        Ok(batch)
    }

    fn print(&self, batch: &Batch) -> Result<(), Error> {
        if !self.screen.is_json() {
            return Ok(());
        }
        heard(self.screen.print_json(&json!({ "batch": as_json::batch(batch) })))
    }

    fn tell_paused(&self, one: &Batch) {
        self.screen.headline(Hue::Attention, "paused:", &one.state_reason);
        self.screen.detail_command("results", &self.command("results", one));
        self.screen.detail_command("resume", &self.command("resume", one));
    }

    fn tell(&self, batches: &[Batch], out: &Path, rows: i64) -> Result<End, Error> {
        let file = out.to_string_lossy();
        let failed: i64 = batches.iter().map(not_unblocked).sum();
        if self.screen.is_json() {
            let results = json!({ "file": file, "rowCount": rows, "notUnblockedCount": failed });
            heard(self.screen.print_json(&json!({ "results": results })))?;
        }
        if failed == 0 {
            self.screen.detail("results", &file);
            return Ok(End::Exit(Exit::Done));
        }
        let sentence = format!("{} not unblocked", batch::rows_were(failed));
        self.screen.headline(Hue::Bad, "error:", &sentence);
        self.screen.detail("results", &file);
        for one in batches.iter().filter(|one| batch::can_be_retried(one)) {
            self.screen.detail_command("try again", &self.command("retry", one));
        }
        Ok(End::Exit(Exit::Failed))
    }

    fn command(&self, verb: &str, one: &Batch) -> String {
        batch::command(self.server, verb, &one.environment_id, &one.batch_id)
    }
}
