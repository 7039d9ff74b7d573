//! TLS on the gRPC port: who is let in, who is not and why, and certificates that change.

use pingone_unblock::{
    auth::ClientAuth,
    proto::v1::{device_service_client::DeviceServiceClient, job::State},
    simulator,
};
use tonic::transport::Channel;

use crate::harness::{
    Result,
    authority::{Authority, Files, Pair},
    database::Database,
    service::{PingOne, Service, Variant, request, some_device, wire},
};

/// A replica with TLS, and whoever signed its certificate and those of its callers.
struct Secured {
    service: Service,
    authority: Authority,
    files: Files,
    _pingone: PingOne,
    _database: Database,
}

impl Secured {
    async fn start(auth: Option<ClientAuth>) -> Result<Self> {
        let authority = Authority::new("of the test")?;
        let files = Files::new(&authority.server()?, &authority.pem())?;
        let database = Database::create().await?;
        let pingone = PingOne::start(simulator::Settings::default()).await?;
        let variant = Variant { tls: Some(files.tls(auth)), ..Variant::default() };
        let service = Service::start(database.url(), &pingone, variant).await?;
        Ok(Self { service, authority, files, _pingone: pingone, _database: database })
    }

    async fn connect(&self, shown: Option<&Pair>) -> Result<Channel> {
        self.authority.connect(&self.service.address.to_string(), shown).await
    }
}

async fn unblocks(channel: Channel) -> Result<()> {
    let asked = request(wire(&some_device()?));
    let job = DeviceServiceClient::new(channel).unblock(asked).await?.into_inner().job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_over_tls_and_not_beside_it() -> Result<()> {
    let secured = Secured::start(None).await?;
    unblocks(secured.connect(None).await?).await?;
    let plain = Channel::from_shared(format!("http://{}", secured.service.address))?.connect_lazy();
    assert!(unblocks(plain).await.is_err(), "no plain text on this port");
    let stranger = Authority::new("another")?;
    let refused = stranger.connect(&secured.service.address.to_string(), None).await;
    assert!(refused.is_err(), "a certificate that its authority did not sign");
    assert!(secured.files.folder().exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_demanded_where_it_is_required_and_not_where_it_is_optional() -> Result<()> {
    for (auth, without) in [(ClientAuth::Required, false), (ClientAuth::Optional, true)] {
        let secured = Secured::start(Some(auth)).await?;
        let pair = secured.authority.client("spiffe://example.com/desk")?;
        unblocks(secured.connect(Some(&pair)).await?).await?;
        let nobody = match secured.connect(None).await {
            Ok(channel) => unblocks(channel).await,
            Err(error) => Err(error),
        };
        assert_eq!(nobody.is_ok(), without, "{auth:?}: {nobody:?}");
    }
    Ok(())
}
