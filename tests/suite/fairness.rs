//! Nobody starves: a person's unblock does not wait behind a backlog, and a backlog not behind people.

use std::time::Duration;

use pingone_unblock::{
    engine::Limits,
    proto::v1::{self, job::State},
    simulator::{self, Simulator},
};

use crate::harness::{
    Result,
    load::{Placed, all_succeed, bulk, bulk_request, device_in, place, requests_of, some_environment},
    service::{Variant, World, request, request_without_wait, wire},
};

async fn world(rate: f64) -> Result<World> {
    let limits = Limits { rate, max_in_flight: 32 };
    World::with(Variant { limits, ..Variant::default() }, simulator::Settings::default()).await
}

/// How many POSTs had arrived when that of the job did.
fn posts_before(simulator: &Simulator, placed: &Placed) -> Result<u64> {
    let device = Some(placed.device.device.as_uuid());
    let at = simulator.posts().iter().position(|post| post.device == device).ok_or("it was not sent")?;
    Ok(u64::try_from(at)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interactive_unblock_is_sent_with_the_next_token_whatever_waits() -> Result<()> {
    let world = world(20.0).await?;
    let environment = some_environment();
    bulk(&world.service.devices, environment, 2000).await?;
    for _ in 0..15 {
        let device = device_in(environment)?;
        let asked = vec![(device, request_without_wait(wire(&device)))];
        let placed = place(&world.service.devices, asked).await?;
        // It is recorded: what arrives from here on and before it went first.
        let recorded = world.simulator().counts().posts;
        world.simulator().arrived_for(device.device, 1).await;
        let ahead = posts_before(world.simulator(), &placed[0])?.saturating_sub(recorded);
        assert!(ahead <= 1, "{ahead} bulk jobs went first");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_answers_the_bulk_job_that_waits_for_the_same_device() -> Result<()> {
    let world = world(2.0).await?;
    let environment = some_environment();
    let mut waiting = Vec::new();
    for _ in 0..24 {
        let device = device_in(environment)?;
        waiting.extend(place(&world.service.devices, vec![(device, bulk_request(&device))]).await?);
    }
    // Those that are about to be sent, and those that would be later.
    for ahead in [1, 2, 3, 8] {
        let sent = usize::try_from(world.simulator().counts().posts)?;
        world.simulator().arrived(u64::try_from(sent)? + 1).await;
        let unsent = waiting.iter().filter(|one| world.simulator().counts_for(one.device.device).posts == 0);
        let bulk = unsent.clone().nth(ahead - 1).ok_or("all have been sent")?;
        let asked = request(wire(&bulk.device));
        let person = world.service.unblock(asked).await?.job.ok_or("no job")?;
        assert_eq!((person.state(), person.answered_by_job_id.as_str()), (State::Succeeded, ""));
        let bulk_job = world.service.job_in(&bulk.job, &[State::Succeeded]).await?;
        assert_eq!(bulk_job.answered_by_job_id, person.job_id, "{ahead} ahead");
        assert_eq!(bulk_job.device, person.device);
    }
    all_succeed(&world.service, &waiting).await?;
    for one in &waiting {
        assert_eq!(world.simulator().counts_for(one.device.device).posts, 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_answered_too_where_postgres_is_slow_to_take_it_back() -> Result<()> {
    let world = world(2.0).await?;
    let environment = some_environment();
    // Nothing ends while this is held: what is given back meanwhile is saved together with what ends next.
    let pool = world.database.pool().await?;
    let mut ending = pool.begin().await?;
    sqlx::query("lock table outcome in exclusive mode").execute(&mut *ending).await?;
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.extend(bulk(&world.service.devices, environment, 1).await?);
    }
    world.simulator().arrived(1).await;
    let mut about_to_start = None;
    for one in &waiting {
        world.service.job_in(&one.job, &[State::Running]).await?;
        if world.simulator().counts_for(one.device.device).posts == 0 {
            about_to_start = Some(one);
            break;
        }
    }
    let next = about_to_start.ok_or("each had been sent when it was seen running")?;
    let asked = request_without_wait(wire(&next.device));
    let person = world.service.unblock(asked).await?.job.ok_or("no job")?;
    world.simulator().arrived_for(next.device.device, 1).await;
    world.simulator().idle().await;
    ending.rollback().await?;

    let answered = world.service.job_in(&next.job, &[State::Succeeded]).await?;
    assert_eq!(answered.answered_by_job_id, person.job_id);
    all_succeed(&world.service, &waiting).await?;
    assert_eq!(world.simulator().counts_for(next.device.device).posts, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_goes_on_while_people_take_every_token() -> Result<()> {
    let world = world(50.0).await?;
    let environment = some_environment();
    let bulk = bulk(&world.service.devices, environment, 100).await?;
    let people: Vec<_> = (0..250)
        .map(|_| device_in(environment).map(|device| (device, request_without_wait(wire(&device)))))
        .collect::<Result<_>>()?;
    let people = place(&world.service.devices, people).await?;
    let from = world.simulator().counts().posts;
    all_succeed(&world.service, &people).await?;

    let of_people: Vec<_> = people.iter().map(|one| Some(one.device.device.as_uuid())).collect();
    let posts = requests_of(world.simulator(), environment);
    let last = posts.iter().rposition(|post| of_people.contains(&post.device)).ok_or("nobody was sent")?;
    let both = &posts[usize::try_from(from)?..=last];
    let of_bulk = both.iter().filter(|post| !of_people.contains(&post.device)).count();
    // One token of ten.
    assert!(of_bulk * 11 >= both.len(), "{of_bulk} of {} were bulk", both.len());
    assert!(of_bulk * 8 <= both.len(), "{of_bulk} of {} were bulk", both.len());
    all_succeed(&world.service, &bulk).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_in_one_environment_does_not_slow_another() -> Result<()> {
    let world = world(20.0).await?;
    let (busy, quiet) = (some_environment(), some_environment());
    bulk(&world.service.devices, busy, 1000).await?;
    let few = bulk(&world.service.devices, quiet, 40).await?;
    all_succeed(&world.service, &few).await?;
    let requests = requests_of(world.simulator(), quiet);
    let took = requests[39].arrived - requests[0].arrived;
    assert!(took <= Duration::from_millis(2200), "{took:?} for 40 at 20 a second");
    let job: v1::Job = world.service.unblock(request(wire(&device_in(quiet)?))).await?.job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded);
    Ok(())
}
