//! An issuer of tokens on this machine: publishes its keys as real ones do, signs whatever it is asked to, and can be made to fail.
//!
//! ```ignore
//! let issuer = Issuer::start().await?;
//! let tokens = Tokens::new(vec![issuer.trusted()])?;
//! tokens.verify(&issuer.token("helpdesk")).await?;
//! tokens.verify(&issuer.token(Subject::named("helpdesk").granted("unblock read").acting_for("jane"))).await?;
//! tokens.verify(&issuer.token_with("helpdesk", |claims, header| claims["exp"] = json!(0))).await?;
//! ```

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse as _, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{StreamExt as _, stream};
use pingone_unblock::auth::{self, token::JwksUrl};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Result, keys::SigningKey};

/// The audience of its tokens, and of whoever trusts it.
pub(crate) const AUDIENCE: &str = "pingone-unblock";
/// As PingOne's: a path below the host.
const PATH: &str = "/6697f628-7712-4e71-b52b-920ba0635020/as";

/// A running issuer. Ends when dropped.
pub(crate) struct Issuer {
    /// Its name, `iss`.
    pub(crate) url: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Mutex<Option<DropGuard>>,
}

struct Shared {
    url: String,
    /// The one that signs is the last.
    keys: Mutex<Vec<Arc<SigningKey>>>,
    answer: Mutex<Answer>,
    fetches: AtomicUsize,
    arrived: watch::Sender<usize>,
    held: watch::Sender<bool>,
}

/// What it answers when asked for its keys.
#[derive(Clone)]
pub(crate) enum Answer {
    /// The keys it signs with.
    Keys,
    /// This document.
    Document(String),
    /// This status, with keys in its body.
    Status(u16),
    /// Keys are elsewhere, where they are indeed.
    Redirect,
    /// A page for people.
    Html,
    /// Keys, after more white space than anybody reads.
    Oversized,
    /// The beginning of keys, then nothing.
    CutShort,
    /// Nothing, for ever.
    Never,
}

/// Whom a token is for.
#[derive(Clone)]
pub(crate) struct Subject {
    name: String,
    scope: String,
    person: Option<String>,
}

impl Subject {
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), scope: String::new(), person: None }
    }

    /// With these scopes, separated by spaces.
    pub(crate) fn granted(self, scope: &str) -> Self {
        Self { scope: scope.to_owned(), ..self }
    }

    /// The subject acts for this person: the token says `sub: person, act: {sub: name}`.
    pub(crate) fn acting_for(self, person: &str) -> Self {
        Self { person: Some(person.to_owned()), ..self }
    }
}

impl From<&str> for Subject {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

impl Issuer {
    /// Signs with a P-256 key, which is made quickly.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(SigningKey::es256("first")).await
    }

