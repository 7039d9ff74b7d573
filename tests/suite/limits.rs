//! Never faster than allowed, and hardly slower: rates, licences, requests at once, and how many jobs may wait.

use std::time::Duration;

use pingone_unblock::{
    device::EnvironmentId,
    engine::{Limits, QueueLimits},
    proto::v1,
    simulator::{self, Ending, Fault, RetryAfter},
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    harness::{
        Result,
        database::Database,
        load::{
            all_succeed, bulk, bulk_request, device_in, most_at_once, place, requests_of, share_used,
            some_environment, unfinished,
        },
        service::{PingOne, Service, Variant, World, eventually, request, request_without_wait, wire},
    },
    unblock::reason,
};

const SECOND: Duration = Duration::from_secs(1);
/// So unevenly a busy machine delays requests between the engine and the simulator, which may look like one too many.
const ON_THE_WAY: Duration = Duration::from_millis(30);

fn limited(rate: f64, max_in_flight: u32) -> Variant {
    Variant { limits: Limits { rate, max_in_flight }, ..Variant::default() }
}

fn allowing(rate_limit: u32) -> simulator::Settings {
    simulator::Settings { rate_limit: Some(rate_limit), ..simulator::Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_uses_its_rate_and_never_more_in_any_second() -> Result<()> {
    let world = World::with(limited(50.0, 32), allowing(50 + 1)).await?;
    let environment = some_environment();
    let placed = bulk(&world.service.devices, environment, 300).await?;
    all_succeed(&world.service, &placed).await?;
    let busiest = world.simulator().busiest(SECOND - ON_THE_WAY, Some(environment));
    assert!(busiest <= 50, "{busiest} in a second");
    assert_eq!(world.simulator().counts().limited, 0);
    assert_eq!(world.simulator().counts().posts, 300);
    let share = share_used(&requests_of(world.simulator(), environment), 50.0);
    assert!(share >= 0.95, "{share:.3} of the rate was used");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_rate_is_used_also_where_answers_take_long() -> Result<()> {
    let world = World::with(limited(2.0, 32), simulator::Settings::default()).await?;
    world.simulator().set_latency(Duration::from_secs(4), Duration::ZERO);
    let environment = some_environment();
    bulk(&world.service.devices, environment, 12).await?;
    world.simulator().arrived(10).await;
    let arrivals = requests_of(world.simulator(), environment);
    let took = arrivals[9].arrived - arrivals[0].arrived;
    assert!(took < Duration::from_millis(4900), "{took:?} for nine more at two a second");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_set_too_high_settles_and_no_job_pays_for_it() -> Result<()> {
    let world = World::with(limited(50.0, 32), allowing(25)).await?;
    let environment = some_environment();
    let placed = bulk(&world.service.devices, environment, 300).await?;
    let jobs = all_succeed(&world.service, &placed).await?;
    for job in &jobs {
        assert_eq!(job.attempt_count, 1, "a 429 costs no attempt: {job:?}");
    }
    let counts = world.simulator().counts();
    assert!(counts.limited > 0, "it was set too high");
    assert!(counts.limited * 25 < counts.requests, "{} of {} were limited", counts.limited, counts.requests);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_are_under_way_than_may_be() -> Result<()> {
    let world = World::with(limited(1000.0, 8), simulator::Settings::default()).await?;
    world.simulator().set_latency(Duration::from_millis(30), Duration::from_millis(40));
    let environment = some_environment();
    let placed = bulk(&world.service.devices, environment, 200).await?;
    for _ in 0..20 {
        world.service.unblock(request(wire(&device_in(environment)?))).await?;
    }
    all_succeed(&world.service, &placed).await?;
    let most = most_at_once(&requests_of(world.simulator(), environment));
    assert_eq!(most, 8, "at once: all that may be, and no more");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_until_it_drains_and_loses_nothing() -> Result<()> {
    const MOST: u32 = 20;
    let queue = QueueLimits { interactive: 1000, bulk: MOST };
    let world = World::with(Variant { queue, ..limited(10.0, 32) }, simulator::Settings::default()).await?;
    let (environment, other) = (some_environment(), some_environment());
    let mut placed = Vec::new();
    let mut refused = Vec::new();
    while refused.len() < 200 {
        let device = device_in(environment)?;
        match world.service.unblock(bulk_request(&device)).await {
            Ok(_) => placed.push(device),
            Err(status) => refused.push(status),
        }
        assert!(placed.len() < 200, "it is never full");
        let waiting = unfinished(&world.database).await?;
        assert!(waiting <= i64::from(MOST) * 2, "{waiting} wait");
    }
    for status in &refused {
        assert_eq!((status.code(), reason(status).as_str()), (Code::ResourceExhausted, "QUEUE_FULL"));
        assert!(status.get_error_details().retry_info().is_some_and(|info| info.retry_delay.is_some()));
    }
    // Others have queues of their own.
    bulk(&world.service.devices, other, 1).await?;
    world.service.unblock(request_without_wait(wire(&device_in(environment)?))).await?;

    eventually("it drains", async || Ok(unfinished(&world.database).await? == 0)).await?;
    for device in &placed {
        assert_eq!(world.simulator().counts_for(device.device).posts, 1, "what was taken was sent");
    }
    eventually("it takes jobs again", async || {
        Ok(world.service.unblock(bulk_request(&device_in(environment)?)).await.is_ok())
    })
    .await
}

/// Two replicas, and of the environments in one licence one that each of them sends for.
struct Shared {
    first: Service,
    second: Service,
    pingone: PingOne,
    by_first: EnvironmentId,
    by_second: EnvironmentId,
    _database: Database,
}

impl Shared {
    async fn start(rate: f64, settings: simulator::Settings) -> Result<Self> {
        let database = Database::create().await?;
        let pingone = PingOne::start(settings).await?;
        let environments: Vec<EnvironmentId> = (0..24).map(|_| some_environment()).collect();
        let variant = Variant { grouped: (environments.clone(), rate), ..Variant::default() };
        let first = Service::start(database.url(), &pingone, variant.clone()).await?;
        let second = Service::start(database.url(), &pingone, variant).await?;
        let pool = database.pool().await?;
        let mut found = Vec::new();
        eventually("each of the two sends for some", async || {
            let lanes: Vec<(i16, uuid::Uuid)> =
                sqlx::query_as("select lane, owner from lane where owner is not null")
                    .fetch_all(&pool)
                    .await?;
            let owner = |environment: &EnvironmentId| {
                lanes.iter().find(|(lane, _)| *lane == environment.lane().number()).map(|(_, owner)| *owner)
            };
            let mut owned: Vec<_> = environments.iter().filter_map(|id| Some((owner(id)?, *id))).collect();
            owned.sort_unstable();
            owned.dedup_by_key(|(owner, _)| *owner);
            found = owned.into_iter().map(|(_, id)| id).collect();
            Ok(lanes.len() == 256 && found.len() == 2)
        })
        .await?;
        Ok(Self { first, second, pingone, by_first: found[0], by_second: found[1], _database: database })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn environments_of_one_licence_share_its_rate_over_replicas() -> Result<()> {
    let shared = Shared::start(50.0, allowing(50 + 1)).await?;
    let simulator = &shared.pingone.simulator;
    let (one, other) = tokio::join!(
        bulk(&shared.first.devices, shared.by_first, 200),
        bulk(&shared.second.devices, shared.by_second, 200),
    );
    all_succeed(&shared.first, &one?).await?;
    all_succeed(&shared.second, &other?).await?;

    let busiest = simulator.busiest(SECOND - ON_THE_WAY, None);
    assert!(busiest <= 50, "{busiest} in a second");
    assert_eq!(simulator.counts().limited, 0);
    let mut requests = simulator.requests();
    requests.retain(simulator::Record::is_api);
    // Both have a backlog until the faster one is done.
    let last = |environment| requests_of(simulator, environment).last().map(|record| record.arrived);
    let both_until = last(shared.by_first).min(last(shared.by_second)).ok_or("nothing was sent")?;
    requests.retain(|record| record.arrived <= both_until);
    let share = share_used(&requests, 50.0);
    assert!(share >= 0.95, "{share:.3} of the rate was used");
    for environment in [shared.by_first, shared.by_second] {
        let own = requests.iter().filter(|record| record.environment == Some(environment.as_uuid())).count();
        assert!(own * 5 >= requests.len() * 2, "{own} of {} for one of two", requests.len());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_met_by_one_holds_the_whole_licence_on_every_replica() -> Result<()> {
    /// Until the other replica has heard of it.
    const HEARD_WITHIN: Duration = Duration::from_millis(250);
    let shared = Shared::start(40.0, simulator::Settings::default()).await?;
    let simulator = &shared.pingone.simulator;
    let mut placed = bulk(&shared.first.devices, shared.by_first, 20).await?;
    placed.extend(bulk(&shared.first.devices, shared.by_second, 100).await?);
    let limited = device_in(shared.by_first)?;
    simulator.fault(limited.device, [Fault::retry_after(429, RetryAfter::Seconds(2))]);
    let request =
        v1::UnblockRequest { wait: Some(prost_types::Duration::default()), ..request(wire(&limited)) };
    placed.extend(place(&shared.second.devices, vec![(limited, request)]).await?);
    all_succeed(&shared.first, &placed).await?;

    let requests = simulator.requests();
    let met = requests.iter().find(|record| record.ending == Ending::Answered(429)).ok_or("no 429")?;
    let from = met.ended.ok_or("it never ended")?;
    let held = (from + HEARD_WITHIN)..(from + 2 * SECOND);
    for environment in [shared.by_first, shared.by_second] {
        let requests = requests_of(simulator, environment);
        let during: Vec<_> = requests.iter().filter(|record| held.contains(&record.arrived)).collect();
        assert!(
            during.is_empty(),
            "{} were sent in spite of the hold, the first {:?}",
            during.len(),
            during[0]
        );
        assert!(requests.iter().any(|record| record.arrived > held.end), "it goes on afterwards");
    }
    assert_eq!(simulator.deviations(), []);
    Ok(())
}
