//! One credential of PingOne and the addresses it is shown at, from the common settings or from an environment's table.

use secrecy::ExposeSecret as _;
use toml::Table;

use super::{
    mistake::Origin,
    pingone::{Access, environment_id},
    reader::{Given, Reader, Wrong},
    settings::setting,
    values::{non_empty, one_of},
};
use crate::pingone::{AddressError, ApiPath, AuthPath, ClientAuth, Credential, Region};

/// Where a credential's fields are given.
pub(super) enum Where<'a> {
    /// In the `PINGONE_*` settings.
    Common,
    /// In a table of the file, whose keys in messages begin with this.
    Table(&'a Table, String),
}

/// The fields of one credential as they were given, and the addresses they lead to.
pub(super) struct Scope<'a> {
    place: Where<'a>,
    /// None after a mistake.
    addresses: Option<Addresses>,
    auth_environment_id: Option<Given>,
    client_id: Option<Given>,
    client_secret: Option<Given>,
    client_auth: Option<Given>,
    access_token: Option<Given>,
}

#[derive(Clone)]
struct Addresses {
    api: ApiPath,
    /// Unknown where the API is none of PingOne's own, such as a simulator.
    auth: Option<AuthPath>,
}

const METHODS: &[(&str, ClientAuth)] = &[("basic", ClientAuth::Basic), ("post", ClientAuth::Post)];

impl<'a> Scope<'a> {
    /// Collects the fields. Addresses that `place` does not give are those of `common`.
    pub(super) fn new(place: Where<'a>, reader: &mut Reader<'_>, common: Option<&Scope<'_>>) -> Self {
        let addresses = addresses(&place, reader, common.map(|common| common.addresses.clone()));
        Self {
            addresses,
            auth_environment_id: place.given(reader, "auth_environment_id"),
            client_id: place.given(reader, "client_id"),
            client_secret: place.secret(reader, "client_secret"),
            client_auth: place.given(reader, "client_auth"),
            access_token: place.secret(reader, "access_token"),
            place,
        }
    }

    /// Whether any part of a credential was given.
    pub(super) fn has_credential(&self) -> bool {
        [&self.auth_environment_id, &self.client_id, &self.client_secret, &self.access_token]
            .iter()
            .any(|given| given.is_some())
    }

    /// Says that `field` is needed.
    pub(super) fn missing(&self, reader: &mut Reader<'_>, field: &str, why: &str) {
        let wrong = Wrong(format!("not set, but {why}"), "set it".to_owned());
        reader.mistake(self.place.origin(reader, field), wrong);
    }

    /// The credential and the API it is for. None where there is none, or a mistake, which is then recorded.
    pub(super) fn access(&self, reader: &mut Reader<'_>) -> Option<Access> {
        let parts = [&self.auth_environment_id, &self.client_id, &self.client_secret];
        let credential = match (&self.access_token, parts.into_iter().flatten().next()) {
            (None, None) => return None,
            (Some(token), Some(part)) => {
                let what = format!("{} is set too", part.origin);
                let remedy = "set either an access token or a worker application".to_owned();
                reader.mistake(token.origin.clone(), Wrong(what, remedy));
                return None;
            }
            (Some(token), None) => self.token(reader, token),
            (None, Some(_)) => self.worker(reader),
        };
        let secret_file = self.access_token.as_ref().or(self.client_secret.as_ref()).and_then(Given::file);
        Some(Access { api: self.addresses.as_ref()?.api.clone(), credential: credential?, secret_file })
    }