    pub(crate) async fn start_with(key: SigningKey) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let url = format!("http://{address}{PATH}");
        let shared = Arc::new(Shared {
            url: url.clone(),
            keys: Mutex::new(vec![Arc::new(key)]),
            answer: Mutex::new(Answer::Keys),
            fetches: AtomicUsize::new(0),
            arrived: watch::Sender::new(0),
            held: watch::Sender::new(false),
        });
        let issuer = Self { url, address, shared, running: Mutex::default() };
        issuer.serve(listener);
        Ok(issuer)
    }

    /// What to trust it with: its keys' address is found by discovery.
    pub(crate) fn trusted(&self) -> auth::Issuer {
        let keys = JwksUrl::of(&self.url).expect("it is on this machine");
        auth::Issuer::new(&self.url, AUDIENCE, keys)
    }

    /// The address of its keys.
    pub(crate) fn jwks_url(&self) -> String {
        format!("{}/jwks", self.url)
    }

    /// A good token, for five minutes.
    pub(crate) fn token(&self, subject: impl Into<Subject>) -> String {
        self.token_with(subject, |_, _| ())
    }

    /// A good token but for what `change` does to its claims and its header.
    pub(crate) fn token_with(
        &self,
        subject: impl Into<Subject>,
        change: impl FnOnce(&mut Value, &mut Value),
    ) -> String {
        let key = self.key();
        let mut header = json!({ "alg": key.algorithm(), "typ": "at+jwt", "kid": key.id });
        let mut claims = self.claims(subject);
        change(&mut claims, &mut header);
        key.token(&header, &claims)
    }

    /// The claims of a good token.
    pub(crate) fn claims(&self, subject: impl Into<Subject>) -> Value {
        let Subject { name, scope, person } = subject.into();
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let mut claims = json!({
            "iss": self.url, "aud": [AUDIENCE], "sub": name, "scope": scope,
            "iat": now, "exp": now + 300, "jti": uuid::Uuid::new_v4(), "client_id": "a-client",
        });
        if let Some(person) = person {
            claims["sub"] = json!(person);
            claims["act"] = json!({ "sub": name });
        }
        claims
    }

    /// The key that signs now.
    pub(crate) fn key(&self) -> Arc<SigningKey> {
        Arc::clone(held(&self.shared.keys).last().expect("it never has none"))
    }

    /// Publishes `key` too, and signs with it from now on.
    pub(crate) fn rotate(&self, key: SigningKey) {
        held(&self.shared.keys).push(Arc::new(key));
    }

    /// Publishes no key but the one that signs.
    pub(crate) fn retire_old_keys(&self) {
        let mut keys = held(&self.shared.keys);
        let retired = keys.len() - 1;
        keys.drain(..retired);
    }

    /// What it answers from now on, when asked for its keys.
    pub(crate) fn answer(&self, answer: Answer) {
        *held(&self.shared.answer) = answer;
    }

    /// How often it was asked for its keys.
    pub(crate) fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// Waits until it was asked for its keys `count` times.
    pub(crate) async fn asked(&self, count: usize) {
        let mut arrived = self.shared.arrived.subscribe();
        arrived.wait_for(|arrived| *arrived >= count).await.expect("the issuer outlives the wait");
    }

    /// Lets whoever asks for its keys wait.
    pub(crate) fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Answers all who wait.
    pub(crate) fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Nobody listens any more.
    pub(crate) fn go_down(&self) {
        held(&self.running).take();
    }

    /// Listens again, at the same address.
    pub(crate) async fn come_up(&self) -> Result<()> {
        // The listener closes a moment after the task that had it was told to end.
        super::service::eventually("the address is free again", async || {
            let Ok(listener) = TcpListener::bind(self.address).await else { return Ok(false) };
            self.serve(listener);
            Ok(true)
        })
        .await
    }

    fn serve(&self, listener: TcpListener) {
        let router = Router::new()
            .route(&format!("{PATH}/.well-known/openid-configuration"), get(discovery))
            .route(&format!("{PATH}/jwks"), get(jwks))
            .route("/elsewhere", get(elsewhere))
            .with_state(Arc::clone(&self.shared));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let _ = stopped.run_until_cancelled(axum::serve(listener, router).into_future()).await;
        });
        *held(&self.running) = Some(stop.drop_guard());
    }
}

/// Its keys as a set.
pub(crate) fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

impl Shared {
    fn set(&self) -> String {
        set(&held(&self.keys).iter().map(|key| key.jwk()).collect::<Vec<_>>())
    }
}

async fn discovery(State(shared): State<Arc<Shared>>) -> String {
    let url = &shared.url;
    json!({ "issuer": url, "jwks_uri": format!("{url}/jwks"), "token_endpoint": format!("{url}/token") })
        .to_string()
}

async fn elsewhere(State(shared): State<Arc<Shared>>) -> String {
    shared.set()
}

async fn jwks(State(shared): State<Arc<Shared>>) -> Response {
    shared.arrived.send_replace(shared.fetches.fetch_add(1, Ordering::SeqCst) + 1);
    let mut released = shared.held.subscribe();
    let _ = released.wait_for(|is_held| !is_held).await;
    let answer = held(&shared.answer).clone();
    match answer {
        Answer::Keys => shared.set().into_response(),
        Answer::Document(document) => document.into_response(),
        Answer::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, shared.set()).into_response()
        }
        Answer::Redirect => (StatusCode::FOUND, [(LOCATION, "/elsewhere")]).into_response(),
        Answer::Html => "<html><body>Sign in to the hotel's network</body></html>".into_response(),
        Answer::Oversized => format!("{}{}", " ".repeat(256 * 1024), shared.set()).into_response(),
        Answer::CutShort => {
            let begun = Bytes::from_static(br#"{"keys":["#);
            let body = stream::iter([Ok::<_, std::io::Error>(begun)]).chain(stream::pending());
            Body::from_stream(body).into_response()
        }
        Answer::Never => std::future::pending().await,
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part of a token.
pub(crate) fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}
