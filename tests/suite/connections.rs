//! Connections end: those that nobody uses, those that are old, those whose other end is gone.

use std::time::Duration;

use pingone_unblock::{
    api::{Pace, Transport},
    simulator,
};

use crate::harness::{
    Result,
    frames::{END_HEADERS, END_STREAM, Frames, frame, head, kind},
    service::{Variant, World},
};

const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// What is waited for comes at once; what is not must not come at all.
const SOON: Duration = Duration::from_millis(200);
const NO_ERROR: Option<u32> = Some(0);

async fn world(pace: Pace) -> Result<World> {
    let transport = Transport { pace, ..Transport::default() };
    World::with(Variant { transport, ..Variant::default() }, simulator::Settings::default()).await
}

/// A stream that goes on until its connection ends: the health of the service.
async fn watching(world: &World) -> Result<Frames> {
    let frames = Frames::living(world.service.address).await?;
    frames.send(&frame(kind::HEADERS, END_HEADERS, 1, &head(WATCH))).await;
    frames.send(&frame(kind::DATA, END_STREAM, 1, &[0; 5])).await;
    frames.until(|heard| heard.messages > 0).await;
    Ok(frames)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_call_ends_and_one_with_a_stream_does_not() -> Result<()> {
    let world = world(Pace { idle: SOON, arrive: SOON, ..Pace::default() }).await?;
    let stream = watching(&world).await?;
    for _ in 0..3 {
        let idle = Frames::living(world.service.address).await?.ended().await;
        assert_eq!(idle.goaway, NO_ERROR, "it is told: {idle:?}");
    }
    assert!(!stream.is_over(), "the one with a stream has been there longer than all of them");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_takes_nothing_new_and_its_stream_goes_on() -> Result<()> {
    let world = world(Pace { age: SOON, ..Pace::default() }).await?;
    let stream = watching(&world).await?;
    stream.until(|heard| heard.goaway.is_some()).await;
    assert!(!stream.is_over());
    let heard = stream.close().await;
    assert_eq!((heard.goaway, heard.answered), (NO_ERROR, 0), "{heard:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_no_ping_is_gone() -> Result<()> {
    let world = world(Pace { ping: SOON, pong: SOON, ..Pace::default() }).await?;
    let living = watching(&world).await?;
    let heard = Frames::open(world.service.address).await?.ended().await;
    assert_eq!(heard.answered, 0, "{heard:?}");
    assert!(!living.is_over(), "one that answers stays");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_takes_ends_its_connection() -> Result<()> {
    let world = world(Pace { unary: SOON, arrive: SOON, ..Pace::default() }).await?;
    let frames = Frames::living(world.service.address).await?;
    // No window: the server may not send the answer's body.
    frames.send(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
    frames.send(&frame(kind::HEADERS, END_HEADERS, 1, &head("/grpc.health.v1.Health/Check"))).await;
    frames.send(&frame(kind::DATA, END_STREAM, 1, &[0; 5])).await;
    let heard = frames.ended().await;
    assert_eq!((heard.messages, heard.answered), (0, 0), "{heard:?}");
    Ok(())
}
