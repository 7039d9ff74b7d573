//! Who is alive, and who schedules which lanes.

use std::{fmt, time::Duration};

use uuid::Uuid;

use super::{Store, StoreError, column, micros};
use crate::{device::Lane, telemetry::metrics::timed};

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Answers calls and sends.
    All,
    /// Answers calls.
    Api,
    /// Sends.
    Worker,
}

impl Role {
    /// Whether it takes lanes.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }

    /// Whether it answers calls.
    #[must_use]
    pub const fn answers(self) -> bool {
        matches!(self, Self::All | Self::Api)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        })
    }
}

/// A lane and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneOwner {
    /// The lane.
    pub lane: Lane,
    /// Its owner, dead or alive.
    pub owner: Option<Uuid>,
}

/// The replicas that live and the lanes they hold, as of one moment.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    /// Live replicas that send, in the order of their ids.
    pub workers: Vec<Uuid>,
    /// How many replicas live, of any role.
    pub replicas: usize,
    /// Every lane.
    pub lanes: Vec<LaneOwner>,
}

impl Store {
    /// Makes a new replica known, alive for `lease`.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it.
    pub async fn join(&self, replica: Uuid, role: Role, lease: Duration) -> Result<(), StoreError> {
        let _timed = timed("join");
        sqlx::query!(
            r#"
            insert into replica (replica_id, role, version, lease_until)
            values ($1, $2, $3, now() + $4::bigint * interval '1 microsecond')
            on conflict do nothing
            "#,
            replica,
            role.to_string(),
            env!("CARGO_PKG_VERSION"),
            micros(lease),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Keeps a replica alive for another `lease`. False when it was too late: others may have taken its lanes.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it.
    pub async fn renew(&self, replica: Uuid, lease: Duration) -> Result<bool, StoreError> {
        let _timed = timed("renew");
        let renewed = sqlx::query!(
            r#"
            update replica set lease_until = now() + $2::bigint * interval '1 microsecond'
            where replica_id = $1 and lease_until > now()
            "#,
            replica,
            micros(lease),
        )
        .execute(&self.pool)
        .await?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Gives up a replica's lanes and its life, at once.
    ///
    /// # Errors
    /// [`StoreError`]: then its lease ends by itself.
    pub async fn leave(&self, replica: Uuid) -> Result<(), StoreError> {
        let _timed = timed("leave");
        let mut transaction = self.pool.begin().await?;
        sqlx::query!("update lane set owner = null where owner = $1", replica)
            .execute(&mut *transaction)
            .await?;
        sqlx::query!("delete from replica where replica_id = $1", replica).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Forgets replicas that have been dead for a day.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it.
    pub async fn forget_dead_replicas(&self) -> Result<(), StoreError> {
        let _timed = timed("forget_dead_replicas");
        sqlx::query!("delete from replica where lease_until < now() - interval '1 day'")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Who lives, and whose each lane is.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn membership(&self) -> Result<Membership, StoreError> {
        let _timed = timed("membership");
        let live = sqlx::query!(
            "select replica_id, role from replica where lease_until > now() order by replica_id"
        )
        .fetch_all(&self.pool)
        .await?;
        let lanes = sqlx::query!("select lane, owner from lane order by lane").fetch_all(&self.pool).await?;
        Ok(Membership {
            replicas: live.len(),
            workers: live.into_iter().filter(|row| row.role != "api").map(|row| row.replica_id).collect(),
            lanes: lanes
                .into_iter()
                .map(|row| LaneOwner { lane: Lane::from_stored(row.lane), owner: row.owner })
                .collect(),
        })
    }

    /// Hands lanes over from the owners they were seen with, to `to` or to nobody; says which changed hands. A lane that has
    /// another owner by now stays with it.
    ///
    /// # Errors
    /// [`StoreError`]: then no lane changed hands, or the answer was lost.
    pub async fn hand_over(&self, lanes: &[LaneOwner], to: Option<Uuid>) -> Result<Vec<Lane>, StoreError> {
        let _timed = timed("hand_over");
        let changed = sqlx::query_scalar!(
            r#"
            with wanted as (
                select l.lane, seen.owner from lane l
                join unnest($1::smallint[], $2::uuid[]) as seen (lane, owner) on l.lane = seen.lane
                where l.owner is not distinct from seen.owner
                order by l.lane
                for update of l
            )
            update lane set owner = $3 from wanted
            where lane.lane = wanted.lane and lane.owner is not distinct from wanted.owner
            returning lane.lane
            "#,
            &column(lanes, |entry| entry.lane.number()),
            &column(lanes, |entry| entry.owner) as &[Option<Uuid>],
            to,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(changed.into_iter().map(Lane::from_stored).collect())
    }
}
