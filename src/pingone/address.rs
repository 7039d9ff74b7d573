//! Where PingOne is: the bases of its API and of its token endpoint. Parsed once, so that nothing below can reach another place.

use std::{fmt, net::IpAddr, str::FromStr};

use reqwest::Url;

use crate::device::{DeviceRef, EnvironmentId, UserId};

/// An address that must not be used, with what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No URL, or one without a host.
    #[error("this is not a URL; write one such as https://api.pingone.eu/v1 or https://auth.pingone.eu")]
    NotAUrl,
    /// Neither https nor http to this machine.
    #[error(
        "tokens travel only over https; begin it with https:// (http:// is for addresses of this machine alone)"
    )]
    NotHttps,
    /// An address that no host of PingOne's has.
    #[error(
        "this is an address of the machine's own network, where tokens must not go; write a host of PingOne's"
    )]
    LinkLocal,
    /// A user name or password before the host.
    #[error("leave out the part before the @; the client id and secret are settings of their own")]
    Credentials,
    /// A `?` and what follows.
    #[error("leave out the ? and what follows it")]
    Query,
    /// A `#` and what follows.
    #[error("leave out the # and what follows it")]
    Fragment,
    /// An API path that goes on after its version.
    #[error("end the API path with /v1; environment, user and device are added for each request")]
    PastTheVersion,
    /// A base of the token endpoint that is more than the base.
    #[error("give only the base, such as https://auth.pingone.eu; /{{environment}}/as/token is added to it")]
    PastTheBase,
}

/// The base of PingOne's API, which its documentation calls `{{apiPath}}`; ends with `/v1`, however it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPath(Url);

impl ApiPath {
    /// Reads the base: `https://api.pingone.eu`, with or without `/v1`, with or without a slash at the end.
    ///
    /// # Errors
    /// [`AddressError`] says what is wrong with it and what to write instead.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let url = parse_base(text)?;
        let mut segments = segments(&url);
        while segments.last().is_some_and(|last| is_version(last)) {
            segments.pop();
        }
        if segments.iter().any(|segment| is_version(segment) || segment == "environments") {
            return Err(AddressError::PastTheVersion);
        }
        segments.push("v1".to_owned());
        Ok(Self(with_path(&url, &segments)))
    }

    /// Host and port, as they are measured.
    pub(crate) fn server(&self) -> (&str, u16) {
        (self.0.host_str().unwrap_or_default(), self.0.port_or_known_default().unwrap_or_default())
    }

    /// The address of a device: made of this base and three UUIDs, nothing else.
    pub(crate) fn device(&self, device: &DeviceRef) -> Url {
        let mut path = self.path_of_devices(device.environment, device.user);
        path.push(device.device.to_string());
        with_path(&self.0, &path)
    }

    /// The address of a user's devices.
    pub(crate) fn devices(&self, environment: EnvironmentId, user: UserId) -> Url {
        with_path(&self.0, &self.path_of_devices(environment, user))
    }

    fn path_of_devices(&self, environment: EnvironmentId, user: UserId) -> Vec<String> {
        let mut path = segments(&self.0);
        let (environment, user) = (environment.to_string(), user.to_string());
        path.extend(["environments", &environment, "users", &user, "devices"].map(str::to_owned));
        path
    }
}

impl fmt::Display for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The base of the token endpoint `{base}/{environment}/as/token`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthPath(Url);

impl AuthPath {
    /// Reads the base: `https://auth.pingone.eu`, with or without a slash at the end.
    ///
    /// # Errors
    /// [`AddressError`] says what is wrong with it and what to write instead.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let url = parse_base(text)?;
        let segments = segments(&url);
        let past_the_base = |segment: &String| {
            is_version(segment) || segment == "as" || EnvironmentId::parse(segment).is_ok()
        };
        if segments.iter().any(past_the_base) {
            return Err(AddressError::PastTheBase);
        }
        Ok(Self(with_path(&url, &segments)))
    }

    /// The token endpoint of an environment.
    pub(crate) fn token_endpoint(&self, environment: EnvironmentId) -> Url {
        let mut path = segments(&self.0);
        path.extend([environment.to_string(), "as".to_owned(), "token".to_owned()]);
        with_path(&self.0, &path)
    }
}

impl fmt::Display for AuthPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an organisation lives; it lives in one region. Written as the end of PingOne's host names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// North America.
    Com,
    /// Europe.
    Eu,
    /// Canada.
    Ca,
    /// Asia-Pacific.
    Asia,
    /// Australia.
    ComAu,
    /// Singapore.
    Sg,
}

/// A region that PingOne does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no PingOne region; it is one of com, eu, ca, asia, com.au, sg")]
pub struct UnknownRegion {
    given: String,
}

impl Region {
    /// Every region there is.
    pub const ALL: [Self; 6] = [Self::Com, Self::Eu, Self::Ca, Self::Asia, Self::ComAu, Self::Sg];

    const fn name(self) -> &'static str {
        match self {
            Self::Com => "com",
            Self::Eu => "eu",
            Self::Ca => "ca",
            Self::Asia => "asia",
            Self::ComAu => "com.au",
            Self::Sg => "sg",
        }
    }

    /// The base of its API.
    #[must_use]
    pub fn api_path(self) -> ApiPath {
        ApiPath::parse(&format!("https://api.pingone.{self}/v1"))
            .expect("a host of PingOne is a valid address")
    }

    /// The base of its token endpoint.
    #[must_use]
    pub fn auth_path(self) -> AuthPath {
        AuthPath::parse(&format!("https://auth.pingone.{self}"))
            .expect("a host of PingOne is a valid address")
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Region {
    type Err = UnknownRegion;

    fn from_str(text: &str) -> Result<Self, UnknownRegion> {
        let named = |region: &Self| region.name().eq_ignore_ascii_case(text);
        let unknown = || UnknownRegion { given: text.chars().take(32).collect() };
        Self::ALL.into_iter().find(named).ok_or_else(unknown)
    }
}

fn parse_base(text: &str) -> Result<Url, AddressError> {
    let url = Url::parse(text.trim()).map_err(|_| AddressError::NotAUrl)?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(AddressError::NotAUrl)?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(host) => {}
        _ => return Err(AddressError::NotHttps),
    }
    if is_link_local(host) {
        return Err(AddressError::LinkLocal);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(AddressError::Credentials);
    }
    if url.query().is_some() {
        return Err(AddressError::Query);
    }
    if url.fragment().is_some() {
        return Err(AddressError::Fragment);
    }
    Ok(url)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || ip(host).is_some_and(|ip| ip.is_loopback())
}

/// Where clouds answer with the machine's own credentials, or where nobody can be.
fn is_link_local(host: &str) -> bool {
    ip(host).is_some_and(|ip| match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast(),
    })
}

fn ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_version(segment: &str) -> bool {
    segment.eq_ignore_ascii_case("v1")
}

fn segments(url: &Url) -> Vec<String> {
    url.path().split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

fn with_path(base: &Url, segments: &[String]) -> Url {
    let mut url = base.clone();
    url.set_path(&segments.join("/"));
    url
}

#[cfg(test)]
mod tests;
