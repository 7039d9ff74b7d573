//! An audit trail to look at: entries as the service writes them, their seals, and what `audit verify` says of both.

use std::{collections::BTreeSet, path::Path, process::Output, time::Duration};

use pingone_unblock::{
    audit::{Action, Personal, event_id, first_id, millis_at, millis_of},
    device::{DeviceId, EnvironmentId, Lane, UserId},
};
use serde_json::Value;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, process::command};

/// The lane of most that happens here.
pub(crate) const LANE: i16 = 7;

/// An id as somebody made it so long ago.
pub(crate) fn id_before(lane: i16, ago: Duration) -> Uuid {
    let id = event_id(Lane::from_stored(lane)).as_u128();
    let then = first_id(millis_at(OffsetDateTime::now_utc() - ago)).as_u128();
    Uuid::from_u128(then | id & ((1 << 80) - 1))
}

/// An entry in which every column says something.
pub(crate) async fn write<'a>(to: impl sqlx::PgExecutor<'a>, lane: i16, id: Uuid) -> Result<()> {
    let personal = Personal {
        user: Some(UserId::from(Uuid::new_v4())),
        device: Some(DeviceId::from(Uuid::new_v4())),
        reason: "lost her phone".to_owned(),
        ..Personal::default()
    };
    let packed = personal.pack();
    sqlx::query(
        "insert into audit (lane, event_id, environment_id, job_id, trace_id, run, attempts, count, action, outcome,
                            http_status, caller, policy, batch_id, reason, detail, correlation_id, personal_digest, personal,
                            events)
         values ($1, $2, $3, $4, $5, 1, 1, 1, $6, 3, 200, 'help-desk', '1', 'batch', 'WHY', 'what', 'abc', $7, $8, '{}')",
    )
    .bind(lane)
    .bind(id)
    .bind(EnvironmentId::from(Uuid::new_v4()).as_uuid())
    .bind(Uuid::new_v4())
    .bind(Uuid::new_v4())
    .bind(Action::Requested.number())
    .bind(packed.digest.to_vec())
    .bind(packed.bytes)
    .execute(to)
    .await?;
    Ok(())
}

/// Entries of a moment ago, by Postgres's clock too; their ids, in their order.
pub(crate) async fn write_some(pool: &PgPool, lane: i16, count: usize) -> Result<Vec<Uuid>> {
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        let id = event_id(Lane::from_stored(lane));
        write(pool, lane, id).await?;
        ids.push(id);
    }
    past(pool, ids.last().copied().unwrap_or_default()).await?;
    Ok(ids)
}

/// Waits until an id is not ahead of Postgres's clock any more.
async fn past(pool: &PgPool, id: Uuid) -> Result<()> {
    // Not by `eventually`: whoever writes from a task of its own needs a future that can be sent.
    loop {
        let now: OffsetDateTime = sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await?;
        if millis_at(now) > millis_of(id) {
            return Ok(());
        }
    }
}

/// That what was said of `events` was erased.
pub(crate) async fn write_erasure(pool: &PgPool, lane: i16, events: &[Uuid]) -> Result<()> {
    let id = event_id(Lane::from_stored(lane));
    sqlx::query(
        "insert into audit (lane, event_id, action, caller, events) values ($1, $2, $3, 'privacy', $4)",
    )
    .bind(lane)
    .bind(id)
    .bind(Action::Erased.number())
    .bind(events)
    .execute(pool)
    .await?;
    past(pool, id).await
}

/// Events, those of them that are sealed, and how many times in all.
pub(crate) async fn sealed(pool: &PgPool) -> Result<(i64, i64, i64)> {
    let counts = "select (select count(*) from audit), count(distinct e.id), count(*)
                  from audit_seal s cross join lateral unnest(s.events) as e (id)";
    Ok(sqlx::query_as(counts).fetch_one(pool).await?)
}

/// What `audit verify` says.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    /// The kinds of what is wrong.
    pub(crate) kinds: BTreeSet<String>,
    pub(crate) summary: Value,
    pub(crate) stderr: String,
}

/// Asks it of the database at `url`.
pub(crate) async fn verify(url: &str, arguments: &[&str]) -> Result<Said> {
    let output = audit(url, &[&["verify", "--output", "json"], arguments].concat()).await?;
    let lines = String::from_utf8(output.stdout)?;
    let lines: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let kinds = lines.iter().filter_map(|line| line["finding"]["kind"].as_str());
    Ok(Said {
        code: output.status.code(),
        kinds: kinds.map(ToOwned::to_owned).collect(),
        summary: lines.last().map(|line| line["summary"].clone()).unwrap_or_default(),
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// Keeps the heads as they are now.
pub(crate) async fn keep_heads(url: &str, file: &Path) -> Result<()> {
    let output = audit(url, &["head"]).await?;
    assert!(output.status.success(), "{output:?}");
    Ok(std::fs::write(file, output.stdout)?)
}

async fn audit(url: &str, arguments: &[&str]) -> Result<Output> {
    let mut audit = command(&[&["audit"], arguments].concat());
    audit.env("UNBLOCK_DATABASE_URL", url);
    Ok(tokio::task::spawn_blocking(move || audit.output()).await??)
}
