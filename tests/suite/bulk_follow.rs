//! Batches are watched, listed and read, by rows and by jobs.

use pingone_unblock::{
    engine::Limits,
    proto::v1::{self, BatchHeader, batch::State, job, target_result::Outcome},
    simulator::Fault,
};
use uuid::Uuid;

use crate::{
    harness::{
        Result,
        bulk::{Bulk, having, header, in_order, row, rows},
        service::{Variant, World, eventually},
    },
    unblock::reason,
};

async fn world(rate: f64) -> Result<World> {
    let limits = Limits { rate, max_in_flight: 32 };
    World::with(Variant { limits, ..Variant::default() }, Default::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sees_the_states_in_order_and_ends_with_the_last() -> Result<()> {
    let world = world(200.0).await?;
    let bulk = Bulk::at(&world.service, BatchHeader { start_when_sealed: true, ..header() })?;
    bulk.append(0, &rows(400), None).await?;
    let BatchHeader { environment_id, batch_id, .. } = bulk.header.clone();
    let asked = v1::WatchBatchRequest { environment_id, batch_id };
    let mut watch = bulk.batches.clone().watch_batch(asked).await?.into_inner();
    let mut seen: Vec<v1::Batch> = Vec::new();
    while let Some(told) = watch.message().await? {
        let batch = told.batch.ok_or("no batch")?;
        let news = seen.last().is_none_or(|last| last.state() != batch.state());
        assert!(seen.last().is_none_or(|last| last != &batch), "the same twice");
        seen.push(batch.clone());
        let number = seen.iter().filter(|one| one.state() == State::Paused).count();
        match batch.state() {
            State::Uploading if news => drop(bulk.append(0, &[], Some(400)).await?),
            State::Running if news && number == 0 => drop(bulk.pause().await?),
            State::Paused if news => drop(bulk.resume().await?),
            _ => {}
        }
    }
    let mut states: Vec<State> = seen.iter().map(v1::Batch::state).collect();
    states.dedup();
    assert_eq!(states, [State::Uploading, State::Running, State::Paused, State::Running, State::Done]);
    let finished: Vec<i64> = seen.iter().map(|batch| batch.succeeded_count).collect();
    assert!(finished.is_sorted(), "{finished:?}");
    let running = seen.iter().filter(|batch| batch.state() == State::Running);
    assert!(running.clone().any(|batch| batch.current_rate > 1.0), "its rate is told");
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!(seen.last(), Some(&batch), "as GetBatch tells it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_read_from_anywhere_and_on_from_where_they_broke_off() -> Result<()> {
    let world = world(1000.0).await?;
    let bulk = Bulk::at(&world.service, header())?;
    let mut all = rows(1700);
    all[1600] = all[5].clone();
    all[1601] = all[6].clone();
    for at in [6, 800, 1699] {
        world.simulator().fault(all[at].device_id.parse::<Uuid>()?.into(), [Fault::status(404)]);
    }
    all[900].user_id = "nobody".to_owned();
    bulk.upload(&all).await?;
    let (_, whole) = bulk.ended(State::Done).await?;
    assert_eq!(whole.len(), 1700);

    let asked = bulk.asks_results();
    let from = bulk.stream(v1::StreamBatchResultsRequest { start_offset: 777, ..asked.clone() }).await?;
    assert_eq!(in_order(&from), whole[777..]);
    assert_eq!(from.last().map(|last| last.next_offset), Some(1700));
    for beyond in [1700, 1701] {
        let nothing =
            bulk.stream(v1::StreamBatchResultsRequest { start_offset: beyond, ..asked.clone() }).await?;
        assert_eq!(in_order(&nothing), []);
        assert_eq!(nothing.len(), 1, "the last message says how far");
    }
    let negative = v1::StreamBatchResultsRequest { start_offset: -1, ..asked.clone() };
    let refused = bulk.stream(negative).await.expect_err("it is negative");
    assert_eq!(reason(&refused), "FIELD_INVALID");

    let failures =
        bulk.stream(v1::StreamBatchResultsRequest { failures_only: true, ..asked.clone() }).await?;
    let told: Vec<_> = in_order(&failures).iter().map(|result| (result.offset, result.outcome())).collect();
    assert_eq!(
        told,
        [
            (6, Outcome::Failed),
            (800, Outcome::Failed),
            (900, Outcome::Rejected),
            (1601, Outcome::Duplicate),
            (1699, Outcome::Failed)
        ]
    );
    assert_eq!(failures.last().map(|last| last.next_offset), Some(1700));

    // One message of each stream, then a new one from there.
    let (mut next, mut told) = (0, Vec::new());
    while next < 1700 {
        let asked = v1::StreamBatchResultsRequest { start_offset: next, ..asked.clone() };
        let mut stream = bulk.batches.clone().stream_batch_results(asked).await?.into_inner();
        let message = stream.message().await?.ok_or("no message")?;
        next = message.next_offset;
        told.push(message);
    }
    assert_eq!(in_order(&told), whole);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_gets_each_result_once_as_it_ends() -> Result<()> {
    let world = world(300.0).await?;
    let bulk = Bulk::at(&world.service, header())?;
    let all = rows(900);
    bulk.append(0, &all[..50], None).await?;
    let asked = v1::StreamBatchResultsRequest { follow: true, ..bulk.asks_results() };
    let mut stream = bulk.batches.clone().stream_batch_results(asked).await?.into_inner();
    let first = stream.message().await?.ok_or("no message")?;
    assert!(first.next_offset <= 50);
    let failing = all[70].device_id.parse::<Uuid>()?.into();
    world.simulator().fault(failing, [Fault::status(404)]);
    bulk.append(50, &all[50..], Some(900)).await?;
    let mut messages = vec![first];
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    let told = in_order(&messages);
    assert!(having(&told, Outcome::Pending).is_empty(), "it waits for the unfinished");
    let (_, whole) = bulk.ended(State::Done).await?;
    assert_eq!(told, whole);
    assert_eq!(messages.last().map(|last| last.next_offset), Some(900));
    let asked = v1::StreamBatchResultsRequest { follow: true, failures_only: true, ..bulk.asks_results() };
    let failures = in_order(&bulk.stream(asked).await?);
    assert_eq!(failures.iter().map(|result| result.offset).collect::<Vec<_>>(), [70]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_listed_newest_first_page_by_page_and_by_what_is_asked_for() -> Result<()> {
    let world = world(1000.0).await?;
    let environment_id = Uuid::new_v4().to_string();
    let mut bulks = Vec::new();
    for at in 0..7 {
        let header = BatchHeader {
            environment_id: environment_id.clone(),
            batch_id: format!("batch {at}"),
            ticket: if at % 2 == 0 { "CASE-1".to_owned() } else { String::new() },
            ..header()
        };
        let bulk = Bulk::at(&world.service, header)?;
        bulk.append(0, &rows(2), (at < 5).then_some(2)).await?;
        bulks.push(bulk);
    }
    // Of another environment.
    Bulk::at(&world.service, header())?.append(0, &[], None).await?;
    for bulk in &bulks[..5] {
        bulk.ended(State::Done).await?;
    }
    let list = async |asked: v1::ListBatchesRequest| -> Result<(Vec<String>, usize)> {
        let (mut names, mut pages, mut asked) = (Vec::new(), 0, asked);
        loop {
            let page = world_list(&bulks[0], asked.clone()).await?;
            names.extend(page.batches.into_iter().map(|batch| batch.batch_id));
            pages += 1;
            if page.next_page_token.is_empty() {
                return Ok((names, pages));
            }
            asked.page_token = page.next_page_token;
        }
    };
    let asked = v1::ListBatchesRequest { environment_id, ..Default::default() };
    let named = |numbers: &[u32]| numbers.iter().map(|at| format!("batch {at}")).collect::<Vec<_>>();
    assert_eq!(list(asked.clone()).await?, (named(&[6, 5, 4, 3, 2, 1, 0]), 1));
    let paged = v1::ListBatchesRequest { page_size: 3, ..asked.clone() };
    assert_eq!(list(paged).await?, (named(&[6, 5, 4, 3, 2, 1, 0]), 3));
    let done = v1::ListBatchesRequest { states: vec![State::Done.into()], page_size: 2, ..asked.clone() };
    assert_eq!(list(done).await?, (named(&[4, 3, 2, 1, 0]), 3));
    let case = v1::ListBatchesRequest { ticket: "CASE-1".to_owned(), ..asked.clone() };
    assert_eq!(list(case.clone()).await?.0, named(&[6, 4, 2, 0]));
    let both = v1::ListBatchesRequest { states: vec![State::Running.into()], ..case };
    assert_eq!(list(both).await?.0, named(&[6]));
    let mine = v1::ListBatchesRequest { caller: "anonymous".to_owned(), ..asked.clone() };
    assert_eq!(list(mine).await?.0.len(), 7);
    let nobody = v1::ListBatchesRequest { caller: "nobody".to_owned(), ..asked.clone() };
    assert_eq!(list(nobody).await?.0.len(), 0);
    let wrong = v1::ListBatchesRequest { page_token: "x".to_owned(), ..asked };
    let refused = bulks[0].batches.clone().list_batches(wrong).await.expect_err("it is no token");
    assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
    Ok(())
}

async fn world_list(bulk: &Bulk, asked: v1::ListBatchesRequest) -> Result<v1::ListBatchesResponse> {
    Ok(bulk.batches.clone().list_batches(asked).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_batch_names_it_and_its_retry_or_cancel_counts() -> Result<()> {
    let world = world(1000.0).await?;
    let bulk = Bulk::at(&world.service, header())?;
    let all = rows(20);
    let failing = all[4].device_id.parse::<Uuid>()?.into();
    world.simulator().fault(failing, [Fault::status(404), Fault::status(404)]);
    bulk.upload(&all).await?;
    let (_, results) = bulk.ended(State::Done).await?;
    let mut jobs = world.service.jobs.clone();
    let BatchHeader { environment_id, batch_id, .. } = bulk.header.clone();
    let asked = v1::ListJobsRequest {
        environment_id,
        batch_id: batch_id.clone(),
        page_size: 1000,
        ..Default::default()
    };
    let listed = jobs.list_jobs(asked.clone()).await?.into_inner().jobs;
    assert_eq!(listed.len(), 20);
    assert!(listed.iter().all(|job| job.batch_id == batch_id));
    let unknown = v1::ListJobsRequest { batch_id: "unknown".to_owned(), ..asked };
    let refused = jobs.list_jobs(unknown).await.expect_err("there is none");
    assert_eq!(reason(&refused), "BATCH_NOT_FOUND");
    let failed = results[4].job_id.clone();
    assert_eq!(world.service.job(&failed).await?.batch_id, batch_id);

    for (state, succeeded) in [(job::State::Failed, 19), (job::State::Succeeded, 20)] {
        let run = world.service.job(&failed).await?.run;
        let again = v1::RetryJobRequest { job_id: failed.clone(), expected_run: run, ..Default::default() };
        jobs.retry_job(again).await?;
        eventually("its new run ends", async || {
            let job = world.service.job(&failed).await?;
            Ok((job.run, job.state()) == (run + 1, state))
        })
        .await?;
        let (batch, _) = bulk.ended(State::Done).await?;
        assert_eq!((batch.succeeded_count, batch.failed_count), (succeeded, 20 - succeeded));
    }

    let other = Bulk::at(&world.service, BatchHeader { start_when_sealed: true, ..header() })?;
    other.append(0, &[row(), row(), row()], None).await?;
    let (_, results) = other.exact().await?;
    jobs.cancel_job(v1::CancelJobRequest { job_id: results[1].job_id.clone(), ..Default::default() }).await?;
    let (batch, _) = other.exact().await?;
    assert_eq!((batch.cancelled_count, batch.pending_count), (1, 2));
    other.append(0, &[], Some(3)).await?;
    let (batch, _) = other.ended(State::Done).await?;
    assert_eq!((batch.cancelled_count, batch.succeeded_count), (1, 2));
    Ok(())
}