    fn token(&self, reader: &mut Reader<'_>, given: &Given) -> Option<Credential> {
        let token = reader.secret(given)?;
        if !token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
            let remedy = "copy the token alone: no blank, line break or quote".to_owned();
            let wrong = Wrong("it holds characters that no token has".to_owned(), remedy);
            reader.mistake(given.origin.clone(), wrong);
        }
        Some(Credential::AccessToken(token))
    }

    fn worker(&self, reader: &mut Reader<'_>) -> Option<Credential> {
        let parts = [
            (&self.auth_environment_id, "auth_environment_id"),
            (&self.client_id, "client_id"),
            (&self.client_secret, self.place.name_of_secret()),
        ];
        for (_, field) in parts.iter().filter(|(given, _)| given.is_none()) {
            self.missing(reader, field, "a worker application needs it");
        }
        let environment = self.auth_environment_id.as_ref();
        let environment = environment.and_then(|given| reader.parse(given, environment_id));
        let client_id = self.client_id.as_ref().and_then(|given| reader.parse(given, non_empty));
        let client_secret = self.client_secret.as_ref().and_then(|given| reader.secret(given));
        let method = match &self.client_auth {
            Some(given) => reader.parse(given, one_of(METHODS)),
            None => Some(ClientAuth::Basic),
        };
        let auth = self.addresses.as_ref()?.auth.clone();
        if auth.is_none() {
            let why = "the API path is none of PingOne's own, so the token endpoint cannot follow from it";
            self.missing(reader, "auth_path", why);
        }
        Some(Credential::ClientSecret {
            auth: auth?,
            environment: environment?,
            client_id: client_id?,
            client_secret: client_secret?,
            method: method?,
        })
    }
}

impl Where<'_> {
    fn given(&self, reader: &mut Reader<'_>, field: &str) -> Option<Given> {
        match self {
            Self::Common => reader.given(&format!("pingone_{field}")),
            Self::Table(table, prefix) => reader.given_in(table, prefix, field),
        }
    }

    fn secret(&self, reader: &mut Reader<'_>, field: &str) -> Option<Given> {
        match self {
            Self::Common => self.given(reader, field),
            Self::Table(table, prefix) => reader.file_given_in(table, prefix, field),
        }
    }

    const fn name_of_secret(&self) -> &'static str {
        match self {
            Self::Common => "client_secret",
            Self::Table(..) => "client_secret_file",
        }
    }

    fn origin(&self, reader: &Reader<'_>, field: &str) -> Origin {
        match self {
            Self::Common => Origin::Variable(setting(&format!("pingone_{field}")).variable.to_owned()),
            Self::Table(_, prefix) => {
                Origin::File { path: reader.file.path.clone(), key: format!("{prefix}{field}") }
            }
        }
    }
}

/// The addresses `place` gives, else the common ones, else those of the region `com`. None after a mistake.
fn addresses(
    place: &Where<'_>,
    reader: &mut Reader<'_>,
    common: Option<Option<Addresses>>,
) -> Option<Addresses> {
    let region = place.given(reader, "region");
    let api = place.given(reader, "api_path");
    if let (Some(region), Some(api)) = (&region, &api) {
        let wrong = Wrong(format!("{} is set too", api.origin), "set only one of the two".to_owned());
        reader.mistake(region.origin.clone(), wrong);
    }
    let auth = place.given(reader, "auth_path");
    // All three are read before any mistake ends this.
    let region = region.map(|given| reader.parse(&given, |text| parse_region(text.trim())));
    let api = api.map(|given| reader.parse(&given, |text| ApiPath::parse(text).map_err(address_wrong)));
    let auth = auth.map(|given| reader.parse(&given, |text| AuthPath::parse(text).map_err(address_wrong)));
    let followed = match (api, region, common) {
        (Some(api), _, _) => {
            let api = api?;
            let region = Region::ALL.into_iter().find(|region| region.api_path() == api);
            Addresses { api, auth: region.map(Region::auth_path) }
        }
        (None, Some(region), _) => of_region(region?),
        (None, None, Some(common)) => common?,
        (None, None, None) => of_region(Region::Com),
    };
    Some(match auth {
        Some(auth) => Addresses { auth: Some(auth?), ..followed },
        None => followed,
    })
}

fn of_region(region: Region) -> Addresses {
    Addresses { api: region.api_path(), auth: Some(region.auth_path()) }
}

fn parse_region(text: &str) -> Result<Region, Wrong> {
    let words: Vec<_> = Region::ALL.iter().map(Region::to_string).collect();
    text.parse().map_err(|_| {
        Wrong(
            format!("{} is no region of PingOne", super::values::quoted(text)),
            format!("write one of {}", words.join(", ")),
        )
    })
}

/// An address error says what is wrong, then after a semicolon what to write.
fn address_wrong(error: AddressError) -> Wrong {
    let sentence = error.to_string();
    match sentence.split_once("; ") {
        Some((what, remedy)) => Wrong(what.to_owned(), remedy.to_owned()),
        None => Wrong(sentence, "correct the address".to_owned()),
    }
}
