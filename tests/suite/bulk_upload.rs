//! Uploads of batches: acknowledged by offset, each row once, whatever is sent again, and by whom.

use pingone_unblock::proto::v1::{
    self, BatchTarget, batch::State, bulk_unblock_request::Kind, job, target_result::Outcome,
};
use tonic::{Code, Status};

use crate::{
    harness::{
        Result,
        bulk::{Bulk, having, header, number, row, rows, stretch},
        service::{Variant, World},
    },
    unblock::reason,
};

async fn world_and_bulk() -> Result<(World, Bulk)> {
    let world = World::start().await?;
    let bulk = Bulk::at(&world.service, header())?;
    Ok((world, bulk))
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.expect_err("it is refused");
    (status.code(), reason(&status))
}

fn with_reference(row: BatchTarget, reference: &str) -> BatchTarget {
    BatchTarget { client_reference: reference.to_owned(), ..row }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_acknowledged_by_offset_and_a_wrong_row_is_refused_by_itself() -> Result<()> {
    let (world, bulk) = world_and_bulk().await?;
    let (mut upload, opened) = bulk.open().await?;
    let batch = opened.batch.ok_or("no batch")?;
    assert_eq!((opened.next_offset, batch.next_offset, batch.state()), (0, 0, State::Running));
    assert_eq!(batch.batch_id, bulk.header.batch_id);

    let wrong = BatchTarget {
        user_id: "somebody".to_owned(),
        device_id: "something".to_owned(),
        client_reference: "line 2".to_owned(),
    };
    let first = [with_reference(row(), "line 1"), wrong.clone(), row()];
    let answer = upload.targets(0, &first).await?;
    assert_eq!((answer.next_offset, answer.batch), (3, None));
    let rejections: Vec<_> = answer
        .rejections
        .iter()
        .map(|refused| (refused.offset, refused.client_reference.as_str(), refused.reason.as_str()))
        .collect();
    assert_eq!(rejections, [(1, "line 2", "FIELD_INVALID")]);
    let told = &answer.rejections[0].message;
    assert!(told.contains("user_id") && told.contains("device_id"), "{told}");
    assert_eq!(upload.targets(3, &rows(1000)).await?.next_offset, 1003);
    // Sent again, as after a break: the same is said of it, and nothing is recorded.
    let again = upload.targets(0, &first).await?;
    assert_eq!((again.next_offset, &again.rejections), (1003, &answer.rejections));
    let sealed = upload.seal(1003).await?;
    assert!(sealed.batch.is_some_and(|batch| batch.sealed && batch.next_offset == 1003));
    assert_eq!(upload.seal(1003).await?.next_offset, 1003, "the same seal again is harmless");

    let (batch, results) = bulk.ended(State::Done).await?;
    assert_eq!((batch.succeeded_count, batch.rejected_count), (1002, 1));
    assert_eq!((results[1].outcome(), results[1].job_id.as_str()), (Outcome::Rejected, ""));
    assert_eq!(results[1].target, Some(wrong), "as it was given");
    assert_eq!(results[1].error.as_ref().map(|error| error.reason.as_str()), Some("FIELD_INVALID"));
    assert_eq!(results[0].target.as_ref().map(|target| target.client_reference.as_str()), Some("line 1"));
    assert_eq!(world.simulator().counts().posts, 1002);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_in_several_rows_is_sent_once_and_the_later_rows_name_the_first() -> Result<()> {
    let (world, bulk) = world_and_bulk().await?;
    let (twice, once, later) = (row(), row(), row());
    let (mut upload, _) = bulk.open().await?;
    let first = [twice.clone(), once, with_reference(twice.clone(), "again"), twice.clone()];
    upload.targets(0, &first).await?;
    upload.targets(4, &[later, twice]).await?;
    upload.seal(6).await?;
    let (batch, results) = bulk.ended(State::Done).await?;
    assert_eq!((batch.succeeded_count, batch.duplicate_count, batch.target_count), (3, 3, 6));
    for duplicate in [2, 3, 5] {
        let result = &results[duplicate];
        assert_eq!(
            (result.outcome(), &result.job_id, result.state()),
            (Outcome::Duplicate, &results[0].job_id, job::State::Succeeded)
        );
    }
    assert_eq!(world.simulator().counts().posts, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_its_reason_and_changes_nothing() -> Result<()> {
    let (world, bulk) = world_and_bulk().await?;
    let some = rows(10);
    bulk.fill(&some).await?;
    let other_row = [row()];
    let first_again = [with_reference(some[0].clone(), "otherwise")];
    let failed = (Code::FailedPrecondition, "COUNT_MISMATCH".to_owned());
    let conflict = (Code::FailedPrecondition, "OFFSET_CONFLICT".to_owned());
    let gap = (Code::OutOfRange, "OFFSET_GAP".to_owned());
    let invalid = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    // Each by a stream, then by a single call.
    for (offset, given, expected) in [
        (0, &other_row[..], &conflict),
        (0, &first_again, &conflict),
        (11, &other_row, &gap),
        (10, &rows(1001), &invalid),
    ] {
        let (mut upload, _) = bulk.open().await?;
        assert_eq!(refused(upload.targets(offset, given).await), *expected);
        assert_eq!(refused(bulk.append(offset, given, None).await), *expected);
    }
    for rows in [9, 11] {
        let (mut upload, _) = bulk.open().await?;
        assert_eq!(refused(upload.seal(rows).await), failed);
        assert_eq!(refused(bulk.append(0, &[], Some(rows)).await), failed);
    }
    let (mut upload, _) = bulk.open().await?;
    let negative = v1::BatchTargets { offset: -1, targets: some.clone() };
    assert_eq!(refused(upload.say(Kind::Targets(negative)).await), invalid);
    let (mut upload, _) = bulk.open().await?;
    assert_eq!(refused(upload.say(Kind::Seal(v1::BatchSeal { target_count: -1 })).await), invalid);
    let (mut upload, _) = bulk.open().await?;
    assert_eq!(refused(upload.say(Kind::Header(bulk.header.clone())).await), invalid, "it comes once");
    let mut upload = bulk.silent().await?;
    assert_eq!(refused(upload.say(Kind::Targets(stretch(0, &some))).await), invalid, "it has no header");
    let headless = v1::AppendBatchTargetsRequest { header: None, ..Default::default() };
    assert_eq!(refused(bulk.devices.clone().append_batch_targets(headless).await), invalid);

    bulk.append(0, &[], Some(10)).await?;
    let closed = (Code::FailedPrecondition, "BATCH_STATE_CONFLICT".to_owned());
    assert_eq!(refused(bulk.append(10, &other_row, None).await), closed, "it is sealed");
    assert_eq!(bulk.append(8, &some[8..], None).await?.next_offset, 10, "what is known stays known");
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!((batch.target_count, world.simulator().counts().posts), (10, 10));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_must_be_the_same_again_and_make_sense() -> Result<()> {
    let (world, bulk) = world_and_bulk().await?;
    bulk.append(0, &rows(1), None).await?;
    let same = &bulk.header;
    let others = [
        v1::BatchHeader { reason: "another".to_owned(), ..same.clone() },
        v1::BatchHeader { ticket: "another".to_owned(), ..same.clone() },
        v1::BatchHeader { on_behalf_of: "another".to_owned(), ..same.clone() },
        v1::BatchHeader { max_failure_ratio: 0.5, ..same.clone() },
        v1::BatchHeader { canary_count: 5, ..same.clone() },
        v1::BatchHeader { start_when_sealed: true, ..same.clone() },
        v1::BatchHeader {
            time_to_live: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..same.clone()
        },
    ];
    for header in others {
        let other = Bulk::at(&world.service, header)?;
        let reused = (Code::InvalidArgument, "BATCH_ID_REUSED".to_owned());
        assert_eq!(refused(other.open().await.map(drop)), reused);
        assert_eq!(refused(other.append(1, &rows(1), None).await), reused);
    }
    let nonsense = [
        v1::BatchHeader { batch_id: String::new(), ..same.clone() },
        v1::BatchHeader { batch_id: "x".repeat(129), ..same.clone() },
        v1::BatchHeader { environment_id: "prod".to_owned(), ..same.clone() },
        v1::BatchHeader { max_failure_ratio: 1.1, ..same.clone() },
        v1::BatchHeader { max_failure_ratio: f64::NAN, ..same.clone() },
        v1::BatchHeader { canary_count: -1, ..same.clone() },
        v1::BatchHeader {
            time_to_live: Some(prost_types::Duration { seconds: 8 * 24 * 3600, nanos: 0 }),
            ..same.clone()
        },
    ];
    for header in nonsense {
        let other = Bulk::at(&world.service, header)?;
        let invalid = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
        assert_eq!(refused(other.append(0, &rows(1), None).await), invalid);
    }
    let unknown = Bulk::at(&world.service, header())?;
    let missing = (Code::NotFound, "BATCH_NOT_FOUND".to_owned());
    assert_eq!(refused(unknown.get().await), missing);
    assert_eq!(refused(unknown.stream(unknown.asks_results()).await), missing);
    assert_eq!(refused(unknown.pause().await), missing);
    assert_eq!(bulk.get().await?.target_count, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_streams_the_newer_wins() -> Result<()> {
    let (_world, bulk) = world_and_bulk().await?;
    let all = rows(30);
    let (mut older, _) = bulk.open().await?;
    older.targets(0, &all[..10]).await?;
    let (mut newer, opened) = bulk.open().await?;
    assert_eq!(opened.next_offset, 10);
    let superseded = (Code::Aborted, "UPLOAD_SUPERSEDED".to_owned());
    assert_eq!(refused(older.targets(10, &all[10..20]).await), superseded);
    assert_eq!(newer.targets(10, &all[10..]).await?.next_offset, 30);
    let (mut newest, _) = bulk.open().await?;
    assert_eq!(refused(newer.seal(30).await), superseded);
    newest.seal(30).await?;
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!(batch.succeeded_count, 30);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn single_calls_write_beside_a_stream_and_end_none() -> Result<()> {
    let (world, bulk) = world_and_bulk().await?;
    let all = rows(50);
    let (mut upload, _) = bulk.open().await?;
    upload.targets(0, &all[..10]).await?;
    assert_eq!(bulk.append(5, &all[5..20], None).await?.next_offset, 20);
    assert_eq!(upload.targets(10, &all[10..30]).await?.next_offset, 30, "the stream goes on");
    assert_eq!(bulk.append(30, &all[30..], Some(50)).await?.next_offset, 50);
    assert_eq!(upload.seal(50).await?.next_offset, 50);
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!((batch.succeeded_count, world.simulator().counts().posts), (50, 50));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_at_once_leave_each_offset_exactly_once() -> Result<()> {
    let (world, bulk) = world_and_bulk().await?;
    let all = rows(2000);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..6_usize {
        let (bulk, all) = (bulk.clone(), all.clone());
        writers.spawn(async move {
            // Stretches of its own length, from wherever the upload stands.
            let step = 17 + writer * 13;
            loop {
                let next = usize::try_from(bulk.get().await.map_or(0, |batch| batch.next_offset))?;
                if next == all.len() {
                    return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(());
                }
                let part = &all[next..(next + step).min(all.len())];
                let written = match writer % 3 {
                    0 => match bulk.open().await {
                        Ok((mut upload, _)) => {
                            upload.targets(next, part).await.map(|answer| answer.next_offset)
                        }
                        Err(status) => Err(status),
                    },
                    _ => bulk.append(next, part, None).await.map(|answer| answer.next_offset),
                };
                match written {
                    Ok(durable) => assert!(durable >= number(next + part.len()), "all of it is durable"),
                    // On a busy machine one may wait for a connection in vain: what it wrote is asked for again.
                    Err(status) => {
                        let reason = reason(&status);
                        assert!(["UPLOAD_SUPERSEDED", "STORE_UNAVAILABLE"].contains(&&*reason), "{reason}");
                    }
                }
            }
        });
    }
    for written in writers.join_all().await {
        written?;
    }
    bulk.append(0, &[], Some(all.len())).await?;
    let (batch, results) = bulk.ended(State::Done).await?;
    assert_eq!((batch.succeeded_count, batch.duplicate_count), (2000, 0));
    for (given, result) in all.iter().zip(&results) {
        assert_eq!(result.target.as_ref(), Some(given));
    }
    assert_eq!(world.simulator().counts().posts, 2000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_upload_again_after_the_end_changes_nothing() -> Result<()> {
    let (world, bulk) = world_and_bulk().await?;
    let mut all = rows(1200);
    all[7] = all[3].clone();
    all[1100] = all[4].clone();
    all[9].user_id = "nobody".to_owned();
    bulk.upload(&all).await?;
    let before = bulk.ended(State::Done).await?;
    let posts = world.simulator().counts().posts;
    assert_eq!((posts, having(&before.1, Outcome::Duplicate).len()), (1197, 2));
    let sealed = bulk.upload(&all).await?;
    assert_eq!(sealed.state(), State::Done);
    bulk.append(0, &all[..1000], Some(all.len())).await?;
    assert_eq!(bulk.ended(State::Done).await?, before, "all fields of all results");
    assert_eq!(world.simulator().counts().posts, posts);
    let jobs: i64 =
        sqlx::query_scalar("select count(*) from job").fetch_one(&world.database.pool().await?).await?;
    assert_eq!(jobs, 1197);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_said_and_what_was_acknowledged_stands() -> Result<()> {
    let queue = pingone_unblock::engine::QueueLimits { interactive: 100, bulk: 1500 };
    let world = World::with(Variant { queue, ..Variant::default() }, Default::default()).await?;
    let bulk = Bulk::at(&world.service, v1::BatchHeader { start_when_sealed: true, ..header() })?;
    let all = rows(2000);
    let (mut upload, _) = bulk.open().await?;
    upload.targets(0, &all[..1000]).await?;
    assert_eq!(
        refused(upload.targets(1000, &all[1000..]).await),
        (Code::ResourceExhausted, "QUEUE_FULL".to_owned())
    );
    assert_eq!(bulk.get().await?.next_offset, 1000);
    assert_eq!(bulk.append(1000, &all[1000..1400], Some(1400)).await?.next_offset, 1400);
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!(batch.succeeded_count, 1400);
    Ok(())
}
