//! Records a job and waits for it, for as long as its caller does.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use tracing::{Instrument as _, Span};

use super::{Services, WAIT_AT_MOST, deadline, permit::Permit, status};
use crate::{
    engine::{SubmitError, Submitted},
    job::{Job, NewJob},
    telemetry::{TracePoint, spans},
    watch::Interest,
};

/// A job as it stood when it was recorded, or found recorded.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) job: Job,
    /// An earlier call with the same request id made it.
    pub(super) replayed: bool,
    /// It was recorded just now: nobody knows more of it than we do.
    new: bool,
    interest: Interest,
}

impl Services {
    /// Records the job that is asked for, and with it where it was asked for. It is durable when this returns.
    pub(super) async fn record(
        &self,
        asked: &mut NewJob,
        permit: &Permit,
        arrived: Instant,
        deadline: Option<Instant>,
    ) -> Result<Recorded, Status> {
        let mut interest = self.watch.interest(asked.id);
        let span = spans::submission(asked.id, asked.device.environment);
        let place = TracePoint::of(&span).or_else(|| TracePoint::of(&Span::current()));
        asked.trace_parent = place.map(|place| place.trace_parent());
        let submit = self.submitter.submit(asked.clone()).instrument(span);
        // Without a deadline the store's own time limits end it.
        let far = arrived + Duration::from_secs(3600);
        let submitted =
            tokio::time::timeout_at(deadline.map_or(far, |at| at - margin(arrived, at) / 2), submit)
                .await
                .map_err(|_| deadline::passed())?
                .map_err(|error| match error {
                    SubmitError::OverQuota(over) => permit.over_quota(asked.device.environment, over),
                    error => status::submit(&error),
                })?;
        let Submitted { id, now } = submitted;
        if id != asked.id {
            interest = self.watch.interest(id);
        }
        let (job, new) = match now {
            // Nobody knows more of it than we do: nothing is read.
            Some((created_at, running)) => (Job::recorded(asked.clone(), created_at, running), true),
            None => (Box::pin(self.job(id)).await?, false),
        };
        interest.seen(job.revision);
        Ok(Recorded { replayed: id != asked.id, job, new, interest })
    }

    /// The job once it has ended; as it stands where the time is up before, or this replica stops.
    pub(super) async fn ended(&self, recorded: Recorded, until: Instant) -> Job {
        let Recorded { mut job, new, mut interest, .. } = recorded;
        let mut seen = !new;
        while !job.state.is_final() && Instant::now() < until {
            tokio::select! {
                () = interest.changed() => {}
                () = tokio::time::sleep_until(until) => break,
                () = self.draining.cancelled() => break,
            }
            if let Some(confirmed) = interest.confirmed().filter(|_| new) {
                return job.confirmed(&confirmed);
            }
            seen = false;
            // The job is durable: what it looked like last is a true answer where Postgres is away now.
            match Box::pin(self.job(job.id)).await {
                Ok(newer) => (job, seen) = (newer, true),
                Err(_) => tokio::time::sleep(Duration::from_millis(50).min(until - Instant::now())).await,
            }
        }
        if !job.state.is_final()
            && !seen
            && let Ok(newer) = self.job(job.id).await
        {
            job = newer;
        }
        job
    }
}

/// How long before the deadline a reply leaves, to be there in time: 10 % of what there was, 20 to 250 ms.
fn margin(arrived: Instant, deadline: Instant) -> Duration {
    let given = deadline.saturating_duration_since(arrived);
    (given / 10).clamp(Duration::from_millis(20), Duration::from_millis(250)).min(given)
}

/// When the reply leaves at the latest.
pub(super) fn reply_by(arrived: Instant, deadline: Option<Instant>, wait: Option<Duration>) -> Instant {
    let wanted = arrived + wait.unwrap_or(WAIT_AT_MOST).min(WAIT_AT_MOST);
    deadline.map_or(wanted, |deadline| wanted.min(deadline - margin(arrived, deadline)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_leaves_in_time_for_its_caller() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        assert_eq!(reply_by(now, None, None), now + ms(30_000));
        assert_eq!(reply_by(now, None, Some(ms(60_000))), now + ms(30_000));
        assert_eq!(reply_by(now, None, Some(ms(0))), now);
        assert_eq!(reply_by(now, Some(now + ms(200)), None), now + ms(180));
        assert_eq!(reply_by(now, Some(now + ms(1000)), None), now + ms(900));
        assert_eq!(reply_by(now, Some(now + ms(10_000)), None), now + ms(9750));
        assert_eq!(reply_by(now, Some(now + ms(5)), None), now);
    }
}
