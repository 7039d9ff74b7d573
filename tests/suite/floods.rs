//! Peers that mean harm to the connection itself: each ends, costs bounded memory, and keeps nobody else from being answered.

use std::{net::SocketAddr, time::Duration};

use pingone_unblock::{proto::v1::device_service_client::DeviceServiceClient, simulator};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::harness::{
    Result,
    database::Database,
    frames::{
        CANCEL, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, Heard, PREFACE, field, frame, head, kind,
        stranger,
    },
    neighbour::{Neighbour, call, weighed},
    process::Process,
    secured::{DESK, Secured, counted},
    service::{PingOne, eventually},
};

const UNBLOCK: &str = "/pingone.device.v1.DeviceService/Unblock";
const ROUNDS: usize = 20;

/// A service, and somebody who calls it all the time.
struct Target {
    process: Process,
    _pingone: PingOne,
    _database: Database,
}

impl Target {
    async fn start() -> Result<Self> {
        let database = Database::create().await?;
        let pingone = PingOne::start(simulator::Settings::default()).await?;
        let process = Process::serve(database.url(), &pingone).await?;
        Ok(Self { process, _pingone: pingone, _database: database })
    }

    /// What a flood comes to, while another calls.
    async fn under<T>(&self, flood: impl AsyncFnOnce(SocketAddr) -> Result<T>) -> Result<T> {
        let url = self.process.url();
        let connect = async || Ok(DeviceServiceClient::connect(url.clone()).await?);
        let neighbour = Neighbour::warm(connect).await?;
        weighed("a flood", &self.process, neighbour, flood(self.process.address())).await
    }
}

/// What another notices of a flood that is over at once, it notices when the next one comes.
async fn over_and_over(flood: impl AsyncFn(SocketAddr) -> Result<Heard>) -> Result<Vec<Heard>> {
    let target = Target::start().await?;
    let all = async |address| {
        let mut all = Vec::new();
        for _ in 0..ROUNDS {
            all.push(flood(address).await?);
        }
        Ok(all)
    };
    target.under(all).await
}

/// Streams of a client have odd numbers.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

