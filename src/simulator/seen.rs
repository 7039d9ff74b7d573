//! A request as it was read from the wire.

use bytes::Bytes;
use http::{HeaderMap, Method, header};

use super::plan::On;
use crate::device::{DeviceId, DeviceRef, EnvironmentId, UserId, parse_hyphenated};

/// Method, path, headers and body, and what the path names.
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    /// The body, or its first 64 KiB.
    pub(super) body: Bytes,
    /// How long the body was in all.
    pub(super) body_length: u64,
    pub(super) route: Route,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// The token endpoint of an environment.
    Token(EnvironmentId),
    /// The devices of a user.
    Devices(EnvironmentId, UserId),
    /// One device.
    Device(DeviceRef),
    /// Nothing that PingOne has, as far as it is simulated.
    Unknown,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Bytes of the request line and the headers, as they are written on the wire.
    pub(super) fn head_length(&self) -> usize {
        let line = self.method.as_str().len() + self.path.len() + "  HTTP/1.1\r\n".len();
        self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() + line
    }

    /// The bearer token sent along.
    pub(super) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header(header::AUTHORIZATION.as_str())?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }

    /// The media type of the body without parameters, in lower case.
    pub(super) fn media_type(&self) -> Option<String> {
        let given = self.header(header::CONTENT_TYPE.as_str())?;
        Some(given.split(';').next().unwrap_or(given).trim().to_ascii_lowercase())
    }

    /// The kind of request, the environment and the device that plans for faults go by.
    pub(super) fn target(&self) -> Option<(On, EnvironmentId, Option<DeviceId>)> {
        let on = if self.method == Method::POST { On::Post } else { On::Get };
        match self.route {
            Route::Token(environment) => Some((On::Token, environment, None)),
            Route::Devices(environment, _) => Some((on, environment, None)),
            Route::Device(device) => Some((on, device.environment, Some(device.device))),
            Route::Unknown => None,
        }
    }

    pub(super) const fn device(&self) -> Option<DeviceId> {
        self.route.device()
    }

    /// Whether this is a call of the API, which the licence limits, and not of the token endpoint.
    pub(super) const fn is_api(&self) -> bool {
        matches!(self.route, Route::Device(_) | Route::Devices(..))
    }
}

impl Route {
    pub(super) fn of(path: &str) -> Self {
        Self::parse(path).unwrap_or(Self::Unknown)
    }

    pub(super) const fn device(self) -> Option<DeviceId> {
        match self {
            Self::Device(of) => Some(of.device),
            Self::Token(_) | Self::Devices(..) | Self::Unknown => None,
        }
    }

    fn parse(path: &str) -> Option<Self> {
        let id = |text: &str| parse_hyphenated(text).ok();
        let mut segments = path.strip_prefix('/')?.split('/');
        // One more than the longest path has, so that a longer one is seen to be longer.
        let segments: [Option<&str>; 8] = std::array::from_fn(|_| segments.next());
        match segments {
            [Some(environment), Some("as"), Some("token"), None, ..] => {
                Some(Self::Token(id(environment)?.into()))
            }
            [
                Some("v1"),
                Some("environments"),
                Some(environment),
                Some("users"),
                Some(user),
                Some("devices"),
                device,
                None,
            ] => {
                let (environment, user) = (id(environment)?.into(), id(user)?.into());
                let Some(device) = device else { return Some(Self::Devices(environment, user)) };
                Some(Self::Device(DeviceRef { environment, user, device: id(device)?.into() }))
            }
            _ => None,
        }
    }
}