/// Sends `bytes` in pieces until the server has had enough, and says what it said.
async fn pour(address: SocketAddr, pieces: impl Iterator<Item = Vec<u8>>) -> Result<Heard> {
    let frames = Frames::open(address).await?;
    for piece in pieces {
        if !frames.send(&piece).await {
            break;
        }
    }
    Ok(frames.ended().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_at_once_end_the_connection() -> Result<()> {
    let all = over_and_over(async |address| {
        let one = |stream| {
            let began = frame(kind::HEADERS, END_HEADERS, stream, &head(UNBLOCK));
            [began, frame(kind::RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
        };
        let all: Vec<_> = streams(10_000).map(one).collect();
        pour(address, all.chunks(500).map(<[_]>::concat)).await
    })
    .await?;
    for heard in all {
        assert_eq!(heard.goaway, Some(ENHANCE_YOUR_CALM), "{heard:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_ends_the_connection() -> Result<()> {
    let all = over_and_over(async |address| {
        let more = frame(kind::CONTINUATION, 0, 1, &field("x-more", &"y".repeat(100)).repeat(100));
        let began = frame(kind::HEADERS, 0, 1, &head(UNBLOCK));
        pour(address, std::iter::once(began).chain(std::iter::repeat_n(more, 20_000))).await
    })
    .await?;
    for heard in all {
        assert_eq!(heard.answered, 0, "{heard:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_a_mebibyte_is_refused() -> Result<()> {
    let all = over_and_over(async |address| {
        let fields = field("x-more", &"y".repeat(100)).repeat(140);
        let parts = 1024 * 1024 / fields.len();
        let mut all = frame(kind::HEADERS, END_STREAM, 1, &head(UNBLOCK));
        all.extend(frame(kind::CONTINUATION, 0, 1, &fields).repeat(parts));
        all.extend(frame(kind::CONTINUATION, END_HEADERS, 1, &fields));
        let frames = Frames::open(address).await?;
        frames.send(&all).await;
        // Refused, or the connection ended: either way it is told, and this side goes.
        Ok(frames.close().await)
    })
    .await?;
    for heard in all {
        assert!(heard.goaway == Some(ENHANCE_YOUR_CALM) || heard.reset + heard.answered == 1, "{heard:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_pings_are_answered_one_at_a_time_and_not_kept() -> Result<()> {
    let target = Target::start().await?;
    let settings = frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]);
    for one in [settings, frame(kind::PING, 0, 0, &[7; 8])] {
        let all = one.repeat(1000);
        let heard = target
            .under(async |address| {
                let frames = Frames::open(address).await?;
                for _ in 0..100 {
                    frames.send(&all).await;
                }
                Ok(frames.close().await)
            })
            .await?;
        assert!(heard.goaway.is_some() || heard.acknowledged > 1000, "{heard:?}");
        // Who does not listen to the answers is not listened to for long.
        target.under(async |address| deaf(address, &all).await).await?;
    }
    Ok(())
}

/// Sends without reading until the server ends it.
async fn deaf(address: SocketAddr, bytes: &[u8]) -> Result<()> {
    let mut stream = stranger(address).await?;
    stream.write_all(PREFACE).await?;
    stream.write_all(&frame(kind::SETTINGS, 0, 0, &[])).await?;
    while stream.write_all(bytes).await.is_ok() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_streams_are_taken_than_may_be_and_none_waits_for_ever() -> Result<()> {
    let heard = Target::start()
        .await?
        .under(async |address| {
            let frames = Frames::living(address).await?;
            let all: Vec<_> = streams(10_000)
                .map(|stream| frame(kind::HEADERS, END_HEADERS, stream, &head(UNBLOCK)))
                .collect();
            for piece in all.chunks(500) {
                frames.send(&piece.concat()).await;
            }
            // Those that were taken are answered when nothing more comes of them; the rest was refused.
            frames.until(|heard| heard.answered >= 256).await;
            Ok(frames.close().await)
        })
        .await?;
    assert!(heard.answered <= 256, "{} were taken", heard.answered);
    assert!(heard.goaway.is_some() || heard.refused >= 10_000 - 256, "{heard:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_byte_by_byte_ends_the_connection() -> Result<()> {
    let target = Target::start().await?;
    target
        .under(async |address| {
            let frames = Frames::open(address).await?;
            frames.send(&frame(kind::HEADERS, 0, 1, &[0x83])).await;
            // One byte of a frame that is long in coming: it is never whole.
            let slow =
                frame(kind::CONTINUATION, END_HEADERS, 1, &field("x-slow", &"y".repeat(100)).repeat(150));
            drip(&frames, &slow).await;
            Ok(frames.ended().await)
        })
        .await?;
    // And so on HTTP/1.1, which gRPC-Web comes by.
    target
        .under(async |address| {
            let mut stream = stranger(address).await?;
            stream.write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await?;
            let (mut read, mut write) = stream.split();
            let mut rest = Vec::new();
            tokio::select! {
                _ = read.read_to_end(&mut rest) => {}
                () = async { while slowly(&mut write).await {} } => {}
            }
            Ok(())
        })
        .await
}

async fn slowly(write: &mut (impl tokio::io::AsyncWrite + Unpin)) -> bool {
    tokio::time::sleep(Duration::from_millis(50)).await;
    write.write_all(b"y").await.is_ok()
}

async fn drip(frames: &Frames, bytes: &[u8]) {
    for byte in bytes {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if frames.is_over() || !frames.send(&[*byte]).await {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_byte_by_byte_is_answered_before_it_is_there() -> Result<()> {
    let heard = Target::start()
        .await?
        .under(async |address| {
            let frames = Frames::living(address).await?;
            frames.send(&frame(kind::HEADERS, END_HEADERS, 1, &head(UNBLOCK))).await;
            // A message of a kibibyte, as its prefix says.
            frames.send(&frame(kind::DATA, 0, 1, &[0, 0, 0, 4, 0])).await;
            while frames.answered() == 0 && !frames.is_over() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                frames.send(&frame(kind::DATA, 0, 1, b"y")).await;
            }
            Ok(frames.close().await)
        })
        .await?;
    assert_eq!(heard.answered, 1, "{heard:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_address_there_are_half_of_all_connections_and_the_rest_is_refused() -> Result<()> {
    let target = Target::start().await?;
    let refused = "unblock_connections_refused_total{unblock_cause=\"too_many_of_peer\"}";
    target
        .under(async |address| {
            let mut idle = Vec::new();
            for _ in 0..700 {
                idle.push(stranger(address).await?);
            }
            // Those beyond the half are closed without a word.
            let closed = idle.iter_mut().skip(512).map(|stream| async move {
                let mut rest = [0];
                stream.read(&mut rest).await.unwrap_or_default()
            });
            assert!(futures_util::future::join_all(closed).await.iter().all(|read| *read == 0));
            assert_eq!(counted(&target.process, refused).await?, 188.0);
            // Another comes in all the same.
            call(target.process.devices()?).await?;
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_the_places_of_callers_by_asking_for_health() -> Result<()> {
    const CONNECTIONS: usize = 6;
    let target = Target::start().await?;
    target
        .under(async |address| {
            let mut asking = Vec::new();
            for _ in 0..CONNECTIONS {
                let frames = Frames::living(address).await?;
                let head = head("/grpc.health.v1.Health/Check");
                let all = streams(256).map(|stream| frame(kind::HEADERS, END_HEADERS, stream, &head));
                frames.send(&all.collect::<Vec<_>>().concat()).await;
                asking.push(frames);
            }
            // More than there are places for; those that have one never say what they ask.
            let refused = CONNECTIONS * 256 - 128;
            let answered = async || Ok(asking.iter().map(Frames::answered).sum::<usize>() >= refused);
            eventually("the others are refused", answered).await?;
            for _ in 0..20 {
                call(target.process.devices()?).await?;
            }
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_are_never_finished_end_and_others_come_in_meanwhile() -> Result<()> {
    let secured = Secured::start("required").await?;
    let pair = secured.authority.client(DESK)?;
    let connect = async || Ok(DeviceServiceClient::new(secured.connect(Some(&pair)).await?));
    let neighbour = Neighbour::warm(connect).await?;
    let flood = async {
        // The beginning of a record that holds a hello, and of the hello.
        let hello = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        let mut silent = JoinSet::new();
        for _ in 0..500 {
            let mut stream = stranger(secured.process.address()).await?;
            stream.write_all(&hello).await?;
            silent.spawn(ended(stream));
        }
        // New connections too, while they hang.
        for _ in 0..20 {
            call(connect().await?).await?;
        }
        silent.join_all().await;
        Ok(())
    };
    weighed("handshakes", &secured.process, neighbour, flood).await?;
    assert_eq!(secured.refused("handshake_timeout").await?, 500.0);
    Ok(())
}

async fn ended(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}
